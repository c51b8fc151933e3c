"""From facts and settings to the commands that take an array apart, or the reasons not to. Pure."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ...machine.mounts import Md
from ..layout import MARK
from ..refusal import FOREIGN, IN_USE, Refusal
from ..settings import ArraySettings
from ..steps.boot_files import ArrayEntry, FstabEntry
from ..steps.commands import Run, Step, Zero
from .at_boot import Listed, listed
from .facts import Disk, Machine
from .fitness import array_of, in_use, incomplete, is_ours, members_of, our_array, unfit
from .plan import Plan, reload_fstab, settle, the_same


def plan_teardown(settings: ArraySettings, machine: Machine) -> Plan:
    """The steps from the array to blank disks; none when the disks are blank."""
    if problems := unfit(settings, machine):
        return Plan(refusals=problems)
    members = members_of(settings, machine)
    ours = [disk for disk in members if is_ours(settings, disk)]
    uuids = {disk.member.uuid for disk in ours if disk.member}
    rest = [disk for disk in members if disk not in ours]
    refusals = [
        Refusal(
            FOREIGN, f"{disk.name}: holds {disk.holds()}, not a member of array {settings.name}; leave it out"
        )
        for disk in rest
        if not disk.unsigned
    ]
    refusals += [
        Refusal(
            FOREIGN,
            f"{disk.name}: a member of array {settings.name} too, and array.devices does not name it; name it",
        )
        for disk in machine.disks
        if disk not in members and disk.member is not None and disk.member.uuid in uuids
    ]
    if len(uuids) > 1:
        refusals.append(_two_arrays(settings, ours))
    elif ours and not rest and our_array(settings, members) is None:
        refusals.append(incomplete(settings, ours[0]))
    if refusals:
        return Plan(refusals=tuple(refusals))
    if not ours:
        return Plan(tuple(_at_boot(settings, machine)))
    return _take_apart(settings, machine, ours, uuids.pop())


def _take_apart(settings: ArraySettings, machine: Machine, ours: list[Disk], uuid: str) -> Plan:
    md = array_of(machine, uuid, ours)
    lost: list[str] = []
    steps: list[Step] = []
    if md is None:
        if refusals := [refusal for disk in ours for refusal in in_use(disk)]:
            return Plan(refusals=tuple(refusals))
    else:
        mounts = machine.mounts_of(md)
        if md.holders:
            text = f"{md.path}: array {settings.name} is held by {', '.join(md.holders)}; stop that first"
            return Plan.refused(IN_USE, text)
        steps += [Run(("umount", mount.target), fails_as=IN_USE) for mount in reversed(mounts)]
        if md.state not in ("clear", "inactive"):
            where = f", mounted at {mounts[0].target}" if mounts else ""
            lost.append(f"array {settings.name} on {md.path}: {md.holds()}{where}")
            steps.append(Run(("wipefs", "-a", md.path), fails_as=IN_USE, on=the_same(md)))
        steps += [Run(("mdadm", "--stop", md.path), fails_as=IN_USE, on=the_same(md)), *settle(machine)]
    lost = lost or [f"array {settings.name}, not assembled, and what is on it"]
    paths = tuple(disk.path for disk in ours)
    steps += [*(Zero(disk.path, disk.size_bytes, the_same(disk)) for disk in ours), *settle(machine)]
    steps += [
        Run(("mdadm", "--zero-superblock", *paths), on=the_same(*ours)),
        Run(("wipefs", "-a", *paths), on=the_same(*ours)),
        *settle(machine),
    ]
    return Plan((*steps, *_at_boot(settings, machine, md)), lost=tuple(lost))


def _at_boot(settings: ArraySettings, machine: Machine, md: Md | None = None) -> list[Step]:
    edits = [edit for file in lines_at_boot(settings, machine, md) for edit in file.removal()]
    return [*edits, *reload_fstab(machine, edits)] if settings.persist else []


def lines_at_boot(settings: ArraySettings, machine: Machine, md: Md | None = None) -> tuple[Listed, ...]:
    """What mdadm.conf and fstab have of the array, whatever its UUIDs; lines marked for another array are not its own."""
    files = listed(settings, machine, md, (md.content or {}).get("UUID") if md is not None else None)
    return tuple(replace(file, ours=tuple(filter(partial(_its_own, settings), file.ours))) for file in files)


def _its_own(settings: ArraySettings, entry: FstabEntry | ArrayEntry) -> bool:
    return isinstance(entry, ArrayEntry) or entry.option(MARK) in (None, settings.name)


def _two_arrays(settings: ArraySettings, disks: list[Disk]) -> Refusal:
    listed = ", ".join(f"{disk.name} of {disk.member.uuid}" for disk in disks if disk.member)
    text = f"array.devices: members of different arrays called {settings.name} ({listed}); name those of one"
    return Refusal(FOREIGN, text)
