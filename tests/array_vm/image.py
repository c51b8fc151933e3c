"""What the machine boots from: Debian packages, downloaded and unpacked without installing, as kernel and initramfs."""

import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .initramfs import Archive, RootFs, kernel_modules, uncompressed_kernel

CACHE = Path(os.environ.get("HYPERKV_VM_CACHE") or Path.home() / ".cache/hyperkv/array-vm")
_KERNEL = "linux-image-cloud-amd64"
_QEMU = "qemu-system-x86_64"
_GUEST = (
    "bash coreutils busybox-static util-linux util-linux-extra mount fdisk kmod mdadm xfsprogs e2fsprogs udev dmsetup grep "
    "sed python3-minimal libpython3-stdlib systemd"
)
_PROGRAMS = (
    "bash busybox kmod mdadm mkfs.xfs xfs_repair mke2fs dumpe2fs lsblk findmnt mount umount wipefs blkid sfdisk setpriv "
    "mkswap swapon swapoff udevadm dmsetup install env stat cat ls rm mkdir chmod chown dd sync timeout sha256sum grep sed "
    "cut ln sleep touch tr head cp mv truncate sort date"
)
_APPLETS = "stty poweroff kill mknod ps cmp true false"
_MODULES = "md-mod raid0 xfs ext4 nvme virtio_blk virtio_pci crc32c_generic libcrc32c dm-mod"
_UNUSED_PYTHON = ("/test", "/lib2to3", "/idlelib", "/pydoc_data", "/tkinter", "/ensurepip", "/distutils")

INIT = r"""#!/bin/busybox sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LANG=C
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys
mkdir -p /run/lock /tmp /mnt /dev/shm; mount -t tmpfs -o mode=755 run /run; mount -t tmpfs tmp /tmp
mkdir -p /run/lock /run/udev; chmod 1777 /tmp; ln -sf /proc/self/fd /dev/fd; ln -sf /proc/self/mounts /etc/mtab
busybox stty raw -echo < /dev/ttyS1
exec >/dev/ttyS1 2>&1 </dev/null
/lib/systemd/systemd-udevd --daemon >/run/udevd.log 2>&1
udevadm trigger --action=add --type=subsystems; udevadm trigger --action=add --type=devices; udevadm settle -t 30
echo "@@BOOT"
cd /job
for step in steps/*; do
  echo; echo "@@BEGIN ${step#steps/*-}"
  timeout 300 "$step"; status=$?
  echo; echo "@@END $status $(cut -d' ' -f1 /proc/uptime)"
done
echo "@@OFF"
busybox poweroff -f
"""


class Unavailable(Exception):
    """The packages cannot be had here; the message says why."""


@dataclass(frozen=True)
class Image:
    """kernel and initramfs: files to boot. qemu: the start of its command line. environment: its variables."""

    kernel: Path
    initramfs: Path
    qemu: tuple[str, ...]
    environment: dict[str, str]


@functools.cache
def image() -> Image:
    """The image, made once per version of this folder's code. Raises Unavailable."""
    if platform.machine() != "x86_64":
        raise Unavailable(f"this machine is {platform.machine()}, the packages are for x86_64")
    for tool in ("apt-get", "apt-cache", "dpkg"):
        if shutil.which(tool) is None:
            raise Unavailable(f"there is no {tool}, so no Debian packages")
    code = b"".join((Path(__file__).parent / name).read_bytes() for name in ("image.py", "initramfs.py"))
    folder = CACHE / hashlib.sha256(code).hexdigest()[:12]
    if not (folder / "initramfs").exists():
        _make(folder)
    if (found := shutil.which(_QEMU)) is not None:
        return Image(folder / "vmlinux", folder / "initramfs", (found,), {})
    tree = folder / "qemu"
    libraries = f"{tree}/usr/lib/x86_64-linux-gnu:{tree}/lib/x86_64-linux-gnu"
    qemu = (f"{tree}/usr/bin/{_QEMU}", "-L", f"{tree}/usr/share/qemu", "-L", f"{tree}/usr/share/seabios")
    return Image(folder / "vmlinux", folder / "initramfs", qemu, {"LD_LIBRARY_PATH": libraries})


def _make(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        work = Path(scratch)
        kernel = _unpacked(work / "kernel", _kernel_package(), installed=[])
        guest = _unpacked(work / "guest", *_GUEST.split(), installed=[])
        made = work / "made"
        made.mkdir()
        if shutil.which(_QEMU) is None:
            _unpacked(work / "qemu", "qemu-system-x86", installed=None).rename(made / "qemu")
        bzimage = next((kernel / "boot").glob("vmlinuz-*"))
        (made / "vmlinux").write_bytes(
            uncompressed_kernel(bzimage.read_bytes(), functools.partial(_filter, work / "tool"))
        )
        release = bzimage.name.removeprefix("vmlinuz-")
        (made / "initramfs").write_bytes(_initramfs(guest, kernel, release, work / "modules"))
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)


