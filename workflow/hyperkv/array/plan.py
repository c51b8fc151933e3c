"""From facts and settings to the commands that provision or tear down an array, or the reasons not to. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .commands import AddLine, DropLine, Run, Step
from .facts import Disk, Machine, Md, Mount, built_on
from .layout import EXT4_BLOCK_BYTES, fstab_line, mdadm_line, misalignment, readable, unlisted
from .refusal import FOREIGN, IN_USE, UNFIT, Refusal
from .settings import ArraySettings, mistakes

MKFS_TIMEOUT_S = 900.0
_PACKAGES = {
    "mdadm": "mdadm",
    "mkfs.xfs": "xfsprogs",
    "mkfs.ext4": "e2fsprogs",
    "lsblk": "util-linux",
    "wipefs": "util-linux",
    "blkid": "util-linux",
    "findmnt": "util-linux",
    "mount": "mount",
    "modprobe": "kmod",
    "install": "coreutils",
}


@dataclass(frozen=True)
class Plan:
    """What to do next. Nothing to do and no refusals: all is as it should be.

    lost: what the steps destroy, a line each. After the steps the machine is looked at and planned for again, until
    nothing is left: what an array holds is only known once it is assembled.
    """

    steps: tuple[Step, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    lost: tuple[str, ...] = ()


def required_tools(settings: ArraySettings) -> tuple[str, ...]:
    """Programs that provisioning runs."""
    others = [tool for tool in _PACKAGES if not tool.startswith("mkfs.")]
    return (*others, f"mkfs.{settings.file_system}")


def plan_provision(settings: ArraySettings, machine: Machine) -> Plan:
    """The steps from the machine as it is to the mounted array."""
    if refusals := _unfit(settings, machine):
        return Plan(refusals=refusals)
    members = members_of(settings, machine)
    if (uuid := our_array(settings, members)) is not None:
        return _continue(settings, machine, uuid)
    return _create(settings, machine, members)


def plan_teardown(settings: ArraySettings, machine: Machine) -> Plan:
    """The steps from the array to blank disks; none when the disks are blank."""
    if refusals := _unfit(settings, machine):
        return Plan(refusals=refusals)
    members = members_of(settings, machine)
    ours = [disk for disk in members if _is_ours(settings, disk)]
    uuids = {disk.member.uuid for disk in ours if disk.member}
    rest = [disk for disk in members if disk not in ours]
    refusals = [
        Refusal(
            FOREIGN, f"{disk.name}: holds {disk.holds()}, not a member of array {settings.name}; leave it out"
        )
        for disk in rest
        if not disk.blank
    ]
    if len(uuids) > 1:
        refusals.append(_two_arrays(settings, ours))
    elif ours and not rest and our_array(settings, members) is None:
        refusals.append(_incomplete(settings, ours[0]))
    if refusals:
        return Plan(refusals=tuple(refusals))
    if not ours:
        return Plan()
    return _take_apart(settings, machine, ours, uuids.pop())


def our_array(settings: ArraySettings, members: list[Disk]) -> str | None:
    """The md UUID when the disks are all the members of one RAID0 of the wanted name; None otherwise."""
    if not all(_is_ours(settings, disk) for disk in members):
        return None
    found = {(disk.member.uuid, disk.member.devices) for disk in members if disk.member}
    uuid, devices = next(iter(found))
    return uuid if len(found) == 1 and devices == len(members) else None


def array_of(machine: Machine, uuid: str, members: list[Disk]) -> Md | None:
    """The kernel's md device with that UUID, or, where it does not tell the UUID, with one of the members."""
    names = {disk.path.removeprefix("/dev/") for disk in members}
    for md in machine.arrays:
        if md.uuid == uuid or (md.uuid is None and names & set(md.members)):
            return md
    return None


