"""Plans on recorded facts: every refusal, every way to go on, and that nothing is destroyed without leave."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.array.machines import (
    BY_ID,
    FOREIGN,
    FS_UUID,
    MD_UUID,
    MEMBER,
    MOUNT,
    PATHS,
    VIRTIO,
    A,
    B,
    C,
    assembled,
    commands,
    disks,
    machine,
    md,
    mounts,
    settings,
    stopped,
)
from workflow.hyperkv.array.layout import readable
from workflow.hyperkv.array.planning.facts import Machine, Member, Part
from workflow.hyperkv.array.planning.plan import Plan, plan_provision
from workflow.hyperkv.array.planning.teardown_plan import plan_teardown
from workflow.hyperkv.array.refusal import FOREIGN as FOREIGN_DATA
from workflow.hyperkv.array.refusal import IN_USE, UNFIT
from workflow.hyperkv.array.steps.commands import Run, Same, Zero
from workflow.hyperkv.machine.mounts import Mount, Signature

EXT4 = {"file_system": "ext4", "raid_chunk_bytes": 64 << 10}


def programs(plan: Plan) -> list[str]:
    return [command.split()[0] for command in commands(plan)]


def on_b(**changes) -> Machine:
    """Blank disks, the second one changed."""
    return machine(disks(nvme1n1=changes))


def with_parts(*parts: Part, **changes) -> Machine:
    return on_b(parts=parts, **changes)


def case(status: int, *beginnings: str, found: Machine | None = None, **wanted):
    """What is wanted on which machine (blank disks), and with what status and lines it is refused."""
    return settings(**wanted), found or machine(), status, beginnings


CREATED = [
    "udevadm settle --timeout=30",
    "mdadm --create /dev/md/hyperkv --homehost=any --name=hyperkv --metadata=1.2 --level=0 --chunk=512K --raid-devices=2 "
    "/dev/nvme0n1 /dev/nvme1n1",
    "udevadm settle --timeout=30",
    "wipefs -a /dev/md/hyperkv",
    "mkfs.xfs -q -L hyperkv -d su=524288,sw=2 /dev/md/hyperkv",
    "udevadm settle --timeout=30",
    "install -d -m 755 /mnt/hyperkv",
    "mount -t xfs -o noatime /dev/md/hyperkv /mnt/hyperkv",
    "install -d -m 755 -o 0 -g 0 /mnt/hyperkv/hyperkv",
]
MOUNTED = [
    "install -d -m 755 /mnt/hyperkv",
    "mount -t xfs -o noatime /dev/md127 /mnt/hyperkv",
    "install -d -m 755 -o 0 -g 0 /mnt/hyperkv/hyperkv",
]
MADE = ["mkfs.xfs -q -L hyperkv -d su=524288,sw=2 /dev/md127", "udevadm settle --timeout=30", *MOUNTED]


def test_blank_disks_become_an_array():
    plan = plan_provision(settings(), machine())
    assert commands(plan) == CREATED
    assert plan.lost == ()


def test_the_driver_is_loaded_and_udev_not_waited_for_where_there_is_none():
    plan = plan_provision(settings(), machine(raid0_loaded=False, udev=False))
    assert commands(plan) == ["modprobe raid0", *(line for line in CREATED if "udevadm" not in line)]
    assert plan.steps[0].fails_as == UNFIT


def test_ext4_of_three_disks_with_other_options_and_owner():
    wanted = settings(**EXT4, devices=(A, B, C), allow_unequal=True, mount_options=("noatime", "discard"))
    lines = commands(plan_provision(wanted, machine(owner=(1000, 100))))
    assert "--chunk=64K --raid-devices=3 /dev/nvme0n1 /dev/nvme1n1 /dev/nvme2n1" in lines[1]
    assert "mkfs.ext4 -q -b 4096 -L hyperkv -E stride=16,stripe_width=48," in lines[4]
    assert lines[-2:] == [
        "mount -t ext4 -o noatime,discard /dev/md/hyperkv /mnt/hyperkv",
        "install -d -m 755 -o 1000 -g 100 /mnt/hyperkv/hyperkv",
    ]


def test_no_mount_options():
    lines = commands(plan_provision(settings(mount_options=()), machine()))
    assert "mount -t xfs /dev/md/hyperkv /mnt/hyperkv" in lines


def test_nothing_is_forced():
    for found in (machine(), assembled(md(signatures=(), content={}))):
        for step in plan_provision(settings(overwrite=True), found).steps:
            assert not {"--run", "-f", "-F", "--force", "--assume-clean"} & set(step.argv)


LOST = machine(
    disks(
        nvme0n1=FOREIGN["ext4"],
        nvme1n1=FOREIGN["gpt"]
        | {
            "signatures": (
                *(replace(item, device="nvme1n1") for item in FOREIGN["gpt"]["signatures"]),
                Signature("nvme1n1p1", "swap"),
            )
        },
    )
)


def test_with_leave_signatures_go_deepest_first_and_are_listed():
    plan = plan_provision(settings(overwrite=True), LOST)
    wiped = ["wipefs -a /dev/nvme0n1", "wipefs -a /dev/nvme1n1p1", "wipefs -a /dev/nvme1n1"]
    assert commands(plan) == [*wiped, *CREATED]
    assert plan.lost == (f'{A} (2.0 GiB): ext4 "old"', f"{B} (2.0 GiB): gpt, PMBR, swap")


def test_data_without_a_signature_is_listed_and_goes_only_with_leave():
    full = {"data_at": 1 << 30}
    found = machine(disks(nvme0n1=full, nvme1n1=full))
    refusals = plan_provision(settings(), found).refusals
    assert [(refusal.status, refusal.text) for refusal in refusals] == [
        (
            FOREIGN_DATA,
            f"{name}: holds data without a signature (not zeros at byte 1073741824); name another disk, or set "
            f"array.overwrite: true to lose that",
        )
        for name in (A, B)
    ]
    plan = plan_provision(settings(overwrite=True), found)
    assert commands(plan) == CREATED
    assert [line.partition(": ")[2] for line in plan.lost] == [
        "data without a signature (not zeros at byte 1073741824)"
    ] * 2


def test_a_disk_whose_samples_cannot_be_read_is_not_blank():
    plan = plan_provision(settings(overwrite=True), machine(disks(nvme1n1={"sampled": False})))
    [refusal] = plan.refusals
    assert (refusal.status, refusal.text.partition(",")[0]) == (UNFIT, f"{B}: wipefs")


OF_SEVERAL = (
    *("LVM2_member", "zfs_member", "bcache", "crypto_LUKS"),
    *("linux_raid_member", "isw_raid_member", "swap", "btrfs"),
)


@pytest.mark.parametrize("kind", OF_SEVERAL)
@pytest.mark.parametrize("device", ["nvme1n1", "nvme1n1p1"])
def test_a_part_of_something_that_is_not_running_is_named_and_stays(kind, device):
    held = {"signatures": (Signature(device, kind, "pool"),), "probed": {"TYPE": kind}}
    [refusal] = plan_provision(settings(), machine(disks(nvme1n1=held))).refusals
    assert (refusal.status, refusal.text.partition(";")[0]) == (FOREIGN_DATA, f'{B}: holds {kind} "pool"')
    plan = plan_provision(settings(overwrite=True), machine(disks(nvme1n1=held)))
    assert [line.partition("): ")[2] for line in plan.lost] == [f'{kind} "pool"']


@pytest.mark.parametrize("kind", OF_SEVERAL)
def test_a_part_of_something_that_runs_is_named_and_stays(kind):
    """As lsblk shows it (bcache is a disk there), as the kernel's holders do, and where neither does (ZFS, Btrfs)."""
    held = {"signatures": (Signature("nvme1n1", kind, "pool"),), "probed": {"TYPE": kind}, "busy": True}
    below = Part("/dev/bcache0", "bcache0", "disk")
    for shown, words in (
        ({"parts": (below,)}, "held by /dev/bcache0 (disk)"),
        ({"holders": ("md126",)}, "held by /dev/md126"),
        ({}, f'and holds {kind} "pool"'),
    ):
        [refusal] = plan_provision(settings(overwrite=True), machine(disks(nvme1n1=held | shown))).refusals
        assert refusal.status == IN_USE
        assert refusal.text.startswith(f"{B}: ")
        assert words in refusal.text


