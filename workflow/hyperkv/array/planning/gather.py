"""Facts from the machine: lsblk, wipefs -n, blkid -p, mdadm --examine (once per disk), findmnt, /sys and /proc."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ...machine.mounts import FINDMNT, Md, Probe, Signature, holders_of, md_device, parse_findmnt, text_of
from ...machine.probe import Output, call
from ..layout import FSTAB
from ..settings import ArraySettings
from ..steps.identity import device_identity
from ..steps.samples import first_data
from .facts import (
    LSBLK_COLUMNS,
    Disk,
    Machine,
    best_first,
    parse_blkid,
    parse_lsblk,
    parse_member,
    parse_swaps,
    parse_wipefs,
)
from .fitness import required_tools

_XFS_MAGIC = b"XFSB"
_XFS_INPROGRESS_OFFSET = 126
_INITRAMFS = ("update-initramfs -u", "dracut -f")


def gather(
    settings: ArraySettings, *, every_disk: bool = False, probe: Probe = call, top: Path = Path("/")
) -> Machine:
    """Everything a plan depends on. every_disk: read the contents of all disks, not only of the named ones.

    probe: runs a command. top: where /sys, /proc, /dev and /etc are found. Raises nothing: what is not known is None.
    """
    root = os.geteuid() == 0
    by_id = _links(top, "by-id")
    named = {name: _resolved(top, name) for name in settings.devices}
    swaps = parse_swaps(text_of(top / "proc/swaps"))
    disks = []
    listed, mounted = probe(["lsblk", "-J", "-b", "-o", LSBLK_COLUMNS]), probe(FINDMNT)
    for disk in parse_lsblk(listed.text):
        if disk.kind == "rom" or not (disk.size_bytes or disk.path in named.values()):
            continue
        nodes = [disk.path, *(part.path for part in disk.parts if part.kind == "part")]
        disk = replace(
            disk,
            by_id=best_first(by_id.get(disk.path, [])),
            identity=device_identity(disk.path, top),
            holders=holders_of(nodes, top),
            swaps=tuple(
                swap
                for swap in swaps
                if swap in {*nodes, *(f"/dev/{part.kernel_name}" for part in disk.parts)}
            ),
        )
        wanted = disk.path in named.values() or (every_disk and disk.kind == "disk")
        disks.append(_opened(disk, nodes, probe) if root and wanted else disk)
    conf = _mdadm_conf(top)
    return Machine(
        disks=tuple(disks),
        arrays=tuple(_arrays(top, probe if root else None)),
        mounts=parse_findmnt(mounted.text),
        named=named,
        array_node=_resolved(top, settings.node),
        root=root,
        raid0_loaded="[raid0]" in text_of(top / "proc/mdstat"),
        udev=_below(top, "/run/udev/control").exists(),
        complaints=tuple(
            _complaint(name, done)
            for name, done in (("lsblk", listed), ("findmnt", mounted))
            if done.status and not done.text.strip()
        ),
        missing_tools=tuple(tool for tool in required_tools(settings) if not _has(tool)),
        mount_point_files=_entries(_below(top, settings.mount)),
        owner=_owner(settings.owner),
        data_owner=_owner_of(_below(top, settings.data_dir)),
        files={path: text_of(_below(top, path)) for path in (FSTAB, conf)},
        mdadm_conf=conf,
        file_systems={
            os.path.basename(link).lower(): path
            for path, links in _links(top, "by-uuid").items()
            for link in links
        },
        systemd=_below(top, "/run/systemd/system").is_dir(),
        initramfs=next((command for command in _INITRAMFS if _has(command.split()[0])), None),
    )


def _complaint(tool: str, done: Output) -> str:
    said = [line.strip() for line in done.errors.splitlines() if line.strip()]
    return (
        f"{tool}: failed (status {done.status}): {said[-1] if said else 'no word'}; util-linux must be 2.37 or newer and "
        f"see /sys and /proc"
    )


def _opened(disk: Disk, nodes: Sequence[str], probe: Probe) -> Disk:
    """The disk with what only root may read."""
    signatures, probed = _contents(nodes, probe)
    disk = replace(
        disk,
        signatures=signatures,
        probed=probed,
        member=parse_member(probe(["mdadm", "--examine", "--export", disk.path]).text),
        busy=_busy(disk.path),
    )
    if not disk.unsigned:
        return disk
    try:
        return replace(disk, data_at=first_data(disk.path), sampled=True)
    except OSError:
        return disk


def _contents(
    nodes: Sequence[str], probe: Probe
) -> tuple[tuple[Signature, ...] | None, dict[str, str] | None]:
    """The signatures on nodes, and what blkid takes the first for; None for what cannot be told."""
    found = probe(["wipefs", "-n", "-J", *nodes])
    probed = probe(["blkid", "-p", "-o", "export", nodes[0]])
    signatures = parse_wipefs(found.text) if not found.status else None
    return signatures, None if probed.errors.strip() else parse_blkid(probed.status, probed.text)


def _busy(path: str) -> bool | None:
    """Whether the kernel refuses an exclusive open, as mounted devices and members do."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        return True if error.errno == errno.EBUSY else None
    return False


