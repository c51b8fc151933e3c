"""LMCache's own adapters as its server makes them: values come back, from the device of a store, from a cluster; skipped without LMCache."""

import argparse
import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

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
from tests.stores.conftest import KVROCKS_BIN, offered
from workflow.hyperkv.engines.vllm.lmcache import mp_arguments
from workflow.hyperkv.machine.counters import process_counters, supports_direct_io
from workflow.hyperkv.profile.clusters.made import MadeCluster
from workflow.hyperkv.stores.held import Held
from workflow.hyperkv.stores.registry import STORES, store_class
from workflow.plugin.lmcache_striped.deadline import Endpoint

VALUE_BYTES, COUNT, ALIGNMENT = 1 << 18, 8, 4096
NAMES = [
    name
    for name in STORES
    if store_class(name).held_by_engine == "folder" and "mp" in store_class(name).connectors
]


class Values:
    """COUNT values and room for them, and the adapter that an LMCache server makes for a scenario."""

    def __init__(self, wanted: Mapping[str, Any], held: Held, endpoints: Sequence[Endpoint] = ()):
        arguments = mp_arguments(wanted, 1 << 28, held, endpoints, 5555, 8080)
        told = argparse.Namespace(l2_adapter=[arguments[arguments.index("--l2-adapter") + 1]])
        [config] = parse_args_to_l2_adapters_config(told).adapters
        memory = make_aligned_tensor(2 * COUNT * VALUE_BYTES, ALIGNMENT)
        described = create_l1_memory_desc(memory, align_bytes=ALIGNMENT)
        self.adapter = create_l2_adapter(config, l1_memory_desc=described)
        self.keys = make_object_keys(COUNT + 1)
        self.saved = make_memory_objects(memory, COUNT, VALUE_BYTES, 0, fill_offset=1)
        self.room = make_memory_objects(memory, COUNT, VALUE_BYTES, COUNT * VALUE_BYTES)

    def save(self) -> bool:
        task = self.adapter.submit_store_task(self.keys[:COUNT], self.saved)
        done = self.adapter.pop_completed_store_tasks
        return await_result(self.adapter.get_store_event_fd(), lambda: done() or None)[task].is_successful()

    def found(self) -> list[bool]:
        task = self.adapter.submit_lookup_and_lock_task(self.keys, {})
        ask = self.adapter.query_lookup_and_lock_result
        found = await_result(self.adapter.get_lookup_and_lock_event_fd(), lambda: ask(task))
        return [found.test(index) for index in range(COUNT + 1)]

    def loaded(self) -> list[bool]:
        """Of each value whether it came, as it was."""
        for item in self.room:
            np.frombuffer(item.byte_array, np.uint8)[:] = 0
        task = self.adapter.submit_load_task(self.keys[:COUNT], self.room)
        loaded = await_result(self.adapter.get_load_event_fd(), lambda: self.adapter.query_load_result(task))
        for number, (ours, theirs) in enumerate(zip(self.saved, self.room, strict=True)):
            same = np.array_equal(*(np.frombuffer(each.byte_array, np.uint8) for each in (ours, theirs)))
            assert same or not loaded.test(number)
        return [loaded.test(index) for index in range(COUNT)]


@contextlib.contextmanager
def values(*arguments: Any) -> Iterator[Values]:
    made = Values(*arguments)
    try:
        yield made
    finally:
        made.adapter.close()


@pytest.mark.parametrize("name", NAMES)
def test_values_come_back_as_they_were_from_the_device(name, tmp_path):
    if not supports_direct_io(tmp_path):
        pytest.skip("the file system of temporary folders refuses O_DIRECT")
    held = Held(tmp_path, VALUE_BYTES, COUNT * VALUE_BYTES, connections=2)
    store_class(name).prepare(held)
    with values(scenario("mp") | {"store": name, "tier": "ssd"}, held) as made:
        assert made.save()
        assert made.found() == [True] * COUNT + [False]
        before = process_counters(os.getpid())
        assert made.loaded() == [True] * COUNT
    read = process_counters(os.getpid()).minus(before).device_read_bytes
    assert read is None or read >= COUNT * VALUE_BYTES


@pytest.mark.parametrize("kind", [offered("valkey"), offered("kvrocks")])
def test_values_come_back_from_a_cluster_under_the_prefix_of_the_run(kind, tmp_path):
    pytest.importorskip("glide_sync")
    program = Path(KVROCKS_BIN or "kvrocks") if kind == "kvrocks" else None
    with MadeCluster(kind, tmp_path / "there", program=program) as cluster:
        seed = cluster.endpoints[1]
        at = Endpoint(seed.host, seed.port, prefix="hyperkv:01234567:")
        wanted = scenario("mp") | {"store": kind, "place": {"cluster": True}}
        with values(wanted, Held(tmp_path), [at]) as made:
            assert made.save()
            assert made.found() == [True] * COUNT + [False]
            assert made.loaded() == [True] * COUNT
            for store in cluster.masters:
                with store.client() as client:
                    keys = list(client.scan_iter(count=1000))
                assert all(key.startswith(b"hyperkv:01234567:") for key in keys)
                assert len(keys) < COUNT
            cluster.masters[0].kill()
            assert False in made.loaded()
