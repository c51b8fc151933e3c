"""Folders of one process alone: made, locked, removed, told from everything else, and one measurement at a time."""

import contextlib
import errno
import fcntl
import gc
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from tests.helpers import eventually, mounted_tmpfs, refused
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.base.folders import HELD
from workflow.hyperkv.machine import own_folder as module
from workflow.hyperkv.machine.own_folder import MARK, SOCKET_PATH_BYTES, alone_on, own_folder, socket_folder

SOMEBODY = 12345  # no user of this machine
REPOSITORY = Path(__file__).parents[2]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of another user")
HOLDER = """
import contextlib, sys, time
from pathlib import Path
from workflow.hyperkv.machine.own_folder import alone_on, own_folder
from workflow.hyperkv.machine.processes import OwnedProcess
data, log = map(Path, sys.argv[1:])
with alone_on(data), own_folder(data, "a test") as folder:
    (folder / "store").mkdir()
    (folder / "store" / "file").write_text("x")
    background = "sleep 300 & echo $! > $0/orphan.tmp; mv $0/orphan.tmp $0/orphan; wait"
    with OwnedProcess(["sh", "-c", background, str(folder)], log=log, label="a server"):
        print(folder, flush=True)
        sys.stdin.read()
"""


class Holder:
    """Another process that measures on a folder, and its server, whose own child survives it."""

    def __init__(self, process: subprocess.Popen[str]):
        self.process = process
        assert process.stdout is not None
        self.folder = Path(process.stdout.readline().strip())
        assert eventually((self.folder / "orphan").exists)
        self.orphan = psutil.Process(int((self.folder / "orphan").read_text()))

    def kill(self) -> None:
        """kill -9 of the process alone."""
        self.process.kill()
        self.process.wait(10)

    def end(self) -> None:
        """Have it leave its blocks."""
        self.process.communicate("", timeout=20)


@pytest.fixture
def data(tmp_path) -> Path:
    (folder := tmp_path / "data").mkdir()
    return folder


@pytest.fixture
def holder(data, tmp_path) -> Iterator[Holder]:
    argv = [sys.executable, "-c", HOLDER, str(data), str(tmp_path / "log")]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, cwd=REPOSITORY, stdin=pipe, stdout=pipe, text=True) as process:
        found = Holder(process)
        try:
            yield found
        finally:
            process.kill()
            with contextlib.suppress(psutil.NoSuchProcess):
                found.orphan.kill()


def a_start(data: Path) -> None:
    """What every start does to what others left."""
    with own_folder(data, "a start"):
        pass


def dead(data: Path) -> Path:
    """A folder that a process which is gone left, with a file, a folder, a link and a hard link to something precious."""
    with own_folder(data, "the dead one") as folder:
        shutil.copytree(folder, aside := data / "aside")
    folder = aside.rename(folder)
    mark = json.loads((folder / MARK).read_text())
    gone = subprocess.Popen(["true"])
    gone.wait(10)
    (folder / MARK).write_text(json.dumps(mark | {"inode": folder.stat().st_ino, "pid": gone.pid}))
    (folder / "store" / "db").mkdir(parents=True)
    (folder / "store" / "db" / "file").write_text("x")
    precious = data.parent / "precious"
    precious.mkdir(exist_ok=True)
    (precious / "file").write_text("precious")
    (folder / "link").symlink_to(precious)
    (folder / "store" / "link").symlink_to(precious / "file")
    (folder / "store" / "hard").hardlink_to(precious / "file")
    return folder


@pytest.fixture(autouse=True)
def nothing_precious_is_lost(tmp_path) -> Iterator[None]:
    gc.collect()  # what tests before this one have left
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before
    assert not HELD
    if (tmp_path / "precious").exists():
        assert (tmp_path / "precious" / "file").read_text() == "precious"


# Its life


def test_it_is_its_users_alone_says_whose_it_is_and_goes(data):
    with own_folder(data, "valkey, repeat 2") as folder:
        assert folder.parent == data
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / MARK).stat().st_mode & 0o777 == 0o600
        mark = json.loads((folder / MARK).read_text())
        assert mark["pid"] == os.getpid()
        assert mark["checkout"] == os.getcwd()
        assert mark["what"] == "valkey, repeat 2"
        with (folder / MARK).open() as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with own_folder(data, "another") as other:
            assert other != folder
        assert folder.exists()
        assert not other.exists()
        (folder / "a" / "b").mkdir(parents=True)
    assert list(data.iterdir()) == []


def test_it_goes_when_what_is_done_in_it_fails(data):
    with pytest.raises(ZeroDivisionError), own_folder(data, "x") as folder:
        (folder / "file").write_text("x")
        raise ZeroDivisionError
    assert list(data.iterdir()) == []


