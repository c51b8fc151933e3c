"""Folders that nobody else can have put another in the place of, and those that are refused."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.helpers import mounted_tmpfs
from workflow.hyperkv.base import folders
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.base.folders import check_folder, open_folder

SOMEBODY = 12345  # no user of this machine
ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="only root can make files of another user")


@pytest.fixture
def shared(tmp_path) -> Path:
    """A folder like /tmp: everybody may write, and it is sticky."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


def of_somebody(path: Path) -> Path:
    os.chown(path, SOMEBODY, SOMEBODY, follow_symlinks=False)
    return path


def opens(path: Path) -> bool:
    """Whether the folder is opened, as the folder that the path leads to."""
    opened = open_folder(path, "data_dir")
    try:
        return os.path.samestat(os.fstat(opened), path.stat())
    finally:
        os.close(opened)


def refusal(path: Path, key: str = "data_dir") -> str:
    """The one line with which both ways refuse a folder; descriptors are closed again."""
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(UserError) as caught:
        open_folder(path, key)
    with pytest.raises(UserError, match=re.escape(str(caught.value))):
        check_folder(path, key)
    assert len(os.listdir("/proc/self/fd")) == before
    text = str(caught.value)
    assert text.startswith(f"{key}: ")
    assert "\n" not in text
    assert text.endswith(f"with {key}") or f"with {key} " in text
    return text


def test_what_is_missing_is_made_and_can_be_entered_by_others(tmp_path):
    old = os.umask(0)
    try:
        assert opens(tmp_path / "a/b")
    finally:
        os.umask(old)
    assert (tmp_path / "a/b").stat().st_mode & 0o777 == 0o755


def test_looking_makes_nothing(tmp_path):
    check_folder(tmp_path / "a/b", "data_dir")
    assert list(tmp_path.iterdir()) == []


def test_relative_paths_dots_and_own_links_are_followed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("real").mkdir()
    Path("link").symlink_to("real")
    Path("absolute").symlink_to(tmp_path / "link")
    Path("up").symlink_to("real/../real")
    for name in ("real", "link", "absolute", "up", "real/../link", "absolute/new"):
        assert opens(Path(name))
    assert Path("real/new").is_dir()


@pytest.mark.parametrize("below", ["", "a", "a/b"])
def test_a_file_in_the_way(tmp_path, below):
    (tmp_path / "file").write_text("x")
    assert "Not a directory" in refusal(tmp_path / "file" / below)
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize(
    ("target", "below"), [("gone", ""), ("gone", "x"), ("gone/deeper", ""), ("inner", "")]
)
def test_a_link_to_nothing_makes_nothing(tmp_path, target, below):
    (tmp_path / "inner").symlink_to("nowhere/at/all")
    (tmp_path / "link").symlink_to(target)
    assert "a link leads to" in refusal(tmp_path / "link" / below)
    assert {path.name for path in tmp_path.iterdir()} == {"inner", "link"}


def test_the_remedy_of_a_link_to_nothing(tmp_path):
    (tmp_path / "link").symlink_to("gone")
    found = re.search(r"a link leads to (\S+), which is not there; make it", refusal(tmp_path / "link"))
    assert found
    Path(found[1]).mkdir()
    assert opens(tmp_path / "link")


def test_a_ring_of_links(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert "Too many levels of symbolic links" in refusal(tmp_path / "a")


def test_a_folder_that_may_not_be_written(tmp_path):
    """Not even root makes anything in /proc; others neither in a closed folder."""
    for path in [Path("/proc/self/hyperkv"), *([] if ROOT else [tmp_path / "closed/data"])]:
        (tmp_path / "closed").mkdir(mode=0o500, exist_ok=True)
        with pytest.raises(UserError, match=r"cannot write in .*; choose a writable folder with data_dir"):
            check_folder(path, "data_dir")


def test_a_file_system_that_is_read_only_or_full(tmp_path):
    with mounted_tmpfs(tmp_path / "small", 2) as folder:
        check_folder(folder / "data", "data_dir")
        (folder / "file").write_bytes(bytes(3 << 19))
        with pytest.raises(UserError, match=r"cannot write in .*: No space left on device"):
            check_folder(folder / "data", "data_dir")
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True, timeout=10)
        assert "Read-only file system" in refusal(folder / "data")


