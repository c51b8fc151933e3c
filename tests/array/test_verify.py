"""array.json: what it says, and that a machine which differs from it is noticed in one line."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.array.machines import (
    FS_UUID,
    MD_UUID,
    MOUNT,
    A,
    B,
    C,
    assembled,
    md,
    mounts,
    recorded,
    settings,
    write_array,
)
from workflow.hyperkv.array.layout import fstab_line, mdadm_line
from workflow.hyperkv.array.record import document, write_record
from workflow.hyperkv.array.refusal import NOT_THERE, ArrayError
from workflow.hyperkv.array.verify import difference, verified
from workflow.hyperkv.machine.probe import Output
from workflow.hyperkv.machine.require_array import require_array

SERIALS = {"TESTNVME0", "TESTNVME1"}


def record(**changes: Any) -> dict[str, Any]:
    found = assembled(mounted=True)
    return document(settings(), list(found.disks[:2]), md(), mounts()[-1]) | changes


def test_the_record_describes_the_array():
    found = record()
    assert (found["md_uuid"], found["fs_uuid"], found["level"]) == (MD_UUID, FS_UUID, "raid0")
    assert [member["serial"] for member in found["members"]] == ["TESTNVME0", "TESTNVME1"]
    assert [member["by_id"] for member in found["members"]] == found["devices"] == [A, B]
    assert found["stripe"] == {"sunit": 1024, "swidth": 2048}
    assert found["data_dir"] == "/mnt/hyperkv/hyperkv"
    assert found["at_boot"] == {
        "mdadm.conf": mdadm_line(settings(), MD_UUID, "any:hyperkv"),
        "fstab": fstab_line(settings(), FS_UUID),
    }


def test_the_same_record_is_not_written_twice(tmp_path):
    path = tmp_path / "results/array/array.json"
    assert write_record(path, record())
    os.utime(path, (1, 1))
    assert not write_record(path, record())
    assert path.stat().st_mtime == 1
    assert write_record(path, record(level="raid1"))
    assert not list(tmp_path.rglob("*.tmp"))


def test_an_array_that_is_there():
    assert difference(settings().identity(), record(), mounts()[-1], md(), SERIALS) is None
    swapped = settings(devices=(B, A)).identity()
    assert difference(swapped, record(), mounts()[-1], md(uuid=None), SERIALS) is None
    assert (
        difference(
            settings(mount_options=("noatime", "nofail")).identity(), record(), mounts()[-1], md(), SERIALS
        )
        is None
    )


OTHER_DISK = replace(mounts()[-1], source="/dev/sda1")
PLAIN = replace(mounts()[-1], options=("rw", "noatime"))
EXT4 = replace(mounts()[-1], file_system="ext4")


HERE = "/mnt/hyperkv (/dev/md127) has"
DIFFERENCES = {
    "config says name other, array.json hyperkv; change": {"wanted": settings(name="other")},
    "config says raid_chunk_bytes 4096, array.json 524288;": {"wanted": settings(raid_chunk_bytes=4096)},
    "config says file_system ext4, array.json xfs;": {"wanted": settings(file_system="ext4")},
    "config says mount /srv, array.json /mnt/hyperkv;": {"wanted": settings(mount="/srv")},
    "config names other devices than array.json": {"wanted": settings(devices=(A, C))},
    "nothing is mounted at /mnt/hyperkv; provision": {"mount": None, "array": None, "serials": set()},
    "/mnt/hyperkv is xfs on /dev/sda1, not the array hyperkv;": {"mount": OTHER_DISK, "array": None},
    f"{HERE} md UUID 0-0, array.json says d9ed5db4": {"array": md(uuid="0-0")},
    f"{HERE} level raid1,": {"array": md(level="raid1")},
    f"{HERE} RAID chunk 4096,": {"array": md(raid_chunk_bytes=4096)},
    f"{HERE} members TESTNVME0, X,": {"serials": {"TESTNVME0", "X"}},
    f"{HERE} file system ext4,": {"mount": EXT4},
    "/mnt/hyperkv is mounted without sunit=1024,swidth=2048;": {"mount": PLAIN},
    "/mnt/hyperkv is mounted without discard;": {"wanted": settings(mount_options=("discard",))},
}


@pytest.mark.parametrize("beginning", DIFFERENCES)
def test_what_differs_is_said_with_what_to_do(beginning):
    found = {"wanted": settings(), "mount": mounts()[-1], "array": md(), "serials": SERIALS}
    wanted, mount, array, serials = (found | DIFFERENCES[beginning]).values()
    text = difference(wanted.identity(), record(), mount, array, serials)
    assert text.startswith(beginning)
    assert "provision_array" in text
    assert "\n" not in text


def machine_with_array(top: Path) -> Path:
    """The array in a folder's /sys, and its record: the record's path."""
    write_array(top)
    for number in range(2):
        device = top / f"sys/block/nvme{number}n1/device"
        device.mkdir(parents=True)
        (device / "serial").write_text(f"TESTNVME{number}\n")
    path = top / "array.json"
    path.write_text(json.dumps(record()))
    (top / "dev").mkdir(exist_ok=True)
    return path


def test_verified_reads_the_machine(tmp_path):
    (tmp_path / "dev").mkdir()
    path = machine_with_array(tmp_path)

    def findmnt(argv):
        return Output(0, recorded("findmnt.json"))

    assert verified(settings().identity(), path, findmnt, tmp_path)["md_uuid"] == MD_UUID
    link = tmp_path / "dev/disk/by-uuid" / FS_UUID
    link.parent.mkdir(parents=True)
    link.symlink_to("../../md127")
    assert verified(settings().identity(), path, findmnt, tmp_path)["fs_uuid"] == FS_UUID
    link.rename(link.with_name("made-again"))
    with pytest.raises(
        ArrayError, match=f"has file system UUID made-again, array.json says {FS_UUID}; provision it"
    ):
        verified(settings().identity(), path, findmnt, tmp_path)
    link.with_name("made-again").unlink()
    (tmp_path / "sys/block/nvme1n1/device/serial").write_text("ANOTHER\n")
    with pytest.raises(ArrayError, match="has members ANOTHER, TESTNVME0") as caught:
        verified(settings().identity(), path, findmnt, tmp_path)
    assert caught.value.exit_status == NOT_THERE
    with pytest.raises(ArrayError, match=f"nothing is mounted at {MOUNT}"):
        verified(settings().identity(), path, lambda argv: Output(1, ""), tmp_path)


def test_no_record_and_a_torn_one(tmp_path):
    path = tmp_path / "array.json"
    with pytest.raises(ArrayError, match=r"there is no .*, so no array was provisioned here; provision it"):
        verified(settings().identity(), path)
    path.write_text("{")
    with pytest.raises(ArrayError, match="cannot be read"):
        verified(settings().identity(), path)


def test_a_stage_without_an_array_needs_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    require_array({"data_dir": "x"})
    with pytest.raises(ArrayError, match="no array was provisioned here"):
        require_array({"data_dir": "x", "array": settings().identity()})
