"""Facts from a machine that is a folder: its /sys, /proc, /dev and /etc, and tools that print what was recorded."""

import os
from pathlib import Path

import pytest

from tests.array.machines import MD_UUID, MOUNT, A, B, recorded, settings, write_array
from workflow.hyperkv.array.planning import gather as module
from workflow.hyperkv.array.planning.gather import gather
from workflow.hyperkv.array.planning.plan import plan_provision
from workflow.hyperkv.array.steps.identity import device_identity
from workflow.hyperkv.machine.mounts import md_device, mounts, serial_of
from workflow.hyperkv.machine.probe import Output


class Tools:
    """Prints what was recorded; counts calls. Everything is blank unless `prints` says otherwise, by command line."""

    def __init__(self, **prints: Output):
        self.calls: list[list[str]] = []
        self.prints = {
            "lsblk": Output(0, recorded("lsblk-blank.json")),
            "findmnt": Output(0, recorded("findmnt.json")),
            "wipefs": Output(0, recorded("wipefs-blank.json")),
            "blkid": Output(2, ""),
            "mdadm": Output(1, "", "mdadm: No md superblock detected"),
        } | prints

    def __call__(self, argv):
        self.calls.append(list(argv))
        return self.prints.get(" ".join(argv), self.prints[argv[0]])


@pytest.fixture
def top(tmp_path) -> Path:
    """The machine's file system, with four disks and no array."""
    by_id = tmp_path / "dev/disk/by-id"
    by_id.mkdir(parents=True)
    for number in range(3):
        name = f"nvme{number}n1"
        (tmp_path / "dev" / name).touch()
        for suffix in ("", "_1"):
            (by_id / f"nvme-QEMU_NVMe_Ctrl_TESTNVME{number}{suffix}").symlink_to(f"../../{name}")
        device = tmp_path / "sys/block" / name / "device"
        device.mkdir(parents=True)
        (device / "serial").write_text(f"TESTNVME{number}           \n")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/swaps").write_text(recorded("swaps.txt"))
    (tmp_path / "etc/mdadm").mkdir(parents=True)
    (tmp_path / "etc/fstab").write_text("proc /proc proc\n")
    return tmp_path