def _initramfs(guest: Path, kernel: Path, release: str, scratch: Path) -> bytes:
    archive = Archive()
    files = RootFs(guest, archive)
    for name in ("dev", "proc", "sys", "run", "tmp", "mnt", "root", "job/steps", "etc", "var/lib", "var/log"):
        archive.folder(name)
    archive.device("dev/console", 5, 1)
    archive.device("dev/null", 1, 3)
    python = next(
        path.name for path in sorted((guest / "usr/bin").glob("python3.*")) if path.name[8:].isdigit()
    )
    files.programs([*_PROGRAMS.split(), python])
    files.folder(f"usr/lib/{python}", lambda path: any(name in path for name in _UNUSED_PYTHON))
    archive.link("usr/bin/python3", python)
    archive.link("usr/bin/sh", "bash")
    archive.link("usr/sbin/mkfs.ext4", "mke2fs")
    for name in ("modprobe", "depmod", "lsmod"):
        archive.link(f"usr/sbin/{name}", "../bin/kmod")
    for name in _APPLETS.split():
        archive.link(f"usr/bin/{name}", "busybox")
    for name in ("lib/systemd", "usr/lib/systemd"):
        files.folder(name, lambda path: not path.endswith(("/systemd-udevd", "/systemd-fstab-generator")))
    for name in ("lib/udev", "usr/lib/udev"):
        files.folder(name, lambda path: "hwdb" in path)
    groups = "root:0 disk:6 tty:5 kmem:15 input:101 kvm:102 render:103 audio:29 video:44 cdrom:24 tape:26 lp:7 dialout:20 sgx:104"
    lines = (group.split(":") for group in groups.split())
    archive.file("etc/group", "".join(f"{name}:x:{number}:\n" for name, number in lines).encode())
    archive.file("etc/passwd", b"root:x:0:0:root:/root:/bin/bash\nuser:x:1000:1000:user:/tmp:/bin/bash\n")
    archive.file("etc/mke2fs.conf", (guest / "etc/mke2fs.conf").read_bytes())
    archive.file("etc/debian_version", b"\n")
    archive.file("etc/fstab", b"")
    place = scratch / "lib/modules" / release
    source = next(
        path for base in ("lib", "usr/lib") if (path := kernel / base / "modules" / release).is_dir()
    )
    kernel_modules(source, place, _MODULES.split())
    _depmod(guest, scratch, release)
    for path in sorted(place.rglob("*")):
        if path.is_file():
            archive.file(f"usr/{path.relative_to(scratch)}", path.read_bytes())
    archive.file("init", INIT.encode(), 0o755)
    return archive.finished()


def _depmod(guest: Path, base: Path, release: str) -> None:
    """The indexes that modprobe reads, by the guest's own depmod on this machine."""
    kmod = next(path for name in ("bin", "usr/bin") if (path := guest / name / "kmod").exists())
    libraries = f"{guest}/lib/x86_64-linux-gnu:{guest}/usr/lib/x86_64-linux-gnu"
    env = {**os.environ, "LD_LIBRARY_PATH": libraries}
    subprocess.run(["depmod", "-b", str(base), release], executable=kmod, env=env, check=True, timeout=60)


def _filter(folder: Path, command: list[str], data: bytes) -> bytes:
    """What a program makes of data; the program comes from its package when it is not installed."""
    env = dict(os.environ)
    if shutil.which(command[0]) is None:
        tree = _unpacked(folder, command[0], installed=None)
        command = [str(tree / "usr/bin" / command[0]), *command[1:]]
        env["LD_LIBRARY_PATH"] = f"{tree}/usr/lib/x86_64-linux-gnu:{tree}/lib/x86_64-linux-gnu"
    return subprocess.run(command, input=data, env=env, capture_output=True, timeout=60).stdout


def _kernel_package() -> str:
    """The package that the kernel's metapackage stands for."""
    listed = _run(["apt-cache", "depends", _KERNEL])
    for line in listed.splitlines():
        name = line.split()[-1] if line.split() else ""
        if name.startswith("linux-image-") and name != _KERNEL:
            return name
    raise Unavailable(f"the package lists have no {_KERNEL}; `apt-get update` on Debian brings them")


def _unpacked(folder: Path, *packages: str, installed: list[str] | None) -> Path:
    """Download packages with all they need beyond what is installed (None: here; []: nothing), and unpack them."""
    archives = folder / "archives"
    (archives / "partial").mkdir(parents=True)
    options = {
        "Dir::Cache::archives": str(archives),
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root" if os.geteuid() == 0 else "",
        "Debug::NoLocking": "1",
    }
    if installed is not None:
        (folder / "status").touch()
        options["Dir::State::status"] = str(folder / "status")
    words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    if packages[0].startswith("linux-image-"):
        _run(["apt-get", "-qq", *words, "download", *packages], cwd=archives)
    else:
        _run(["apt-get", "-qq", "-y", "--download-only", *words, "install", *packages])
    tree = folder / "tree"
    for package in sorted(archives.glob("*.deb")):
        _run(["dpkg", "-x", str(package), str(tree)])
    shutil.rmtree(archives)
    if not tree.exists():
        raise Unavailable(f"apt-get downloaded nothing for {', '.join(packages)}")
    return tree


def _run(command: list[str], cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"`{' '.join(command[:3])} …` did not end within 300 s") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise Unavailable(f"`{command[0]} … {command[-1]}` failed: {said[-1] if said else done.returncode}")
    return done.stdout
