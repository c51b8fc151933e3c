"""The folder in memory: a tmpfs with room, or one line."""

import pytest

from tests.helpers import mounted_tmpfs
from workflow.hyperkv import memory_dir
from workflow.hyperkv.errors import UserError
from workflow.hyperkv.memory_dir import require_memory


def test_a_folder_on_a_disk_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(memory_dir, "file_system_of", lambda path: "ext4")
    with pytest.raises(UserError, match=r"layers\.memory_dir: .* is on ext4, not on a tmpfs") as caught:
        require_memory(tmp_path / "not" / "there", 1)
    assert "\n" not in str(caught.value)


def test_a_tmpfs_with_room_is_taken_and_one_without_is_refused(tmp_path):
    with mounted_tmpfs(tmp_path / "memory", 8) as folder:
        require_memory(folder / "hyperkv", 4 << 20)
        with pytest.raises(UserError, match=r"has 8 MiB free, and a point needs 16; enlarge that tmpfs"):
            require_memory(folder / "hyperkv", (16 << 20) - 1)
