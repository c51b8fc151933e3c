"""Samples of a disk: data is found wherever more than a gap of it lies, and zeros are written where a look reads."""

import itertools
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow.hyperkv.array.refusal import FAILED, ArrayError
from workflow.hyperkv.array.steps import samples
from workflow.hyperkv.array.steps.commands import Zero, execute
from workflow.hyperkv.array.steps.samples import BLOCK_BYTES, first_data, places, zero

SIZE = 64 << 20


def sparse(path: Path, size: int = SIZE) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


def put(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


@given(st.integers(0, 1 << 44))
def test_the_places_lie_on_the_disk_in_order_and_close_enough(size):
    blocks = size // BLOCK_BYTES
    numbers = [number for part in places(size) for number in part]
    assert numbers == sorted(set(numbers))
    assert len(numbers) <= 512 + 1024
    assert not numbers or (numbers[0], numbers[-1]) == (0, blocks - 1)
    gaps = [after - before for before, after in itertools.pairwise(numbers)]
    assert max(gaps, default=1) <= max(blocks // 512, 1)


@pytest.mark.parametrize(
    "size", [0, 512, 4096, 8192 + 512, 1 << 20, (2 << 20) - 4096, (2 << 20) + 4096, SIZE]
)
def test_zeros_are_blank(tmp_path, size):
    assert first_data(str(sparse(tmp_path / "disk", size))) is None


@pytest.mark.parametrize("offset", [0, 511, 5000, (1 << 20) - 1, SIZE - 1, SIZE - (1 << 20)])
def test_a_byte_at_the_start_or_the_end_is_found(tmp_path, offset):
    disk = sparse(tmp_path / "disk")
    put(disk, offset, b"\1")
    assert first_data(str(disk)) == offset // BLOCK_BYTES * BLOCK_BYTES


@given(st.integers(0, SIZE - SIZE // 256))
def test_data_anywhere_that_is_longer_than_the_gaps_is_found(tmp_path, offset):
    disk = sparse(tmp_path / "disk")
    put(disk, offset, b"d" * (SIZE // 256))
    found = first_data(str(disk))
    assert found is not None
    assert offset - BLOCK_BYTES < found < offset + SIZE // 256


@pytest.mark.parametrize("size", [4096 * 3, (2 << 20) + 40960])
def test_zeroed_it_is_blank_and_the_printed_command_does_the_same(tmp_path, size):
    ours, by_hand = tmp_path / "ours", tmp_path / "by hand"
    for disk in (ours, by_hand):
        disk.write_bytes(b"d" * size)
    zero(str(ours))
    assert first_data(str(ours)) is None
    subprocess.run(["bash", "-c", str(Zero(str(by_hand), size))], check=True, timeout=60)
    assert ours.read_bytes() == by_hand.read_bytes()


@pytest.mark.parametrize("call", ["pread", "pwrite"])
def test_a_disk_that_has_become_shorter_is_not_blank(tmp_path, monkeypatch, call):
    """Its end, or all of it, is gone between the look at its size and the one at its blocks."""
    disk = sparse(tmp_path / "disk", SIZE)
    monkeypatch.setattr(samples.os, call, lambda *_: b"" if call == "pread" else 512)
    with pytest.raises(OSError, match="it ends before its size"):
        (first_data if call == "pread" else zero)(str(disk))


def test_a_disk_that_is_gone_is_one_line(tmp_path):
    with pytest.raises(ArrayError, match=r"zeros cannot be written \(No such file or directory\)") as caught:
        execute([Zero(str(tmp_path / "none"), SIZE)], lambda line: None)
    assert caught.value.exit_status == FAILED
    with pytest.raises(OSError, match="No such file"):
        first_data(str(tmp_path / "none"))
