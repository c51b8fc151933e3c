"""What is known about disks, arrays and mounts, and how it is read from the tools' output; no I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...machine.mounts import Md, Mount, Signature

_FINE_CHILDREN = ("part",)


@dataclass(frozen=True)
class Member:
    """A disk's md superblock. name: without the host before the colon. devices: how many the array has.

    host: '' for an array whose name has none.
    """

    name: str
    uuid: str
    level: str
    devices: int
    host: str = ""

    @property
    def full_name(self) -> str:
        """The name with its host, as mdadm.conf has to give it."""
        return f"{self.host}:{self.name}" if self.host else self.name


@dataclass(frozen=True)
class Part:
    """A partition, or a device that is built on a disk. kind: lsblk's TYPE (part, lvm, crypt, raid0, mpath, ...).

    path: /dev/mapper/NAME for a mapping, which kernel_name calls dm-0.
    """

    path: str
    kernel_name: str
    kind: str
    mounts: tuple[str, ...] = ()
    file_system: str | None = None


@dataclass(frozen=True)
class Disk:
    """A block device. by_id: its names under /dev/disk/by-id, best first. parts: all that is built on it.

    signatures, probed and busy are None where only root could tell: all magic numbers on it and on its partitions
    (wipefs), what blkid takes it for ({} for nothing), and whether the kernel has it in exclusive use. sampled: whether
    samples of one without any of these were read; data_at: where the first was that held anything but zeros. identity:
    what the kernel tells of it, by which it is known again.
    """

    path: str
    kind: str = "disk"
    size_bytes: int = 0
    transport: str | None = None
    model: str | None = None
    serial: str | None = None
    read_only: bool = False
    rotational: bool = False
    by_id: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    file_system: str | None = None
    parts: tuple[Part, ...] = ()
    holders: tuple[str, ...] = ()
    swaps: tuple[str, ...] = ()
    signatures: tuple[Signature, ...] | None = None
    probed: Mapping[str, str] | None = field(default=None, hash=False)
    member: Member | None = None
    busy: bool | None = None
    sampled: bool = False
    data_at: int | None = None
    identity: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name that stays: by-id where there is one."""
        return self.by_id[0] if self.by_id else self.path

    @property
    def unsigned(self) -> bool:
        """Whether it has no signature; False when that is not known."""
        return self.signatures == () and self.probed == {}

    @property
    def blank(self) -> bool:
        """Whether nothing is on it as far as samples tell; False when that is not known."""
        return self.unsigned and self.sampled and self.data_at is None

    def holds(self) -> str:
        """What is on it in words: 'ext4 "old", gpt'; of an unprivileged look only what udev told."""
        if self.signatures is None:
            seen = [self.file_system, *(part.file_system for part in self.parts if part.kind == "part")]
            return (
                ", ".join(dict.fromkeys(kind for kind in seen if kind)) or "nothing that needs no root to see"
            )
        found = list(dict.fromkeys(str(signature) for signature in self.signatures))
        if not found and self.probed:
            found = [self.probed.get("TYPE") or self.probed.get("PTTYPE") or "something blkid does not name"]
        if not found and self.data_at is not None:
            found = [f"data without a signature (not zeros at byte {self.data_at})"]
        return ", ".join(found) or "nothing"


@dataclass(frozen=True)
class Machine:
    """All that a plan depends on.

    named: the config's device names to kernel paths, None for one that is not there. array_node: what /dev/md/NAME
    leads to. complaints: why lsblk or findmnt told nothing, a line each. mount_point_files: how many entries the mount point has. owner: uid and gid that the data folder is to
    have, None when there is no such user; data_owner: those it has, None without the folder. files: the text of
    /etc/fstab and mdadm.conf by path, '' for one that is not there. file_systems: UUIDs of the file systems that there
    are to the kernel paths that have them. systemd: whether it runs here, and follows fstab. initramfs: the command that
    makes it anew, with its copy of mdadm.conf; None where there is none.
    """

    disks: tuple[Disk, ...]
    arrays: tuple[Md, ...] = ()
    mounts: tuple[Mount, ...] = ()
    named: Mapping[str, str | None] = field(default_factory=dict, hash=False)
    array_node: str | None = None
    root: bool = True
    raid0_loaded: bool = True
    udev: bool = True
    missing_tools: tuple[str, ...] = ()
    complaints: tuple[str, ...] = ()
    mount_point_files: int = 0
    owner: tuple[int, int] | None = (0, 0)
    data_owner: tuple[int, int] | None = None
    files: Mapping[str, str] = field(default_factory=dict, hash=False)
    mdadm_conf: str = "/etc/mdadm/mdadm.conf"
    file_systems: Mapping[str, str] = field(default_factory=dict, hash=False)
    systemd: bool = False
    initramfs: str | None = None

    def disk(self, path: str | None) -> Disk | None:
        """The disk of a kernel path such as /dev/nvme0n1."""
        return next((disk for disk in self.disks if disk.path == path), None)

    def mounted_at(self, target: str) -> Mount | None:
        """What is mounted on a folder: the last one there."""
        return next((mount for mount in reversed(self.mounts) if mount.target == target), None)

    def mounts_of(self, md: Md) -> tuple[Mount, ...]:
        """Where an array's file system is mounted."""
        return tuple(mount for mount in self.mounts if mount.device == md.device)

    def assuming_blank(self) -> Machine:
        """The same with nothing on the named disks, where only root could tell."""
        disks = [
            replace(disk, signatures=(), probed={}, busy=False, sampled=True)
            if disk.path in self.named.values() and disk.signatures is None
            else disk
            for disk in self.disks
        ]
        return replace(self, disks=tuple(disks))


