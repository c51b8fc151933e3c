"""Parsing what the tools print: outputs recorded on emulated NVMe drives, and the shapes they did not show."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.array.machines import MD_UUID, recorded
from workflow.hyperkv.array.planning.facts import (
    Disk,
    Member,
    Part,
    best_first,
    built_on,
    dashed,
    parse_blkid,
    parse_export,
    parse_lsblk,
    parse_member,
    parse_swaps,
    parse_wipefs,
)
from workflow.hyperkv.machine.mounts import Signature, parse_findmnt


def test_lsblk_of_blank_disks():
    disks = parse_lsblk(recorded("lsblk-blank.json"))
    assert [disk.path for disk in disks] == ["/dev/nvme0n1", "/dev/nvme1n1", "/dev/nvme2n1", "/dev/vda"]
    first = disks[0]
    assert (first.kind, first.transport, first.size_bytes, first.rotational) == (
        "disk",
        "nvme",
        2 << 30,
        False,
    )
    assert (first.model, first.serial) == ("QEMU NVMe Ctrl", "TESTNVME0")
    assert first.mounts == first.parts == ()
    assert first.signatures is None
    assert disks[3].transport is None


def test_lsblk_of_partitions_in_use():
    disk = parse_lsblk(recorded("lsblk-in-use.json"))[2]
    assert disk.parts == (
        Part("/dev/nvme2n1p1", "nvme2n1p1", "part", ("/sysmnt",), "ext4"),
        Part("/dev/nvme2n1p2", "nvme2n1p2", "part", ("[SWAP]",), "swap"),
    )
    assert built_on(disk) == ()


def test_lsblk_of_an_array():
    disk = parse_lsblk(recorded("lsblk-array.json"))[0]
    assert built_on(disk) == (Part("/dev/md127", "md127", "raid0", ("/mnt/hyperkv",), "xfs"),)


def test_lsblk_pads_without_udev():
    listing = json.loads(recorded("lsblk-blank.json"))
    listing["blockdevices"][0] |= {"serial": "X1   ", "model": "   "}
    disk = next(disk for disk in parse_lsblk(json.dumps(listing)) if disk.path == "/dev/vda")
    assert (disk.serial, disk.model) == ("X1", None)


def test_no_output_is_nothing():
    assert parse_lsblk("") == []
    assert parse_wipefs("") == parse_findmnt("\n") == parse_swaps("") == ()


def test_wipefs():
    assert parse_wipefs(recorded("wipefs-blank.json")) == ()
    [ext4] = parse_wipefs(recorded("wipefs-ext4.json"))
    assert (ext4.device, ext4.kind, ext4.label) == ("nvme0n1", "ext4", "old")
    assert str(ext4) == 'ext4 "old"'
    assert [item.kind for item in parse_wipefs(recorded("wipefs-gpt.json"))] == ["gpt", "gpt", "PMBR"]
    [member] = parse_wipefs(recorded("wipefs-member.json"))
    assert (member.kind, member.uuid) == ("linux_raid_member", MD_UUID)


def test_blkid():
    assert parse_blkid(0, recorded("blkid-ext4.txt"))["TYPE"] == "ext4"
    assert parse_blkid(0, recorded("blkid-xfs.txt"))["LABEL"] == "hyperkv"
    assert parse_blkid(2, "") == {}
    assert parse_blkid(8, "") == {"TYPE": "ambivalent signatures"}
    assert parse_blkid(127, "") is None


def test_member():
    member = parse_member(recorded("mdadm-examine.txt"))
    assert member == Member("hyperkv", MD_UUID, "raid0", 2, "any")
    assert parse_member("") is None
    assert parse_member("MD_LEVEL=raid1\nMD_DEVICES=2\nMD_UUID=1:2:3:4\n").name == ""


def test_findmnt():
    mount = parse_findmnt(recorded("findmnt.json"))[-1]
    assert (mount.target, mount.source, mount.file_system, mount.device) == (
        "/mnt/hyperkv",
        "/dev/md127",
        "xfs",
        "9:127",
    )
    assert "noatime" in mount.options
    assert mount.option("sunit") == "1024"
    assert mount.option("stripe") is None


def test_swaps():
    assert parse_swaps(recorded("swaps.txt")) == ("/dev/nvme2n1p2",)


@pytest.mark.parametrize(
    ("disk", "words"),
    [
        (Disk("/dev/x"), "nothing that needs no root to see"),
        (
            Disk("/dev/x", file_system="ext4", parts=(Part("/dev/x1", "x1", "part", (), "swap"),)),
            "ext4, swap",
        ),
        (Disk("/dev/x", signatures=(), probed={}, sampled=True), "nothing"),
        (Disk("/dev/x", signatures=(), probed={"PTTYPE": "dos"}), "dos"),
        (Disk("/dev/x", signatures=(), probed={"USAGE": "other"}), "something blkid does not name"),
        (
            Disk("/dev/x", signatures=(Signature("x", "gpt"), Signature("x", "gpt")), probed={}),
            "gpt",
        ),
        (
            Disk("/dev/x", signatures=(Signature("x", "LVM2_member"), Signature("x1", "crypto_LUKS"))),
            "LVM2_member, crypto_LUKS",
        ),
    ],
)
def test_what_a_disk_holds_in_words(disk, words):
    assert disk.holds() == words


def test_blank_is_what_both_witnesses_call_blank():
    assert Disk("/dev/x", signatures=(), probed={}, sampled=True).blank
    assert not Disk("/dev/x", signatures=(), probed={"TYPE": "ext4"}).blank
    assert not Disk("/dev/x", signatures=(), probed=None).blank
    assert not Disk("/dev/x").blank


def test_names_with_model_and_serial_come_first():
    folder = "/dev/disk/by-id/"
    names = ["nvme-eui.0001", "nvme-Maker_Model_S1_1", "nvme-Maker_Model_S1", "wwn-0x5", "nvme-nvme.1b36-54"]
    assert best_first([folder + name for name in names])[0] == f"{folder}nvme-Maker_Model_S1"


@given(
    st.dictionaries(
        st.from_regex("[A-Z_]{1,8}", fullmatch=True), st.from_regex("[a-z0-9=:/ -]{0,12}", fullmatch=True)
    )
)
def test_exports_come_back(pairs):
    text = "\n".join(f"{key}={value}" for key, value in pairs.items())
    assert parse_export(text) == {key: value.strip() for key, value in pairs.items()}


@given(st.text("0123456789abcdef", min_size=32, max_size=32))
def test_uuids_of_mdadm_and_of_sysfs_are_one(digits):
    colons = ":".join(digits[i : i + 8] for i in range(0, 32, 8))
    assert dashed(colons) == dashed(colons.upper()) == dashed(dashed(colons))
    assert dashed(colons).replace("-", "") == digits


@given(st.text(max_size=60))
def test_no_text_of_blkid_or_mdadm_is_an_error(text):
    parse_blkid(0, text)
    parse_export(text)
