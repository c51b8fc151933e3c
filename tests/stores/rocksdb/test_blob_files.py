"""Places told from RocksDB's own blob files: what is finished and whole, and nothing else."""

import random
from pathlib import Path

import pytest
import rocksdict
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import eventually
from workflow.hyperkv.stores.rocksdb.blob_files import BlobFiles, records_of

VALUES = {
    **{f"key {size}".encode(): random.Random(size).randbytes(size) for size in (4096, 5000, 100_000, 70_001)},
    b"a long key " * 200: random.Random(0).randbytes(5000),
}


@pytest.fixture(scope="module")
def blob(tmp_path_factory) -> Path:
    """A blob file that RocksDB wrote, with VALUES."""
    return written(tmp_path_factory.mktemp("blobs"))


def written(folder: Path, compression: str = "none") -> Path:
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_enable_blob_files(True)
    options.set_min_blob_size(4096)
    options.set_blob_compression_type(getattr(rocksdict.DBCompressionType, compression)())
    database = rocksdict.Rdict(str(folder), options)
    for key, value in VALUES.items():
        database[key] = value
    database.flush()
    database.close()
    [blob] = folder.glob("*.blob")
    return blob


def test_every_record_is_told_with_its_place(blob):
    content = blob.read_bytes()
    found = {key: content[offset : offset + size] for key, offset, size in records_of(blob)}
    assert found == VALUES


def test_a_compressed_file_has_no_places(tmp_path):
    assert records_of(written(tmp_path, "lz4")) == []


@settings(max_examples=200)
@given(st.data())
def test_a_file_that_is_still_written_has_no_places(blob, tmp_path_factory, data):
    """Cut anywhere, or with room behind it, as a file is that RocksDB writes past the page cache."""
    content = blob.read_bytes()
    partial = tmp_path_factory.mktemp("partial") / blob.name
    cut = data.draw(st.integers(0, len(content) - 1))
    room = data.draw(st.integers(0, 4096))
    partial.write_bytes(content[:cut] + bytes(room))
    assert records_of(partial) is None
    partial.write_bytes(content + bytes(room + 1))
    assert records_of(partial) is None


@pytest.fixture(scope="module")
def places(blob) -> dict[bytes, tuple[int, int]]:
    return {key: (offset, size) for key, offset, size in records_of(blob)}


@pytest.fixture(scope="module")
def outside(blob, places) -> list[int]:
    """Where the file has no value's byte."""
    values = {at for offset, size in places.values() for at in range(offset, offset + size)}
    return [at for at in range(blob.stat().st_size) if at not in values]


@settings(max_examples=200)
@given(st.data())
def test_a_damaged_file_names_no_other_bytes_for_a_key(blob, places, outside, tmp_path_factory, data):
    """A byte changed outside the values: a key keeps its own place, or has none."""
    content = bytearray(blob.read_bytes())
    content[data.draw(st.sampled_from(outside))] ^= data.draw(st.integers(1, 255))
    damaged = tmp_path_factory.mktemp("damaged") / blob.name
    damaged.write_bytes(content)
    for key, offset, size in records_of(damaged) or []:
        assert key not in VALUES or places[key] == (offset, size)


def test_files_that_come_and_go(blob, tmp_path):
    """A key in two files keeps a place until both have gone."""
    key, value = next(iter(VALUES.items()))
    known = BlobFiles(tmp_path)

    def place():
        known.refresh()
        return known.place(key)

    assert place() is None
    for number in (1, 2):
        (tmp_path / f"{number:06}.blob").write_bytes(blob.read_bytes())
    eventually(place)
    for number in (2, 1):
        found = place()
        assert (tmp_path / found.file).read_bytes()[found.offset : found.offset + found.size] == value
        (tmp_path / f"{number:06}.blob").unlink()
    assert place() is None
    assert known.place(b"another") is None


def test_a_file_that_grows_is_told_when_it_is_finished(blob, tmp_path):
    known, content = BlobFiles(tmp_path), blob.read_bytes()
    growing = tmp_path / "000007.blob"
    for cut in (0, 10, 5000, len(content) - 1):
        growing.write_bytes(content[:cut])
        known.refresh()
        assert all(known.place(key) is None for key in VALUES)
    growing.write_bytes(content)
    known.refresh()
    assert {known.place(key).file for key in VALUES} == {"000007.blob"}