def _arrays(top: Path, probe: Probe | None) -> list[Md]:
    found = []
    for node in sorted((top / "sys/block").glob("md*")):
        md = md_device(node.name, top)
        if md is None:
            continue
        md = replace(md, identity=device_identity(md.path, top))
        if probe is not None and md.state not in ("clear", "inactive"):
            signatures, content = _contents([md.path], probe)
            unfinished = _unfinished_xfs(md.path)
            md = replace(md, signatures=signatures, content=content, unfinished=unfinished)
        found.append(md)
    return found


def _unfinished_xfs(path: str) -> bool | None:
    """Whether the superblock says that mkfs.xfs did not end. Source: sb_inprogress of struct xfs_dsb."""
    try:
        with open(path, "rb") as device:
            start = device.read(512)
    except OSError:
        return None
    return start.startswith(_XFS_MAGIC) and start[_XFS_INPROGRESS_OFFSET] != 0


def _links(top: Path, kind: str) -> Mapping[str, list[str]]:
    """Names under a folder of /dev/disk, such as by-id, by the kernel path they lead to."""
    found: dict[str, list[str]] = {}
    for link in sorted((top / "dev/disk" / kind).glob("*")):
        found.setdefault(f"/dev/{os.path.basename(os.readlink(link))}", []).append(
            f"/dev/disk/{kind}/{link.name}"
        )
    return found


def _mdadm_conf(top: Path) -> str:
    """The file that mdadm reads: the first that is there, in the order that Debian's and others' programs look."""
    names = ["/etc/mdadm.conf", "/etc/mdadm/mdadm.conf"]
    if _below(top, "/etc/debian_version").exists():
        names.reverse()
    return next((name for name in names if _below(top, name).exists()), names[0])


def _resolved(top: Path, name: str) -> str | None:
    """The kernel path that a device name leads to; None when there is none."""
    path = _below(top, name)
    if not path.exists():
        return None
    return "/" + str(path.resolve().relative_to(top.resolve()))


def _below(top: Path, path: str) -> Path:
    return top / path.lstrip("/")


def _entries(folder: Path) -> int:
    with contextlib.suppress(OSError):
        return len([path for path in folder.iterdir() if path.name != "lost+found"])
    return 0


def _owner(name: str | None) -> tuple[int, int] | None:
    """uid and gid of a user name or number; without one those of who runs sudo, else of this process."""
    if name is None:
        return int(os.environ.get("SUDO_UID", os.geteuid())), int(os.environ.get("SUDO_GID", os.getegid()))
    with contextlib.suppress(KeyError):
        user = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
        return user.pw_uid, user.pw_gid
    return None


def _owner_of(folder: Path) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        found = folder.stat()
        return found.st_uid, found.st_gid
    return None


def _has(tool: str) -> bool:
    return shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is not None
