"""Every (store, connector) pair against the contract of Store and Connector, then each store's own bound."""

import contextlib
import os
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import eventually
from tests.stores.conftest import (
    CONNECTIONS,
    CONNECTOR_OF,
    LARGEST,
    MIB,
    ON_DISK,
    OPTIONS,
    PAIRS,
    SERVER_NAMES,
    SSD,
    STORES,
    buffers_for,
    new_keys,
    payload,
    store_config,
    values_of,
)
from workflow.hyperkv.base.errors import StoreDied, StoreError, UserError
from workflow.hyperkv.connectors.registry import make_connector
from workflow.hyperkv.machine.processes import require_free_port
from workflow.hyperkv.stores.base import Store
from workflow.hyperkv.stores.dram import DramStore
from workflow.hyperkv.stores.registry import make_store
from workflow.plugin.lmcache_striped.base import Connector


@dataclass
class Pair:
    """A started store and a connector to it."""

    store: Store
    connector: Connector


@contextlib.contextmanager
def connected(store: Store, connector: str | None = None) -> Iterator[Connector]:
    kind = connector or CONNECTOR_OF[store.name]
    with make_connector(kind, store, CONNECTIONS, timeout_s=10, **OPTIONS.get(kind, {})) as one:
        yield one


def save(connector: Connector, keys: list[bytes], size: int) -> None:
    connector.put(keys, values_of(keys, size))


def served(connector: Connector, keys: list[bytes], size: int) -> list[bool]:
    """Which keys are served; every served value must be right."""
    buffers = buffers_for(keys, size)
    hits = connector.get(keys, buffers)
    for key, hit, buffer in zip(keys, hits, buffers, strict=True):
        assert not hit or payload(size).matches(key, buffer)
    return hits


ONE_EACH = [pytest.param(pair.values, marks=pair.marks, id=pair.id) for pair in PAIRS]


@pytest.fixture(scope="module", params=ONE_EACH)
def pair(request, tmp_path_factory) -> Iterator[Pair]:
    name, connector = request.param
    with make_store(name, store_config(tmp_path_factory.mktemp(name), name)) as store:
        with connected(store, connector) as one:
            yield Pair(store, one)
        store.check_alive()


# Every pair


@pytest.mark.parametrize("size", [1, 4095, 4096, 65536, LARGEST])
def test_round_trip(pair, size):
    keys = new_keys(3)
    save(pair.connector, keys, size)
    assert served(pair.connector, keys, size) == [True] * 3


def test_unaligned_buffers(pair):
    """O_DIRECT and scatter-gather must not depend on where the engine's buffers lie."""
    keys = new_keys(2)
    pair.connector.put(keys, [np.roll(value, 1)[1:] for value in values_of(keys, 8193)])
    whole = [np.zeros(8200, dtype=np.uint8) for _ in keys]
    assert pair.connector.get(keys, [buffer[3:8195] for buffer in whole]) == [True, True]
    for value, buffer in zip(values_of(keys, 8193), whole, strict=True):
        assert np.array_equal(buffer[3:8195], value[:-1])
        assert not buffer[:3].any()
        assert not buffer[8195:].any()


def test_more_items_than_connections(pair):
    keys = new_keys(5 * CONNECTIONS + 3)
    save(pair.connector, keys, 5000)
    assert served(pair.connector, keys[::-1], 5000) == [True] * len(keys)


def test_missing_keys_leave_their_buffers_untouched(pair):
    present, absent = new_keys(4), new_keys(3)
    save(pair.connector, present, 4096)
    keys = [present[0], absent[0], present[1], absent[1], absent[2], present[2], present[3]]
    buffers = buffers_for(keys, 4096)
    hits = pair.connector.get(keys, buffers)
    assert hits == [key in present for key in keys]
    for key, buffer in zip(keys, buffers, strict=True):
        assert payload(4096).matches(key, buffer) if key in present else not buffer.any()


@pytest.mark.parametrize("wrong", [1, 4095, 4097, LARGEST])
def test_wrong_size_is_a_miss_and_the_connection_goes_on(pair, wrong):
    keys = new_keys(2 * CONNECTIONS)
    save(pair.connector, keys, 4096)
    buffers = [aligned for i in range(len(keys)) for aligned in buffers_for([keys[i]], [4096, wrong][i % 2])]
    assert pair.connector.get(keys, buffers) == [i % 2 == 0 for i in range(len(keys))]
    assert not any(buffer.any() for buffer in buffers[1::2])
    assert served(pair.connector, keys, 4096) == [True] * len(keys)


