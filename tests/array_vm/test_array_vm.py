"""The array stages on real disks: emulated NVMe in a virtual machine, three boots of one story. `make test-array`.

Disks a and b become an array again and again, c and d another one, s is the machine's own, v is not NVMe.
"""

import json
import shlex
from pathlib import Path

import pytest

from tests.array import machines
from workflow.hyperkv.array.settings import ArraySettings
from workflow.hyperkv.base.sources import sources

from .image import Unavailable, image
from .machine import Disk, Ended, boot

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1500)]

REPOSITORY = Path(__file__).parents[2]
BY_ID = "/dev/disk/by-id/nvme-QEMU_NVMe_Ctrl_"
A, B, C, D, S = (f"{BY_ID}TEST{name}" for name in "ABCDS")
VIRTIO = "/dev/disk/by-id/virtio-TESTV"
MOUNT, OTHER = "/mnt/hyperkv", "/mnt/second"
BOOT_S = 1200.0


def settings(**changes) -> ArraySettings:
    """The array of a and b, with consent."""
    return machines.settings(**({"devices": (A, B), "owner": "user"} | changes))


THREE = {
    "overwrite": True,
    "name": "three",
    "devices": (C, D, VIRTIO),
    "mount": "/mnt/three",
    "allow_unequal": True,
    "allow_any_block_device": True,
    "mount_options": ("noatime", "discard"),
}
SECOND = {"name": "second", "devices": (C, D), "mount": OTHER}


def stage(which: str, prefix: str = "", out: str = "/results/array.json", **changes) -> str:
    """Shell: run an array stage of the product, as an administrator would paste it."""
    wanted = settings(**changes)
    options = ["--spec", json.dumps(wanted.identity()) if which == "verify" else wanted.spec()]
    options += {"inspect_array": ["--data-dir", wanted.data_dir], "verify": ["--record", out]}.get(
        which, ["--out", out]
    )
    return f"cd /job/repo; {prefix} python3 -m workflow.hyperkv.array.{which} {shlex.join(options)}"


def as_user(command: str) -> str:
    head, _, rest = command.partition(";")
    return f"{head}; setpriv --reuid 1000 --regid 1000 --clear-groups {rest}"


KILLED_BEFORE_MKFS = "PATH=/job/killing:$PATH"
SECTORS = "cat /sys/block/nvme0n1/stat /sys/block/nvme1n1/stat"
BLANK = "wipefs -n /dev/nvme0n1 /dev/nvme1n1"