@needs_root
def test_everybody_can_replace_what_is_in_a_folder_that_is_not_sticky(shared):
    for path in (shared, shared / "a", shared / "a/b"):
        path.mkdir(exist_ok=True)
        shared.chmod(0o777)
        found = re.search(r"everybody may put another folder .*; (chmod \+t \S+), or choose", refusal(path))
        assert found
        assert found[1] == f"chmod +t {shared}"
        shared.chmod(0o1777)  # the remedy
        assert opens(path)


def test_a_container_s_folder_is_taken_by_a_user_who_cannot_mend_it(shared, monkeypatch):
    shared.chmod(0o777)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    shared.parent.chmod(0o755)
    assert opens(shared)


@needs_root
def test_folders_of_root_and_of_this_user_in_a_shared_one_are_taken(shared):
    assert opens(shared / "mine/deeper")


@needs_root
@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_folder_of_somebody_else_in_a_shared_one(shared, below):
    (shared / "theirs" / "deeper").mkdir(parents=True)
    of_somebody(shared / "theirs")
    text = refusal(shared / "theirs" / below)
    assert f"{shared}/theirs is of user {SOMEBODY}, who can put another folder in its place" in text


@needs_root
def test_a_folder_of_somebody_else_that_only_they_may_write_is_taken(tmp_path):
    """What an administrator, or a container, hands over: nobody else can plant anything on the way to it."""
    (tmp_path / "theirs").mkdir()
    of_somebody(tmp_path / "theirs")
    assert opens(tmp_path / "theirs" / "data")


@needs_root
@pytest.mark.parametrize("where", ["shared", "."])
@pytest.mark.parametrize("below", ["", "a"])
def test_a_link_of_somebody_else(tmp_path, shared, where, below):
    (tmp_path / "precious").mkdir()
    link = tmp_path / where / "link"
    link.symlink_to(tmp_path / "precious")
    of_somebody(link)
    assert f"the link {link} is of user {SOMEBODY}" in refusal(link / below)
    assert list((tmp_path / "precious").iterdir()) == []
    assert opens(tmp_path / "precious")  # the remedy: without it


@needs_root
def test_a_link_of_somebody_else_that_an_own_one_leads_to(tmp_path, shared):
    (tmp_path / "precious").mkdir()
    of_somebody_link = shared / "theirs"
    of_somebody_link.symlink_to(tmp_path / "precious")
    of_somebody(of_somebody_link)
    (tmp_path / "mine").symlink_to(of_somebody_link)
    assert f"the link {of_somebody_link} is of user" in refusal(tmp_path / "mine")


@needs_root
@pytest.mark.parametrize("kind", ["link", "folder"])
def test_what_is_planted_while_the_folder_is_made(tmp_path, shared, monkeypatch, kind):
    """Between the look that finds nothing and the mkdir."""
    (tmp_path / "precious").mkdir()
    make = os.mkdir

    def planted(path, mode=0o777, *, dir_fd=None):
        if kind == "link":
            os.symlink(tmp_path / "precious", shared / "data")
        else:
            make(shared / "data")
        of_somebody(shared / "data")
        return make(path, mode, dir_fd=dir_fd)

    monkeypatch.setattr(folders.os, "mkdir", planted)
    with pytest.raises(UserError, match=f"is of user {SOMEBODY}"):
        open_folder(shared / "data", "data_dir")
    assert list((tmp_path / "precious").iterdir()) == []


@needs_root
def test_what_is_planted_after_the_look(tmp_path, shared, monkeypatch):
    """A link in the place of a folder that was looked at is not followed."""
    (tmp_path / "precious").mkdir()
    (shared / "data").mkdir()
    look = os.stat

    def planted(path, *, dir_fd=None, follow_symlinks=True):
        found = look(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
        if path == "data":
            (shared / "data").rmdir()
            (shared / "data").symlink_to(tmp_path / "precious")
        return found

    monkeypatch.setattr(folders.os, "stat", planted)
    with pytest.raises(UserError, match=r"cannot write in .*data: Not a directory"):
        open_folder(shared / "data", "data_dir")
