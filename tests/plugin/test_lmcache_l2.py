"""The plugin inside the L2 adapter of LMCache's server, against a real Valkey; skipped where LMCache is not installed."""

import json
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("lmcache")
import torch
from lmcache.v1.distributed.api import ObjectKey
from lmcache.v1.distributed.l2_adapters.config import get_registered_l2_adapter_types
from lmcache.v1.distributed.l2_adapters.native_plugin_l2_adapter import (
    NativePluginL2AdapterConfig,
    _create_native_plugin_l2_adapter,
)

from tests.plugin.inside_lmcache import AdHocMemoryAllocator, await_result, scenario
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


@pytest.fixture
def adapter(store, tmp_path) -> Iterator:
    """What an LMCache server makes of the --l2-adapter that a scenario gives it."""
    wanted = scenario("striped_mp", stripe_bytes=4096)
    arguments = mp_arguments(wanted, 1 << 28, Held(tmp_path), store.endpoints, 5555, 8080)
    written = json.loads(arguments[arguments.index("--l2-adapter") + 1])
    assert written.pop("type") in get_registered_l2_adapter_types()
    one = _create_native_plugin_l2_adapter(NativePluginL2AdapterConfig.from_dict(written))
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
