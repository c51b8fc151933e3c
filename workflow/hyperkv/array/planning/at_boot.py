"""What /etc/fstab and mdadm.conf say of the array: lines of ours that serve, lines of ours that are stale, others' lines.

A line of ours is known by its mark, the option x-hyperkv=NAME, or as earlier versions wrote it, by mount point and
options; one of mdadm.conf by the array's name. It is never ours while what it names is there and is not the array. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ...base.errors import printable
from ...machine.mounts import Md
from ..layout import BOOT_OPTIONS, FSTAB, HOST, MARK, fstab_line, mdadm_line, with_colons
from ..refusal import IN_USE, Refusal
from ..settings import FILE_SYSTEMS, ArraySettings
from ..steps.boot_files import ArrayEntry, FstabEntry, array_entries, fstab_entries, lines_of
from ..steps.commands import Edit
from .facts import Disk, Machine, dashed
from .fitness import members_of

Entry = FstabEntry | ArrayEntry


@dataclass(frozen=True)
class Listed:
    """A file's entries of one array.

    ours: all that were written here; stale: those of them that do not bring it back at boot, or say it twice; in_the_way:
    others' that keep it away. wanted: the line to add; None where one brings it back, or nothing is known to add.
    """

    path: str
    text: str
    ours: tuple[Entry, ...] = ()
    stale: tuple[Entry, ...] = ()
    in_the_way: tuple[Entry, ...] = ()
    wanted: str | None = None

    def edit(self) -> list[Edit]:
        """The step that leaves one line that serves: the new one takes the first stale one's place."""
        if not self.stale and self.wanted is None:
            return []
        return [Edit(self.path, self.text, _numbers(self.stale), self.wanted)]

    def removal(self) -> list[Edit]:
        """The step that takes all lines of ours out."""
        return [Edit(self.path, self.text, _numbers(self.ours))] if self.ours else []

    def line(self, entry: Entry) -> str:
        """The text of an entry, continuations on the same line."""
        lines = lines_of(self.text)
        return printable(" ".join(lines[number - 1].strip() for number in entry.lines))

    def notes(self) -> list[str]:
        """What array.persist: true would do, and what it would refuse, for a reader who keeps it false."""
        found = [
            f"{self.path}: {entry}, so the array is not there after a reboot" for entry in self.in_the_way
        ]
        for entry in self.stale:
            found.append(
                f"{self.path}: line {entry.lines[0]} is an earlier array's, or says it twice, and may keep this one away "
                f"at boot; remove it (array.persist: true does):\n  {self.line(entry)}"
            )
        if self.wanted is not None:
            found.append(
                f"To have it back after a reboot, add to {self.path} (or set array.persist: true):\n  {self.wanted}"
            )
        return found

    def refusals(self) -> list[Refusal]:
        """One for each line of others that keeps the array away."""
        remedy = "remove that line, name another {}, or set array.persist: false"
        key = "array.mount" if self.path == FSTAB else "array.name"
        return [
            Refusal(IN_USE, f"{self.path}: {entry}, and was not written here; {remedy.format(key)}")
            for entry in self.in_the_way
        ]


def listed(
    settings: ArraySettings, machine: Machine, md: Md | None, fs_uuid: str | None
) -> tuple[Listed, Listed]:
    """mdadm.conf and fstab. md: the array, None before it is made; fs_uuid: of its file system, None before that."""
    return _in_mdadm_conf(settings, machine, md), _in_fstab(settings, machine, md, fs_uuid)


def _in_fstab(settings: ArraySettings, machine: Machine, md: Md | None, fs_uuid: str | None) -> Listed:
    text = machine.files.get(FSTAB, "")
    entries = fstab_entries(text)
    elsewhere = _file_systems_elsewhere(machine, md)
    ours = [entry for entry in entries if _fstab_is_ours(settings, entry, fs_uuid, elsewhere)]
    links = {settings.node, *_links(settings, machine, md)}
    serving = [entry for entry in entries if _fstab_serves(settings, entry, fs_uuid, links, entry in ours)]
    in_the_way = [
        entry
        for entry in entries
        if entry.target == settings.mount and entry not in ours and entry not in serving
    ]
    wanted = fstab_line(settings, fs_uuid) if fs_uuid is not None else None
    return _listed(FSTAB, text, ours, serving, in_the_way, wanted)


def _in_mdadm_conf(settings: ArraySettings, machine: Machine, md: Md | None) -> Listed:
    path = machine.mdadm_conf
    text = machine.files.get(path, "")
    entries = array_entries(text)
    uuid = md.uuid if md is not None else None
    name = _full_name(settings, machine, uuid)
    elsewhere = _arrays_elsewhere(settings, machine, uuid)
    ours = [entry for entry in entries if _array_is_ours(settings, entry, elsewhere)]
    serving = [entry for entry in entries if _array_serves(entry, uuid, name)]
    in_the_way = [
        entry
        for entry in entries
        if entry not in ours
        and entry not in serving
        and (entry.device in _devices(settings) or (uuid is not None and _uuid_of(entry) == uuid))
    ]
    wanted = mdadm_line(settings, uuid, name) if uuid is not None else None
    return _listed(path, text, ours, serving, in_the_way, wanted)