@pytest.mark.parametrize("size", [4096, 70000, 100])
def test_overwrite(pair, size):
    keys = new_keys(2)
    save(pair.connector, keys, 4096)
    fresh = [np.invert(value) for value in values_of(keys, size)]
    pair.connector.put(keys, fresh)
    buffers = buffers_for(keys, size)
    assert pair.connector.get(keys, buffers) == [True, True]
    assert all(np.array_equal(buffer, value) for buffer, value in zip(buffers, fresh, strict=True))


@pytest.mark.parametrize("gap", [0, 1, 7, 8])
def test_count_present_stops_at_the_first_gap(pair, gap):
    keys = new_keys(8)
    save(pair.connector, keys[:gap] + keys[gap + 1 :], 64)
    assert pair.connector.count_present(keys) == min(gap, 8)


def test_count_present_of_a_long_prefix(pair):
    """Longer than one batch of EXISTS; the same few keys again and again."""
    keys = new_keys(2)
    save(pair.connector, keys, 64)
    assert pair.connector.count_present(keys * 300) == 600
    assert pair.connector.count_present(keys * 300 + new_keys(1) + keys) == 600


def test_empty_batch(pair):
    pair.connector.put([], [])
    assert pair.connector.get([], []) == []
    assert pair.connector.count_present([]) == 0


def test_counters_rise_by_at_least_the_bytes_moved(pair):
    keys, before = new_keys(6), pair.store.counters()
    save(pair.connector, keys, 65536)
    assert served(pair.connector, keys + new_keys(2), 65536) == [True] * 6 + [False] * 2

    def rose() -> bool:  # a server may count a moment after the reply
        share = pair.store.counters().minus(before)
        return (
            6 * 65536 <= share["served_bytes"] < 7 * 65536
            and 6 * 65536 <= share["taken_bytes"] < 7 * 65536
            and share["hits"] in (6, 12, 6 * 5)  # one key a chunk, redis two, striped one a stripe
            and share["misses"] in (2, 2 * 5, 2 * 4)  # direct need not ask for stripe 0 of what is not there
        )

    assert eventually(rose), pair.store.counters().minus(before)
    assert pair.store.counters().process.rss_bytes > MIB


# A store's lifetime


@pytest.mark.parametrize("name", STORES)
def test_restart_keeps_data_on_ssd_only(name, folder):
    keys = new_keys(3)
    with make_store(name, store_config(folder, name)) as store:
        with connected(store) as connector:
            save(connector, keys, 4097)
        store.restart()
        with connected(store) as connector:
            assert served(connector, keys, 4097) == [store.medium == "ssd"] * 3
            save(connector, keys, 4097)
            assert served(connector, keys, 4097) == [True] * 3


