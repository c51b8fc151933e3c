"""What a folder is on, in the terms in which a figure is read: memory, the network, one disk, an array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..base.errors import printable
from ..base.folders import nearest
from .mounts import Mount, Probe, md_device, mounts, serial_of, text_of
from .probe import call

_MEMORY = ("tmpfs", "ramfs", "devtmpfs", "rootfs")
_NETWORK = (
    "nfs",
    "cifs",
    "smb",
    "ceph",
    "lustre",
    "gpfs",
    "beegfs",
    "glusterfs",
    "fuse.",
    "9p",
    "virtiofs",
    "afs",
    "pvfs",
)


class Disk(NamedTuple):
    """One disk below a file system, by its kernel name."""

    device: str
    model: str | None
    serial: str | None


@dataclass(frozen=True)
class Place:
    """kind: `memory`, `network`, `overlay`, `single disk`, `md array`, `device mapper` or `unknown`.

    device: kernel name of what the file system is on, None without a block device. members: the
    disks below it. level and raid_chunk_bytes: of an md array, else None.
    """

    kind: str
    file_system: str
    device: str | None = None
    members: tuple[Disk, ...] = ()
    level: str | None = None
    raid_chunk_bytes: int | None = None

    def note(self) -> str:
        """One line that says what figures measured here are figures of."""
        if self.kind == "memory":
            return f"{self.file_system}: memory, so no figure of tier ssd is one of an SSD"
        if self.kind == "network":
            return f"{self.file_system}: a network file system, so figures include the network and the server's cache"
        if self.kind == "md array":
            chunk = f", RAID chunk {self.raid_chunk_bytes >> 10} KiB" if self.raid_chunk_bytes else ""
            return (
                f"{self.file_system} on {self.device}, md {self.level} of {len(self.members)} devices{chunk}"
            )
        if self.kind == "single disk":
            disk = self.members[0]
            return f"{self.file_system} on one disk, {disk.device}{f' ({disk.model})' if disk.model else ''}"
        if self.kind == "device mapper":
            names = ", ".join(disk.device for disk in self.members)
            return f"{self.file_system} on {self.device}, a volume over {names or 'unknown disks'}"
        return f"{self.file_system}: what it is on is not known here"


def place_of(path: Path, probe: Probe = call, top: Path = Path("/")) -> Place:
    """What an existing or future folder is on."""
    existing = nearest(path.absolute())
    resolved = existing.resolve()
    mount = max(
        (item for item in mounts(probe) if resolved.is_relative_to(item.target)),
        key=lambda item: len(item.target),
        default=None,
    )
    return place_of_mount(mount, top) if mount is not None else Place("unknown", "an unknown file system")


def place_of_mount(mount: Mount, top: Path = Path("/")) -> Place:
    """What a mounted file system is on. Source: its type, and /sys/dev/block."""
    kind = mount.file_system
    if kind in _MEMORY:
        return Place("memory", kind)
    if kind.startswith(_NETWORK) or kind in ("overlay", "aufs"):
        return Place("overlay" if kind in ("overlay", "aufs") else "network", kind)
    node = top / "sys/dev/block" / mount.device
    if not node.exists():
        return Place("unknown", kind)
    whole = node.resolve()
    if (whole / "partition").exists():
        whole = whole.parent
    name = whole.name
    if (md := md_device(name, top)) is not None:
        members = _described(md.members, top)
        return Place("md array", kind, name, members, md.level, md.raid_chunk_bytes or None)
    slaves = sorted(path.name for path in (whole / "slaves").glob("*"))
    if slaves:
        return Place("device mapper", kind, name, _described(slaves, top))
    return Place("single disk", kind, name, _described([name], top))


def _described(names: Sequence[str], top: Path) -> tuple[Disk, ...]:
    return tuple(
        Disk(
            name, _told(text_of(top / "sys/block" / name / "device/model")), _told(serial_of(name, top) or "")
        )
        for name in names
    )


def _told(text: str) -> str | None:
    """What a drive says of itself, whatever bytes these are, as a line of text."""
    return printable(text.strip()) or None
