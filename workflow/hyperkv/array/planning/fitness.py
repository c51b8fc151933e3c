"""Whether disks are fit to be members of the array, in use, or already its members. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ...base.own_command import snakemake_command
from ...machine.mounts import Md
from ..layout import readable
from ..refusal import FOREIGN, IN_USE, UNFIT, Refusal
from ..settings import ArraySettings, mistakes
from .facts import Disk, Machine, Part, built_on

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


def required_tools(settings: ArraySettings) -> tuple[str, ...]:
    """Programs that provisioning runs."""
    others = [tool for tool in _PACKAGES if not tool.startswith("mkfs.")]
    return (*others, f"mkfs.{settings.file_system}")


def unfit(settings: ArraySettings, machine: Machine) -> tuple[Refusal, ...]:
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
    texts += machine.complaints
    if machine.owner is None:
        texts.append(f"array.owner: there is no user {settings.owner}; name one, or null for who runs sudo")
    texts += [
        text for name in dict.fromkeys(settings.devices) if (text := _unfit_device(settings, machine, name))
    ]
    members = members_of(settings, machine)
    for path in {disk.path for disk in members if sum(other.path == disk.path for other in members) > 1}:
        names = " and ".join(name for name in settings.devices if machine.named.get(name) == path)
        texts.append(f"{names}: the same disk, {path}; name each disk once")
    texts += _by_two_paths(members)
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
        return f"{name}: there is no such device; `{snakemake_command('inspect_array', 1)}` lists those there are"
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


def _by_two_paths(members: list[Disk]) -> list[str]:
    """A line for every disk that two members lead to, as the paths of a multipath device do."""
    wwids: dict[str, list[Disk]] = {}
    for disk in members:
        for word in disk.identity:
            if word.startswith("wwid="):
                wwids.setdefault(word, []).append(disk)
    return [
        f"{' and '.join(disk.name for disk in found)}: two ways to the same disk ({word}); name each disk once"
        for word, found in wwids.items()
        if len({disk.path for disk in found}) > 1
    ]


def members_of(settings: ArraySettings, machine: Machine) -> list[Disk]:
    """The disks that the config names, in its order, those that are there."""
    found = [machine.disk(machine.named.get(name)) for name in settings.devices]
    return [disk for disk in found if disk is not None]


def is_ours(settings: ArraySettings, disk: Disk) -> bool:
    member = disk.member
    return member is not None and member.name == settings.name and member.level == "raid0"


def our_array(settings: ArraySettings, members: list[Disk]) -> str | None:
    """The md UUID when the disks are all the members of one RAID0 of the wanted name; None otherwise."""
    if not all(is_ours(settings, disk) for disk in members):
        return None
    found = {(disk.member.uuid, disk.member.devices) for disk in members if disk.member}
    uuid, devices = next(iter(found))
    return uuid if len(found) == 1 and devices == len(members) else None


def array_of(machine: Machine, uuid: str, members: list[Disk]) -> Md | None:
    """The kernel's md device with that UUID, or, where it does not tell the UUID, with one of the members."""
    names = {disk.path.removeprefix("/dev/") for disk in members}
    for md in machine.arrays:
        if md.uuid == uuid or (md.uuid is None and names & set(md.members)):
            return replace(md, uuid=uuid)
    return None


def all_mounts(disk: Disk) -> tuple[str, ...]:
    """Where a disk, its partitions and what is built on them are mounted; [SWAP] for swap."""
    return (*disk.mounts, *(mount for part in disk.parts for mount in part.mounts))


def in_use(disk: Disk, ours: Md | None = None) -> Iterator[Refusal]:
    """Reasons why a disk is in use by anything but the md device `ours`."""
    folders = sorted({mount for mount in all_mounts(disk) if mount != "[SWAP]"})
    nodes: list[Disk | Part] = [disk, *disk.parts]
    swaps = [node.path for node in nodes if "[SWAP]" in node.mounts] or list(disk.swaps)
    holders = [f"{part.path} ({part.kind})" for part in built_on(disk)]
    known = {part.kernel_name for part in built_on(disk)}
    holders += [f"/dev/{name}" for name in disk.holders if name not in known]
    holders = [text for text in dict.fromkeys(holders) if ours is None or text.split()[0] != ours.path]
    if "/" in folders:
        yield Refusal(IN_USE, f"{disk.name}: holds this system's root file system; name another disk")
    elif folders:
        text = f"{disk.name}: mounted at {', '.join(folders)}; umount it, or name another disk"
        yield Refusal(IN_USE, text)
    elif swaps:
        yield Refusal(IN_USE, f"{disk.name}: {swaps[0]} is swap in use; swapoff it, or name another disk")
    elif holders:
        text = f"{disk.name}: held by {', '.join(holders)}; stop that first, or name another disk"
        yield Refusal(IN_USE, text)
    elif disk.busy and ours is None:
        text = (
            f"{disk.name}: in exclusive use by something unnamed (another namespace, ZFS, a virtual machine?), and holds "
            f"{disk.holds()}; name another disk"
        )
        yield Refusal(IN_USE, text)


def incomplete(settings: ArraySettings, disk: Disk) -> Refusal:
    member = disk.member
    count = member.devices if member else 0
    text = (
        f"{disk.name}: a member of array {settings.name} (UUID {member.uuid if member else ''}) of {count} disks, and array.devices "
        f"does not name these {count}; name them, or set array.overwrite: true to lose it"
    )
    return Refusal(FOREIGN, text)