LSBLK_COLUMNS = "NAME,KNAME,PATH,TYPE,SIZE,RO,ROTA,TRAN,MODEL,SERIAL,MOUNTPOINTS,FSTYPE"


def parse_lsblk(text: str) -> list[Disk]:
    """The top devices of `lsblk -J -b -o LSBLK_COLUMNS`, by path, with all that is built on them as parts."""
    disks = []
    for item in json.loads(text)["blockdevices"] if text.strip() else []:
        disks.append(
            Disk(
                path=item["path"],
                kind=item["type"],
                size_bytes=int(item["size"] or 0),
                transport=item["tran"],
                model=_word(item["model"]),
                serial=_word(item["serial"]),
                read_only=bool(item["ro"]),
                rotational=bool(item["rota"]),
                mounts=_mounts(item),
                file_system=item["fstype"],
                parts=tuple(_descendants(item)),
            )
        )
    return sorted(disks, key=lambda disk: disk.path)


def _descendants(item: Mapping[str, Any]) -> Iterable[Part]:
    for child in item.get("children", []):
        yield Part(child["path"], child["kname"], child["type"], _mounts(child), child["fstype"])
        yield from _descendants(child)


def _mounts(item: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(mount for mount in item["mountpoints"] if mount)


def _word(text: str | None) -> str | None:
    return (text or "").strip() or None


def built_on(disk: Disk) -> tuple[Part, ...]:
    """The devices on a disk that hold it: volumes, mappings and arrays, not partitions."""
    return tuple(part for part in disk.parts if part.kind not in _FINE_CHILDREN)


def parse_wipefs(text: str) -> tuple[Signature, ...]:
    """All signatures of `wipefs -n -J DEVICE...`; device is a kernel name."""
    if not text.strip():
        return ()
    return tuple(
        Signature(item["device"], item["type"], _word(item["label"]), _word(item["uuid"]))
        for item in json.loads(text)["signatures"]
    )


def parse_export(text: str) -> dict[str, str]:
    """The KEY=VALUE lines of `blkid -o export` and `mdadm --export`."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


def parse_blkid(status: int, text: str) -> dict[str, str] | None:
    """What `blkid -p -o export DEVICE` says: {} for nothing there, None when it could not look.

    Status 2 with no output is 'nothing'; 8 is 'more than one thing', which is something.
    """
    if status == 8:
        return {"TYPE": "ambivalent signatures"}
    if status not in (0, 2):
        return None
    return {key: value for key, value in parse_export(text).items() if key != "DEVNAME"}


def parse_member(text: str) -> Member | None:
    """The superblock that `mdadm --examine --export DISK` prints; None when it prints none."""
    found = parse_export(text)
    if "MD_UUID" not in found:
        return None
    host, _, name = found.get("MD_NAME", "").rpartition(":")
    devices = int(found.get("MD_DEVICES", 0))
    return Member(name, dashed(found["MD_UUID"]), found.get("MD_LEVEL", ""), devices, host)


def dashed(uuid: str) -> str:
    """An md UUID as sysfs, wipefs and blkid write it, from mdadm's with colons."""
    digits = re.sub("[^0-9a-f]", "", uuid.lower())
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def parse_swaps(text: str) -> tuple[str, ...]:
    """The devices and files of /proc/swaps."""
    return tuple(line.split()[0] for line in text.splitlines()[1:] if line.strip())


def best_first(names: Sequence[str]) -> tuple[str, ...]:
    """by-id names, those with model and serial before WWNs and EUIs, short ones first."""
    opaque = re.compile(r"/(nvme-(nvme\.|eui\.|uuid\.)|wwn-|dm-|md-)")
    return tuple(sorted(names, key=lambda name: (bool(opaque.search(name)), len(name), name)))
