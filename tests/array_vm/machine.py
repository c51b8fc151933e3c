"""A virtual machine that boots, runs shell steps as root one after the other, and ends."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .image import Image
from .initramfs import Archive

# Once in some hundred file systems QEMU 7.2's NVMe takes no command any more until the driver aborts and sends again, by default after 30 s.
_KERNEL_WORDS = (
    "console=ttyS0 loglevel=5 panic=-1 nokaslr mitigations=off cryptomgr.notests nvme_core.admin_timeout=255"
)


@dataclass(frozen=True)
class Disk:
    """A drive: its image, made sparse when it is not there, its serial number, and whether it is NVMe or virtio."""

    image: Path
    serial: str
    nvme: bool = True
    size_bytes: int = 2 << 30


@dataclass(frozen=True)
class Ended:
    """A step that ended: exit status, and what it printed to stdout and stderr together."""

    status: int
    output: str

    @property
    def lines(self) -> list[str]:
        return self.output.splitlines()


def boot(
    image: Image,
    disks: Sequence[Disk],
    steps: Mapping[str, str],
    files: Mapping[str, bytes],
    folder: Path,
    timeout_s: float,
) -> dict[str, Ended]:
    """Boot, run the steps (shell scripts by name) in order, power off without unmounting; each step as it ended.

    files: by their path in the machine. folder: for logs. QEMU's group is killed when it is late or this is interrupted.
    Raises AssertionError with the end of the logs when not all steps ended.
    """
    folder.mkdir(parents=True, exist_ok=True)
    job = Archive()
    for number, (name, script) in enumerate(steps.items()):
        job.file(f"job/steps/{number:03d}-{name}", f"#!/bin/bash\n{script}\n".encode(), 0o755)
    for name, data in files.items():
        job.file(name, data, 0o755 if data.startswith(b"#!") else 0o644)
    initramfs, console, result = (folder / name for name in ("initramfs", "console.log", "result.log"))
    initramfs.write_bytes(image.initramfs.read_bytes() + job.finished())
    command = [
        *image.qemu,
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-M", "q35", "-accel", "tcg"),
        *("-cpu", "qemu64", "-m", "1G", "-kernel", str(image.kernel), "-initrd", str(initramfs)),
        *("-append", _KERNEL_WORDS, "-serial", f"file:{console}", "-serial", f"file:{result}"),
    ]
    for number, disk in enumerate(disks):
        with disk.image.open("ab") as file:
            file.truncate(disk.size_bytes)
        drive = f"file={disk.image},format=raw,if=none,id=d{number},cache=unsafe,discard=unmap,aio=threads"
        command += [
            "-drive",
            drive,
            "-device",
            f"{'nvme' if disk.nvme else 'virtio-blk-pci'},drive=d{number},serial={disk.serial}",
        ]
    with (folder / "qemu.err").open("wb") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            env={**os.environ, **image.environment},
            start_new_session=True,
        )
        try:
            process.wait(timeout_s)
            ended_by_itself = True
        except subprocess.TimeoutExpired:
            ended_by_itself = False
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            initramfs.unlink()
    found = _parsed(result)
    logs = "\n".join(_end(path) for path in (folder / "qemu.err", console, result))
    assert ended_by_itself, f"not within {timeout_s} s\n{logs}"
    assert list(found) == list(steps), logs
    return found


def _parsed(result: Path) -> dict[str, Ended]:
    found: dict[str, Ended] = {}
    name, lines = None, []
    for line in _end(result, 10**9).splitlines():
        if line.startswith("@@BEGIN "):
            name, lines = line.split()[1], []
        elif line.startswith("@@END ") and name is not None:
            found[name] = Ended(int(line.split()[1]), "\n".join(lines).strip("\n"))
            name = None
        else:
            lines.append(line)
    return found


def _end(path: Path, characters: int = 3000) -> str:
    return (
        path.read_text(errors="replace").replace("\r", "")[-characters:]
        if path.exists()
        else f"no {path.name}"
    )