def _unfit(settings: ArraySettings, machine: Machine) -> tuple[Refusal, ...]:
    """Settings, tools and devices that no plan can be made with."""
    texts = (
        []
        if settings.source == "raid0"
        else ["array.source: it is path, which takes a folder as it is; set raid0"]
    )
    texts += mistakes(settings)
    texts += [
        f"{tool}: there is no such program; install {_PACKAGES[tool]} (Debian's name of the package)"
        for tool in machine.missing_tools
    ]
    if machine.owner is None:
        texts.append(f"array.owner: there is no user {settings.owner}; name one, or null for who runs sudo")
    texts += [
        text for name in dict.fromkeys(settings.devices) if (text := _unfit_device(settings, machine, name))
    ]
    members = members_of(settings, machine)
    for path in {disk.path for disk in members if sum(other.path == disk.path for other in members) > 1}:
        names = " and ".join(name for name in settings.devices if machine.named.get(name) == path)
        texts.append(f"{names}: the same disk, {path}; name each disk once")
    sizes = {disk.size_bytes for disk in members}
    if len(sizes) > 1 and not settings.allow_unequal:
        listed = ", ".join(f"{disk.name} {readable(disk.size_bytes)}" for disk in members)
        texts.append(
            f"array.devices: unequal sizes ({listed}); what exceeds the smallest is striped over fewer disks: name "
            f"equal ones, or set array.allow_unequal: true"
        )
    system = [refusal for disk in members if "/" in all_mounts(disk) for refusal in in_use(disk)]
    return (*(Refusal(UNFIT, text) for text in dict.fromkeys(texts)), *system)


def _unfit_device(settings: ArraySettings, machine: Machine, name: str) -> str | None:
    path = machine.named.get(name)
    if path is None:
        return f"{name}: there is no such device; `snakemake inspect_array` lists those there are"
    disk = machine.disk(path)
    if disk is None:
        return f"{name}: a partition or a volume ({path}), not a whole disk; name the disk"
    if name == disk.path and disk.by_id:
        return f"{name}: a name that may be another disk's after a reboot; write {disk.name}"
    if disk.kind != "disk" and not (disk.kind == "loop" and settings.allow_any_block_device):
        return f"{name}: a {disk.kind} device, not a whole disk; name the disk"
    if disk.transport != "nvme" and not settings.allow_any_block_device:
        bus = disk.transport or "unknown"
        return (
            f"{name}: not NVMe (transport {bus}); name NVMe disks, or set array.allow_any_block_device: true"
        )
    if disk.read_only:
        return f"{name}: read-only; name a disk that can be written"
    if not disk.size_bytes:
        return f"{name}: has no size, so no medium; name another disk"
    return None


def members_of(settings: ArraySettings, machine: Machine) -> list[Disk]:
    """The disks that the config names, in its order, those that are there."""
    found = [machine.disk(machine.named.get(name)) for name in settings.devices]
    return [disk for disk in found if disk is not None]


def _is_ours(settings: ArraySettings, disk: Disk) -> bool:
    member = disk.member
    return member is not None and member.name == settings.name and member.level == "raid0"


