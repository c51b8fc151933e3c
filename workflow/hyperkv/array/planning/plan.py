"""From facts and settings to the commands that provision an array, or the reasons not to. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...machine.mounts import Md, Mount
from ..layout import EXT4_BLOCK_BYTES, FSTAB, HOST, misalignment, readable, unlisted
from ..refusal import FOREIGN, IN_USE, UNFIT, Refusal
from ..settings import ArraySettings
from ..steps.commands import Edit, Run, Same, Step
from ..steps.identity import members_word
from .at_boot import Listed, listed, mounted_by_fstab
from .facts import Disk, Machine
from .fitness import array_of, in_use, incomplete, is_ours, members_of, our_array, unfit

MKFS_TIMEOUT_S = 900.0


@dataclass(frozen=True)
class Plan:
    """What to do next. Nothing to do and no refusals: all is as it should be.

    lost: what the steps destroy, a line each. After the steps the machine is looked at and planned for again, until
    nothing is left: what an array holds is only known once it is assembled.
    """

    steps: tuple[Step, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    lost: tuple[str, ...] = ()

    @classmethod
    def refused(cls, status: int, text: str) -> Plan:
        """No steps, for one reason."""
        return cls(refusals=(Refusal(status, text),))


def plan_provision(settings: ArraySettings, machine: Machine) -> Plan:
    """The steps from the machine as it is to the mounted array."""
    if refusals := unfit(settings, machine):
        return Plan(refusals=refusals)
    members = members_of(settings, machine)
    if (uuid := our_array(settings, members)) is not None:
        return _continue(settings, machine, uuid)
    return _create(settings, machine, members)


def _create(settings: ArraySettings, machine: Machine, members: list[Disk]) -> Plan:
    refusals = [refusal for disk in members for refusal in in_use(disk)]
    refusals += _mount_point_taken(settings, machine)
    boot = listed(settings, machine, None, None)
    refusals += _kept_away_at_boot(settings, boot)
    if machine.array_node is not None:
        text = f"{settings.node}: leads to another array, {machine.array_node}; choose another array.name"
        refusals.append(Refusal(IN_USE, text))
    lost = []
    for disk in members:
        if disk.blank or any(in_use(disk)):
            continue
        if disk.signatures is None or disk.probed is None or (disk.unsigned and not disk.sampled):
            refusals.append(_unreadable(disk.name))
        elif is_ours(settings, disk) and not settings.overwrite:
            refusals.append(incomplete(settings, disk))
        elif not settings.overwrite:
            text = f"{disk.name}: holds {_content(machine, disk)}; name another disk, or set array.overwrite: true to lose that"
            refusals.append(Refusal(FOREIGN, text))
        lost.append(f"{disk.name} ({readable(disk.size_bytes)}): {_content(machine, disk)}")
    if refusals:
        return Plan(refusals=tuple(refusals))
    made = (Same(settings.node, members_word([disk.path.removeprefix("/dev/") for disk in members])),)
    steps = [
        *load_raid0(machine),
        *(step for disk in members for step in _wipe(disk)),
        *settle(machine),
        Run(
            (
                *("mdadm", "--create", settings.node, f"--homehost={HOST}", f"--name={settings.name}"),
                *("--metadata=1.2", "--level=0", f"--chunk={settings.raid_chunk_bytes >> 10}K"),
                *(f"--raid-devices={len(members)}", *(disk.path for disk in members)),
            ),
            on=the_same(*members),
        ),
        *settle(machine),
        Run(("wipefs", "-a", settings.node), on=made),
        *_make_file_system(settings, machine, settings.node, made),
        *_mount(settings, machine, settings.node, boot, known=False),
    ]
    return Plan(tuple(steps), lost=tuple(lost))


def _continue(settings: ArraySettings, machine: Machine, uuid: str) -> Plan:
    """From an array that is already ours, in whatever state an interruption or a reboot left it."""
    members = members_of(settings, machine)
    md = array_of(machine, uuid, members)
    if md is None or md.state in ("clear", "inactive"):
        if refusals := [refusal for disk in members for refusal in in_use(disk, md)]:
            return Plan(refusals=tuple(refusals))
        stop = (
            [Run(("mdadm", "--stop", md.path), on=the_same(md))]
            if md is not None and md.state == "inactive"
            else []
        )
        assemble = Run(
            ("mdadm", "--assemble", settings.node, f"--uuid={uuid}", *(disk.path for disk in members))
        )
        return Plan((*load_raid0(machine), *stop, assemble, *settle(machine)))
    if md.raid_chunk_bytes != settings.raid_chunk_bytes:
        there, wanted = md.raid_chunk_bytes >> 10, settings.raid_chunk_bytes >> 10
        text = (
            f"{md.path}: array {settings.name} has a RAID chunk of {there} KiB, not {wanted} KiB; set "
            f"array.raid_chunk_bytes: {there} KiB, or tear it down first"
        )
        return Plan.refused(FOREIGN, text)
    mounts = machine.mounts_of(md)
    if mounts:
        return _finish_mounted(settings, machine, md, mounts)
    if md.holders:
        text = f"{md.path}: array {settings.name} is held by {', '.join(md.holders)}; stop that first"
        return Plan.refused(IN_USE, text)
    refusals = _mount_point_taken(settings, machine)
    boot = listed_at_boot(settings, machine, md)
    if not _file_system_is_ours(settings, md) or md.unfinished:
        boot = listed(settings, machine, md, None)
    refusals += _kept_away_at_boot(settings, boot)
    steps: list[Step] = []
    lost: list[str] = []
    if md.signatures is None or md.content is None:
        refusals.append(_unreadable(md.path))
    elif md.blank or md.unfinished:
        wipe = [Run(("wipefs", "-a", md.path), on=the_same(md))] if not md.blank else []
        steps = [*wipe, *_make_file_system(settings, machine, md.path, the_same(md))]
    elif not _file_system_is_ours(settings, md):
        holds = md.holds()
        if (md.content or {}).get("LABEL") == settings.name:
            text = (
                f"{md.path}: array {settings.name} carries {holds}, not {settings.file_system}; set "
                f"array.file_system to that, or tear it down first"
            )
            refusals.append(Refusal(FOREIGN, text))
        elif settings.overwrite:
            lost = [f"{md.path}: {holds}"]
            wipe = [Run(("wipefs", "-a", md.path), on=the_same(md))]
            steps = [*wipe, *_make_file_system(settings, machine, md.path, the_same(md))]
        else:
            text = (
                f"{md.path}: array {settings.name} carries {holds}, which was not made here; save it, "
                f"and set array.overwrite: true to lose it"
            )
            refusals.append(Refusal(FOREIGN, text))
    if refusals:
        return Plan(refusals=tuple(refusals))
    return Plan((*steps, *_mount(settings, machine, md.path, boot, known=not steps)), lost=tuple(lost))


def _finish_mounted(settings: ArraySettings, machine: Machine, md: Md, mounts: tuple[Mount, ...]) -> Plan:
    here = next((mount for mount in mounts if mount.target == settings.mount), None)
    if here is None or here != machine.mounted_at(settings.mount):
        text = (
            f"{md.path}: array {settings.name} is mounted at {mounts[0].target}, not at {settings.mount}; umount it, or "
            f"set array.mount"
        )
        return Plan.refused(IN_USE, text)
    if here.file_system != settings.file_system:
        text = (
            f"{md.path}: array {settings.name} carries {here.file_system}, not {settings.file_system}; set "
            f"array.file_system to that, or tear it down first"
        )
        return Plan.refused(FOREIGN, text)
    if (wrong := misalignment(settings, here)) is not None:
        text = f"{settings.mount}: {here.file_system} is not aligned to the array, {wrong}; tear it down and provision again"
        return Plan.refused(FOREIGN, text)
    steps: list[Step] = []
    if missing := unlisted(settings.mount_options, here):
        steps.append(Run(("mount", "-o", f"remount,{','.join(missing)}", settings.mount)))
    if machine.data_owner is None or (settings.owner is not None and machine.data_owner != machine.owner):
        steps.append(_data_folder(settings, machine))
    boot = listed_at_boot(settings, machine, md)
    if refusals := _kept_away_at_boot(settings, boot):
        return Plan(refusals=tuple(refusals))
    return Plan((*steps, *_at_boot(settings, machine, boot)))


def listed_at_boot(settings: ArraySettings, machine: Machine, md: Md) -> tuple[Listed, Listed]:
    """What mdadm.conf and fstab say of an array with its file system."""
    return listed(settings, machine, md, (md.content or {}).get("UUID"))


def _kept_away_at_boot(settings: ArraySettings, boot: tuple[Listed, ...]) -> list[Refusal]:
    return [refusal for file in boot for refusal in file.refusals()] if settings.persist else []


def _at_boot(settings: ArraySettings, machine: Machine, boot: tuple[Listed, ...]) -> list[Step]:
    """The edits that bring the array back at boot, where they are asked for; systemd then reads fstab again."""
    if not settings.persist:
        return []
    edits = [edit for file in boot for edit in file.edit()]
    return [*edits, *reload_fstab(machine, edits)]


def reload_fstab(machine: Machine, edits: Sequence[Edit]) -> list[Step]:
    """What makes systemd follow an edited fstab; until then it mounts, and may unmount, by the old one."""
    changed = machine.systemd and any(edit.path == FSTAB for edit in edits)
    return [Run(("systemctl", "daemon-reload"))] if changed else []


def _mount_point_taken(settings: ArraySettings, machine: Machine) -> list[Refusal]:
    there = machine.mounted_at(settings.mount)
    if there is not None:
        text = f"{settings.mount}: {there.source} is mounted there; umount it, or set array.mount"
        return [Refusal(IN_USE, text)]
    if machine.mount_point_files:
        count = machine.mount_point_files
        text = (
            f"{settings.mount}: has {count} entries, which the mount would hide; empty it, or set array.mount"
        )
        return [Refusal(IN_USE, text)]
    return []


def _content(machine: Machine, disk: Disk) -> str:
    """What is on a disk in words, and where fstab mounts it, though it may not be mounted now."""
    targets = ", ".join(dict.fromkeys(mounted_by_fstab(machine, disk)))
    return f"{disk.holds()}, which {FSTAB} mounts at {targets}" if targets else disk.holds()


def _unreadable(name: str) -> Refusal:
    text = f"{name}: wipefs, blkid or a read of samples failed, so what it holds is not known; see what `dmesg` and they say"
    return Refusal(UNFIT, text)


def _wipe(disk: Disk) -> list[Step]:
    """wipefs for the partitions with signatures, deepest first, and then for the disk."""
    if disk.unsigned:
        return []
    own = disk.path.removeprefix("/dev/")
    others = dict.fromkeys(item.device for item in disk.signatures or () if item.device != own)
    paths = [*(f"/dev/{name}" for name in reversed(others)), disk.path]
    return [Run(("wipefs", "-a", path), on=(Same(path, disk.identity),)) for path in paths]


def the_same(*devices: Disk | Md) -> tuple[Same, ...]:
    """Devices as they have to be when a step that destroys something on them begins."""
    return tuple(Same(device.path, device.identity) for device in devices)


def _make_file_system(
    settings: ArraySettings, machine: Machine, node: str, on: tuple[Same, ...]
) -> list[Step]:
    """mkfs without its force option, so that it refuses what a plan has overlooked."""
    unit, disks = settings.raid_chunk_bytes, len(settings.devices)
    if settings.file_system == "xfs":
        argv: tuple[str, ...] = ("mkfs.xfs", "-q", "-L", settings.name, "-d", f"su={unit},sw={disks}", node)
    else:
        blocks = unit // EXT4_BLOCK_BYTES
        stripes = f"stride={blocks},stripe_width={blocks * disks},lazy_itable_init=0,lazy_journal_init=0"
        argv = ("mkfs.ext4", "-q", "-b", str(EXT4_BLOCK_BYTES), "-L", settings.name, "-E", stripes, node)
    return [Run(argv, timeout_s=MKFS_TIMEOUT_S, on=on), *settle(machine)]


def _mount(
    settings: ArraySettings, machine: Machine, node: str, boot: tuple[Listed, Listed], *, known: bool
) -> list[Step]:
    """Mount the array and make its folder. known: whether the file system is there already, and so its UUID.

    Where fstab has stale lines of ours these are replaced before, so that systemd does not unmount it again; for a file
    system that is still to be made that is for the next look.
    """
    before: list[Step] = []
    if settings.persist and boot[1].stale:
        if not known:
            return []
        before = _at_boot(settings, machine, boot)
    options = ("-o", ",".join(settings.mount_options)) if settings.mount_options else ()
    return [
        *before,
        Run(("install", "-d", "-m", "755", settings.mount)),
        Run(("mount", "-t", settings.file_system, *options, node, settings.mount)),
        _data_folder(settings, machine),
    ]


def _data_folder(settings: ArraySettings, machine: Machine) -> Run:
    uid, gid = machine.owner or (0, 0)
    return Run(("install", "-d", "-m", "755", "-o", str(uid), "-g", str(gid), settings.data_dir))


def _file_system_is_ours(settings: ArraySettings, md: Md) -> bool:
    content = md.content or {}
    return content.get("TYPE") == settings.file_system and content.get("LABEL") == settings.name


def load_raid0(machine: Machine) -> list[Step]:
    return [] if machine.raid0_loaded else [Run(("modprobe", "raid0"), fails_as=UNFIT)]


def settle(machine: Machine) -> list[Step]:
    return [Run(("udevadm", "settle", "--timeout=30"))] if machine.udev else []
