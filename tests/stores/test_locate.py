"""LOCATE of a real server: where a value lies in its files, byte for byte, or that only a GET can tell."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from tests.helpers import eventually
from tests.stores.conftest import MIB, store_config
from tests.stores.located import Place, locate, locating
from workflow.hyperkv.stores.registry import make_store
from workflow.hyperkv.stores.server import ServerStore

BLOBS = {"rocksdb.enable_blob_files": "yes", "rocksdb.compression": "no"}
CHURN = {
    "rocksdb.write_buffer_size": 1,
    "rocksdb.level0_file_num_compaction_trigger": 2,
    "rocksdb.blob_garbage_collection_age_cutoff": 100,
}
NONE_IN_FILES = {
    "compressed": BLOBS | {"rocksdb.compression": "lz4"},
    "no blob files": {"rocksdb.enable_blob_files": "no", "rocksdb.compression": "no"},
    "too small": BLOBS | {"rocksdb.min_blob_size": 8 * MIB},
}
SIZES = (0, 1, 64 * 1024 - 6, 64 * 1024, 64 * 1024 + 1, MIB, 5 * MIB + 17)
VALUES = {f"key {size}".encode(): random.Random(size).randbytes(size) for size in SIZES}
LARGE = {key: value for key, value in VALUES.items() if len(value) > 10_000}

pytestmark = pytest.mark.parametrize("name", [locating("rocksdb"), locating("kvrocks")])


@pytest.fixture
def started(name, folder) -> Iterator[Callable[..., ServerStore]]:
    stores = []

    def start(**settings: object) -> ServerStore:
        store = make_store(name, store_config(folder, name, settings=settings or BLOBS))
        stores.append(store)
        store.start()
        return store

    try:
        yield start
    finally:
        for store in stores:
            store.stop()


def save(store: ServerStore, values: dict[bytes, bytes]) -> None:
    with store.client() as client:
        for key, value in values.items():
            assert client.set(key, value)


def in_files(store: ServerStore, keys: list[bytes]) -> dict[bytes, Place]:
    """The places of keys that all must have one."""
    with store.client() as client:
        found = dict(zip(keys, locate(client, keys), strict=True))
    assert all(isinstance(place, Place) for place in found.values()), found
    return found


def read(store: ServerStore, places: dict[bytes, Place]) -> dict[bytes, bytes]:
    return {key: place.read(store.config.directory) for key, place in places.items()}


def test_in_memory_a_get_has_to_tell_it(started):
    store = started()
    save(store, VALUES)
    with store.client() as client:
        assert locate(client, [*VALUES, b"none"]) == [b""] * len(VALUES) + [None]


def test_a_place_is_right_byte_for_byte(started):
    store = started()
    save(store, VALUES)
    store.restart()
    places = in_files(store, [*LARGE])
    assert read(store, places) == LARGE
    assert all(not place.path.is_absolute() and ".." not in place.path.parts for place in places.values())
    with store.client() as client:
        assert locate(client, ["none", *VALUES, "none"])[1:-1] == [places.get(key, b"") for key in VALUES]
        assert {key: client.get(key) for key in VALUES} == VALUES


@pytest.mark.parametrize("kind", NONE_IN_FILES)
def test_what_lies_otherwise_a_get_has_to_tell(started, kind):
    store = started(**NONE_IN_FILES[kind])
    save(store, VALUES)
    store.restart()
    with store.client() as client:
        assert locate(client, [*VALUES]) == [b""] * len(VALUES)
        assert {key: client.get(key) for key in VALUES} == VALUES


def test_after_an_overwrite_the_new_value_is_told_and_after_a_deletion_none(started):
    store = started()
    save(store, LARGE)
    store.restart()
    old = in_files(store, [*LARGE])
    newer = {key: value[::-1] for key, value in LARGE.items()}
    save(store, newer)
    with store.client() as client:
        assert locate(client, [*LARGE]) == [b""] * len(LARGE)
    store.restart()
    places = in_files(store, [*LARGE])
    assert read(store, places) == newer
    assert not set(places.values()) & set(old.values())
    with store.client() as client:
        client.delete(*LARGE)
        assert locate(client, [*LARGE]) == [None] * len(LARGE)
    store.restart()
    with store.client() as client:
        assert locate(client, [*LARGE]) == [None] * len(LARGE)


def test_many_keys_in_one_command_are_answered_in_their_order(started):
    store = started()
    values = {f"{number:05}".encode(): random.Random(number).randbytes(5000) for number in range(2000)}
    save(store, values)
    store.restart()
    keys = [*values]
    random.Random(1).shuffle(keys)
    assert read(store, in_files(store, keys)) == {key: values[key] for key in keys}
    with store.client() as client:
        twice = locate(client, [keys[0], "none", keys[0]])
    assert twice == [twice[0], None, twice[0]]


def test_it_reads_no_value(started):
    """What the server takes from files, page cache included, is a little for each key, not the values."""
    store = started()
    values = {f"{number}".encode(): random.Random(number).randbytes(MIB) for number in range(64)}
    save(store, values)
    store.restart()
    in_files(store, [*values])
    before = taken_from_files(store)
    in_files(store, [*values])
    assert taken_from_files(store) - before < 64 * 4096


def taken_from_files(store: ServerStore) -> int:
    """Source: rchar of /proc/PID/io, which counts sockets, too."""
    lines = (Path("/proc") / str(store.pid()) / "io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])


def test_places_after_compactions_that_move_values(started):
    """Values are overwritten until blob files have gone; whatever place is told then is right."""
    store = started(**BLOBS, **CHURN)
    values = {f"{number}".encode(): b"" for number in range(24)}
    first: set[Path] = set()

    def moved() -> bool:
        for key in random.sample([*values], 8):
            values[key] = random.randbytes(200_000)
            with store.client() as client:
                client.set(key, values[key])
        with store.client() as client:
            found = dict(zip(values, locate(client, [*values]), strict=True))
        places = {key: place for key, place in found.items() if isinstance(place, Place)}
        first.update(place.path for place in places.values() if len(first) < 3)
        for key, place in places.items():
            try:
                assert place.read(store.config.directory) == values[key]
            except FileNotFoundError:
                continue  # gone since
        return len(first) >= 3 and not any((store.config.directory / path).exists() for path in first)

    for key in values:
        values[key] = random.randbytes(200_000)
    save(store, values)
    eventually(moved)
    store.restart()
    settled(store, values)


def settled(store: ServerStore, values: dict[bytes, bytes]) -> None:
    """All values lie in files and are right, once no file goes any more while it is read."""

    def right() -> bool:
        try:
            return read(store, in_files(store, [*values])) == values
        except FileNotFoundError:
            return False

    eventually(right)


def test_it_counts_hits_and_misses_once(started):
    store = started()
    save(store, LARGE)
    with store.client() as client:
        before = store.counters()
        locate(client, [*LARGE])
        assert (store.counters().hits, store.counters().misses) == (before.hits, before.misses)
    store.restart()
    before = store.counters()
    in_files(store, [*LARGE])
    with store.client() as client:
        locate(client, ["none"])
    after = store.counters()
    assert (after.hits - before.hits, after.misses - before.misses) == (len(LARGE), 1)


def test_it_wants_a_key(started):
    store = started()
    with store.client() as client, pytest.raises(redis.ResponseError, match="wrong number of arguments"):
        client.execute_command("LOCATE")