FIRST = {
    "prepare": """
        sfdisk -q /dev/nvme4n1 <<<$'label: gpt\\n,300M\\n,'; udevadm settle
        mkfs.ext4 -q /dev/nvme4n1p1 && mkdir -p /sysmnt /results && mount /dev/nvme4n1p1 /sysmnt
        mkswap -q /dev/nvme4n1p2 && swapon /dev/nvme4n1p2; chmod 1777 /results""",
    "inspect-user": as_user(stage("inspect_array")),
    "provision-user": as_user(stage("provision_array")),
    "no-consent": stage("provision_array", consent=False),
    "unfit": stage(
        "provision_array",
        devices=("/dev/nvme0n1", f"{S}-part1", VIRTIO, f"{BY_ID}NONE"),
        raid_chunk_bytes=513 << 10,
    ),
    "unequal": stage("provision_array", devices=(A, B, VIRTIO), allow_any_block_device=True),
    "system-disk": stage("provision_array", devices=(A, S), overwrite=True, allow_unequal=True),
    "still-blank": BLANK,
    "foreign": "mkfs.ext4 -qF -L keep /dev/nvme0n1; sfdisk -q /dev/nvme1n1 <<<$'label: gpt\\n,'; udevadm settle; "
    + stage("provision_array"),
    "mounted": "mount /dev/nvme0n1 /mnt; " + stage("provision_array", overwrite=True, mount="/srv/hyperkv"),
    "held": "umount /mnt; echo 0 2048 linear /dev/nvme1n1 2048 | dmsetup create held; "
    + stage("provision_array", overwrite=True),
    "inspect-root": stage("inspect_array", overwrite=True),
    "killed": "dmsetup remove held; udevadm settle; "
    + stage("provision_array", KILLED_BEFORE_MKFS, overwrite=True),
    "after-killed": "cat /proc/mdstat; cat /sys/block/md*/md/uuid; wipefs -n /dev/md127; ls /results",
    "resumed": stage("provision_array"),
    "after-resumed": f"cat /proc/mdstat; cat /sys/block/md*/md/uuid; grep hyperkv /proc/mounts; stat -c %U {MOUNT}/hyperkv",
    "data": f"{SECTORS}; dd if=/dev/urandom of={MOUNT}/hyperkv/data bs=1M count=24 oflag=direct status=none; {SECTORS}; "
    f"sync; sha256sum {MOUNT}/hyperkv/data",
    "second-run": "stat -c %Y%Z /results/array.json; "
    + stage("provision_array", overwrite=True)
    + "; stat -c %Y%Z /results/array.json",
    "user-run": as_user(stage("provision_array")),
    "verified": as_user(stage("verify")),
    "inspect-array": f"mkdir -p /job/repo/results; ln -sf /results /job/repo/results/array; {as_user(stage('inspect_array'))}",
    "other-config": stage("provision_array", raid_chunk_bytes=64 << 10),
    "other-mount": stage("provision_array", mount="/srv/hyperkv"),
    "other-name": stage("provision_array", name="elsewhere", overwrite=True),
    "one-of-two": stage("provision_array", devices=(A, C)),
    "remounted": f"umount {MOUNT}; mount /dev/md127 {MOUNT}; {stage('verify')}; {stage('provision_array')}; {stage('verify')}",
    "not-there": f"umount {MOUNT}; {stage('verify')}",
    "occupied": f"mkdir -p {MOUNT}; touch {MOUNT}/in-the-way; " + stage("provision_array"),
    "assembled": f"rm {MOUNT}/in-the-way; mdadm --stop /dev/md127; {stage('provision_array')}; sha256sum {MOUNT}/hyperkv/data",
    "busy-teardown": f"exec 9>{MOUNT}/open; {stage('teardown_array')}",
    "teardown": stage("teardown_array"),
    "teardown-again": stage("teardown_array") + f"; {BLANK}; ls /results",
    "foreign-teardown": "mkfs.ext4 -qF -L keep /dev/nvme0n1; "
    + stage("teardown_array")
    + "; s=$?; wipefs -qa /dev/nvme0n1; exit $s",
    "unsigned": BLANK + "; " + stage("provision_array"),
    "ext4": stage("provision_array", file_system="ext4", raid_chunk_bytes=64 << 10, overwrite=True),
    "ext4-stripe": f"dumpe2fs -h /dev/md127 2>/dev/null | grep RAID; findmnt -no OPTIONS {MOUNT}",
    "ext4-again": stage("provision_array", file_system="ext4", raid_chunk_bytes=64 << 10),
    "other-system": stage("provision_array", raid_chunk_bytes=64 << 10),
    "ext4-teardown": stage("teardown_array", file_system="ext4", raid_chunk_bytes=64 << 10),
    "persisted": stage("provision_array", persist=True),
    "persisted-again": stage("provision_array", persist=True),
    "last-data": f"dd if=/dev/urandom of={MOUNT}/hyperkv/data bs=1M count=24 status=none; sync; sha256sum {MOUNT}/hyperkv/data",
    "second-killed": stage("provision_array", KILLED_BEFORE_MKFS, out="/results/second.json", **SECOND),
    "files": "cat /results/array.json; echo @@@; cat /etc/fstab; echo @@@; cat /etc/mdadm/mdadm.conf",
}


