"""Machines as they were recorded on emulated NVMe drives, and as tests change them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from workflow.hyperkv.array.planning.facts import (
    Disk,
    Machine,
    parse_blkid,
    parse_lsblk,
    parse_member,
    parse_wipefs,
)
from workflow.hyperkv.array.planning.plan import Plan
from workflow.hyperkv.array.settings import ArraySettings
from workflow.hyperkv.machine.mounts import Md, parse_findmnt

RECORDED = Path(__file__).parent / "recorded"
BY_ID = "/dev/disk/by-id/nvme-QEMU_NVMe_Ctrl_TESTNVME"
A, B, C = (f"{BY_ID}{number}" for number in range(3))
VIRTIO = "/dev/disk/by-id/virtio-TESTVIRT3"
PATHS = {A: "/dev/nvme0n1", B: "/dev/nvme1n1", C: "/dev/nvme2n1", VIRTIO: "/dev/vda"}
MD_UUID = "d9ed5db4-d2dc-3c1a-826f-919840a08e22"
FS_UUID = "4ea66022-3664-407f-8f9b-06250accd9b3"
MOUNT = "/mnt/hyperkv"
MDADM_LINE = "ARRAY /dev/md/hyperkv metadata=1.2 name=any:hyperkv UUID=d9ed5db4:d2dc3c1a:826f9198:40a08e22"
FSTAB_LINE = (
    f"UUID={FS_UUID} /mnt/hyperkv xfs noatime,nofail,x-systemd.device-timeout=30,x-hyperkv=hyperkv 0 0"
)


def recorded(name: str) -> str:
    return (RECORDED / name).read_text()


def settings(**changes: Any) -> ArraySettings:
    """The array of a and b as the defaults have it, with consent."""
    leave = dict.fromkeys(("overwrite", "allow_unequal", "allow_any_block_device", "persist"), False)
    what: dict[str, Any] = {
        "source": "raid0",
        "name": "hyperkv",
        "devices": (A, B),
        "raid_chunk_bytes": 512 << 10,
    }
    where = {"file_system": "xfs", "mount": MOUNT, "mount_options": ("noatime",), "owner": None}
    return ArraySettings(**(what | where | leave | {"consent": True} | changes))


def disks(listing: str = "lsblk-blank.json", **changes: dict[str, Any]) -> tuple[Disk, ...]:
    """The disks of a recorded lsblk, blank as root sees them. changes: fields by kernel name."""
    names = {path: name for name, path in PATHS.items()}
    found = []
    for disk in parse_lsblk(recorded(listing)):
        disk = replace(disk, by_id=(names[disk.path],), signatures=(), probed={}, busy=False, sampled=True)
        found.append(replace(disk, **changes.get(disk.path.removeprefix("/dev/"), {})))
    return tuple(found)


def machine(found: tuple[Disk, ...] | None = None, **changes: Any) -> Machine:
    """A machine with those disks, blank ones by default."""
    return replace(Machine(found or disks(), named=PATHS, mounts=mounts()[:-2]), **changes)


def mounts():
    """The mounts of the machine with the array mounted: that is the last one, the one before a partition."""
    return parse_findmnt(recorded("findmnt.json"))


FOREIGN: dict[str, dict[str, Any]] = {
    kind: {
        "signatures": parse_wipefs(recorded(f"wipefs-{kind}.json")),
        "probed": parse_blkid(0, recorded(f"blkid-{kind}.txt")),
    }
    for kind in ("ext4", "gpt")
}
MEMBER: dict[str, Any] = {
    "signatures": parse_wipefs(recorded("wipefs-member.json")),
    "probed": {"TYPE": "linux_raid_member", "USAGE": "raid"},
    "member": parse_member(recorded("mdadm-examine.txt")),
}


def md(**changes: Any) -> Md:
    """The recorded array with its XFS."""
    values: dict[str, Any] = {
        "path": "/dev/md127",
        "uuid": MD_UUID,
        "level": "raid0",
        "raid_chunk_bytes": 512 << 10,
        "state": "clean",
        "members": ("nvme0n1", "nvme1n1"),
        "device": "9:127",
        "signatures": parse_wipefs(recorded("wipefs-xfs.json")),
        "content": parse_blkid(0, recorded("blkid-xfs.txt")),
        "unfinished": False,
    }
    return Md(**(values | changes))


def assembled(array: Md | None = None, mounted: bool = False, **changes: Any) -> Machine:
    """The machine with the recorded array in the kernel, mounted or not."""
    listing = disks(
        "lsblk-array.json",
        nvme0n1=MEMBER | {"busy": True, "holders": ("md127",)},
        nvme1n1=MEMBER | {"busy": True},
    )
    if not mounted:
        listing = tuple(
            replace(disk, parts=tuple(replace(part, mounts=()) for part in disk.parts)) for disk in listing
        )
    values: dict[str, Any] = {
        "arrays": (array or md(),),
        "array_node": "/dev/md127",
        "mounts": mounts() if mounted else mounts()[:-1],
        "data_owner": (0, 0) if mounted else None,
    }
    return machine(listing, **(values | changes))


def stopped(**changes: Any) -> Machine:
    """The machine with the recorded array's members, and no array in the kernel."""
    return machine(disks(nvme0n1=MEMBER, nvme1n1=MEMBER), **changes)


def commands(plan: Plan) -> list[str]:
    """The plan's commands; it must not refuse."""
    assert plan.refusals == ()
    return [str(step) for step in plan.steps]


def write_array(top: Path, state: str = "clean", uuid: bool = True) -> None:
    """md127 of the first two disks, as sysfs shows it."""
    node = top / "sys/block/md127"
    (node / "md").mkdir(parents=True)
    values = {"level": "raid0", "chunk_size": "524288", "array_state": state} | (
        {"uuid": MD_UUID} if uuid else {}
    )
    for name, value in values.items():
        (node / "md" / name).write_text(f"{value}\n")
    (node / "dev").write_text("9:127\n")
    for name in ("nvme0n1", "nvme1n1"):
        (node / "slaves" / name).mkdir(parents=True)
        (top / "sys/class/block" / name / "holders/md127").mkdir(parents=True)
    (top / "dev/md").mkdir()
    (top / "dev/md127").touch()
    (top / "dev/md/hyperkv").symlink_to("../md127")