def test_two_paths_to_one_disk_are_no_two_disks():
    same = {"identity": ("serial=S1", "wwid=naa.5000c500a1b2c3d4")}
    [refusal] = plan_provision(settings(overwrite=True), machine(disks(nvme0n1=same, nvme1n1=same))).refusals
    words = f"{A} and {B}: two ways to the same disk (wwid=naa.5000c500a1b2c3d4); name each disk once"
    assert (refusal.status, refusal.text) == (UNFIT, words)
    other = {"identity": ("serial=S1", "wwid=naa.5000c500a1b2c3d5")}
    assert plan_provision(settings(), machine(disks(nvme0n1=same, nvme1n1=other))).refusals == ()


IDENTITY = ("diskseq=7", "serial=S1")


def destroying(plan: Plan) -> list[Run | Zero]:
    """The steps that lose something."""
    programs = ("wipefs", "mkfs.xfs", "mkfs.ext4")
    return [
        step
        for step in plan.steps
        if isinstance(step, Zero)
        or (
            isinstance(step, Run)
            and (step.argv[0] in programs or set(step.argv) & {"--create", "--zero-superblock"})
        )
    ]


@pytest.mark.parametrize(
    "plan",
    [
        plan_provision(settings(overwrite=True), LOST),
        plan_provision(settings(), assembled(md(unfinished=True))),
        plan_provision(settings(overwrite=True), assembled(md(content={"TYPE": "xfs", "LABEL": "mine"}))),
        plan_teardown(settings(), assembled(mounted=True)),
        plan_teardown(settings(), stopped()),
    ],
)
def test_every_step_that_destroys_names_the_devices_that_were_looked_at(plan):
    assert destroying(plan)
    for step in destroying(plan):
        words = [step.path] if isinstance(step, Zero) else step.argv
        paths = {word for word in words if word.startswith("/dev/")}
        if "--create" in words:
            paths.remove("/dev/md/hyperkv")
        assert {same.path for same in step.on} == paths


