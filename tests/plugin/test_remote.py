"""The plugin inside LMCache's own remote backend, against a real Valkey; skipped where LMCache is not installed."""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from queue import Queue
from types import SimpleNamespace

import pytest

pytest.importorskip("lmcache")
from lmcache.utils import CacheEngineKey
from lmcache.v1.config import LMCacheEngineConfig
from lmcache.v1.event_manager import EventManager, EventType
from lmcache.v1.storage_backend.remote_backend import RemoteBackend
from lmcache.v1.storage_backend.storage_manager import StorageManager

from tests.helpers import eventually
from tests.plugin.inside_lmcache import BYTES, CHUNK, Pool, filled, keys_of, metadata_of_the_model
from tests.stores.conftest import store_config
from workflow.hyperkv.stores.base import Store
from workflow.hyperkv.stores.registry import make_store
from workflow.plugin.lmcache_striped.stripes import stripe_key


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Iterator[Store]:
    with make_store("valkey", store_config(tmp_path_factory.mktemp("lmcache"), "valkey")) as one:
        yield one


@pytest.fixture
def rig(store, loop) -> Iterator[SimpleNamespace]:
    with rigged(store, loop) as one:
        yield one


@contextlib.contextmanager
def rigged(store, loop, **keys) -> Iterator[SimpleNamespace]:
    """LMCache's backend with our plugin, with further keys of it."""
    prefix = "remote_storage_plugin.striped"
    config = LMCacheEngineConfig.from_defaults(
        chunk_size=CHUNK,
        remote_serde="naive",
        remote_storage_plugins=["striped"],
        extra_config={
            f"{prefix}.module_path": "lmcache_striped.remote",
            f"{prefix}.class_name": "StripedAdapter",
            f"{prefix}.endpoints": f"{store.endpoint.host}:{store.endpoint.port}",
            f"{prefix}.stripe_bytes": 8192,
            f"{prefix}.save_queue_bytes": 8 * BYTES,
            f"{prefix}.timeout_s": 1,
            f"{prefix}.retry_s": 0.1,
            **{f"{prefix}.{key}": value for key, value in keys.items()},
        },
    )
    metadata = metadata_of_the_model()
    pool = Pool(config, metadata)
    backend = RemoteBackend(config, metadata, loop, pool, dst_device="cpu", plugin_name="striped")
    connector = backend.connection.getWrappedConnector()
    assert type(connector).__module__ == "lmcache_striped.remote"
    assert connector.full_chunk_size_bytes == BYTES
    yield SimpleNamespace(
        backend=backend,
        pool=pool,
        connector=connector,
        cache=connector.cache,
        config=config,
        metadata=metadata,
    )
    backend.close()


def save(rig: SimpleNamespace, keys: list, objects: list) -> None:
    rig.backend.batched_submit_put_task(keys, objects)
    assert eventually(lambda: sum(vars(rig.cache.counts.saves).values()) >= len(keys))


def damage(store: Store, key: CacheEngineKey, stripe: int) -> None:
    with store.client() as client:
        name = stripe_key(key.to_string().encode(), stripe)
        client.set(name, bytes(len(client.get(name))))


def test_chunks_come_back_as_they_were_saved(rig):
    keys, objects = keys_of(1, 6), filled(rig.pool, 6)
    save(rig, keys, objects)
    assert rig.cache.counts.saves.saved == 6
    assert eventually(lambda: all(item.get_ref_count() == 1 for item in objects))
    assert rig.backend.batched_contains(keys + keys_of(2, 1)) == 6
    assert rig.backend.contains(keys[0])
    assert not rig.backend.contains(keys_of(2, 1)[0])
    loaded = rig.backend.batched_get_blocking(keys)
    assert [bytes(item.byte_array) for item in loaded] == [bytes(item.byte_array) for item in objects]
    assert bytes(rig.backend.get_blocking(keys[3]).byte_array) == bytes(objects[3].byte_array)
    assert rig.pool.held == 7