def second_boot() -> dict[str, str]:
    """The steps after the power was cut."""
    return {
        "mdstat": "cat /proc/mdstat; ls /dev/md",
        "not-mounted": stage("verify"),
        "fstab": f"mkdir -p {MOUNT}; mount {MOUNT}; {stage('verify')}; sha256sum {MOUNT}/hyperkv/data",
        "provision": f"umount {MOUNT}; {stage('provision_array', persist=True)}; cmp /results/array.json /results/before.json",
        "data": f"sha256sum {MOUNT}/hyperkv/data",
        "second": stage("provision_array", out="/results/second.json", **SECOND),
        "second-mounted": "grep second /proc/mounts",
        "second-unfinished": f"umount {OTHER}; printf '\\1' | dd of=/dev/md/second bs=1 seek=126 conv=notrunc status=none; sync; "
        + stage("provision_array", out="/results/second.json", **SECOND),
        "second-part": f"umount {OTHER}; mdadm --stop /dev/md/second; mdadm --incremental /dev/nvme2n1; cat /proc/mdstat; "
        + stage("provision_array", out="/results/second.json", **SECOND),
        "second-half": f"umount {OTHER}; mdadm --stop /dev/md/second; mdadm --zero-superblock /dev/nvme3n1; wipefs -qa /dev/nvme3n1; "
        + stage("provision_array", out="/results/second.json", **SECOND),
        "second-teardown": stage("teardown_array", out="/results/second.json", **SECOND),
        "three": stage("provision_array", out="/results/three.json", **THREE),
        "three-verified": as_user(stage("verify", out="/results/three.json", **THREE)),
        "three-teardown": stage("teardown_array", out="/results/three.json", **THREE),
        "teardown": stage("teardown_array", persist=True),
        "after": "cat /etc/fstab; grep -c ARRAY /etc/mdadm/mdadm.conf; wipefs -n /dev/nvme[0-3]n1; ls /results; cat /proc/mdstat",
    }


ETC = "/etc/fstab /etc/mdadm/mdadm.conf"
GENERATED = (
    "rm -rf /tmp/units; mkdir /tmp/units; SYSTEMD_LOG_TARGET=console /lib/systemd/system-generators/systemd-fstab-generator"
    " /tmp/units /tmp/units /tmp/units 2>&1; cat /tmp/units/mnt-hyperkv.mount"
)
REBOOTED = (
    f"umount {MOUNT}; mdadm --stop /dev/md127; udevadm settle; mdadm --assemble --scan 2>&1; udevadm settle; mount -a; "
    f"findmnt -n -o UUID {MOUNT}; findmnt --verify --tab-file /etc/fstab | grep -A3 ^{MOUNT}; {stage('verify')}"
)
THIRD = {
    "blank": f"{BLANK}; {stage('verify')}",
    "stale-generated": GENERATED,
    "not-persisted": stage("provision_array", consent=False),
    "replaced": stage("provision_array", persist=True),
    "uuids": f"findmnt -n -o UUID {MOUNT}; mdadm --detail --export /dev/md127 | grep MD_UUID",
    "edited": f"cat {ETC}; stat -c '%a %U' {ETC}; cat /etc/fstab.before-hyperkv",
    "generated": GENERATED,
    "replaced-again": f"stat -c %Y%i {ETC}; {stage('provision_array', persist=True)}; stat -c %Y%i {ETC}",
    "rebooted": REBOOTED,
    "duplicate": f"umount {MOUNT}; mdadm --stop /dev/md127; udevadm settle; cp /etc/mdadm/mdadm.conf /tmp/two; "
    "grep ^ARRAY /tmp/two | sed s/UUID=..../UUID=0000/ >> /tmp/two; mdadm --assemble --scan --config=/tmp/two",
    "one-replaced": "mdadm --zero-superblock /dev/nvme1n1; wipefs -qa /dev/nvme1n1; udevadm settle; "
    + stage("provision_array", persist=True),
    "one-overwritten": stage("provision_array", persist=True, overwrite=True),
    "one-generated": GENERATED,
    "foreign-line": f"cp /etc/fstab /tmp/kept; echo 'LABEL=mine {MOUNT} ext4 nofail' >> /etc/fstab; "
    f"{stage('provision_array', persist=True)}; s=$?; cp /tmp/kept /etc/fstab; exit $s",
    "teardown": stage("teardown_array", persist=True),
    "left": f"cat {ETC}",
}
FOREIGN_FSTAB = "# static\nproc /proc proc defaults 0 0\n"
FOREIGN_CONF = "HOMEHOST <system>\nMAILADDR root\n"