def test_the_identity_is_the_one_that_was_looked_at_and_a_new_array_is_of_the_members():
    found = machine(disks(nvme0n1=FOREIGN["ext4"] | {"identity": IDENTITY}))
    steps = destroying(plan_provision(settings(overwrite=True), found))
    assert steps[0].on == (Same("/dev/nvme0n1", IDENTITY),)
    assert steps[-1].on == (Same("/dev/md/hyperkv", ("members=nvme0n1 nvme1n1",)),)


ASSEMBLED = [
    f"mdadm --assemble /dev/md/hyperkv --uuid={MD_UUID} /dev/nvme0n1 /dev/nvme1n1",
    "udevadm settle --timeout=30",
]
IN_PART = md(state="inactive", level=None, raid_chunk_bytes=0, uuid=None)
TAKEN_UP = {
    "mounted": (assembled(mounted=True), []),
    "assembled": (assembled(), MOUNTED),
    "no uuid in sysfs": (assembled(md(uuid=None)), MOUNTED),
    "no file system": (assembled(md(signatures=(), content={})), MADE),
    "unfinished": (assembled(md(unfinished=True)), ["wipefs -a /dev/md127", *MADE]),
    "stopped": (stopped(), ASSEMBLED),
    "inactive": (assembled(IN_PART), ["mdadm --stop /dev/md127", *ASSEMBLED]),
    "no folder": (assembled(mounted=True, data_owner=None), MOUNTED[-1:]),
    "another's folder": (assembled(mounted=True, data_owner=(1000, 1000)), []),
}


@pytest.mark.parametrize(("found", "steps"), TAKEN_UP.values(), ids=TAKEN_UP)
@pytest.mark.parametrize("overwrite", [False, True])
def test_an_array_of_ours_is_taken_up_where_it_is(found, steps, overwrite):
    assert commands(plan_provision(settings(overwrite=overwrite), found)) == steps
    swapped = [step.replace("/dev/nvme0n1 /dev/nvme1n1", "/dev/nvme1n1 /dev/nvme0n1") for step in steps]
    assert commands(plan_provision(settings(devices=(B, A)), found))[-3:] == swapped[-3:]