@pytest.mark.parametrize("call", ["mkdir", "open", "fstat", "flock", "write"])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(errno.ENOSPC, "No space left on device")])
def test_nothing_stays_when_making_it_is_interrupted(data, monkeypatch, call, after, error):
    """A signal or a full disk before or after each step. (What a call opened before a signal is lost with the process.)"""
    where = module.fcntl if call == "flock" else module.os
    real = getattr(where, call)

    def interrupted(*arguments, **words):
        if after and call != "open":
            real(*arguments, **words)
        raise error

    stated = UserError if isinstance(error, OSError) else KeyboardInterrupt
    opened = module.open_folder

    def then(*arguments):
        found = opened(*arguments)
        monkeypatch.setattr(where, call, interrupted)
        return found

    monkeypatch.setattr(module, "open_folder", then)
    context = own_folder(data, "x")
    if call == "flock" and stated is UserError:  # a file system without locks will do
        context.__enter__()
        context.__exit__(None, None, None)
    else:
        with pytest.raises(stated):
            context.__enter__()
    monkeypatch.undo()
    assert list(data.iterdir()) == []


# What others left


def test_what_a_killed_process_left_is_removed_with_a_line(data, holder, capfd):
    a_start(data)
    assert holder.folder.exists()
    holder.kill()
    a_start(data)
    assert holder.folder.exists(), "the server's child still uses it"
    holder.orphan.kill()
    assert eventually(lambda: not holder.orphan.is_running() or holder.orphan.status() == "zombie")
    a_start(data)
    assert list(data.iterdir()) == []
    said = capfd.readouterr().out
    assert f"hyperkv: {holder.folder}: left by pid {holder.process.pid} in {REPOSITORY} (a test, 20" in said
    assert said.count("hyperkv:") == 1
    assert said.endswith("), removed\n")


def test_links_in_what_was_left_are_removed_and_not_followed(data):
    folder = dead(data)
    a_start(data)
    assert not folder.exists()
    assert os.stat(data.parent / "precious" / "file").st_nlink == 1


def marked(text=None, **changes):
    """Makes the mark say something else: a text made of it, or other values."""

    def change(folder: Path) -> None:
        whole = (folder / MARK).read_text()
        found = json.loads(whole)
        wrong = {key: make(found[key]) for key, make in changes.items()}
        (folder / MARK).write_text(text(whole) if text else json.dumps(found | wrong))

    return change


def instead(make):
    """Puts something else in the mark's place; the mark itself lies beside the folder."""

    def change(folder: Path) -> None:
        make(folder / MARK, (folder / MARK).rename(folder.parent / "mark"))

    return change


def behind_a_link(folder: Path) -> None:
    folder.rename(folder.parent.parent / "elsewhere")
    folder.symlink_to(folder.parent.parent / "elsewhere")


FOREIGN = [
    instead(lambda mark, real: None),
    instead(lambda mark, real: mark.hardlink_to(real)),
    instead(lambda mark, real: mark.symlink_to(real)),
    instead(lambda mark, real: os.mkfifo(mark)),
    instead(lambda mark, real: mark.mkdir()),
    marked(lambda whole: whole[:40]),
    marked(lambda whole: "[1, 2]"),
    marked(lambda whole: "[" * 60000),
    marked(inode=str),
    marked(inode=lambda inode: inode + 1),
    lambda folder: folder.rename(folder.with_name("kvcache-0123abcd")),
    behind_a_link,
]


@pytest.mark.parametrize("make_foreign", FOREIGN)
def test_what_has_no_mark_of_ours_stays(data, make_foreign, capfd):
    folder = dead(data)
    make_foreign(folder)
    before = sorted(path for path in data.parent.rglob("*"))
    a_start(data)
    assert sorted(path for path in data.parent.rglob("*")) == before
    assert capfd.readouterr().out == ""


def unfinished(data: Path, mark: bytes | None) -> Path:
    """What a kill leaves between the folder's making and its mark's, or between the mark's end and the folder's."""
    (folder := data / "hyperkv-0123abcd").mkdir(mode=0o700)
    if mark is not None:
        (folder / MARK).write_bytes(mark)
    return folder


TORN = [None, b"", b'{"pid": 1, "started', b"\0" * 200]


@pytest.mark.parametrize("mark", TORN)
def test_a_folder_without_a_whole_mark_goes_once_nobody_can_be_making_it(data, mark, monkeypatch, capfd):
    folder = unfinished(data, mark)
    a_start(data)
    assert folder.exists()
    assert capfd.readouterr().out == ""
    monkeypatch.setattr(module, "_UNFINISHED_S", -1.0)
    a_start(data)
    assert list(data.iterdir()) == []
    said = f"hyperkv: {folder}: left by a process that was killed before it used it, removed\n"
    assert capfd.readouterr().out == said


