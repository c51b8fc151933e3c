"""The plugin inside the L2 adapter of LMCache's server, against a real Valkey; skipped where LMCache is not installed."""

import json
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("lmcache")
import torch
from lmcache.v1.distributed.api import GroupedObjectKeys, MemoryLayoutDesc, ObjectKey, PrefetchTaskSpec
from lmcache.v1.distributed.config import (
    EvictionConfig,
    L1ManagerConfig,
    L1MemoryManagerConfig,
    StorageManagerConfig,
)
from lmcache.v1.distributed.l2_adapters.config import L2AdaptersConfig, get_registered_l2_adapter_types
from lmcache.v1.distributed.l2_adapters.native_plugin_l2_adapter import (
    NativePluginL2AdapterConfig,
    _create_native_plugin_l2_adapter,
)
from lmcache.v1.distributed.storage_manager import StorageManager
from lmcache.v1.mp_observability.event_bus import EventBusConfig, init_event_bus

from tests.helpers import eventually
from tests.plugin.inside_lmcache import CHUNK, AdHocMemoryAllocator, await_result, scenario
from tests.stores.conftest import store_config
from workflow.hyperkv.engines.vllm.lmcache import mp_arguments
from workflow.hyperkv.stores.base import Store
from workflow.hyperkv.stores.held import Held
from workflow.hyperkv.stores.registry import make_store

SHAPE = torch.Size([2, 4, 64, 64])


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Iterator[Store]:
    with make_store("valkey", store_config(tmp_path_factory.mktemp("lmcache-l2"), "valkey")) as one:
        yield one


def config_of(store, tmp_path, **changes) -> NativePluginL2AdapterConfig:
    """What an LMCache server makes of the --l2-adapter that a scenario gives it."""
    wanted = scenario("striped_mp", stripe_bytes=4096, **changes)
    arguments = mp_arguments(wanted, 1 << 28, Held(tmp_path), store.endpoints, 5555, 8080)
    written = json.loads(arguments[arguments.index("--l2-adapter") + 1])
    assert written.pop("type") in get_registered_l2_adapter_types()
    return NativePluginL2AdapterConfig.from_dict(written)


@pytest.fixture
def adapter(store, tmp_path) -> Iterator:
    one = _create_native_plugin_l2_adapter(config_of(store, tmp_path))
    try:
        yield one
    finally:
        one.close()


def test_the_server_s_adapter_saves_finds_and_loads(adapter):
    memory = AdHocMemoryAllocator("cpu")
    keys = [ObjectKey(bytes([number]) * 32, "model", 0) for number in range(4)]
    saved = [memory.allocate(SHAPE, torch.bfloat16) for _ in keys[:3]]
    for number, item in enumerate(saved):
        item.tensor.fill_(number + 1)
    task = adapter.submit_store_task(keys[:3], saved)
    results = await_result(adapter.get_store_event_fd(), lambda: adapter.pop_completed_store_tasks() or None)
    assert results[task].is_successful()
    assert results[task].bytes_transferred() == sum(item.get_size() for item in saved)

    task = adapter.submit_lookup_and_lock_task(keys, None)
    found = await_result(
        adapter.get_lookup_and_lock_event_fd(), lambda: adapter.query_lookup_and_lock_result(task)
    )
    assert [found.test(index) for index in range(4)] == [True, True, True, False]

    room = [memory.allocate(SHAPE, torch.bfloat16) for _ in keys]
    task = adapter.submit_load_task(keys, room)
    loaded = await_result(adapter.get_load_event_fd(), lambda: adapter.query_load_result(task))
    assert [loaded.test(index) for index in range(4)] == [True, True, True, False]
    adapter.delete(keys[:1])
    task = adapter.submit_lookup_and_lock_task(keys[:1], None)
    found = await_result(
        adapter.get_lookup_and_lock_event_fd(), lambda: adapter.query_lookup_and_lock_result(task)
    )
    assert not found.test(0)
    for before, after in zip(saved, room, strict=False):
        assert np.array_equal(
            np.frombuffer(before.byte_array, np.uint8), np.frombuffer(after.byte_array, np.uint8)
        )


@pytest.fixture
def server(store, tmp_path) -> Iterator[StorageManager]:
    """LMCache's server, without its sockets: its pool, and a gated store below that is slower than computing."""
    curve = tmp_path / "curve.json"
    curve.write_text(json.dumps([[64, 1e-9], [6400, 1e-7]]))
    bus = init_event_bus(EventBusConfig())
    bus.start()
    memory = L1MemoryManagerConfig(1 << 26, use_lazy=False, shm_name="")
    adapters = L2AdaptersConfig([config_of(store, tmp_path, gate="ttft", gate_curve=str(curve))])
    one = StorageManager(StorageManagerConfig(L1ManagerConfig(memory), EvictionConfig("LRU"), adapters))
    try:
        yield one
    finally:
        one.close()
        bus.stop()


def test_a_lookup_names_the_whole_prompt_and_the_gate_knows_what_the_pool_has_of_it(server, monkeypatch):
    layout = MemoryLayoutDesc([SHAPE], [torch.bfloat16])
    keys = [ObjectKey(bytes([200, number]) * 16, "model", 0) for number in range(6)]
    (adapter,) = server._l2_adapters.values()
    client = adapter._client
    asked: list[int] = []
    decided: list[tuple[int, int, int]] = []
    exists, decide = client.submit_batch_exists, client._feed.gate.decide
    monkeypatch.setattr(
        client, "submit_batch_exists", lambda names: asked.append(len(names)) or exists(names)
    )

    def remembered(chunks, present, context_tokens):
        decided.append((len(chunks), present, context_tokens))
        return decide(chunks, present, context_tokens=context_tokens)

    monkeypatch.setattr(client._feed.gate, "decide", remembered)

    def prefetched() -> tuple[int, int]:
        """Chunks that a prompt of all keys has from the pool, and from the store."""
        handle = server.submit_prefetch_task(PrefetchTaskSpec([GroupedObjectKeys(keys, 0, layout)]))
        assert server.wait_prefetch_status(handle, 30)
        result = server.query_prefetch_status(handle)
        server.finish_read_prefetched([key for key, hit in zip(keys, _bits(result), strict=True) if hit])
        return result.l1_hit_count, result.l2_hit_count

    def deleted(some: list[ObjectKey]) -> set[str]:
        return {found.name for found in server._l1_manager.delete(some).values()}

    for key, item in server.reserve_write(keys[:5], layout).items():
        item.tensor.fill_(key.chunk_hash[1] + 1)
    server.finish_write(keys[:5])
    names = [f"model@00000000@0@{key.chunk_hash.hex()}" for key in keys]
    assert eventually(lambda: client.cache.count_present([name.encode() for name in names]) == 5)
    assert eventually(lambda: client.pool.leading([(name,) for name in names]) == 5)

    assert prefetched() == (5, 0)
    assert (asked[-1], decided[-1]) == (6, (1, 0, 5 * CHUNK))
    # What is in the store already may still be locked by the save that has just put it there.
    assert eventually(lambda: "KEY_IS_LOCKED" not in deleted(keys[3:5]))
    assert eventually(lambda: client.pool.leading([(name,) for name in names]) == 3)
    assert prefetched()[0] == 3
    assert (asked[-1], decided[-1]) == (6, (3, 2, 3 * CHUNK))


def _bits(result) -> list[bool]:
    (row,) = result.hit_cells
    return [row.test(index) for index in range(6)]