def test_the_folder_becomes_the_owners_who_is_named():
    wanted = settings(owner="user")
    found = assembled(mounted=True, owner=(1000, 100), data_owner=(0, 0))
    assert commands(plan_provision(wanted, found)) == [
        "install -d -m 755 -o 1000 -g 100 /mnt/hyperkv/hyperkv"
    ]
    assert commands(plan_provision(wanted, replace(found, data_owner=(1000, 100)))) == []


def test_a_lost_mount_option_comes_back():
    there = [*mounts()[:-1], replace(mounts()[-1], options=("rw", "relatime", "sunit=1024", "swidth=2048"))]
    found = assembled(mounted=True, mounts=tuple(there))
    assert commands(plan_provision(settings(), found)) == ["mount -o remount,noatime /mnt/hyperkv"]
    assert commands(plan_provision(settings(mount_options=("relatime", "nofail", "defaults")), found)) == []


def test_a_foreign_file_system_on_our_array_goes_only_with_leave():
    other = md(content={"TYPE": "xfs", "LABEL": "mine", "UUID": FS_UUID})
    plan = plan_provision(settings(overwrite=True), assembled(other))
    assert commands(plan) == ["wipefs -a /dev/md127", *MADE]
    assert plan.lost == ('/dev/md127: xfs "hyperkv"',)


OTHER_MEMBER = MEMBER | {"member": Member("data", "0000", "raid0", 2)}
LVM = {"signatures": (Signature("nvme1n1", "LVM2_member"),), "probed": {"TYPE": "LVM2_member"}}
IN_THE_WAY = Mount(MOUNT, "/dev/sdz1", "ext4", ("rw",), "8:1")

