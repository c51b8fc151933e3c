"""A store of several processes, through connector striped."""

import pytest

from tests.helpers import eventually, free_ports_in_a_row
from tests.stores.conftest import (
    MIB,
    SERVERS,
    buffers_for,
    new_keys,
    offered,
    payload,
    store_config,
    values_of,
)
from workflow.hyperkv.base.errors import StoreDied, StoreError, UserError
from workflow.hyperkv.connectors.registry import make_connector
from workflow.hyperkv.stores.registry import make_store
from workflow.hyperkv.stores.sharded import ShardedStore

PROCESSES = 3
SIZE = MIB
STRIPE = 64 << 10


def sharded(folder, name: str, **changes) -> ShardedStore:
    return make_store(name, store_config(folder, name, **({"processes": PROCESSES} | changes)))


def connected(store: ShardedStore):
    return make_connector("striped", store, 2, timeout_s=10, stripe_bytes=STRIPE)


@pytest.mark.parametrize("name", SERVERS)
def test_every_process_serves_its_share(name, folder):
    keys = new_keys(4)
    with sharded(folder, name) as store:
        assert len({endpoint.port for endpoint in store.endpoints}) == PROCESSES
        before = store.counters()
        with connected(store) as connector:
            connector.put(keys, values_of(keys, SIZE))
            assert connector.count_present(keys) == 4
            buffers = buffers_for(keys, SIZE)
            assert connector.get(keys, buffers) == [True] * 4
        assert all(payload(SIZE).matches(key, buffer) for key, buffer in zip(keys, buffers, strict=True))

        def counted() -> bool:
            share = store.counters().minus(before)
            each = [part.counters().served_bytes for part in store.stores]
            return (
                4 * SIZE <= share["served_bytes"] < 5 * SIZE
                and 4 * SIZE <= share["taken_bytes"] < 5 * SIZE
                and max(each) < 1.3 * min(each)
            )

        assert eventually(counted)
        pids = [part.pid() for part in store.stores]
        assert len(set(pids)) == PROCESSES
        assert f"{PROCESSES} processes" in store.notes()
        with pytest.raises(StoreError, match="is 3 processes"):
            store.pid()
        store.restart()
        with connected(store) as connector:
            kept = store.medium == "ssd"
            assert connector.get(keys, buffers_for(keys, SIZE)) == [kept] * 4
    assert store.final_counters() is not None
    with pytest.raises(StoreDied):
        store.check_alive()


@pytest.mark.parametrize("name", [offered("rocksdb"), offered("kvrocks")])
def test_one_that_is_killed_makes_misses_only_once_it_is_back(name, folder):
    keys = new_keys(4)
    port = free_ports_in_a_row(3)
    with sharded(folder, name, port=port) as store:
        assert [endpoint.port for endpoint in store.endpoints] == [port, port + 1, port + 2]
        with connected(store) as connector:
            connector.put(keys, values_of(keys, SIZE))
            store.stores[1].kill()
            with pytest.raises(StoreError):
                connector.get(keys, buffers_for(keys, SIZE))
            with pytest.raises(StoreDied, match=r"signal 9 \(SIGKILL\)"):
                store.check_alive(1)
            store.stores[1].restart()
            buffers = buffers_for(keys, SIZE)
            for key, hit, buffer in zip(keys, connector.get(keys, buffers), buffers, strict=True):
                assert not hit or payload(SIZE).matches(key, buffer)
            connector.put(keys, values_of(keys, SIZE))
            assert connector.get(keys, buffers) == [True] * 4


def test_other_connectors_reach_one_process_only(folder):
    with sharded(folder, "valkey") as store, pytest.raises(UserError, match="use striped"):
        make_connector("resp", store, 1)


def test_a_capacity_is_shared(folder):
    with sharded(folder, "valkey", capacity_bytes=30 * MIB) as store:
        assert [part.info()["maxmemory"] for part in store.stores] == [10 * MIB] * 3


def test_a_server_that_does_not_start_leaves_none_behind(folder):
    store = sharded(folder, "valkey", settings={"no-such-key": "1"})
    with pytest.raises(StoreError), store:
        pass
    with pytest.raises(StoreDied):
        store.check_alive()
