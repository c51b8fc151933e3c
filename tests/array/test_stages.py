"""The stages on machines as recorded: what they print, with which status they end, and what they leave alone."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.array.machines import FSTAB_LINE, MD_UUID, MDADM_LINE, A, B, assembled, disks, machine, settings
from workflow.hyperkv.array import provision_array as provision
from workflow.hyperkv.array import record
from workflow.hyperkv.array import teardown_array as teardown
from workflow.hyperkv.array.inspect_array import listing, outlook
from workflow.hyperkv.array.planning import look
from workflow.hyperkv.array.planning.privilege import LOCK, only_one
from workflow.hyperkv.array.refusal import FAILED, FOREIGN, IN_USE, NOT_ROOT, NOT_THERE, UNFIT, ArrayError
from workflow.hyperkv.machine.mounts import Signature

SEEN = {"signatures": None, "probed": None, "busy": None, "sampled": False}


class World:
    """What gather finds, one machine after the other, and what the stages run."""

    def __init__(self, monkeypatch, *found):
        self.found = list(found)
        self.ran: list[str] = []
        monkeypatch.setattr(look, "gather", self.gather)
        monkeypatch.setattr(look, "call", lambda argv: self.ran.append(" ".join(argv)))
        for stage in (provision, teardown):
            monkeypatch.setattr(stage, "execute", self.execute)
        monkeypatch.setattr("os.geteuid", lambda: 0)
        monkeypatch.delenv("SUDO_UID", raising=False)

    def gather(self, *_, **__):
        return self.found.pop(0) if len(self.found) > 1 else self.found[0]

    def execute(self, steps, say):
        self.ran += map(str, steps)


def test_provisioning_looks_again_until_nothing_is_left(monkeypatch, tmp_path, capsys):
    world = World(monkeypatch, machine(), assembled(), assembled(mounted=True))
    provision.provision(settings(), tmp_path / "array.json")
    assert any("--create" in line for line in world.ran)
    assert world.ran[-2] == "mount -t xfs -o noatime /dev/md127 /mnt/hyperkv"
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "These commands are next:"
    assert lines[-1] == "hyperkv provision_array: hyperkv at /mnt/hyperkv: provisioned"
    assert len([line for line in lines if line.startswith("To have it back after a reboot")]) == 2
    assert (tmp_path / "array.json").exists()


GONE = {"named": {A: "/dev/nvme0n1", B: None}}
SETTLE = "udevadm settle --timeout=30"


def test_a_link_that_udev_is_replacing_is_looked_for_again(monkeypatch, tmp_path):
    away = replace(assembled(mounted=True), **GONE)
    world = World(monkeypatch, assembled(), away, assembled(mounted=True))
    provision.provision(settings(), tmp_path / "array.json")
    assert world.ran[-1] == SETTLE
    world = World(monkeypatch, assembled(mounted=True), machine(**GONE), machine())
    teardown.teardown(settings(), tmp_path / "array.json")
    assert not (tmp_path / "array.json").exists()


def test_a_device_that_stays_away_is_refused(monkeypatch, tmp_path):
    away = replace(assembled(mounted=True), **GONE)
    world = World(monkeypatch, assembled(), away)
    with pytest.raises(ArrayError, match="there is no such device") as caught:
        provision.provision(settings(), tmp_path / "array.json")
    assert caught.value.exit_status == UNFIT
    assert world.ran[-3:] == [SETTLE] * 3
    world = World(monkeypatch, away)
    with pytest.raises(ArrayError, match="there is no such device"):
        teardown.teardown(settings(), tmp_path / "array.json")
    assert world.ran == []


def test_a_lost_record_is_written_again(monkeypatch, tmp_path, capsys):
    world = World(monkeypatch, assembled(mounted=True))
    for outcome in ("unchanged; array.json written", "unchanged"):
        provision.provision(settings(), tmp_path / "array.json")
        assert capsys.readouterr().out.splitlines()[-1].endswith(f"/mnt/hyperkv: {outcome}")
    assert world.ran == []


def test_commands_that_change_nothing_end(monkeypatch, tmp_path):
    World(monkeypatch, machine())
    with pytest.raises(ArrayError, match="these commands succeed and change nothing") as caught:
        provision.provision(settings(), tmp_path / "array.json")
    assert caught.value.exit_status == FAILED


@pytest.mark.parametrize(
    ("stage", "found"), [(provision.provision, machine()), (teardown.teardown, assembled(mounted=True))]
)
def test_without_consent_the_commands_are_printed_only(monkeypatch, tmp_path, capsys, stage, found):
    world = World(monkeypatch, found)
    with pytest.raises(ArrayError, match=r"array\.consent: it is false") as caught:
        stage(settings(consent=False), tmp_path / "array.json")
    assert caught.value.exit_status == UNFIT
    assert world.ran == []
    assert "  mdadm --" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("stage", "module"), [(provision.provision, "provision"), (teardown.teardown, "teardown")]
)
def test_without_root_the_command_for_an_administrator_is_printed(
    monkeypatch, tmp_path, capsys, stage, module
):
    World(monkeypatch, machine(disks(nvme0n1=SEEN, nvme1n1=SEEN), root=False))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(
        ArrayError, match=f"^{module}_array needs root: .*, or set array.source: path"
    ) as caught:
        stage(settings(), tmp_path / "array.json")
    assert caught.value.exit_status == NOT_ROOT
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("  sudo ")
    assert f"-m workflow.hyperkv.array.{module}_array --spec '{{" in lines[1]
    assert any("mdadm --create" in line for line in lines) == (module == "provision")


def test_a_teardown_that_leaves_something_fails(monkeypatch, tmp_path):
    World(monkeypatch, assembled(mounted=True))
    with pytest.raises(ArrayError, match=r"not all of it is gone \(umount /mnt/hyperkv; .*\); run again"):
        teardown.teardown(settings(), tmp_path / "array.json")


def test_teardown_removes_the_record_and_says_which_lines_stay(monkeypatch, tmp_path, capsys):
    line = "UUID=1 /mnt/hyperkv xfs noatime,nofail,x-systemd.device-timeout=30 0 0"
    world = World(monkeypatch, assembled(mounted=True), machine(files={"/etc/fstab": f"{line}\n"}))
    (tmp_path / "array.json").touch()
    for outcome in ("torn down", "unchanged, there is none"):
        teardown.teardown(settings(), tmp_path / "array.json")
        lines = capsys.readouterr().out.splitlines()
        assert lines[-3:] == [
            "/etc/fstab still has this line; remove it (array.persist: true does):",
            f"  {line}",
            f"hyperkv teardown_array: hyperkv: {outcome}",
        ]
    assert world.ran[0] == "umount /mnt/hyperkv"
    assert not (tmp_path / "array.json").exists()


OLD = "UUID=1 /mnt/hyperkv xfs noatime,nofail,x-systemd.device-timeout=30 0 0"


def test_an_earlier_arrays_line_and_record_are_said(monkeypatch, tmp_path, capsys):
    found = assembled(mounted=True, files={"/etc/fstab": f"{OLD}\n"}, initramfs="update-initramfs -u")
    world = World(monkeypatch, found)
    out = tmp_path / "array.json"
    out.write_text('{"md_uuid": "an-earlier-one"}')
    provision.provision(settings(), out)
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("To have it back after a reboot") for line in lines) == 2
    assert [line for line in lines if line.endswith("remove it (array.persist: true does):")]
    assert f"  {OLD}" in lines
    assert any(
        line.startswith(f"{out} was of array an-earlier-one, which is not there any more") for line in lines
    )
    assert world.ran == []
    provision.provision(settings(), out)
    assert "any more" not in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "[]", "{", '{"md_uuid": null}'])
def test_a_record_that_cannot_be_read_is_replaced(monkeypatch, tmp_path, text):
    World(monkeypatch, assembled(mounted=True))
    out = tmp_path / "array.json"
    out.write_text(text)
    provision.provision(settings(), out)
    assert record.recorded_uuid(out) == MD_UUID


def test_the_initramfs_copy_of_mdadm_conf_is_said_when_that_file_changes(monkeypatch, tmp_path, capsys):
    found = assembled(mounted=True, initramfs="dracut -f")
    done = replace(found, files={"/etc/mdadm/mdadm.conf": MDADM_LINE, "/etc/fstab": FSTAB_LINE})
    World(monkeypatch, found, done)
    for said in (True, False):
        provision.provision(settings(persist=True), tmp_path / "array.json")
        assert ("`dracut -f` makes it anew" in capsys.readouterr().out) == said
    World(monkeypatch, done, replace(done, arrays=(), disks=disks(), files={}))
    teardown.teardown(settings(persist=True), tmp_path / "array.json")
    assert "`dracut -f` makes it anew" in capsys.readouterr().out


def test_teardown_takes_out_the_lines_of_an_array_that_is_gone(monkeypatch, tmp_path, capsys):
    world = World(monkeypatch, machine(files={"/etc/fstab": f"{OLD}\n"}), machine())
    teardown.teardown(settings(persist=True), tmp_path / "array.json")
    assert world.ran == ["sed -i.before-hyperkv --follow-symlinks -e 1d /etc/fstab"]
    assert capsys.readouterr().out.splitlines()[-1].endswith("hyperkv: there was none, its lines are removed")


def test_only_one_at_a_time(monkeypatch, tmp_path):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with only_one(lock := tmp_path / "lock"):
        with pytest.raises(ArrayError, match="is running; wait for it") as caught, only_one(lock):
            pass
    assert caught.value.exit_status == IN_USE
    with only_one(lock):
        pass


def planted(kind: str, lock: Path) -> Path:
    """Something in the lock's place that is not the lock; what it would do harm to."""
    victim = lock.with_name("victim")
    victim.write_text("keep")
    if kind == "link":
        lock.symlink_to(victim)
    elif kind == "dangling link":
        lock.symlink_to(victim.with_name("made"))
    elif kind == "second name":
        os.link(victim, lock)
    elif kind == "pipe":
        os.mkfifo(lock)
    else:
        lock.mkdir()
    return victim