@pytest.mark.parametrize(
    "keep",
    [
        lambda folder: (folder / "file").write_text("of somebody"),
        lambda folder: (folder / MARK).write_text('{"of": "somebody else"}'),
        lambda folder: (folder / MARK).mkdir(),
        lambda folder: (folder / MARK).symlink_to("/dev/null"),
        lambda folder: os.mkfifo(folder / MARK),
        lambda folder: (
            (folder.parent / "other").touch() or (folder / MARK).hardlink_to(folder.parent / "other")
        ),
        lambda folder: folder.rename(folder.with_name("hyperkv-0123abcde")),
        lambda folder: folder.rename(folder.with_name("hyperkv-0123abcd\n")),
    ],
)
def test_what_is_not_unfinished_stays_however_old(data, keep, monkeypatch):
    keep(unfinished(data, None))
    before = sorted(data.rglob("*"))
    monkeypatch.setattr(module, "_UNFINISHED_S", -1.0)
    a_start(data)
    assert sorted(data.rglob("*")) == before


@needs_root
@pytest.mark.parametrize("what", [MARK, "."])
def test_what_another_user_left_unfinished_stays(data, what, monkeypatch):
    folder = unfinished(data, b"")
    os.chown(folder / what, SOMEBODY, SOMEBODY)
    monkeypatch.setattr(module, "_UNFINISHED_S", -1.0)
    a_start(data)
    assert folder.exists()


def test_a_mark_that_is_being_written_is_locked(data, monkeypatch):
    folder = unfinished(data, b"")
    monkeypatch.setattr(module, "_UNFINISHED_S", -1.0)
    with (folder / MARK).open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        a_start(data)
        assert folder.exists()
    a_start(data)
    assert not folder.exists()


@needs_root
@pytest.mark.parametrize("what", [MARK, "."])
def test_a_mark_that_somebody_else_forged(data, what):
    folder = dead(data)
    os.chown(folder / what, SOMEBODY, SOMEBODY)
    a_start(data)
    assert (folder / "store" / "db" / "file").exists()


def test_where_something_is_mounted_all_stays(data, capfd):
    folder = dead(data)
    with mounted_tmpfs(folder / "store" / "mounted", 1) as mounted:
        (mounted / "file").write_text("of somebody else")
        a_start(data)
        assert (mounted / "file").read_text() == "of somebody else"
        assert (folder / "store" / "db" / "file").exists()
        said = capfd.readouterr().out
        assert f"not removed: something is mounted at {mounted}; unmount it" in said
        assert said.count("\n") == 1
    a_start(data)  # the remedy
    assert not folder.exists()


@pytest.mark.parametrize("what", ["folder", "entry"])
def test_a_link_planted_meanwhile_is_not_followed(data, monkeypatch, what):
    """In the place of the folder once its name was read, and of one in it once it was looked at."""
    folder, precious = dead(data), data.parent / "precious"
    if what == "folder":
        real = module.os.listdir

        def planted(where):
            found = real(where)
            if folder.name in found and not folder.is_symlink():
                folder.rename(data.parent / "elsewhere")
                folder.symlink_to(precious)
            return found

        monkeypatch.setattr(module.os, "listdir", planted)
    else:
        real = module.shutil.rmtree

        def planted(entry, **words):
            shutil.move(folder / entry, data.parent / "elsewhere")
            (folder / entry).symlink_to(precious)
            return real(entry, **words)

        monkeypatch.setattr(module.shutil, "rmtree", planted)
    a_start(data)
    monkeypatch.undo()
    assert (data.parent / "elsewhere").exists()


def test_removing_never_follows_a_link_on_this_platform():
    assert shutil.rmtree.avoids_symlink_attacks


