"""LMCache's own adapters as its server makes them of a store: values come back, from the device; skipped without LMCache."""

import argparse
import os

import numpy as np
import pytest

pytest.importorskip("lmcache")
from lmcache.cli.commands.bench.l2_adapter_bench.data import (
    create_l1_memory_desc,
    make_aligned_tensor,
    make_memory_objects,
    make_object_keys,
)
from lmcache.v1.distributed.l2_adapters import create_l2_adapter
from lmcache.v1.distributed.l2_adapters.config import parse_args_to_l2_adapters_config

from tests.plugin.inside_lmcache import await_result, scenario
from workflow.hyperkv.engines.vllm.lmcache import mp_arguments
from workflow.hyperkv.machine.counters import process_counters, supports_direct_io
from workflow.hyperkv.stores.held import Held
from workflow.hyperkv.stores.registry import STORES, store_class

VALUE_BYTES, COUNT, ALIGNMENT = 1 << 18, 8, 4096
NAMES = [
    name
    for name in STORES
    if store_class(name).held_by_engine == "folder" and "mp" in store_class(name).connectors
]


@pytest.mark.parametrize("name", NAMES)
def test_values_come_back_as_they_were_from_the_device(name, tmp_path):
    if not supports_direct_io(tmp_path):
        pytest.skip("the file system of temporary folders refuses O_DIRECT")
    held = Held(tmp_path, VALUE_BYTES, COUNT * VALUE_BYTES, connections=2)
    store_class(name).prepare(held)
    wanted = scenario("mp") | {"store": name, "tier": "ssd"}
    arguments = mp_arguments(wanted, 1 << 28, held, [], 5555, 8080)
    told = argparse.Namespace(l2_adapter=[arguments[arguments.index("--l2-adapter") + 1]])
    [config] = parse_args_to_l2_adapters_config(told).adapters
    memory = make_aligned_tensor(2 * COUNT * VALUE_BYTES, ALIGNMENT)
    adapter = create_l2_adapter(config, l1_memory_desc=create_l1_memory_desc(memory, align_bytes=ALIGNMENT))
    try:
        keys = make_object_keys(COUNT + 1)
        saved = make_memory_objects(memory, COUNT, VALUE_BYTES, 0, fill_offset=1)
        task = adapter.submit_store_task(keys[:COUNT], saved)
        ended = await_result(
            adapter.get_store_event_fd(), lambda: adapter.pop_completed_store_tasks() or None
        )
        assert ended[task].is_successful()
        task = adapter.submit_lookup_and_lock_task(keys, {})
        found = await_result(
            adapter.get_lookup_and_lock_event_fd(), lambda: adapter.query_lookup_and_lock_result(task)
        )
        assert [found.test(index) for index in range(COUNT + 1)] == [True] * COUNT + [False]
        room = make_memory_objects(memory, COUNT, VALUE_BYTES, COUNT * VALUE_BYTES)
        before = process_counters(os.getpid())
        task = adapter.submit_load_task(keys[:COUNT], room)
        loaded = await_result(adapter.get_load_event_fd(), lambda: adapter.query_load_result(task))
        assert [loaded.test(index) for index in range(COUNT)] == [True] * COUNT
        for ours, theirs in zip(saved, room, strict=True):
            assert np.array_equal(
                np.frombuffer(ours.byte_array, np.uint8), np.frombuffer(theirs.byte_array, np.uint8)
            )
    finally:
        adapter.close()
    read = process_counters(os.getpid()).minus(before).device_read_bytes
    assert read is None or read >= COUNT * VALUE_BYTES
