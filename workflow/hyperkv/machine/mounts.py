"""What every user may know of mounts, md devices and disks: findmnt and /sys."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .probe import Output, call

FINDMNT_COLUMNS = "TARGET,SOURCE,FSTYPE,OPTIONS,MAJ:MIN"
FINDMNT = ("findmnt", "-J", "-l", "-o", FINDMNT_COLUMNS)
Probe = Callable[[Sequence[str]], Output]


@dataclass(frozen=True)
class Signature:
    """A magic number on a device that says what it holds."""

    device: str
    kind: str
    label: str | None = None
    uuid: str | None = None

    def __str__(self) -> str:
        named = f' "{self.label}"' if self.label else ""
        return f"{self.kind}{named}"


@dataclass(frozen=True)
class Mount:
    """A mounted file system. options: as the kernel lists them. device: 'major:minor'."""

    target: str
    source: str
    file_system: str
    options: tuple[str, ...] = ()
    device: str = ""

    def option(self, name: str) -> str | None:
        """The value of `name=value` among the options."""
        return next((word.partition("=")[2] for word in self.options if word.startswith(f"{name}=")), None)


@dataclass(frozen=True)
class Md:
    """An md array that the kernel has, assembled or in part (state `inactive`, level and uuid then maybe unknown).

    members: kernel names such as nvme0n1. content, signatures and unfinished are None where only root could tell: what
    blkid takes it for, its magic numbers, and whether its XFS was never completed.
    """

    path: str
    uuid: str | None
    level: str | None
    raid_chunk_bytes: int
    state: str
    members: tuple[str, ...]
    device: str = ""
    holders: tuple[str, ...] = ()
    signatures: tuple[Signature, ...] | None = None
    content: Mapping[str, str] | None = field(default=None, hash=False)
    unfinished: bool | None = None
    identity: tuple[str, ...] = ()

    @property
    def blank(self) -> bool:
        """Whether no file system or anything else is on it; False when that is not known."""
        return self.signatures == () and self.content == {}

    def holds(self) -> str:
        """What is on it in words: 'xfs "hyperkv"'."""
        found = ", ".join(dict.fromkeys(str(signature) for signature in self.signatures or ()))
        return found or (self.content or {}).get("TYPE", "nothing")


def parse_findmnt(text: str) -> tuple[Mount, ...]:
    """The mounts of `findmnt -J -l -o FINDMNT_COLUMNS`; nothing for no output, which means none."""
    if not text.strip():
        return ()
    return tuple(
        Mount(
            item["target"],
            item["source"],
            item["fstype"],
            tuple(item["options"].split(",")),
            item["maj:min"].strip(),
        )
        for item in json.loads(text)["filesystems"]
    )


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
