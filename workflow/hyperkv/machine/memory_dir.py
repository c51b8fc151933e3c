"""The folder in memory on which a store's files lie when its device is taken out of the path."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from ..base.errors import UserError
from ..base.folders import check_folder, nearest
from .counters import partition_of

DEFAULT = Path("/dev/shm")
KEY = "layers.memory_dir"


@dataclass(frozen=True)
class MemoryFolder:
    """A folder on a tmpfs with room, in which a job makes its own; path None where this machine has none. note: what a reader must know, if anything."""

    path: Path | None
    note: str | None = None


def memory_folder(wanted: Path, needed_bytes: int) -> MemoryFolder:
    """`wanted` when it has `needed_bytes` free, else the tmpfs with the most room, else none and why.

    Raises UserError naming layers.memory_dir when `wanted` was chosen by the reader and is on a disk, or not to be had.
    """
    existing = nearest(wanted)
    kind, free = file_system_of(existing), shutil.disk_usage(existing).free
    if kind != "tmpfs" and wanted != DEFAULT:
        raise UserError(f"layers.memory_dir: {wanted} is on {kind}, not on a tmpfs; choose a folder on one")
    if kind != "tmpfs":
        why = f"{wanted} is on {kind}, not on a tmpfs"
    elif free < needed_bytes:
        why = f"{wanted} has {free >> 20} MiB free"
    else:
        try:
            check_folder(wanted, KEY)
            return MemoryFolder(wanted)
        except UserError as error:
            if wanted != DEFAULT:
                raise
            why = str(error)
    needed = f"a point needs {-(-needed_bytes // (1 << 20))} MiB"
    if other := next(_others(needed_bytes), None):
        return MemoryFolder(other, f"{why}, and {needed}: {other} was used instead")
    return MemoryFolder(
        None,
        f"{why}, and {needed}: enlarge that tmpfs (docker run --shm-size), set layers.memory_dir to a folder on another, or "
        f"lower layers.point_bytes and layers.warm_up_bytes",
    )


def _others(needed_bytes: int) -> Iterator[Path]:
    """The other tmpfs of this machine that may be written and have room, the most room first."""
    roots = {Path(part.mountpoint) for part in psutil.disk_partitions(all=True) if part.fstype == "tmpfs"}
    rooms = {root: shutil.disk_usage(root).free for root in roots if os.access(root, os.W_OK | os.X_OK)}
    for root in sorted(rooms, key=lambda root: (-rooms[root], root)):
        with contextlib.suppress(UserError):
            check_folder(root, KEY)
            if rooms[root] >= needed_bytes:
                yield root


def file_system_of(path: Path) -> str:
    """The type of the file system that holds an existing path, 'an unknown file system' when it is not listed."""
    mount = partition_of(path)
    return "an unknown file system" if mount is None else mount.fstype
