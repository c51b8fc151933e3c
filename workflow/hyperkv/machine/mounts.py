"""What every user may know of mounts, md devices and disks: findmnt and /sys."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ..array.steps.commands import Output, call
from ..array.planning.facts import FINDMNT_COLUMNS, Md, Mount, parse_findmnt

FINDMNT = ("findmnt", "-J", "-l", "-o", FINDMNT_COLUMNS)
Probe = Callable[[Sequence[str]], Output]


def mounts(probe: Probe = call) -> tuple[Mount, ...]:
    """All mounts; none where there is no findmnt."""
    return parse_findmnt(probe(FINDMNT).text)


def md_device(name: str, top: Path = Path("/")) -> Md | None:
    """An md device such as md127, as sysfs tells everybody; None when there is none of that name.

    Source: Documentation/admin-guide/md.rst. Its UUID is there since Linux 6.0 or so, before that in a by-id link.
    """
    node = top / "sys/block" / name
    if not (node / "md").is_dir():
        return None
    uuid = text_of(node / "md/uuid").strip() or _linked_uuid(top, name)
    return Md(
        path=f"/dev/{name}",
        uuid=uuid if uuid and uuid.strip("0-") else None,
        level=text_of(node / "md/level").strip() or None,
        raid_chunk_bytes=int(text_of(node / "md/chunk_size").strip() or 0),
        state=text_of(node / "md/array_state").strip(),
        members=tuple(sorted(path.name for path in (node / "slaves").glob("*"))),
        device=text_of(node / "dev").strip(),
        holders=holders_of([f"/dev/{name}"], top),
    )


def serial_of(disk: str, top: Path = Path("/")) -> str | None:
    """The serial number of a disk such as nvme0n1, as sysfs tells everybody."""
    node = top / "sys/block" / disk
    return text_of(node / "device/serial").strip() or text_of(node / "serial").strip() or None


def _linked_uuid(top: Path, name: str) -> str | None:
    for link in (top / "dev/disk/by-id").glob("md-uuid-*"):
        if os.path.basename(os.readlink(link)) == name:
            digits = link.name.removeprefix("md-uuid-").replace(":", "")
            return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    return None


def file_system_uuid(path: str, top: Path = Path("/")) -> str | None:
    """The UUID of the file system on a device such as /dev/md127, as udev tells everybody; None where it does not."""
    for link in sorted((top / "dev/disk/by-uuid").glob("*")):
        if os.path.basename(os.readlink(link)) == os.path.basename(path):
            return link.name
    return None


def holders_of(nodes: Sequence[str], top: Path = Path("/")) -> tuple[str, ...]:
    """Kernel names of what holds the nodes. Source: /sys/class/block/*/holders."""
    folders = [top / "sys/class/block" / node.removeprefix("/dev/") / "holders" for node in nodes]
    return tuple(sorted({holder.name for folder in folders for holder in folder.glob("*")}))


def text_of(path: Path) -> str:
    """A file's text as it is, '' when it cannot be read; bytes that are no UTF-8 as surrogates."""
    try:
        return path.read_bytes().decode(errors="surrogateescape")
    except OSError:
        return ""
