"""What a folder is on, said in one line: recorded mounts and the usual kinds of places."""

from pathlib import Path

import pytest

from tests.array.machines import mounts, recorded, write_array
from workflow.hyperkv.machine.mounts import Mount
from workflow.hyperkv.machine.place import place_of, place_of_mount
from workflow.hyperkv.machine.probe import Output


def sysfs(
    top: Path, name: str, number: str, slaves: tuple[str, ...] = (), partition: str | None = None
) -> None:
    """A block device, or a partition of it, under its number in a folder's /sys."""
    node = top / "sys/block" / name
    (node / "slaves").mkdir(parents=True, exist_ok=True)
    for slave in slaves:
        (node / "slaves" / slave).mkdir()
    if partition:
        node = node / partition
        node.mkdir()
        (node / "partition").touch()
    (top / "sys/dev/block").mkdir(parents=True, exist_ok=True)
    (top / "sys/dev/block" / number).symlink_to(node)


@pytest.mark.parametrize(
    ("file_system", "kind", "words"),
    [
        ("tmpfs", "memory", "tmpfs: memory, so no figure of tier ssd"),
        ("ramfs", "memory", "ramfs: memory"),
        ("nfs4", "network", "nfs4: a network file system"),
        ("cifs", "network", "cifs: a network"),
        ("fuse.sshfs", "network", "fuse.sshfs: a network"),
        ("ceph", "network", "ceph: a network"),
        ("overlay", "overlay", "overlay: what it is on is not known"),
        ("zfs", "unknown", "zfs: what it is on is not known"),
    ],
)
def test_places_without_a_block_device(file_system, kind, words, tmp_path):
    place = place_of_mount(Mount("/data", "x", file_system, (), "0:99"), tmp_path)
    assert place.kind == kind
    assert place.note().startswith(words)
    assert place.members == ()


def test_one_disk_and_its_partition(tmp_path):
    sysfs(tmp_path, "nvme2n1", "259:3", partition="nvme2n1p1")
    (tmp_path / "sys/block/nvme2n1/device").mkdir()
    (tmp_path / "sys/block/nvme2n1/device/model").write_text("Maker Model   \n")
    (tmp_path / "sys/block/nvme2n1/device/serial").write_text("S1\n")
    place = place_of_mount(Mount("/sysmnt", "/dev/nvme2n1p1", "ext4", (), "259:3"), tmp_path)
    assert place.note() == "ext4 on one disk, nvme2n1 (Maker Model)"
    assert place.members == (("nvme2n1", "Maker Model", "S1"),)


def test_what_a_drive_says_of_itself_is_a_line_of_text(tmp_path):
    """Some have bytes there that are no text; it is printed, and stands in records and on the page."""
    sysfs(tmp_path, "nvme2n1", "259:3")
    (tmp_path / "sys/block/nvme2n1/device").mkdir()
    (tmp_path / "sys/block/nvme2n1/device/model").write_bytes(b"Maker\x1b[2J\xff\xfe \n")
    (tmp_path / "sys/block/nvme2n1/device/serial").write_bytes(b"S\xe9\n1\n")
    place = place_of_mount(Mount("/sysmnt", "/dev/nvme2n1", "ext4", (), "259:3"), tmp_path)
    assert place.note() == "ext4 on one disk, nvme2n1 (Maker\\x1b[2J\\udcff\\udcfe)"
    assert place.members == (("nvme2n1", "Maker\\x1b[2J\\udcff\\udcfe", "S\\udce9\\n1"),)


def test_an_array(tmp_path):
    (tmp_path / "dev").mkdir()
    write_array(tmp_path)
    (tmp_path / "sys/dev/block").mkdir(parents=True)
    (tmp_path / "sys/dev/block/9:127").symlink_to(tmp_path / "sys/block/md127")
    place = place_of_mount(mounts()[-1], tmp_path)
    assert place.note() == "xfs on md127, md raid0 of 2 devices, RAID chunk 512 KiB"
    assert (place.level, place.raid_chunk_bytes) == ("raid0", 512 << 10)


def test_a_volume(tmp_path):
    sysfs(tmp_path, "dm-0", "253:0", slaves=("nvme0n1", "nvme1n1"))
    place = place_of_mount(Mount("/", "/dev/mapper/vg-root", "xfs", (), "253:0"), tmp_path)
    assert place.note() == "xfs on dm-0, a volume over nvme0n1, nvme1n1"


def test_the_longest_mount_above_a_folder_that_is_not_there_yet(tmp_path):
    def findmnt(argv):
        return Output(0, recorded("findmnt.json"))

    assert place_of(Path("/tmp/no/such/folder"), findmnt, tmp_path).file_system == "tmpfs"
    assert place_of(Path("/no/such/folder"), findmnt, tmp_path).file_system == "rootfs"


def test_without_findmnt_it_is_unknown():
    place = place_of(Path("/tmp"), lambda argv: Output(127, ""))
    assert (place.kind, place.note()) == (
        "unknown",
        "an unknown file system: what it is on is not known here",
    )


def test_this_machine_has_some_place():
    assert place_of(Path.cwd()).note()
