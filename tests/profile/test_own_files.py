"""A store's own files read by bare reads: what is there is right, and what is not is told."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from tests.stores.conftest import new_keys, payload, store_config
from workflow.hyperkv.connectors.registry import make_connector
from workflow.hyperkv.profile.moving import Values
from workflow.hyperkv.profile.own_files import bare_reads, pieces_of, reader
from workflow.hyperkv.stores.rocksdb.store import RocksdbStore
from workflow.hyperkv.stores.valkey import ValkeyStore

SIZE, STRIPE, CHUNKS = 300_000, 65_536, 6


@pytest.fixture
def values() -> Values:
    return Values.of(payload(SIZE), 2, CHUNKS // 2, 1)


@pytest.fixture
def keys() -> list[bytes]:
    return new_keys(CHUNKS)


@pytest.fixture
def store(tmp_path, values, keys) -> Iterator[RocksdbStore]:
    """A store with the keys' chunks as stripes, in memory yet."""
    with RocksdbStore(store_config(tmp_path, "rocksdb", settings={"direct_io": "no"})) as store:
        with make_connector("striped", store, 2, stripe_bytes=STRIPE) as connector:
            connector.put(keys, values.bytes_of(keys))
        yield store


def test_what_is_in_files_is_read_to_where_it_belongs(store, values, keys):
    store.restart()
    moved = bare_reads(store, values, keys, STRIPE, past_the_cache=False)
    assert moved.moved_bytes == CHUNKS * SIZE
    assert moved.notes == []
    values.require_right(keys, [True] * CHUNKS, "the files")


def test_reads_past_the_cache_leave_the_buffers_alone(store, values, keys):
    store.restart()
    for buffer in values.buffers:
        buffer.fill(7)
    assert bare_reads(store, values, keys, STRIPE, past_the_cache=True).moved_bytes == CHUNKS * SIZE
    direct = all(np.all(buffer == 7) for buffer in values.buffers)
    right = not values.payload.wrong(keys, [True] * CHUNKS, values.buffers)
    assert direct or right  # the latter where the file system has no O_DIRECT


def test_what_is_not_in_files_is_counted_and_nothing_is_measured(store, values, keys):
    moved = bare_reads(store, values, keys, STRIPE, past_the_cache=False)
    stripes = CHUNKS * -(-SIZE // STRIPE)
    assert moved.notes == [f"{stripes} of {stripes} stripes are not in the store's files"]
    assert moved.s_per_gb is None


def test_a_file_that_is_shorter_than_was_said(store, values, keys, tmp_path):
    store.restart()
    pieces, _ = pieces_of(store, keys, values.buffers, STRIPE)
    short = tmp_path / "short"
    short.write_bytes(b"x")
    for past_the_cache in (False, True):
        with (
            reader([replace(pieces[0], path=short)], 1, past_the_cache) as read,
            pytest.raises(OSError, match="ends before"),
        ):
            read()
    with pytest.raises(FileNotFoundError), reader([replace(pieces[0], path=tmp_path / "gone")], 1, False):
        pass


def test_a_server_that_does_not_know_the_question(values, keys, tmp_path):
    with ValkeyStore(store_config(tmp_path, "valkey")) as store:
        [note] = bare_reads(store, values, keys, STRIPE, past_the_cache=False).notes
    assert note.startswith("store valkey does not say where values lie: unknown command")
