"""From facts and settings to the commands that take an array apart, or the reasons not to. Pure."""

from __future__ import annotations

from .commands import DropLine, Run
from .facts import Disk, Machine
from .fitness import array_of, in_use, incomplete, is_ours, members_of, our_array, unfit
from .layout import fstab_line, mdadm_line
from .plan import Plan, settle
from .refusal import FOREIGN, IN_USE, Refusal
from .settings import ArraySettings


def plan_teardown(settings: ArraySettings, machine: Machine) -> Plan:
    """The steps from the array to blank disks; none when the disks are blank."""
    if refusals := unfit(settings, machine):
        return Plan(refusals=refusals)
    members = members_of(settings, machine)
    ours = [disk for disk in members if is_ours(settings, disk)]
    uuids = {disk.member.uuid for disk in ours if disk.member}
    rest = [disk for disk in members if disk not in ours]
    refusals = [
        Refusal(
            FOREIGN, f"{disk.name}: holds {disk.holds()}, not a member of array {settings.name}; leave it out"
        )
        for disk in rest
        if not disk.blank
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
        return Plan()
    return _take_apart(settings, machine, ours, uuids.pop())


def _take_apart(settings: ArraySettings, machine: Machine, ours: list[Disk], uuid: str) -> Plan:
    md = array_of(machine, uuid, ours)
    lost, steps = [], []
    if md is None:
        if refusals := [refusal for disk in ours for refusal in in_use(disk)]:
            return Plan(refusals=tuple(refusals))
    else:
        mounts = machine.mounts_of(md)
        if md.holders:
            text = f"{md.path}: array {settings.name} is held by {', '.join(md.holders)}; stop that first"
            return Plan(refusals=(Refusal(IN_USE, text),))
        steps += [Run(("umount", mount.target), fails_as=IN_USE) for mount in reversed(mounts)]
        if md.state not in ("clear", "inactive"):
            where = f", mounted at {mounts[0].target}" if mounts else ""
            lost.append(f"array {settings.name} on {md.path}: {md.holds()}{where}")
            steps.append(Run(("wipefs", "-a", md.path), fails_as=IN_USE))
        steps += [Run(("mdadm", "--stop", md.path), fails_as=IN_USE), *settle(machine)]
    lost = lost or [f"array {settings.name}, not assembled, and what is on it"]
    paths = tuple(disk.path for disk in ours)
    steps += [Run(("mdadm", "--zero-superblock", *paths)), Run(("wipefs", "-a", *paths)), *settle(machine)]
    if settings.persist:
        steps += [DropLine(path, line) for path, line in lines_at_boot(settings, machine)]
    return Plan(tuple(steps), lost=tuple(lost))


def lines_at_boot(settings: ArraySettings, machine: Machine) -> list[tuple[str, str]]:
    """File and line of what was written here so that the array comes back at boot, whatever its UUIDs."""
    found = []
    for path, wanted in ((machine.mdadm_conf, "ARRAY "), ("/etc/fstab", "UUID=")):
        for line in machine.files.get(path, "").splitlines():
            uuid = line.split()[0].removeprefix("UUID=") if wanted == "UUID=" and line.strip() else ""
            ours = fstab_line(settings, uuid) if uuid else mdadm_line(settings, line.rpartition("UUID=")[2])
            if line.startswith(wanted) and line == ours:
                found.append((path, line))
    return found


def _two_arrays(settings: ArraySettings, disks: list[Disk]) -> Refusal:
    listed = ", ".join(f"{disk.name} of {disk.member.uuid}" for disk in disks if disk.member)
    return Refusal(
        FOREIGN,
        f"array.devices: members of different arrays called {settings.name} ({listed}); name those of one",
    )