def _listed(
    path: str,
    text: str,
    ours: Sequence[Entry],
    serving: Sequence[Entry],
    in_the_way: Sequence[Entry],
    wanted: str | None,
) -> Listed:
    """Of several lines that serve, another's stays before one of ours, and of ours the first."""
    kept = next((entry for entry in serving if entry not in ours), None) or next(iter(serving), None)
    stale = tuple(entry for entry in ours if entry is not kept)
    return Listed(path, text, tuple(ours), stale, tuple(in_the_way), None if kept is not None else wanted)


def _numbers(entries: Sequence[Entry]) -> tuple[int, ...]:
    return tuple(sorted(number for entry in entries for number in entry.lines))


def _fstab_is_ours(
    settings: ArraySettings, entry: FstabEntry, fs_uuid: str | None, elsewhere: set[str]
) -> bool:
    uuid = (entry.tag("UUID") or "").lower()
    if uuid in elsewhere:
        return False
    mark = entry.option(MARK)
    here = entry.target == settings.mount
    if mark is not None:
        return mark == settings.name or here
    as_before = bool(uuid) and entry.file_system in FILE_SYSTEMS and set(BOOT_OPTIONS) <= set(entry.options)
    return as_before and (here or uuid == (fs_uuid or "").lower())


def _fstab_serves(
    settings: ArraySettings, entry: FstabEntry, fs_uuid: str | None, links: set[str], ours: bool
) -> bool:
    """Whether it mounts the array at boot, or on access, where it is to be; one of ours also with the options that are asked for."""
    if entry.target != settings.mount or entry.file_system not in (settings.file_system, "auto"):
        return False
    if _only_by_hand(entry) or (ours and not set(settings.mount_options) <= set(entry.options)):
        return False
    uuid = entry.tag("UUID")
    if uuid is not None:
        return fs_uuid is not None and uuid.lower() == fs_uuid.lower()
    return entry.tag("LABEL") == settings.name or entry.source in links


def _only_by_hand(entry: FstabEntry) -> bool:
    """noauto without the automount unit that systemd mounts on access with. Source: systemd.mount(5), FSTAB."""
    automounts = ("x-systemd.automount", "comment=systemd.automount")
    return "noauto" in entry.options and not any(word in entry.options for word in automounts)


def _array_is_ours(settings: ArraySettings, entry: ArrayEntry, elsewhere: set[str]) -> bool:
    uuid, level = _uuid_of(entry), entry.value("level")
    if uuid is None or uuid in elsewhere or level not in (None, "raid0", "0"):
        return False
    return entry.device in _devices(settings) or entry.value("name") == f"{HOST}:{settings.name}"


def _array_serves(entry: ArrayEntry, uuid: str | None, full_name: str) -> bool:
    """Whether mdadm takes the array for this entry. Source: ident_matches() of mdadm: all that is given must agree."""
    name, there = entry.value("name"), _uuid_of(entry)
    if "<ignore>" in (entry.device.lower(), (name or "").lower()):
        return False
    named = name in (None, full_name, full_name.rpartition(":")[2])
    return named and (there == uuid if there is not None else name is not None)


def _devices(settings: ArraySettings) -> tuple[str, str]:
    return settings.node, settings.name


def _uuid_of(entry: ArrayEntry) -> str | None:
    uuid = entry.value("uuid")
    return dashed(uuid) if uuid and re.fullmatch("[0-9a-fA-F:. -]+", uuid) else None


def _full_name(settings: ArraySettings, machine: Machine, uuid: str | None) -> str:
    """The array's name with its host, as its members have it; as it will be made where there are none."""
    members = [disk.member for disk in machine.disks if disk.member is not None and disk.member.uuid == uuid]
    return members[0].full_name if members else f"{HOST}:{settings.name}"


def _links(settings: ArraySettings, machine: Machine, md: Md | None) -> set[str]:
    """Names of the array under /dev/disk/by-id that stay. Source: udev's rules of mdadm."""
    if md is None or md.uuid is None:
        return set()
    named = _full_name(settings, machine, md.uuid)
    return {f"/dev/disk/by-id/md-uuid-{with_colons(md.uuid)}", f"/dev/disk/by-id/md-name-{named}"}


def _file_systems_elsewhere(machine: Machine, md: Md | None) -> set[str]:
    """UUIDs, in lower case, of file systems that are on this machine and not on the array."""
    found = {uuid for uuid, path in machine.file_systems.items() if md is None or path != md.path}
    found |= {item.uuid for disk in machine.disks for item in disk.signatures or () if item.uuid}
    return {uuid.lower() for uuid in found}


def _arrays_elsewhere(settings: ArraySettings, machine: Machine, uuid: str | None) -> set[str]:
    """UUIDs of arrays that are on other disks of this machine than the named ones, assembled or not."""
    members = members_of(settings, machine)
    here = {disk.member.uuid for disk in members if disk.member} | {uuid}
    found = {md.uuid for md in machine.arrays if md.uuid}
    found |= {disk.member.uuid for disk in machine.disks if disk.member and disk not in members}
    return found - here


def mounted_by_fstab(machine: Machine, disk: Disk) -> tuple[str, ...]:
    """Where fstab mounts what is on a disk, mounted now or not."""
    labels = {item.label for item in disk.signatures or () if item.label}
    uuids = {item.uuid.lower() for item in disk.signatures or () if item.uuid}
    nodes = {disk.path, *disk.by_id, *(part.path for part in disk.parts)}
    return tuple(
        entry.target
        for entry in fstab_entries(machine.files.get(FSTAB, ""))
        if (entry.tag("UUID") or "").lower() in uuids or entry.tag("LABEL") in labels or entry.source in nodes
    )
