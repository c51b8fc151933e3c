"""What a device is at this moment, from the kernel and by its path, so that it can be held against what was looked at."""

from __future__ import annotations

import os
from pathlib import Path

_FACTS = ("diskseq", "size", "serial", "device/serial", "wwid", "device/wwid", "md/uuid")


def device_identity(path: str, top: Path = Path("/")) -> tuple[str, ...]:
    """Words `fact=value` of a whole disk or an array that a path leads to; none when it leads to nothing.

    Source: /sys/class/block: diskseq, which no two devices have had since the boot (Linux 5.15), size in sectors, serial
    number, WWN, md UUID, and the members of an array. Of a partition they are its disk's.
    """
    name = os.path.basename(os.path.realpath(top / path.lstrip("/")))
    node = top / "sys/class/block" / name
    if not name or not node.exists():
        return ()
    node = node.resolve()
    if (node / "partition").exists():
        node = node.parent
    found = [f"{fact.rpartition('/')[2]}={text}" for fact in _FACTS if (text := _text(node / fact))]
    return (*dict.fromkeys(found), *members_word(sorted(path.name for path in (node / "slaves").glob("*"))))


def members_word(names: list[str]) -> tuple[str, ...]:
    """The word for the devices that an array is of, by kernel names."""
    return (f"members={' '.join(sorted(names))}",) if names else ()


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