def product() -> dict[str, bytes]:
    """What a machine needs of this repository, and a mkfs that kills who calls it."""
    names = {
        *sources("array.inspect_array", "array.provision_array", "array.teardown_array"),
        "workflow/hyperkv/__init__.py",
    }
    files = {f"job/repo/{name}": (REPOSITORY / name).read_bytes() for name in sorted(names)}
    return files | {"job/killing/mkfs.xfs": b"#!/bin/bash\nkill -9 $PPID\n"}


@pytest.fixture(scope="module")
def disks(tmp_path_factory) -> list[Disk]:
    folder = tmp_path_factory.mktemp("disks")
    nvme = [Disk(folder / name, f"TEST{name}") for name in "ABCDS"]
    return [*nvme, Disk(folder / "V", "TESTV", nvme=False, size_bytes=1 << 30)]


@pytest.fixture(scope="module")
def first(disks, tmp_path_factory) -> dict[str, Ended]:
    """The first boot's steps; it ends with the power cut while one array is mounted and another half made."""
    try:
        machine = image()
    except Unavailable as error:
        pytest.skip(f"no virtual machine: {error}")
    return boot(machine, disks, FIRST, product(), tmp_path_factory.mktemp("first"), BOOT_S)


@pytest.fixture(scope="module")
def second(first, disks, tmp_path_factory) -> dict[str, Ended]:
    """The second boot's steps, with the first one's /etc and record."""
    record, fstab, conf = first["files"].output.split("@@@\n")
    files = product() | {
        "etc/fstab": fstab.encode(),
        "etc/mdadm/mdadm.conf": conf.encode(),
        "results/array.json": record.encode(),
        "results/before.json": record.encode(),
    }
    return boot(image(), disks, second_boot(), files, tmp_path_factory.mktemp("second"), BOOT_S)


@pytest.fixture(scope="module")
def third(first, second, disks, tmp_path_factory) -> dict[str, Ended]:
    """The steps after a stop and start in a cloud: /etc and record as they were, disks a and b new and empty."""
    record, fstab, conf = first["files"].output.split("@@@\n")
    for disk in disks[:2]:
        disk.image.unlink()
    earlier = fstab.replace(",x-hyperkv=hyperkv", "")
    assert earlier != fstab
    files = product() | {
        "etc/fstab": f"{FOREIGN_FSTAB}{earlier}".encode(),
        "etc/mdadm/mdadm.conf": f"{FOREIGN_CONF}{conf}\n".encode(),
        "results/array.json": record.encode(),
    }
    return boot(image(), disks, THIRD, files, tmp_path_factory.mktemp("third"), BOOT_S)


def refusals(step: Ended) -> list[str]:
    """The one-line messages of a stage that refused."""
    return [line.partition(": error: ")[2] for line in step.lines if ": error: " in line]


def test_a_look_without_root(first):
    step = first["inspect-user"]
    assert step.status == 0
    assert f"  {A}" in step.lines
    assert "mounted at /sysmnt" in step.output
    assert "Signatures are not read without root" in step.output


def test_without_root_the_commands_are_for_an_administrator(first):
    step = first["provision-user"]
    assert step.status == 6
    assert step.lines[1].startswith(
        "  sudo /usr/bin/python3 -m workflow.hyperkv.array.provision_array --spec "
    )
    assert any(line.startswith("  mdadm --create /dev/md/hyperkv ") for line in step.lines)
    [line] = refusals(step)
    assert line.startswith("provision_array needs root")


def test_without_consent_the_commands_are_printed_and_not_run(first):
    step = first["no-consent"]
    assert step.status == 2
    assert "  mkfs.xfs -q -L hyperkv -d su=524288,sw=2 /dev/md/hyperkv" in step.lines
    [line] = refusals(step)
    assert line.startswith("array.consent: ")
    assert first["still-blank"].output == ""