@pytest.fixture(autouse=True)
def root(monkeypatch):
    """The tests' user is root to the code, and nobody opens a device."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(module, "_busy", lambda path: False)
    monkeypatch.setattr(module, "first_data", lambda path: None)
    monkeypatch.setattr(module, "_unfinished_xfs", lambda path: False)
    monkeypatch.setattr(module, "_has", lambda tool: True)
    monkeypatch.delenv("SUDO_UID", raising=False)


def test_blank_disks(top):
    tools = Tools()
    machine = gather(settings(), probe=tools, top=top)
    assert machine.named == {A: "/dev/nvme0n1", B: "/dev/nvme1n1"}
    first, _, third, virtio = machine.disks
    assert first.name == A
    assert first.blank
    assert third.signatures is None
    assert virtio.name == "/dev/vda"
    assert not machine.raid0_loaded
    assert not machine.udev
    assert machine.array_node is None
    assert machine.files == {"/etc/fstab": "proc /proc proc\n", "/etc/mdadm.conf": ""}
    assert [call for call in tools.calls if "--examine" in call] == [
        ["mdadm", "--examine", "--export", path] for path in ("/dev/nvme0n1", "/dev/nvme1n1")
    ]
    assert "mdadm" in " ".join(map(str, plan_provision(settings(mount="/srv/x"), machine).steps))


def test_every_disk_is_looked_at_when_asked(top):
    machine = gather(settings(), every_disk=True, probe=Tools(), top=top)
    assert all(disk.blank for disk in machine.disks)


def test_without_root_nothing_is_opened(top, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    tools = Tools()
    machine = gather(settings(), every_disk=True, probe=tools, top=top)
    assert not machine.root
    assert {call[0] for call in tools.calls} == {"lsblk", "findmnt"}
    assert all(disk.signatures is None for disk in machine.disks)


def test_partitions_in_use(top):
    wipefs = "wipefs -n -J /dev/nvme2n1 /dev/nvme2n1p1 /dev/nvme2n1p2"
    tools = Tools(
        **{"lsblk": Output(0, recorded("lsblk-in-use.json")), wipefs: Output(0, recorded("wipefs-gpt.json"))}
    )
    disk = gather(settings(), every_disk=True, probe=tools, top=top).disks[2]
    assert disk.swaps == ("/dev/nvme2n1p2",)
    assert disk.holds() == "gpt, PMBR"


@pytest.mark.parametrize("uuid", [True, False])
def test_an_array(top, uuid):
    write_array(top, uuid=uuid)
    (top / "proc/mdstat").write_text("Personalities : [raid0] \n")
    if not uuid:
        (top / f"dev/disk/by-id/md-uuid-{MD_UUID.replace('-', '')}").symlink_to("../../md127")
    member = Output(0, recorded("mdadm-examine.txt"))
    tools = Tools(
        **{
            "lsblk": Output(0, recorded("lsblk-array.json")),
            "mdadm --examine --export /dev/nvme0n1": member,
            "mdadm --examine --export /dev/nvme1n1": member,
            "wipefs -n -J /dev/md127": Output(0, recorded("wipefs-xfs.json")),
            "blkid -p -o export /dev/md127": Output(0, recorded("blkid-xfs.txt")),
        }
    )
    machine = gather(settings(), probe=tools, top=top)
    [md] = machine.arrays
    assert (md.uuid, md.level, md.raid_chunk_bytes, md.state) == (MD_UUID, "raid0", 512 << 10, "clean")
    assert md.members == ("nvme0n1", "nvme1n1")
    assert machine.array_node == "/dev/md127"
    assert machine.raid0_loaded
    assert machine.disks[0].holders == ("md127",)
    assert machine.mounts_of(md)[0].target == MOUNT
    plan = plan_provision(settings(), machine)
    assert plan.refusals == ()
    assert [str(step) for step in plan.steps] == ["install -d -m 755 -o 0 -g 0 /mnt/hyperkv/hyperkv"]


def test_an_array_that_is_not_running_is_not_read(top):
    write_array(top, state="inactive")
    tools = Tools()
    [md] = gather(settings(), probe=tools, top=top).arrays
    assert md.signatures is None
    assert not any("/dev/md127" in call for call in tools.calls)


@pytest.mark.parametrize(
    ("wipefs", "blkid"),
    [(Output(1, "", "wipefs: error"), Output(2, "")), (Output(0, ""), Output(2, "", "blkid: error: denied"))],
)
def test_a_disk_that_cannot_be_read_is_not_blank(top, wipefs, blkid):
    disk = gather(settings(), probe=Tools(wipefs=wipefs, blkid=blkid), top=top).disks[0]
    assert not disk.blank
    assert disk.signatures is None or disk.probed is None


def test_a_machine_without_any_tool(top):
    nothing = Output(127, "", "there is no program")
    machine = gather(settings(), probe=lambda argv: nothing, top=top)
    assert machine.disks == machine.mounts == ()
    assert [line.partition(":")[0] for line in machine.complaints] == ["lsblk", "findmnt"]


def test_an_lsblk_that_is_too_old_is_said(top):
    old = Output(1, "", "lsblk: unknown column: NAME,MOUNTPOINTS\n")
    machine = gather(settings(), probe=Tools(lsblk=old), top=top)
    [line] = machine.complaints
    assert line.startswith(
        "lsblk: failed (status 1): lsblk: unknown column: NAME,MOUNTPOINTS; util-linux must be 2.37"
    )


def test_a_device_that_vanishes_while_lsblk_looks_is_no_complaint(top):
    warned = Output(1, recorded("lsblk-blank.json"), "lsblk: md127: unknown device name\n")
    machine = gather(settings(), probe=Tools(lsblk=warned), top=top)
    assert machine.complaints == ()
    assert len(machine.disks) == 4


def test_what_the_mount_point_and_the_folder_are(top):
    folder = top / "mnt/hyperkv/hyperkv"
    folder.mkdir(parents=True)
    (top / "mnt/hyperkv/lost+found").mkdir()
    machine = gather(settings(), probe=Tools(), top=top)
    assert machine.mount_point_files == 1
    assert machine.data_owner == (folder.stat().st_uid, folder.stat().st_gid)


@pytest.mark.parametrize(
    ("name", "owner"), [("root", (0, 0)), ("0", (0, 0)), ("no-such-user", None), ("987654", None)]
)
def test_owners_by_name_and_number(top, name, owner):
    assert gather(settings(owner=name), probe=Tools(), top=top).owner == owner


def test_the_owner_is_who_runs_sudo(top, monkeypatch):
    monkeypatch.setenv("SUDO_UID", "1000")
    monkeypatch.setenv("SUDO_GID", "100")
    assert gather(settings(), probe=Tools(), top=top).owner == (1000, 100)


def test_a_disk_without_a_signature_is_sampled(top, monkeypatch):
    monkeypatch.setattr(module, "first_data", lambda path: 4096 if path == "/dev/nvme0n1" else None)
    first, second, third, _ = gather(settings(), probe=Tools(), top=top).disks
    assert (first.blank, first.data_at) == (False, 4096)
    assert second.blank
    assert not third.sampled
    signed = Tools(wipefs=Output(0, recorded("wipefs-ext4.json")))
    assert not gather(settings(), probe=signed, top=top).disks[0].sampled


def test_samples_that_cannot_be_read_are_not_known(top, monkeypatch):
    def fails(path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(module, "first_data", fails)
    disk = gather(settings(), probe=Tools(), top=top).disks[0]
    assert (disk.sampled, disk.blank, disk.unsigned) == (False, False, True)


def test_what_a_device_is_known_by(top):
    write_array(top)
    classes = top / "sys/class/block"
    for name in ("nvme0n1", "md127"):
        node = classes / name
        node.mkdir(parents=True, exist_ok=True)
        (node / "size").write_text("4194304\n")
        (node / "diskseq").write_text("9\n")
    (classes / "nvme0n1/wwid").write_text("eui.01\n")
    (classes / "nvme0n1/nvme0n1p1").mkdir()
    (classes / "nvme0n1/nvme0n1p1/partition").write_text("1\n")
    (classes / "nvme0n1p1").symlink_to("nvme0n1/nvme0n1p1")
    for name in ("nvme0n1", "nvme1n1"):
        (classes / "md127/slaves" / name).mkdir(parents=True)
    disk = ("diskseq=9", "size=4194304", "wwid=eui.01")
    assert device_identity("/dev/nvme0n1", top) == device_identity(A, top) == disk
    assert device_identity("/dev/nvme0n1p1", top) == disk
    array = ("diskseq=9", "size=4194304", "members=nvme0n1 nvme1n1")
    assert device_identity("/dev/md/hyperkv", top) == device_identity("/dev/md127", top) == array
    assert device_identity("/dev/none", top) == ()
    machine = gather(settings(), probe=Tools(), top=top)
    assert machine.disks[0].identity == disk
    assert machine.arrays[0].identity == array


def test_mdadm_conf_is_the_one_that_mdadm_reads(top):
    for name in ("mdadm.conf", "mdadm/mdadm.conf"):
        (top / "etc" / name).touch()
    assert gather(settings(), probe=Tools(), top=top).mdadm_conf == "/etc/mdadm.conf"
    (top / "etc/debian_version").touch()
    assert gather(settings(), probe=Tools(), top=top).mdadm_conf == "/etc/mdadm/mdadm.conf"
    (top / "etc/mdadm/mdadm.conf").unlink()
    assert gather(settings(), probe=Tools(), top=top).mdadm_conf == "/etc/mdadm.conf"


def test_the_files_of_etc_are_read_as_they_are(top):
    (top / "etc/fstab").write_bytes(b"caf\xe9 /x\r\n\x0by")
    assert gather(settings(), probe=Tools(), top=top).files["/etc/fstab"] == "caf\udce9 /x\r\n\x0by"


def test_what_follows_fstab_and_mdadm_conf(top):
    machine = gather(settings(), probe=Tools(), top=top)
    assert (machine.systemd, machine.initramfs, machine.file_systems) == (False, "update-initramfs -u", {})
    (top / "run/systemd/system").mkdir(parents=True)
    (top / "dev/disk/by-uuid").mkdir()
    (top / "dev/disk/by-uuid/ABCD-12").symlink_to("../../nvme2n1")
    machine = gather(settings(), probe=Tools(), top=top)
    assert (machine.systemd, machine.file_systems) == (True, {"abcd-12": "/dev/nvme2n1"})


def test_what_sysfs_tells_everybody(top):
    assert md_device("nvme0n1", top) is None
    assert serial_of("nvme0n1", top) == "TESTNVME0"
    assert serial_of("nothing", top) is None
    assert mounts(Tools())[-1].target == MOUNT
