"""Evicted files are read from their device again."""

import os
from pathlib import Path

import pytest

from workflow.hyperkv.machine.counters import process_counters
from workflow.hyperkv.machine.page_cache import CachedFiles, drop_page_cache

MIB = 1 << 20


def read_bytes(path: Path) -> int:
    """Bytes that reading the file takes from a block device."""
    before = process_counters(os.getpid()).device_read_bytes
    path.read_bytes()
    return process_counters(os.getpid()).device_read_bytes - before


def test_evicted_files_are_read_from_the_device(disk):
    (disk / "deep").mkdir()
    chosen, other = disk / "deep" / "1.blob", disk / "2.log"
    for path in (chosen, other):
        path.write_bytes(os.urandom(4 * MIB))
    cached = CachedFiles(disk, {".blob"})
    cached.evict()
    assert (read_bytes(chosen), read_bytes(other)) == (4 * MIB, 0)
    chosen.write_bytes(os.urandom(4 * MIB))  # of the same length, and dirty
    cached.evict()
    assert read_bytes(chosen) == 4 * MIB
    CachedFiles(disk).evict()
    assert read_bytes(other) == 4 * MIB


def test_a_folder_that_is_not_there_holds_nothing(tmp_path):
    CachedFiles(tmp_path / "none").evict()


def test_drop_page_cache_says_when_it_may_not(monkeypatch):
    def refuse(self, text):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_text", refuse)
    assert drop_page_cache() is False


@pytest.fixture
def disk(tmp_path):
    probe = tmp_path / "probe"
    probe.write_bytes(b"x" * MIB)
    CachedFiles(tmp_path).evict()
    if not read_bytes(probe):
        pytest.skip("the temporary folder is not on a block device")
    probe.unlink()
    return tmp_path