LOOP = case(UNFIT, f"{B}: a loop device, not a whole disk", found=on_b(kind="loop"))
NOT_NVME = case(UNFIT, f"{VIRTIO}: not NVMe (transport unknown)", devices=(A, VIRTIO), allow_unequal=True)
SATA = case(UNFIT, f"{B}: not NVMe (transport sata)", found=on_b(transport="sata"))
UNEQUAL = case(UNFIT, f"array.devices: unequal sizes ({A} 2.0 GiB, {C} 1.0 GiB)", devices=(A, C))
ONLY_WITH_LEAVE = [
    case(FOREIGN_DATA, f'{B}: holds ext4 "old"; name another disk', found=on_b(**FOREIGN["ext4"])),
    case(FOREIGN_DATA, f"{B}: holds gpt, PMBR;", found=on_b(**FOREIGN["gpt"])),
    case(FOREIGN_DATA, f"{B}: holds LVM2_member", found=on_b(**LVM)),
    case(FOREIGN_DATA, f"{B}: holds ambivalent", found=on_b(probed={"TYPE": "ambivalent signatures"})),
    case(FOREIGN_DATA, f'{B}: holds linux_raid_member "any:hyperkv"', found=on_b(**OTHER_MEMBER)),
    case(
        FOREIGN_DATA,
        f"{A}: a member of array hyperkv (UUID {MD_UUID}) of 2 disks",
        found=stopped(),
        devices=(A, C),
        allow_unequal=True,
    ),
]
REFUSED = [
    *ONLY_WITH_LEAVE,
    case(UNFIT, "array.source: it is path", source="path"),
    case(UNFIT, f"array.devices: {A} is named; RAID0 needs at least two", devices=(A,)),
    case(UNFIT, "array.devices: none is named", devices=()),
    case(
        UNFIT,
        f"array.devices: {A} is named twice",
        f"{A} and {A}: the same disk, /dev/nvme0n1",
        devices=(A, A),
    ),
    case(
        UNFIT,
        f"{A} and {A}_1: the same disk, /dev/nvme0n1",
        found=machine(named={**PATHS, f"{A}_1": "/dev/nvme0n1"}),
        devices=(A, f"{A}_1"),
    ),
    case(UNFIT, f"{BY_ID}9: there is no such device", devices=(A, f"{BY_ID}9")),
    case(
        UNFIT,
        f"/dev/nvme1n1: a name that may be another disk's after a reboot; write {B}",
        found=machine(named={**PATHS, "/dev/nvme1n1": "/dev/nvme1n1"}),
        devices=(A, "/dev/nvme1n1"),
    ),
    case(
        UNFIT,
        f"{C}-part1: a partition or a volume (/dev/nvme2n1p1), not a whole disk",
        found=machine(named={**PATHS, f"{C}-part1": "/dev/nvme2n1p1"}),
        devices=(A, f"{C}-part1"),
    ),
    LOOP,
    NOT_NVME,
    SATA,
    case(UNFIT, f"{B}: read-only", found=on_b(read_only=True)),
    case(UNFIT, f"{B}: has no size", found=on_b(size_bytes=0), allow_unequal=True),
    UNEQUAL,
    case(UNFIT, "array.raid_chunk_bytes: 3 is no power of two", raid_chunk_bytes=3),
    case(UNFIT, "array.raid_chunk_bytes: 525312 is no power of two", raid_chunk_bytes=513 << 10),
    case(UNFIT, "array.mount: mnt is no absolute path", mount="mnt"),
    case(UNFIT, "mdadm: there is no such program; install mdadm", found=machine(missing_tools=("mdadm",))),
    case(
        UNFIT,
        "mkfs.xfs: there is no such program; install xfsprogs",
        found=machine(missing_tools=("mkfs.xfs",)),
    ),
    case(
        UNFIT,
        "lsblk: failed (status 1): unknown column",
        found=machine(
            (),
            named=PATHS,
            complaints=("lsblk: failed (status 1): unknown column: MOUNTPOINTS; util-linux must be",),
        ),
    ),
    case(UNFIT, "array.owner: there is no user nobody-here", found=machine(owner=None), owner="nobody-here"),
    case(
        UNFIT, f"{B}: wipefs, blkid or a read of samples failed", found=on_b(signatures=None), overwrite=True
    ),
    case(
        UNFIT, "/dev/md127: wipefs, blkid or a read of samples failed", found=assembled(md(signatures=None))
    ),
    case(
        FOREIGN_DATA,
        f"{A}: a member of array hyperkv",
        f"{B}: holds linux_raid_member",
        found=machine(
            disks(nvme0n1=MEMBER, nvme1n1=MEMBER | {"member": Member("hyperkv", MD_UUID, "raid1", 2)})
        ),
    ),
    case(
        FOREIGN_DATA,
        "/dev/md127: array hyperkv has a RAID chunk of 512 KiB, not 64 KiB",
        found=assembled(),
        raid_chunk_bytes=64 << 10,
    ),
    case(
        FOREIGN_DATA,
        "/dev/md127: array hyperkv carries xfs, not ext4",
        found=assembled(mounted=True),
        file_system="ext4",
    ),
    case(
        FOREIGN_DATA,
        '/dev/md127: array hyperkv carries xfs "hyperkv", not ext4',
        found=assembled(),
        file_system="ext4",
        overwrite=True,
    ),
    case(
        FOREIGN_DATA,
        "/dev/md127: array hyperkv carries xfs",
        found=assembled(md(content={"TYPE": "xfs", "LABEL": "mine"})),
    ),
    case(
        FOREIGN_DATA,
        "/mnt/hyperkv: xfs is not aligned to the array, sunit=8 instead of sunit=1024,swidth=2048",
        found=assembled(
            mounted=True,
            mounts=(
                *mounts()[:-1],
                replace(mounts()[-1], options=("rw", "noatime", "sunit=8", "swidth=2048")),
            ),
        ),
    ),
    case(
        FOREIGN_DATA,
        "/mnt/hyperkv: xfs is not aligned to the array, sunit=None, swidth=None instead of",
        found=assembled(
            mounted=True, mounts=(*mounts()[:-1], replace(mounts()[-1], options=("rw", "noatime")))
        ),
    ),
    case(
        IN_USE,
        f"{B}: holds this system's root file system",
        found=with_parts(Part("/dev/nvme1n1p2", "nvme1n1p2", "part", ("/",))),
        overwrite=True,
    ),
    case(
        IN_USE,
        f"{VIRTIO}: not NVMe",
        f"{VIRTIO}: holds this system's root",
        found=machine(disks(vda={"mounts": ("/",)})),
        devices=(A, VIRTIO),
        allow_unequal=True,
    ),
    case(
        IN_USE,
        f"{B}: holds this system's root",
        found=with_parts(
            Part("/dev/nvme1n1p1", "nvme1n1p1", "part"), Part("/dev/mapper/vg-root", "dm-0", "lvm", ("/",))
        ),
    ),
    case(IN_USE, f"{B}: mounted at /data", found=on_b(mounts=("/data",)), overwrite=True),
    case(
        IN_USE,
        f"{C}: mounted at /sysmnt",
        found=machine(disks("lsblk-in-use.json")),
        devices=(A, C),
        allow_unequal=True,
        overwrite=True,
    ),
    case(
        IN_USE,
        f"{B}: /dev/nvme1n1p1 is swap in use",
        found=with_parts(Part("/dev/nvme1n1p1", "nvme1n1p1", "part", ("[SWAP]",))),
        overwrite=True,
    ),
    case(IN_USE, f"{B}: /dev/nvme1n1 is swap in use", found=on_b(swaps=("/dev/nvme1n1",))),
    case(
        IN_USE,
        f"{B}: held by /dev/mapper/vg-lv (lvm); stop",
        found=with_parts(Part("/dev/mapper/vg-lv", "dm-3", "lvm"), holders=("dm-3",)),
        overwrite=True,
    ),
    case(
        IN_USE,
        f"{B}: held by /dev/mapper/secret (crypt)",
        found=with_parts(Part("/dev/mapper/secret", "dm-1", "crypt")),
        overwrite=True,
    ),
    case(
        IN_USE,
        f"{B}: held by /dev/mapper/mpatha (mpath)",
        found=with_parts(Part("/dev/mapper/mpatha", "dm-2", "mpath")),
        overwrite=True,
    ),
    case(IN_USE, f"{B}: held by /dev/bcache0", found=on_b(holders=("bcache0",))),
    case(IN_USE, f"{B}: in exclusive use by something unnamed", found=on_b(busy=True), overwrite=True),
    case(
        IN_USE,
        f"{A}: mounted at /mnt/hyperkv",
        f"{B}: mounted at",
        found=assembled(mounted=True, array_node=None, mounts=()),
        name="elsewhere",
        overwrite=True,
    ),
    case(IN_USE, "/mnt/hyperkv: /dev/sdz1 is mounted there", found=machine(mounts=(IN_THE_WAY,))),
    case(IN_USE, "/mnt/hyperkv: /dev/sdz1 is mounted there", found=assembled(mounts=(IN_THE_WAY,))),
    case(IN_USE, "/mnt/hyperkv: has 3 entries", found=machine(mount_point_files=3)),
    case(IN_USE, "/dev/md/hyperkv: leads to another array, /dev/md5", found=machine(array_node="/dev/md5")),
    case(
        IN_USE,
        "/dev/md127: array hyperkv is mounted at /mnt/hyperkv, not at /srv",
        found=assembled(mounted=True),
        mount="/srv",
    ),
    case(IN_USE, "/dev/md127: array hyperkv is held by dm-0", found=assembled(md(holders=("dm-0",)))),
]


