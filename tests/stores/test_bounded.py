"""Stores with a bound: files let the least recently used go and know their order again, and RocksDB gives space back."""

import numpy as np
import pytest

from tests.stores.conftest import store_config
from workflow.hyperkv.connectors.registry import make_connector
from workflow.hyperkv.stores.base import StoreConfig
from workflow.hyperkv.stores.registry import make_store

SIZE = 8192
MIB = 1 << 20


def key_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


def put(connector, *numbers: int) -> None:
    connector.put([key_of(n) for n in numbers], [np.full(SIZE, n, np.uint8) for n in numbers])


def get(connector, *numbers: int) -> list[bool]:
    buffers = [np.zeros(SIZE, np.uint8) for _ in numbers]
    found = connector.get([key_of(n) for n in numbers], buffers)
    assert all((buffer == n).all() for n, hit, buffer in zip(numbers, found, buffers, strict=True) if hit)
    return found


def there(store, *numbers: int) -> list[int]:
    return [n for n, hit in zip(numbers, store.exists([key_of(n) for n in numbers]), strict=True) if hit]


@pytest.fixture
def config(tmp_path) -> StoreConfig:
    return store_config(tmp_path, "files", bound_bytes=4 * SIZE)


def test_files_past_the_bound_the_least_recently_used_go(config):
    with make_store("files", config) as store, make_connector("inprocess", store, 2) as one:
        put(one, 1, 2, 3, 4)
        assert get(one, 1) == [True]
        put(one, 5, 6)
        assert there(store, *range(1, 7)) == [1, 2, 5, 6]
        assert store.used_bytes == 4 * SIZE
        assert store.notes() == ["bound: 32,768 of 32,768 bytes in 4 files, 2 files went"]


def test_of_a_prompt_in_files_the_end_goes_first(config):
    prompt = [key_of(n) for n in range(1, 5)]
    with make_store("files", config) as store, make_connector("inprocess", store, 2) as one:
        put(one, 1, 2)
        assert one.count_present(prompt) == 2
        put(one, 3, 4)
        put(one, 8)
        put(one, 9)
        assert there(store, *range(1, 10)) == [1, 2, 8, 9]


def test_files_know_their_order_after_any_end_and_delete_what_was_being_written(config):
    with make_store("files", config) as store, make_connector("inprocess", store, 2) as one:
        put(one, 1)
        put(one, 2)
        put(one, 3)
        get(one, 1)
        half = config.directory / "00" / "ab.123"
        half.write_bytes(b"half")
        again = make_store("files", config)
        again.restart()
        assert not half.exists()
        with make_connector("inprocess", again, 2) as two:
            put(two, 4, 5)
            assert there(again, *range(1, 6)) == [1, 3, 4, 5]


def test_a_lower_bound_of_files_holds_from_the_restart(config, tmp_path):
    with make_store("files", config) as store, make_connector("inprocess", store, 2) as one:
        for number in range(1, 5):
            put(one, number)
        lower = make_store("files", store_config(tmp_path, "files", bound_bytes=2 * SIZE))
        lower.restart()
        assert there(lower, 1, 2, 3, 4) == [3, 4]


def test_files_without_a_bound_keep_all(tmp_path):
    with (
        make_store("files", store_config(tmp_path, "files")) as store,
        make_connector("inprocess", store, 2) as one,
    ):
        put(one, *range(20))
        assert there(store, *range(20)) == list(range(20))
        assert (store.used_bytes, store.notes()) == (0, [])


def test_the_settings_of_a_bound_are_those_of_its_part_of_a_server(tmp_path):
    config = store_config(
        tmp_path, "rocksdb", value_bytes=32 * MIB, stripe_bytes=MIB, bound_bytes=64 << 30, processes=2
    )
    (one, two) = make_store("rocksdb", config).servers
    assert one.config.settings == two.config.settings
    assert one.config.settings["rocksdb.blob_file_size"] == 2 * MIB
    assert one.config.settings["rocksdb.write_buffer_size"] == 256
    assert one.config.settings["rocksdb.disable_auto_compactions"] == "no"
    assert make_store("rocksdb", store_config(tmp_path, "rocksdb")).config.settings == {}


def test_rocksdb_gives_the_space_of_what_went_back(tmp_path):
    stripe, chunk, bound = 256 << 10, MIB, 32 * MIB
    config = store_config(tmp_path, "rocksdb", value_bytes=chunk, stripe_bytes=stripe, bound_bytes=bound)
    values = [np.random.default_rng(n).integers(0, 256, chunk, dtype=np.uint8) for n in range(4)]
    with make_store("rocksdb", config) as store:
        with make_connector("striped", store, 2, stripe_bytes=stripe, bound_bytes=bound) as one:
            for number in range(200):
                one.put([key_of(number)], [values[number % 4]])
            assert one.bound.counts.used_bytes > 0.95 * bound
        counters = store.counters()
        store.stop()
        taken = sum(path.stat().st_blocks * 512 for path in config.directory.rglob("*.blob"))
        assert taken <= 1.15 * bound
        assert counters.taken_bytes > 6 * bound
