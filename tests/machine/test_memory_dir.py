"""The folder in memory: a tmpfs with room, another one, or none and why."""

from pathlib import Path

import pytest

from tests.helpers import mounted_tmpfs, refused
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.machine import memory_dir
from workflow.hyperkv.machine.memory_dir import DEFAULT, memory_folder


@pytest.fixture
def alone(monkeypatch):
    """This machine's other tmpfs are not there."""
    monkeypatch.setattr(memory_dir, "_others", lambda needed: iter(()))


def test_a_folder_on_a_disk_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(memory_dir, "file_system_of", lambda path: "ext4")
    with refused(r"layers\.memory_dir: .* is on ext4, not on a tmpfs"):
        memory_folder(tmp_path / "not" / "there", 1)


def test_a_tmpfs_with_room_is_taken(tmp_path, alone):
    with mounted_tmpfs(tmp_path / "memory", 8) as folder:
        wanted = folder / "hyperkv"
        assert memory_folder(wanted, 4 << 20) == memory_dir.MemoryFolder(wanted)


def test_without_room_anywhere_there_is_none_and_the_note_says_what_is_needed(tmp_path, alone):
    with mounted_tmpfs(tmp_path / "memory", 8) as folder:
        found = memory_folder(folder / "hyperkv", (16 << 20) - 1)
    assert found.path is None
    assert "has 8 MiB free, and a point needs 16 MiB: enlarge that tmpfs" in found.note


def test_another_tmpfs_with_room_takes_its_place(tmp_path):
    with mounted_tmpfs(tmp_path / "small", 4) as small, mounted_tmpfs(tmp_path / "large", 1 << 20) as large:
        found = memory_folder(small / "hyperkv", 64 << 20)
    assert found.path == large
    assert f"has 4 MiB free, and a point needs 64 MiB: {found.path} was used instead" in found.note


def forbidden(folder, key):
    raise UserError(f"{key}: cannot write in {folder}: Permission denied")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("overlay", f"{DEFAULT} is on overlay"),
        ("tmpfs", f"layers.memory_dir: cannot write in {DEFAULT}: Permission denied"),
    ],
)
def test_the_default_folder_may_be_missing_or_forbidden(monkeypatch, alone, kind, said):
    monkeypatch.setattr(memory_dir, "file_system_of", lambda path: kind)
    monkeypatch.setattr(memory_dir, "check_folder", forbidden)
    found = memory_folder(DEFAULT, 1)
    assert found.path is None
    assert found.note.startswith(said)


def test_a_folder_that_was_chosen_and_is_forbidden_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(memory_dir, "file_system_of", lambda path: "tmpfs")
    monkeypatch.setattr(memory_dir, "check_folder", forbidden)
    with pytest.raises(UserError, match=r"layers\.memory_dir: cannot write in .*: Permission denied"):
        memory_folder(tmp_path, 1)


def test_the_remedies_of_the_note_work(tmp_path, alone):
    """A smaller point, and a folder on another tmpfs."""
    with mounted_tmpfs(tmp_path / "small", 8) as small, mounted_tmpfs(tmp_path / "other", 32) as other:
        assert memory_folder(small / "x", 16 << 20).path is None
        assert memory_folder(small / "x", 6 << 20).path == small / "x"
        assert memory_folder(other / "x", 16 << 20).path == other / "x"


def test_the_file_system_of_this_folder_is_known():
    assert memory_dir.file_system_of(Path("/proc")) == "proc"