@pytest.mark.parametrize(
    ("wanted", "found", "status", "beginnings"), REFUSED, ids=[refused[-1][0] for refused in REFUSED]
)
def test_refusals_name_the_thing_what_is_there_and_what_to_do(wanted, found, status, beginnings):
    plan = plan_provision(wanted, found)
    assert plan.steps == ()
    assert len(plan.refusals) == len(beginnings), plan.refusals
    assert max(refusal.status for refusal in plan.refusals) == status
    for refusal, beginning in zip(plan.refusals, beginnings, strict=True):
        assert refusal.text.startswith(beginning)
        assert "\n" not in refusal.text
        assert ";" in refusal.text or ", or " in refusal.text or "the same disk" in refusal.text


@pytest.mark.parametrize(("wanted", "found", "status", "beginnings"), ONLY_WITH_LEAVE)
def test_what_is_foreign_goes_only_with_leave(wanted, found, status, beginnings):
    plan = plan_provision(replace(wanted, overwrite=True), found)
    assert "mdadm" in programs(plan)
    assert programs(plan)[0] == "wipefs"
    assert plan.lost


@pytest.mark.parametrize("refused", [NOT_NVME, SATA, LOOP, UNEQUAL])
def test_what_may_be_allowed(refused):
    leave = {"allow_unequal": True} if refused is UNEQUAL else {"allow_any_block_device": True}
    assert programs(plan_provision(replace(refused[0], **leave), refused[1]))[1] == "mdadm"