def _create(settings: ArraySettings, machine: Machine, members: list[Disk]) -> Plan:
    refusals = [refusal for disk in members for refusal in in_use(disk)]
    refusals += _mount_point_taken(settings, machine)
    if machine.array_node is not None:
        refusals.append(
            Refusal(
                IN_USE,
                f"{settings.node}: leads to another array, {machine.array_node}; choose another array.name",
            )
        )
    lost = []
    for disk in members:
        if disk.blank or any(in_use(disk)):
            continue
        if disk.signatures is None or disk.probed is None:
            refusals.append(_unreadable(disk.name))
        elif _is_ours(settings, disk) and not settings.overwrite:
            refusals.append(_incomplete(settings, disk))
        elif not settings.overwrite:
            refusals.append(
                Refusal(
                    FOREIGN,
                    f"{disk.name}: holds {disk.holds()}; name another disk, or set array.overwrite: true to lose that",
                )
            )
        lost.append(f"{disk.name} ({readable(disk.size_bytes)}): {disk.holds()}")
    if refusals:
        return Plan(refusals=tuple(refusals))
    steps = [
        *_load_raid0(machine),
        *(step for disk in members for step in _wipe(disk)),
        *_settle(machine),
        Run(
            (
                *("mdadm", "--create", settings.node, "--homehost=any", f"--name={settings.name}"),
                *("--metadata=1.2", "--level=0", f"--chunk={settings.raid_chunk_bytes >> 10}K"),
                *(f"--raid-devices={len(members)}", *(disk.path for disk in members)),
            )
        ),
        *_settle(machine),
        Run(("wipefs", "-a", settings.node)),
        *_make_file_system(settings, machine),
        *_mount(settings, machine, settings.node),
    ]
    return Plan(tuple(steps), lost=tuple(lost))


def _continue(settings: ArraySettings, machine: Machine, uuid: str) -> Plan:
    """From an array that is already ours, in whatever state an interruption or a reboot left it."""
    members = members_of(settings, machine)
    md = array_of(machine, uuid, members)
    if md is None or md.state in ("clear", "inactive"):
        if refusals := [refusal for disk in members for refusal in in_use(disk, md)]:
            return Plan(refusals=tuple(refusals))
        stop = [Run(("mdadm", "--stop", md.path))] if md is not None and md.state == "inactive" else []
        assemble = Run(
            ("mdadm", "--assemble", settings.node, f"--uuid={uuid}", *(disk.path for disk in members))
        )
        return Plan((*_load_raid0(machine), *stop, assemble, *_settle(machine)))
    if md.raid_chunk_bytes != settings.raid_chunk_bytes:
        there, wanted = md.raid_chunk_bytes >> 10, settings.raid_chunk_bytes >> 10
        text = (
            f"{md.path}: array {settings.name} has a RAID chunk of {there} KiB, not {wanted} KiB; set "
            f"array.raid_chunk_bytes: {there} KiB, or tear it down first"
        )
        return Plan(refusals=(Refusal(FOREIGN, text),))
    mounts = machine.mounts_of(md)
    if mounts:
        return _finish_mounted(settings, machine, md, mounts, uuid)
    if md.holders:
        text = f"{md.path}: array {settings.name} is held by {', '.join(md.holders)}; stop that first"
        return Plan(refusals=(Refusal(IN_USE, text),))
    refusals = _mount_point_taken(settings, machine)
    steps, lost = [], []
    if md.signatures is None or md.content is None:
        refusals.append(_unreadable(md.path))
    elif md.blank or md.unfinished:
        wipe = [Run(("wipefs", "-a", md.path))] if not md.blank else []
        steps = [*wipe, *_make_file_system(settings, machine, md.path)]
    elif not _file_system_is_ours(settings, md):
        holds = _holds(md)
        if _is_other_kind(settings, md):
            refusals.append(
                Refusal(
                    FOREIGN,
                    f"{md.path}: array {settings.name} carries {holds}, not {settings.file_system}; set "
                    f"array.file_system to that, or tear it down first",
                )
            )
        elif settings.overwrite:
            lost = [f"{md.path}: {holds}"]
            steps = [Run(("wipefs", "-a", md.path)), *_make_file_system(settings, machine, md.path)]
        else:
            refusals.append(
                Refusal(
                    FOREIGN,
                    f"{md.path}: array {settings.name} carries {holds}, which was not made here; save it, "
                    f"and set array.overwrite: true to lose it",
                )
            )
    if refusals:
        return Plan(refusals=tuple(refusals))
    return Plan((*steps, *_mount(settings, machine, md.path)), lost=tuple(lost))