@pytest.mark.parametrize("name", SSD)
def test_cold_reads_come_from_the_device(name, folder):
    keys = new_keys(16)
    with make_store(name, store_config(folder, name)) as store:
        with connected(store) as connector:
            save(connector, keys, MIB // 2)
        dropped = store.make_cold()
        before = store.counters()
        with connected(store) as connector:
            assert served(connector, keys, MIB // 2) == [True] * 16
        if not dropped and name == "files" and not store.direct_io:
            pytest.skip("neither O_DIRECT nor drop_caches is possible here")
        if before.process.device_read_bytes is None:
            pytest.skip("/proc/PID/io is not readable here")
        assert store.counters().minus(before)["device_read_bytes"] >= 16 * MIB // 2


@pytest.mark.parametrize("name", STORES)
def test_stop_leaves_nothing_and_the_next_one_starts_empty(name, folder):
    keys = new_keys(2)
    for number in range(2):
        store = make_store(name, store_config(folder / str(number), name))
        store.start()
        try:
            store.check_alive()
            pid, port = store.pid(), store.endpoint.port if name in SERVER_NAMES else None
            with connected(store) as connector:
                assert served(connector, keys, 100) == [False, False]
                save(connector, keys, 100)
        finally:
            store.stop()
        if port is not None:
            with pytest.raises(ProcessLookupError):
                os.killpg(pid, 0)
            require_free_port(port, "port")
        with pytest.raises(StoreDied):
            store.check_alive()
        store.stop()


@pytest.mark.parametrize("name", ON_DISK)
def test_a_directory_with_files_is_refused_and_stays_as_it_is(name, folder):
    """Nothing is deleted that the store did not make: it starts in a directory that is not there, or is empty."""
    config = store_config(folder, name)
    stranger = config.directory / "deep" / "old file"
    stranger.parent.mkdir(parents=True)
    stranger.write_text("of somebody else")
    with pytest.raises(UserError, match=f"data_dir: cannot write in {config.directory}: File exists"):
        make_store(name, config).__enter__()
    assert stranger.read_text() == "of somebody else"
    stranger.unlink()
    stranger.parent.rmdir()
    with make_store(name, config):
        assert config.directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ON_DISK)
def test_a_link_in_place_of_the_directory_is_refused(name, folder, tmp_path):
    config = store_config(folder, name)
    (elsewhere := tmp_path / "elsewhere").mkdir()
    folder.mkdir()
    config.directory.symlink_to(elsewhere)
    with pytest.raises(UserError, match="File exists"):
        make_store(name, config).__enter__()
    assert config.directory.is_symlink()
    assert list(elsewhere.iterdir()) == []


def test_servers_take_their_own_settings(folder):
    config = store_config(folder, "rocksdb", settings={"rocksdb.write_buffer_size": 7, "direct_io": "no"})
    with make_store("rocksdb", config) as store, store.client() as client:
        assert client.config_get("rocksdb.write_buffer_size") == {"rocksdb.write_buffer_size": "7"}
        assert client.config_get("rocksdb.use_direct_reads") == {"rocksdb.use_direct_reads": "no"}
    config = store_config(folder, "valkey", settings={"maxclients": 77})
    with make_store("valkey", config) as store, store.client() as client:
        assert client.config_get("maxclients") == {"maxclients": "77"}


@pytest.mark.parametrize("direct_io", ["auto", "no"])
def test_files_leave_no_temporary_name(direct_io, folder):
    keys = new_keys(8)
    with make_store("files", store_config(folder, "files", settings={"direct_io": direct_io})) as store:
        with connected(store) as connector:
            save(connector, keys, 4097)
            assert served(connector, keys, 4097) == [True] * 8
        names = [path.name for path in store.config.directory.rglob("*") if path.is_file()]
    assert sorted(names) == sorted(key.hex() for key in keys)


# Bounds


def small_dram(slots: int, size: int = 64) -> DramStore:
    config = store_config(Path("unused"), "dram", value_bytes=size, capacity_bytes=slots * size + size // 2)
    return make_store("dram", config)


def test_dram_evicts_the_least_recently_used():
    a, b, c, d, e = keys = new_keys(5)
    with small_dram(3) as store, connected(store) as connector:
        save(connector, [a, b], 64)
        save(connector, [c], 64)
        assert served(connector, [a], 64) == [True]  # used: b is the oldest now
        assert connector.count_present([b]) == 1  # a lookup is no use
        save(connector, [d], 64)
        assert store.exists(keys) == [True, False, True, True, False]
        save(connector, [c], 64)  # overwritten in its own slot: nothing goes
        assert store.evictions == 1
        save(connector, [e], 64)
        assert store.exists(keys) == [False, False, True, True, True]
        assert store.evictions == 2


@pytest.mark.parametrize("capacity", [None, 0, 63])
def test_dram_refuses_a_capacity_without_a_slot(capacity):
    with pytest.raises(UserError, match="dram_pool_bytes"):
        make_store("dram", store_config(Path("unused"), "dram", value_bytes=64, capacity_bytes=capacity))


def test_dram_refuses_a_value_that_exceeds_a_slot():
    with small_dram(2) as store, connected(store) as connector:
        with pytest.raises(StoreError, match="exceeds"):
            save(connector, new_keys(1), 65)
        save(connector, new_keys(2), 64)
        assert store.evictions == 0


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["put", "get", "exists"]),
        st.integers(0, 5),
        st.integers(1, 8),
        st.integers(0, 255),
    ),
    max_size=60,
)


@given(slots=st.integers(1, 4), operations=OPERATIONS)
def test_dram_is_a_dict_with_lru(slots, operations):
    model: OrderedDict[bytes, np.ndarray] = OrderedDict()
    with small_dram(slots, 8) as store:
        for operation, number, size, fill in operations:
            key = bytes([number]) * 4
            if operation == "put":
                model.pop(key, None)
                if len(model) == slots:
                    model.popitem(last=False)
                model[key] = np.full(size, fill, dtype=np.uint8)
                store.put(key, model[key])
            elif operation == "get":
                buffer = np.zeros(size, dtype=np.uint8)
                expected = key in model and model[key].size == size
                assert store.get_into(key, buffer) == expected
                if expected:
                    model.move_to_end(key)
                    assert np.array_equal(buffer, model[key])
            else:
                assert store.exists([key]) == [key in model]
        assert [key for key in map(bytes, [[n] * 4 for n in range(6)]) if store.exists([key])[0]] == sorted(
            model
        )


def test_valkey_evicts_at_its_capacity(folder):
    capacity, keys = 24 * MIB, new_keys(40)
    with make_store("valkey", store_config(folder, "valkey", capacity_bytes=capacity)) as store:
        with connected(store) as connector:
            save(connector, keys, MIB)
            hits = served(connector, keys, MIB)
        info = store.info()
    assert 8 <= sum(hits) <= 24
    assert info["maxmemory"] == capacity
    assert info["evicted_keys"] >= 16