def test_on_a_file_system_without_locks_a_running_process_keeps_its_folder(data, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(module.fcntl, "flock", no_locks)
    with own_folder(data, "x") as folder, own_folder(data, "y"), alone_on(data), alone_on(data):
        assert folder.exists()
    left = dead(data)
    a_start(data)
    assert not left.exists()
    left = dead(data)
    monkeypatch.setattr(module, "node_name", lambda: "another")
    a_start(data)
    assert left.exists()


@pytest.mark.parametrize(("kind", "stays"), [("network", True), ("single disk", False), ("memory", False)])
def test_another_machines_folder_stays_where_its_lock_may_not_be_seen(data, monkeypatch, kind, stays):
    left = dead(data)
    monkeypatch.setattr(module, "node_name", lambda: "another")
    monkeypatch.setattr(module, "place_of", lambda path: SimpleNamespace(kind=kind))
    a_start(data)
    assert left.exists() is stays


# One at a time


def test_a_second_measurement_is_refused_and_names_the_first(data, holder):
    line = f"data_dir: {data} is being measured on by pid {holder.process.pid} in {REPOSITORY}; two at once disturb"
    with refused(line), alone_on(data):
        pass
    with alone_on(data.parent / "another disk"):  # a remedy
        pass
    holder.end()  # the other one
    with alone_on(data):
        pass


def as_another_user(shared: Path, ready: int, go: int) -> None:
    """What another user's run does: it tries to be alone, makes its folder, and dies in it without a word."""
    os.setgroups([])
    os.setgid(SOMEBODY)
    os.setuid(SOMEBODY)
    try:
        with alone_on(shared):
            said = "alone"
    except UserError as error:
        said = str(error)
    with own_folder(shared, "of another user") as folder:
        os.write(ready, f"{said}\n{folder}".encode())
        os.read(go, 1)
        os._exit(0)


@needs_root
def test_a_folder_that_somebody_put_in_the_place_of_ours_is_not_used(data, monkeypatch):
    """Between its making and its opening; theirs stays as it is."""
    make = os.mkdir

    def planted(name, mode, *, dir_fd):
        make(name, mode, dir_fd=dir_fd)
        monkeypatch.undo()
        (data / name).rename(data / "ours")
        (data / name).mkdir()
        (data / name / "file").write_text("theirs")
        os.chown(data / name, SOMEBODY, SOMEBODY)

    monkeypatch.setattr(module.os, "mkdir", planted)
    with pytest.raises(UserError, match="somebody put another folder in the place of hyperkv-"):
        own_folder(data, "x").__enter__()
    (found,) = data.glob("hyperkv-*")
    assert (found / "file").read_text() == "theirs"


@needs_root
def test_two_users_share_a_folder_and_leave_each_others_alone():
    """The name of the user stands where the checkout cannot be seen."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        shared = Path(name)
        shared.chmod(0o1777)
        (ready, told), (waits, go) = os.pipe(), os.pipe()
        with own_folder(shared, "of root") as mine, alone_on(shared):
            if not (child := os.fork()):
                try:
                    as_another_user(shared, told, waits)
                finally:
                    os._exit(1)
            said, theirs = os.read(ready, 4096).decode().split("\n")
            assert f"is being measured on by pid {os.getpid()} of user root; two at once disturb" in said
            a_start(shared)
            assert mine.exists()
            assert Path(theirs).exists()
            os.write(go, b".")
            assert os.waitpid(child, 0)[1] == 0
            a_start(shared)
            assert Path(theirs).exists()
        for descriptor in (ready, told, waits, go):
            os.close(descriptor)


def test_another_way_to_the_same_folder_is_the_same_folder(data, tmp_path):
    (tmp_path / "link").symlink_to(data)
    with (
        alone_on(data),
        pytest.raises(UserError, match=f"by pid {os.getpid()} in "),
        alone_on(tmp_path / "link"),
    ):
        pass


def test_who_is_just_ending_is_waited_for(data, holder, monkeypatch):
    holder.kill()
    monkeypatch.setattr(module, "_ENDING_S", 0.0)
    with (
        pytest.raises(UserError, match="by another run, or a server that one left behind; two at once"),
        alone_on(data),
    ):
        pass
    monkeypatch.setattr(module, "_ENDING_S", 30.0)
    monkeypatch.setattr(module.time, "sleep", lambda _: holder.orphan.kill())
    with alone_on(data):
        pass


def test_a_folder_that_cannot_be_measured_on(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"data_dir: cannot write in .*file: Not a directory"):
        with alone_on(tmp_path / "file"):
            pass
    with pytest.raises(UserError, match=r"TMPDIR: cannot write in .*file: Not a directory"):
        with own_folder(tmp_path / "file", "x", "TMPDIR"):
            pass


@pytest.mark.parametrize("spare", [0, 1], ids=["fits", "too deep"])
def test_a_socket_has_a_path_that_the_kernel_takes_however_deep_tmpdir_is(tmp_path, monkeypatch, spare):
    below = len("/hyperkv-01234567/data dir/socket")
    above = tmp_path / ("d" * (SOCKET_PATH_BYTES - below - len(f"{tmp_path}/") + spare))
    above.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(above))
    with socket_folder() as folder, socket.socket(socket.AF_UNIX) as listener:
        assert folder.parent == (Path("/tmp") if spare else above)
        (folder / "data dir").mkdir()
        listener.bind(str(folder / "data dir" / "socket"))
    assert not folder.exists()