def _finish_mounted(
    settings: ArraySettings, machine: Machine, md: Md, mounts: tuple[Mount, ...], uuid: str
) -> Plan:
    here = next((mount for mount in mounts if mount.target == settings.mount), None)
    if here is None or here != machine.mounted_at(settings.mount):
        text = (
            f"{md.path}: array {settings.name} is mounted at {mounts[0].target}, not at {settings.mount}; umount it, or "
            f"set array.mount"
        )
        return Plan(refusals=(Refusal(IN_USE, text),))
    if here.file_system != settings.file_system:
        text = (
            f"{md.path}: array {settings.name} carries {here.file_system}, not {settings.file_system}; set "
            f"array.file_system to that, or tear it down first"
        )
        return Plan(refusals=(Refusal(FOREIGN, text),))
    if (wrong := misalignment(settings, here)) is not None:
        text = f"{settings.mount}: {here.file_system} is not aligned to the array, {wrong}; tear it down and provision again"
        return Plan(refusals=(Refusal(FOREIGN, text),))
    steps: list[Step] = []
    if missing := unlisted(settings.mount_options, here):
        steps.append(Run(("mount", "-o", f"remount,{','.join(missing)}", settings.mount)))
    if machine.data_owner is None or machine.data_owner != machine.owner:
        steps.append(_data_folder(settings, machine))
    if settings.persist:
        steps += [
            AddLine(path, line)
            for path, line in boot_lines(settings, machine, md, uuid)
            if line not in machine.files.get(path, "").splitlines()
        ]
    return Plan(tuple(steps))


def boot_lines(settings: ArraySettings, machine: Machine, md: Md, uuid: str) -> list[tuple[str, str]]:
    """File and line of what makes the array come back at boot; without a file system's UUID only mdadm's."""
    lines = [(machine.mdadm_conf, mdadm_line(settings, uuid))]
    if md.content and "UUID" in md.content:
        lines.append(("/etc/fstab", fstab_line(settings, md.content["UUID"])))
    return lines


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
            lost.append(f"array {settings.name} on {md.path}: {_holds(md)}{where}")
            steps.append(Run(("wipefs", "-a", md.path)))
        steps += [Run(("mdadm", "--stop", md.path), fails_as=IN_USE), *_settle(machine)]
    lost = lost or [f"array {settings.name}, not assembled, and what is on it"]
    paths = tuple(disk.path for disk in ours)
    steps += [Run(("mdadm", "--zero-superblock", *paths)), Run(("wipefs", "-a", *paths)), *_settle(machine)]
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


def all_mounts(disk: Disk) -> tuple[str, ...]:
    """Where a disk, its partitions and what is built on them are mounted; [SWAP] for swap."""
    return (*disk.mounts, *(mount for part in disk.parts for mount in part.mounts))


def in_use(disk: Disk, ours: Md | None = None) -> Iterator[Refusal]:
    """Reasons why a disk is in use by anything but the md device `ours`."""
    folders = sorted({mount for mount in all_mounts(disk) if mount != "[SWAP]"})
    swaps = [node.path for node in (disk, *disk.parts) if "[SWAP]" in node.mounts] or list(disk.swaps)
    holders = [f"{part.path} ({part.kind})" for part in built_on(disk)]
    known = {part.kernel_name for part in built_on(disk)}
    holders += [f"/dev/{name}" for name in disk.holders if name not in known]
    holders = [text for text in dict.fromkeys(holders) if ours is None or text.split()[0] != ours.path]
    if "/" in folders:
        yield Refusal(IN_USE, f"{disk.name}: holds this system's root file system; name another disk")
    elif folders:
        yield Refusal(
            IN_USE, f"{disk.name}: mounted at {', '.join(folders)}; umount it, or name another disk"
        )
    elif swaps:
        yield Refusal(IN_USE, f"{disk.name}: {swaps[0]} is swap in use; swapoff it, or name another disk")
    elif holders:
        yield Refusal(
            IN_USE, f"{disk.name}: held by {', '.join(holders)}; stop that first, or name another disk"
        )
    elif disk.busy and ours is None:
        yield Refusal(
            IN_USE,
            f"{disk.name}: in exclusive use by something unnamed (another namespace, ZFS, a virtual machine?); name another disk",
        )