REFUSED = {
    "unfit": (
        2,
        "array.raid_chunk_bytes: 525312 is no power of two",
        f"/dev/nvme0n1: a name that may be another disk's after a reboot; write {A}",
        f"{S}-part1: a partition or a volume (/dev/nvme4n1p1), not a whole disk",
        f"{VIRTIO}: not NVMe (transport unknown)",
        f"{BY_ID}NONE: there is no such device",
        f"array.devices: unequal sizes ({A} 2.0 GiB, {VIRTIO} 1.0 GiB)",
    ),
    "unequal": (2, f"array.devices: unequal sizes ({A} 2.0 GiB, {B} 2.0 GiB, {VIRTIO} 1.0 GiB)"),
    "system-disk": (4, f"{S}: mounted at /sysmnt"),
    "foreign": (3, f'{A}: holds ext4 "keep"; name another disk, or set array.ov', f"{B}: holds gpt, PMBR"),
    "mounted": (4, f"{A}: mounted at /mnt; umount it"),
    "held": (4, f"{B}: held by /dev/mapper/held (dm); stop that first"),
    "other-config": (3, "/dev/md127: array hyperkv has a RAID chunk of 512 KiB, not 64 KiB"),
    "other-mount": (4, f"/dev/md127: array hyperkv is mounted at {MOUNT}, not at /srv/hyperkv"),
    "other-name": (4, f"{A}: mounted at", f"{B}: mounted at", f"{MOUNT}: /dev/md127 is mounted there"),
    "one-of-two": (4, f"{A}: mounted", f"{MOUNT}: /dev/md127 is", "/dev/md/hyperkv: leads to another array"),
    "not-there": (7, f"array: nothing is mounted at {MOUNT}; provision it"),
    "occupied": (4, f"{MOUNT}: has 1 entries, which the mount would hide"),
    "busy-teardown": (4, f"`umount {MOUNT}` failed (status 32): umount: {MOUNT}: target is busy"),
    "unsigned": (3, f"{A}: holds data without a signature (not zeros at byte "),
    "foreign-teardown": (3, f'{A}: holds ext4 "keep", not a member of array hyperkv'),
    "other-system": (3, "/dev/md127: array hyperkv carries ext4, not xfs"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(first, name):
    step, (status, *beginnings) = first[name], REFUSED[name]
    assert step.status == status, step.output
    lines = refusals(step)
    assert len(lines) == len(beginnings), lines
    for line, beginning in zip(lines, beginnings, strict=True):
        assert line.startswith(beginning)
        assert "; " in line or name == "busy-teardown"


def test_what_is_lost_is_listed_before_it_is(first):
    lines = first["killed"].lines
    start = lines.index("This is lost:")
    assert lines[start + 1 : start + 3] == [f'  {A} (2.0 GiB): ext4 "keep"', f"  {B} (2.0 GiB): gpt, PMBR"]
    assert start < lines.index("+ wipefs -a /dev/nvme0n1")


def test_killed_between_create_and_mkfs_it_goes_on_with_the_same_array(first):
    assert first["killed"].status == 137
    before, after = first["after-killed"].lines, first["after-resumed"].lines
    assert "md127 : active raid0 nvme1n1[1] nvme0n1[0]" in before
    uuid = next(line for line in before if line.count("-") == 4)
    assert uuid in after
    assert "array.json" not in first["after-killed"].output
    assert first["resumed"].status == 0
    assert not any(line.startswith("+ mdadm") for line in first["resumed"].lines)
    assert first["resumed"].lines[-1].endswith("provisioned")


def test_the_array_is_striped_aligned_and_the_users(first):
    lines = first["after-resumed"].lines
    assert "      4188160 blocks super 1.2 512k chunks" in lines
    options = (
        next(line for line in lines if line.startswith("/dev/md127 /mnt/hyperkv xfs ")).split()[3].split(",")
    )
    assert {"noatime", "sunit=1024", "swidth=2048"} <= set(options)
    assert lines[-1] == "user"
    sectors = [int(line.split()[6]) for line in first["data"].lines if len(line.split()) > 10]
    written = [after - before for before, after in zip(sectors[:2], sectors[2:], strict=True)]
    assert all(abs(count - 12 * 2048) < 512 for count in written), written


def test_a_second_run_changes_nothing_and_says_so(first):
    step = first["second-run"]
    assert step.lines[0] == step.lines[-1]
    assert step.lines[-2] == f"hyperkv provision_array: hyperkv at {MOUNT}: unchanged"
    assert not any(line.startswith("+ ") for line in step.lines)
    assert first["user-run"].output == f"hyperkv provision_array: hyperkv at {MOUNT}: unchanged"
    assert first["verified"].status == first["persisted-again"].status == first["ext4-again"].status == 0
    assert first["persisted-again"].lines[-1].endswith("unchanged")
    assert first["ext4-again"].lines[-1].endswith("unchanged")


def test_without_root_an_array_that_is_there_is_recognised(first):
    lines = first["inspect-array"].lines
    assert "Array /dev/md127: raid0 of nvme0n1, nvme1n1, clean, /mnt/hyperkv" in lines
    assert "provision_array would change nothing: the array is there as array.json says." in lines
    assert lines[-1].endswith("xfs on md127, md raid0 of 2 devices, RAID chunk 512 KiB.")


def test_lost_mount_options_come_back(first):
    lines = first["remounted"].lines
    assert "is mounted without noatime" in lines[0]
    assert "+ mount -o remount,noatime /mnt/hyperkv" in lines
    assert first["remounted"].status == 0


def test_a_stopped_array_is_assembled_with_its_data(first):
    step = first["assembled"]
    assert step.status == 0
    assert any(line.startswith("+ mdadm --assemble ") for line in step.lines)
    assert not any("mkfs" in line or "--create" in line for line in step.lines)
    assert step.lines[-1] == first["data"].lines[-1]


def test_teardown_leaves_blank_disks(first):
    assert first["teardown"].status == 0
    assert first["teardown"].lines[-1] == "hyperkv teardown_array: hyperkv: torn down"
    assert first["teardown-again"].output == "hyperkv teardown_array: hyperkv: unchanged, there is none"


def test_ext4_is_aligned_too(first):
    assert first["ext4"].status == first["ext4-teardown"].status == 0
    words = first["ext4-stripe"].output.split()
    assert words[:7] == ["RAID", "stride:", "16", "RAID", "stripe", "width:", "32"]
    assert words[-1] == "rw,noatime,stripe=32"


def test_the_data_survives_a_power_cut(first, second):
    hash_before = first["last-data"].output
    assert second["not-mounted"].status == 7
    assert second["fstab"].lines == [
        f"hyperkv verify_array: hyperkv is at {MOUNT}, md {json.loads(first['files'].output.split('@@@')[0])['md_uuid']}",
        hash_before,
    ]
    assert second["provision"].status == 0, second["provision"].output
    assert second["data"].output == hash_before


def test_an_array_without_a_file_system_gets_one_after_a_power_cut(first, second):
    assert first["second-killed"].status == 137
    step = second["second"]
    assert step.status == 0
    assert [line.split()[1] for line in step.lines if line.startswith("+ ")] == [
        "mkfs.xfs",
        "udevadm",
        "install",
        "mount",
        "install",
    ]
    assert "sunit=1024,swidth=2048" in second["second-mounted"].output


def test_an_unfinished_file_system_is_made_again(second):
    step = second["second-unfinished"]
    assert step.status == 0
    assert any(line.startswith("+ wipefs -a /dev/md") for line in step.lines)
    assert step.lines[-1].endswith("provisioned")


def test_an_array_that_came_up_in_part_is_assembled(second):
    step = second["second-part"]
    assert step.status == 0, step.output
    assert any(": inactive nvme2n1" in line for line in step.lines)
    ran = [line.split()[1:3] for line in step.lines if line.startswith("+ mdadm")]
    assert ran == [["mdadm", "--stop"], ["mdadm", "--assemble"]]
    assert step.lines[-1].endswith("provisioned")


def test_three_unequal_disks_of_two_kinds(second):
    assert second["three"].status == 0, second["three"].output
    assert second["three"].lines[-1] == "hyperkv provision_array: three at /mnt/three: provisioned"
    assert second["three-verified"].status == second["three-teardown"].status == 0


def test_half_an_array_is_refused_and_torn_down(second):
    assert second["second-half"].status == 3
    assert refusals(second["second-half"])[0].startswith(f"{C}: a member of array second (UUID ")
    assert second["second-teardown"].status == 0


def test_after_the_teardowns_nothing_is_left(second):
    assert second["teardown"].status == 0
    lines = second["after"].lines
    assert lines == ["0", "before.json", "Personalities : [raid0] ", "unused devices: <none>"]


def test_blank_disks_are_noticed_and_stale_lines_are_said(first, third):
    old = json.loads(first["files"].output.split("@@@")[0])
    assert third["blank"].status == 7
    assert third["blank"].output.startswith(
        f"hyperkv verify_array: error: array: nothing is mounted at {MOUNT}"
    )
    assert f"What=/dev/disk/by-uuid/{old['fs_uuid']}" in third["stale-generated"].lines
    assert third["not-persisted"].status == 2


def test_after_a_cloud_stop_the_new_array_is_mounted_at_boot(first, third):
    old = json.loads(first["files"].output.split("@@@")[0])
    assert third["replaced"].status == 0, third["replaced"].output
    assert any(
        line.startswith("/results/array.json was of array " + old["md_uuid"])
        for line in third["replaced"].lines
    )
    fs_uuid, md_uuid = third["uuids"].lines
    assert fs_uuid != old["fs_uuid"]
    text = third["edited"].output
    assert text.startswith(f"{FOREIGN_FSTAB}UUID={fs_uuid} {MOUNT} xfs noatime,nofail,")
    assert (
        f"{FOREIGN_CONF}ARRAY /dev/md/hyperkv metadata=1.2 name=any:hyperkv UUID={md_uuid[8:]}\n644 root"
        in text
    )
    before = text.partition("644 root\n644 root\n")[2]
    assert before.startswith(f"{FOREIGN_FSTAB}UUID={old['fs_uuid']} {MOUNT} xfs noatime,nofail,")
    assert f"What=/dev/disk/by-uuid/{fs_uuid}" in third["generated"].lines
    assert "Duplicate" not in third["generated"].output
    lines = third["replaced-again"].lines
    assert lines[:2] == lines[-2:]
    assert lines[2:-2] == [f"hyperkv provision_array: hyperkv at {MOUNT}: unchanged"]


def test_mdadm_and_mount_bring_the_new_array_back(third):
    step = third["rebooted"]
    assert step.status == 0, step.output
    assert third["uuids"].lines[0] in step.lines
    assert "[E]" not in step.output
    assert "Duplicate MD device names in conf file" in third["duplicate"].output


def test_one_disk_of_two_replaced(third):
    assert third["one-replaced"].status == 3
    assert refusals(third["one-replaced"])[0].startswith(f"{A}: a member of array hyperkv")
    assert third["one-overwritten"].status == 0, third["one-overwritten"].output
    [what] = [line for line in third["one-generated"].lines if line.startswith("What=")]
    assert not what.endswith(third["uuids"].lines[0])


def test_anothers_line_for_the_mount_point_is_refused(third):
    step = third["foreign-line"]
    assert step.status == 4
    [line] = refusals(step)
    assert line.startswith(
        f"/etc/fstab: line 4 mounts LABEL=mine at {MOUNT}, and was not written here; remove that line"
    )


def test_teardown_leaves_others_lines_as_they_were(third):
    assert third["teardown"].status == 0
    assert third["left"].output == (FOREIGN_FSTAB + FOREIGN_CONF).rstrip("\n")