@pytest.mark.parametrize("kind", ["link", "dangling link", "second name", "pipe", "folder"])
def test_what_is_planted_at_the_lock_is_refused_and_not_followed(monkeypatch, tmp_path, kind):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    victim = planted(kind, tmp_path / "lock")
    with (
        pytest.raises(ArrayError, match=r"lock: cannot be the lock \(.*\); remove it$") as caught,
        only_one(tmp_path / "lock"),
    ):
        pass
    assert caught.value.exit_status == IN_USE
    assert victim.read_text() == "keep"
    assert not (tmp_path / "made").exists()


def test_the_lock_is_where_only_root_writes():
    assert str(LOCK.parent) == "/run"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_under_sudo_the_record_is_the_callers(monkeypatch, tmp_path):
    monkeypatch.setenv("SUDO_UID", "1000")
    monkeypatch.setenv("SUDO_GID", "100")
    path = tmp_path / "results/array/array.json"
    record.write_record(path, {})
    owners = {(made.stat().st_uid, made.stat().st_gid) for made in (path, path.parent, path.parent.parent)}
    assert owners == {(1000, 100)}
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("planted", ["array.json", "array.json.tmp", "."])
def test_under_sudo_no_link_is_followed_to_what_is_roots(monkeypatch, tmp_path, planted):
    """Neither written nor given away: a file in the place of the record or beside it, a folder in the place of its own."""
    monkeypatch.setenv("SUDO_UID", "1000")
    monkeypatch.setenv("SUDO_GID", "100")
    (roots := tmp_path / "roots").mkdir()
    (roots / "file").write_text("keep")
    path = tmp_path / "results/array/array.json"
    path.parent.parent.mkdir()
    if planted == ".":
        path.parent.symlink_to(roots)
    else:
        path.parent.mkdir()
        (path.parent / planted).symlink_to(roots / "file")
    record.write_record(path, {})
    assert (roots / "file").read_text() == "keep"
    assert (roots.stat().st_uid, (roots / "file").stat().st_uid) == (0, 0)