def test_a_machine_without_by_id_names_takes_kernel_names():
    found = machine(
        tuple(replace(disk, by_id=()) for disk in disks()), named={path: path for path in PATHS.values()}
    )
    assert commands(plan_provision(settings(devices=("/dev/nvme0n1", "/dev/nvme1n1")), found)) == CREATED


def test_without_root_the_plan_is_that_for_blank_disks():
    seen = {"signatures": None, "probed": None, "busy": None}
    found = machine(disks(nvme0n1=seen, nvme1n1=seen), root=False)
    assert commands(plan_provision(settings(), found.assuming_blank())) == CREATED


ZEROS = [str(Zero(f"/dev/nvme{number}n1", 2 << 30)) for number in range(2)]
TORN = [
    "umount /mnt/hyperkv",
    "wipefs -a /dev/md127",
    "mdadm --stop /dev/md127",
    "udevadm settle --timeout=30",
    *ZEROS,
    "udevadm settle --timeout=30",
    "mdadm --zero-superblock /dev/nvme0n1 /dev/nvme1n1",
    "wipefs -a /dev/nvme0n1 /dev/nvme1n1",
    "udevadm settle --timeout=30",
]


@pytest.mark.parametrize(
    ("found", "steps"),
    [
        (assembled(mounted=True), TORN),
        (assembled(), TORN[1:]),
        (assembled(md(state="inactive", uuid=None)), TORN[2:]),
        (stopped(), TORN[4:]),
        (machine(disks(nvme1n1=MEMBER)), [line.replace("/dev/nvme0n1 ", "") for line in TORN[5:]]),
        (
            machine(disks(nvme0n1={"data_at": 4096}, nvme1n1=MEMBER)),
            [line.replace("/dev/nvme0n1 ", "") for line in TORN[5:]],
        ),
        (machine(), []),
    ],
    ids=["mounted", "assembled", "inactive", "stopped", "interrupted", "interrupted with data", "none"],
)
def test_teardown(found, steps):
    plan = plan_teardown(settings(), found)
    assert commands(plan) == steps
    assert bool(plan.lost) == bool(steps)
    assert all(
        step.fails_as == IN_USE for step in plan.steps if "umount" in str(step) or "--stop" in str(step)
    )


@pytest.mark.parametrize(
    ("wanted", "found", "status", "beginnings"),
    [
        case(
            FOREIGN_DATA,
            f'{B}: holds ext4 "old", not a member of array hyperkv',
            found=on_b(**FOREIGN["ext4"]),
        ),
        case(FOREIGN_DATA, f"{A}: holds linux_raid_member", found=stopped(), name="other"),
        case(
            FOREIGN_DATA,
            f"{C}: holds LVM2_member",
            found=machine(disks(nvme0n1=MEMBER, nvme1n1=MEMBER, nvme2n1=LVM)),
            devices=(A, B, C),
            allow_unequal=True,
        ),
        case(
            FOREIGN_DATA,
            "array.devices: members of different arrays",
            found=machine(
                disks(nvme0n1=MEMBER, nvme1n1=MEMBER | {"member": Member("hyperkv", "1", "raid0", 2)})
            ),
        ),
        case(
            FOREIGN_DATA,
            f"{A}: a member of array hyperkv",
            found=machine(
                disks(
                    **{
                        name: MEMBER | {"member": Member("hyperkv", MD_UUID, "raid0", 3)}
                        for name in ("nvme0n1", "nvme1n1")
                    }
                )
            ),
        ),
        case(
            FOREIGN_DATA,
            f"{B}: a member of array hyperkv too, and array.devices does not name it; name it",
            found=assembled(mounted=True),
            devices=(A, C),
            allow_unequal=True,
        ),
        case(IN_USE, "/dev/md127: array hyperkv is held by dm-0", found=assembled(md(holders=("dm-0",)))),
        case(
            IN_USE,
            f"{A}: in exclusive use",
            found=machine(disks(nvme0n1=MEMBER | {"busy": True}, nvme1n1=MEMBER)),
        ),
        case(UNFIT, f"{BY_ID}9: there is no such device", found=stopped(), devices=(A, f"{BY_ID}9")),
    ],
)
def test_teardown_refuses(wanted, found, status, beginnings):
    plan = plan_teardown(wanted, found)
    assert plan.steps == ()
    assert plan.refusals[0].text.startswith(beginnings)
    assert max(refusal.status for refusal in plan.refusals) == status