def _mount_point_taken(settings: ArraySettings, machine: Machine) -> list[Refusal]:
    there = machine.mounted_at(settings.mount)
    if there is not None:
        return [
            Refusal(
                IN_USE, f"{settings.mount}: {there.source} is mounted there; umount it, or set array.mount"
            )
        ]
    if machine.mount_point_files:
        count = machine.mount_point_files
        return [
            Refusal(
                IN_USE,
                f"{settings.mount}: has {count} entries, which the mount would hide; empty it, or set array.mount",
            )
        ]
    return []


def _incomplete(settings: ArraySettings, disk: Disk) -> Refusal:
    member = disk.member
    count = member.devices if member else 0
    return Refusal(
        FOREIGN,
        f"{disk.name}: a member of array {settings.name} (UUID {member.uuid if member else ''}) of {count} disks, and array.devices "
        f"does not name these {count}; name them, or set array.overwrite: true to lose it",
    )


def _unreadable(name: str) -> Refusal:
    return Refusal(
        UNFIT, f"{name}: wipefs or blkid cannot read it, so what it holds is not known; see what they say"
    )


def _two_arrays(settings: ArraySettings, disks: list[Disk]) -> Refusal:
    listed = ", ".join(f"{disk.name} of {disk.member.uuid}" for disk in disks if disk.member)
    return Refusal(
        FOREIGN,
        f"array.devices: members of different arrays called {settings.name} ({listed}); name those of one",
    )


def _wipe(disk: Disk) -> list[Step]:
    """wipefs for the partitions with signatures, deepest first, and then for the disk."""
    if disk.blank:
        return []
    own = disk.path.removeprefix("/dev/")
    others = dict.fromkeys(item.device for item in disk.signatures or () if item.device != own)
    return [Run(("wipefs", "-a", f"/dev/{name}")) for name in reversed(others)] + [
        Run(("wipefs", "-a", disk.path))
    ]


def _load_raid0(machine: Machine) -> list[Step]:
    return [] if machine.raid0_loaded else [Run(("modprobe", "raid0"), fails_as=UNFIT)]


def _settle(machine: Machine) -> list[Step]:
    return [Run(("udevadm", "settle", "--timeout=30"))] if machine.udev else []


def _make_file_system(settings: ArraySettings, machine: Machine, node: str | None = None) -> list[Step]:
    """mkfs without its force option, so that it refuses what a plan has overlooked."""
    unit, disks, node = settings.raid_chunk_bytes, len(settings.devices), node or settings.node
    if settings.file_system == "xfs":
        argv = ("mkfs.xfs", "-q", "-L", settings.name, "-d", f"su={unit},sw={disks}", node)
    else:
        blocks = unit // EXT4_BLOCK_BYTES
        stripes = f"stride={blocks},stripe_width={blocks * disks},lazy_itable_init=0,lazy_journal_init=0"
        argv = ("mkfs.ext4", "-q", "-b", str(EXT4_BLOCK_BYTES), "-L", settings.name, "-E", stripes, node)
    return [Run(argv, timeout_s=MKFS_TIMEOUT_S), *_settle(machine)]


def _mount(settings: ArraySettings, machine: Machine, node: str) -> list[Step]:
    options = ("-o", ",".join(settings.mount_options)) if settings.mount_options else ()
    return [
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


def _is_other_kind(settings: ArraySettings, md: Md) -> bool:
    content = md.content or {}
    return content.get("LABEL") == settings.name and content.get("TYPE") != settings.file_system


def _holds(md: Md) -> str:
    found = ", ".join(dict.fromkeys(str(signature) for signature in md.signatures or ()))
    return found or (md.content or {}).get("TYPE", "nothing")