def test_the_listing_names_every_disk_and_what_is_on_it():
    lines = listing(assembled(mounted=True))
    assert lines[:4] == [
        "Disks:",
        f"  {A}",
        "    2.0 GiB, nvme, not rotating, QEMU NVMe Ctrl, TESTNVME0, /dev/nvme0n1",
        "    mounted at /mnt/hyperkv",
    ]
    assert f"  {B}" in lines
    assert lines[-1] == "Array /dev/md127: raid0 of nvme0n1, nvme1n1, clean, /mnt/hyperkv"
    assert listing(replace(machine(), disks=())) == ["There are no disks here that lsblk shows."]


@pytest.mark.parametrize(
    ("wanted", "found", "there", "line"),
    [
        (settings(source="path"), machine(), None, "array.source is path: nothing is provisioned"),
        (settings(devices=()), machine(), None, "array.devices names none"),
        (settings(), machine(), None, "provision_array would run:"),
        (settings(), assembled(mounted=True), None, "provision_array would change nothing."),
        (settings(), machine(disks(nvme1n1={"mounts": ("/x",)})), None, "provision_array would refuse:"),
        (
            settings(),
            replace(assembled(mounted=True), root=False),
            {},
            "provision_array would change nothing: the array is there",
        ),
    ],
)
def test_the_outlook(wanted, found, there, line):
    assert outlook(wanted, found, there)[0].startswith(line)


def test_labels_reach_no_terminal_as_they_are():
    label = Signature("nvme1n1", "ext4", "a\x1b]0;title\x07\nprovision_array would change nothing.")
    found = machine(disks(nvme1n1={"signatures": (label,), "probed": {"TYPE": "ext4"}}))
    for overwrite in (False, True):
        lines = outlook(settings(overwrite=overwrite), found, None)
        assert all(line.isprintable() for line in lines)
        assert any("a\\x1b]0;title\\x07\\nprovision" in line for line in lines)


def test_the_exit_statuses_are_documented():
    page = Path("docs/array.md").read_text()
    for status in (0, UNFIT, FOREIGN, IN_USE, FAILED, NOT_ROOT, NOT_THERE):
        assert f"\n| {status} | " in page