def test_what_a_gate_leaves_is_not_found_and_not_saved_again(store, loop, tmp_path):
    """LMCache asks once more for what a lookup found when it comes to load it: that is found then, whatever the gate thinks by now."""
    curve = tmp_path / "curve.json"
    curve.write_text(json.dumps([[CHUNK, 60.0]]))
    with rigged(store, loop, gate="ttft", gate_curve=str(curve)) as rig:
        keys, gate = keys_of(20, 4), rig.connector._feed.gate
        save(rig, keys, filled(rig.pool, 4))
        assert None not in rig.backend.batched_get_blocking(keys)
        assert rig.backend.batched_contains(keys) == 4
        gate.set_curve([[CHUNK, 1e-9]])
        assert rig.backend.batched_contains(keys) == 4
        assert None not in rig.backend.batched_get_blocking(keys)
        assert rig.backend.batched_contains(keys) == 0
        rig.backend.batched_submit_put_task(keys, filled(rig.pool, 4))
        save(rig, keys_of(21, 1), filled(rig.pool, 1))
        assert eventually(lambda: rig.cache.counts.saves.saved >= 5)
        assert rig.cache.counts.saves.saved == 5
        assert (gate.counts.lookups, gate.counts.found_chunks, gate.counts.left_chunks) == (2, 4, 4)


def test_a_damaged_chunk_is_a_miss_and_its_memory_is_given_back(rig, store):
    keys, objects = keys_of(3, 4), filled(rig.pool, 4)
    save(rig, keys, objects)
    damage(store, keys[1], 2)
    loaded = rig.backend.batched_get_blocking(keys)
    assert [item is not None for item in loaded] == [True, False, True, True]
    assert rig.pool.held == 3
    assert rig.cache.counts.damaged == 1
    future: Future = asyncio.run_coroutine_threadsafe(
        rig.backend.batched_get_non_blocking("lookup", keys), rig.connector._loop
    )
    assert len(future.result(10)) == 1
    assert rig.pool.held == 4


def test_saves_beyond_the_bound_are_dropped_and_given_back(rig):
    keys, objects = keys_of(4, 40), filled(rig.pool, 40)
    save(rig, keys, objects)
    counts = rig.cache.counts.saves
    assert counts.saved >= 8
    assert counts.saved + counts.dropped == 40
    assert eventually(lambda: all(item.get_ref_count() == 1 for item in objects))


def test_at_the_second_use_only_what_comes_again_is_saved_and_all_memory_is_given_back(store, loop):
    with rigged(store, loop, save="second_use") as rig:
        keys, objects = keys_of(9, 3), filled(rig.pool, 3)
        rig.backend.batched_submit_put_task(keys[:2], objects[:2])
        assert eventually(lambda: rig.cache.counts.first_uses == 2)
        rig.backend.batched_submit_put_task(keys, objects)
        assert eventually(lambda: rig.cache.counts.saves.saved == 2)
        assert rig.backend.batched_contains(keys) == 2
        assert eventually(lambda: all(item.get_ref_count() == 1 for item in objects))
        assert rig.cache.counts.first_uses == 3


def test_a_full_pool_makes_misses_and_no_waiting(rig):
    keys = keys_of(5, 4)
    save(rig, keys, filled(rig.pool, 4))
    rig.pool.most = 2
    assert [item is not None for item in rig.backend.batched_get_blocking(keys)] == [True, True, False, False]


def test_loading_ahead_tells_lmcache_how_many_tokens_came_and_hands_over_their_bytes(rig, store):
    """What `enable_async_loading` does: the prefix is looked up and loaded while the request waits, damage ends it."""
    keys, objects = keys_of(7, 5), filled(rig.pool, 5)
    save(rig, keys[:4], objects[:4])
    damage(store, keys[3], 1)
    answers: Queue = Queue()
    scheduler = SimpleNamespace(send_response_to_scheduler=lambda *answer: answers.put(answer))
    events = EventManager()
    config = replace(rig.config, enable_async_loading=True, max_local_cpu_size=0.01)
    manager = StorageManager(config, rig.metadata, events, async_lookup_server=scheduler)
    try:
        lengths = [CHUNK * number for number in range(6)]
        lookup = manager.async_lookup_and_prefetch("request", keys, lengths, pin=True)
        asyncio.run_coroutine_threadsafe(lookup, manager.loop).result(10)
        assert answers.get(timeout=10) == ("request", 3 * CHUNK)
        ((*loaded,),) = events.get_event_future(EventType.LOADING, "request").result()
        assert [key for key, _ in loaded] == keys[:3]
        assert [bytes(item.byte_array) for _, item in loaded] == [
            bytes(item.byte_array) for item in objects[:3]
        ]
    finally:
        manager.close()


def test_an_unfull_chunk_is_not_saved(rig):
    (key,) = keys_of(6, 1)
    rig.backend.batched_submit_put_task([key], [rig.pool.full(CHUNK // 2)])
    assert eventually(lambda: rig.connector.dropped_unfull == 1)
    assert not rig.backend.contains(key)
