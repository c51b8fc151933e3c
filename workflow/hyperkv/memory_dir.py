"""The folder in memory on which a store's files lie when its device is taken out of the path."""

from __future__ import annotations

import shutil
from pathlib import Path

import psutil

from .errors import UserError


def require_memory(folder: Path, needed_bytes: int) -> None:
    """Refuse a folder that is not on a tmpfs with `needed_bytes` free. Raises UserError naming layers.memory_dir."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    kind = file_system_of(existing)
    if kind != "tmpfs":
        raise UserError(f"layers.memory_dir: {folder} is on {kind}, not on a tmpfs; choose a folder on one")
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        raise UserError(
            f"layers.memory_dir: {folder} has {free >> 20} MiB free, and a point needs {-(-needed_bytes // (1 << 20))}; "
            f"enlarge that tmpfs, or lower layers.point_bytes and layers.warm_up_bytes"
        )


def file_system_of(path: Path) -> str:
    """The type of the file system that holds an existing path, 'an unknown file system' when it is not listed."""
    resolved = path.resolve()
    mounts = [part for part in psutil.disk_partitions(all=True) if resolved.is_relative_to(part.mountpoint)]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else "an unknown file system"