SIGNATURES = st.lists(st.sampled_from(["ext4", "gpt", "LVM2_member", "linux_raid_member"]), max_size=2)
STATES = st.fixed_dictionaries(
    {
        "busy": st.booleans(),
        "mounts": st.sampled_from([(), ("/data",), ("[SWAP]",), ("/",)]),
        "holders": st.sampled_from([(), ("dm-0",)]),
        "signatures": st.one_of(
            st.none(), SIGNATURES.map(lambda kinds: tuple(Signature("nvme0n1", kind) for kind in kinds))
        ),
        "probed": st.sampled_from([None, {}, {"TYPE": "ext4"}]),
        "sampled": st.booleans(),
        "data_at": st.sampled_from([None, 0, 1 << 30]),
        "member": st.sampled_from(
            [
                None,
                Member("hyperkv", MD_UUID, "raid0", 2),
                Member("hyperkv", "1", "raid0", 3),
                Member("x", "2", "raid1", 2),
            ]
        ),
        "transport": st.sampled_from(["nvme", "sata", None]),
        "size_bytes": st.sampled_from([2 << 30, 1 << 30]),
    }
)


@given(STATES, STATES, st.booleans(), st.booleans(), st.booleans())
def test_no_state_of_disks_is_destroyed_without_leave_or_while_in_use(
    first, second, overwrite, unequal, any_device
):
    """Whatever is on the disks: steps or refusals, never both, and never a wipe of what is held or not named as lost."""
    wanted = settings(overwrite=overwrite, allow_unequal=unequal, allow_any_block_device=any_device)
    found = machine(disks(nvme0n1=first, nvme1n1=second))
    plan = plan_provision(wanted, found)
    assert not (plan.steps and plan.refusals)
    destroying = [
        step
        for step in plan.steps
        if isinstance(step, Run) and step.argv[:2] in (("wipefs", "-a"), ("mdadm", "--create"))
    ]
    if not destroying:
        return
    for disk in found.disks[:2]:
        assert (disk.busy, disk.mounts, disk.holders) in ((False, (), ()), (None, (), ()))
        assert disk.blank or (
            overwrite and disk.signatures is not None and any(disk.name in line for line in plan.lost)
        )
        assert disk.transport == "nvme" or any_device
    assert unequal or first["size_bytes"] == second["size_bytes"]


@given(STATES, STATES, STATES)
def test_teardown_touches_members_only(first, second, third):
    """Whatever is on the disks: what is zeroed or wiped is a member of the array, idle, and named."""
    found = machine(disks(nvme0n1=first, nvme1n1=second, nvme2n1=third))
    plan = plan_teardown(settings(allow_unequal=True, allow_any_block_device=True), found)
    assert not (plan.steps and plan.refusals)
    for step in plan.steps:
        words = [step.path] if isinstance(step, Zero) else step.argv
        for path in [word for word in words if word.startswith("/dev/")]:
            disk = found.disk(path)
            assert disk is not None
            assert disk.path in ("/dev/nvme0n1", "/dev/nvme1n1")
            assert disk.member is not None
            assert (disk.member.name, disk.member.level) == ("hyperkv", "raid0")
            assert (disk.busy or False, disk.mounts, disk.holders) == (False, (), ())
    uuids = {disk.member.uuid for disk in found.disks[:2] if disk.member and plan.steps}
    assert not any(disk.member and disk.member.uuid in uuids for disk in found.disks[2:])


@given(st.integers(0, 1 << 50))
def test_readable_sizes(size):
    number, unit = readable(size).split()
    factor = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}[unit]
    assert abs(float(number) * factor - size) <= factor * 0.51
