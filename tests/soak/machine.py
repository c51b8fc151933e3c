"""The machine under a soak: children that end with it, small file systems, and what is left behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
_FILL_BYTES = 1 << 18


def end_with_parent() -> None:
    """Ask Linux to kill this process when its parent ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def can_mount() -> bool:
    """Whether this user may mount a tmpfs."""
    return os.geteuid() == 0 and shutil.which("mount") is not None


@contextlib.contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[Path]:
    """A tmpfs of so many MiB at `folder`, which is made, unmounted at the end. Needs can_mount()."""
    folder.mkdir(parents=True, exist_ok=True)
    mount("-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        unmount(folder)


def mount(*arguments: str) -> None:
    """The program mount. Raises CalledProcessError."""
    subprocess.run(["mount", *arguments], check=True, capture_output=True, timeout=20)


def unmount(folder: Path) -> None:
    """Take a mount away at once, even when a process still uses it."""
    subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True, timeout=20)


def fill(folder: Path) -> Path:
    """Take what is left of a disk with one file, whose path is returned."""
    filler = folder / "filler"
    with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(_FILL_BYTES))
    with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(512))
    return filler


def mounts_below(folder: Path) -> list[str]:
    """Mount points at or below a folder."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [point for line in lines if (point := line.split()[1]).startswith(f"{folder}/")]


def processes_of(mark: str, folders: list[Path]) -> list[psutil.Process]:
    """Running processes that have `mark` in their environment, or work in, or name, one of the folders; not this one."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if _is_of(process, mark, [str(folder) for folder in folders]):
                found.append(process)
    return found


def _is_of(process: psutil.Process, mark: str, folders: list[str]) -> bool:
    environment = Path(f"/proc/{process.pid}/environ").read_bytes()
    if mark.encode() in environment:
        return True
    words = [process.cwd(), *process.cmdline()]
    return any(folder in word for word in words for folder in folders)


def described(process: psutil.Process) -> str:
    """A process on one line: its number, command and the ports that it listens on."""
    with contextlib.suppress(psutil.Error):
        command = " ".join(process.cmdline())[:80] or process.name()
        ports = [
            str(connection.laddr.port)
            for connection in process.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        ]
        return f"pid {process.pid} ({command}){' listening on ' + ', '.join(ports) if ports else ''}"
    return f"pid {process.pid}"


def kill_all(processes: list[psutil.Process]) -> None:
    """SIGKILL each and wait for their ends."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, timeout=10)
