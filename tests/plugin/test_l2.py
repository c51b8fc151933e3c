"""Stripes under the interface of an LMCache server's native connectors, against a real Valkey."""

import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from tests.helpers import eventually
from tests.stores.conftest import store_config
from workflow.hyperkv.machine.processes import free_port
from workflow.hyperkv.stores.base import Store
from workflow.hyperkv.stores.registry import make_store
from workflow.plugin.lmcache_striped.cache import CacheSettings, StripedCache
from workflow.plugin.lmcache_striped.deadline import Endpoint
from workflow.plugin.lmcache_striped.l2 import StripedL2
from workflow.plugin.lmcache_striped.stripes import stripe_key

STRIPE = 4096
CHUNK = 3 * STRIPE + 100


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Iterator[Store]:
    with make_store("valkey", store_config(tmp_path_factory.mktemp("l2"), "valkey")) as one:
        yield one


@contextmanager
def opened(endpoints, said=None, **settings) -> Iterator[StripedL2]:
    chosen = CacheSettings(tuple(endpoints), **{"stripe_bytes": STRIPE, "connections": 2, **settings})
    said = [] if said is None else said
    one = StripedL2(StripedCache(chosen, said.append), said.append)
    try:
        yield one
    finally:
        one.close()


def completed(one: StripedL2, *numbers: int) -> dict:
    """What the tasks came to, by number; each must be told of once."""
    found: dict = {}
    while set(numbers) - set(found):
        assert select.select([one.event_fd()], [], [], 10)[0], f"{set(numbers) - set(found)} never ended"
        for number, *rest in one.drain_completions():
            assert number not in found
            found[number] = tuple(rest)
    return found


def chunks(count: int, seed: int) -> list[memoryview]:
    rng = np.random.default_rng(seed)
    return [memoryview(rng.integers(0, 256, CHUNK, dtype=np.uint8)) for _ in range(count)]


def room(count: int) -> list[memoryview]:
    return [memoryview(bytearray(CHUNK)) for _ in range(count)]


def test_what_was_saved_is_found_and_loaded_and_the_rest_is_missing(store):
    keys = [f"model@00000000@0@{number:064x}" for number in range(6)]
    with opened(store.endpoints) as one:
        values, buffers = chunks(4, 1), room(6)
        saving = one.submit_batch_set(keys[:4], values)
        assert completed(one, saving) == {saving: (True, "", None)}
        looking, loading = one.submit_batch_exists(keys), one.submit_batch_get(keys, buffers)
        found = [True] * 4 + [False] * 2
        assert completed(one, looking, loading) == {looking: (True, "", found), loading: (True, "", found)}
        assert [bytes(buffer) for buffer in buffers[:4]] == [bytes(value) for value in values]
        assert one.drain_completions() == []
        assert not select.select([one.event_fd()], [], [], 0)[0]


def test_a_damaged_chunk_is_missing(store):
    keys = ["damaged-0", "damaged-1"]
    with opened(store.endpoints, said := []) as one:
        completed(one, one.submit_batch_set(keys, chunks(2, 2)))
        with store.client(5.0) as client:
            client.setrange(stripe_key(b"damaged-0", 1), STRIPE, b"xx")
        loading = one.submit_batch_get(keys, room(2))
        assert completed(one, loading)[loading] == (True, "", [False, True])
    assert said == ["1 of 2 chunks are damaged"]


def test_saves_that_find_no_room_are_dropped_and_said(store):
    keys = ["dropped-0", "dropped-1", "dropped-2"]
    with opened(store.endpoints, said := [], save_queue_bytes=CHUNK - 1) as one:
        saving = one.submit_batch_set(keys, chunks(3, 3))
        assert completed(one, saving) == {saving: (False, "not saved", None)}
        looking = one.submit_batch_exists(keys)
        assert completed(one, looking)[looking] == (True, "", [False] * 3)
    assert said == ["dropped 3 chunks, saves are behind"]


@pytest.mark.parametrize("bound_bytes", [None, 64 * CHUNK], ids=["unbounded", "bounded"])
def test_what_lmcache_deletes_is_gone_with_all_its_stripes(store, bound_bytes):
    keys = [f"deleted-{number}" for number in range(3)]
    with opened(store.endpoints, bound_bytes=bound_bytes) as one, store.client(5.0) as client:
        assert one.cache.bound is None or one.cache.bound.wait(10)
        completed(one, one.submit_batch_set(keys, chunks(3, 8)))
        deleting = one.submit_batch_delete([keys[0], "never", keys[2]])
        assert completed(one, deleting)[deleting] == (True, "", [True, False, True])
        looking = one.submit_batch_exists([keys[1]]), one.submit_batch_exists([keys[0]])
        found = completed(one, *looking)
        assert [found[number][2] for number in looking] == [[True], [False]]
        left = {bytes(key) for key in client.scan_iter("deleted-*")}
        assert left == {stripe_key(keys[1].encode(), index) for index in range(5)}
        client.flushall()


def test_past_the_bound_the_least_recently_used_go_and_saves_are_done(store):
    keys = [f"kept-{number}" for number in range(12)]
    with opened(store.endpoints, bound_bytes=4 * (CHUNK + 2000)) as one:
        assert one.cache.bound.wait(10)
        for key, value in zip(keys, chunks(12, 9), strict=True):
            number = one.submit_batch_set([key], [value])
            assert completed(one, number) == {number: (True, "", None)}
        asked = [one.submit_batch_exists([key]) for key in keys]
        found = completed(one, *asked)
        assert [found[number][2][0] for number in asked] == [False] * 8 + [True] * 4
        assert one.cache.counts.bound.evicted_chunks == 8


def test_of_more_than_can_be_loaded_a_lookup_finds_the_leading_part_and_the_rest_is_not_saved_again(store):
    keys = [f"bounded-{number}" for number in range(5)]
    with opened(store.endpoints, said := [], load_queue_bytes=2 * CHUNK + 1) as one:
        completed(one, one.submit_batch_set(keys, chunks(5, 6)))
        looking = one.submit_batch_exists(keys)
        assert completed(one, looking)[looking] == (True, "", [True] * 2 + [False] * 3)
        assert said == ["left 3 chunks to be computed, for want of room to load"]
        with store.client(5.0) as client:
            client.delete(stripe_key(b"bounded-2", 0))
        saving = one.submit_batch_set(keys[2:], chunks(3, 6))
        assert completed(one, saving)[saving] == (True, "", None)
        assert one.cache.counts.saves.saved == 5
        again = one.submit_batch_set(keys[2:], chunks(3, 6))
        assert completed(one, again)[again] == (True, "", None)
        assert one.cache.counts.saves.saved == 8


def test_a_chunk_that_was_left_and_then_lost_is_saved_again(store):
    with opened(store.endpoints, load_queue_bytes=CHUNK) as one:
        completed(one, one.submit_batch_set(["lost-0", "lost-1"], chunks(2, 9)))
        looking = one.submit_batch_exists(["lost-0", "lost-1"])
        assert completed(one, looking)[looking][2] == [True, False]
        with store.client(5.0) as client:
            client.delete(stripe_key(b"lost-1", 0))
        looking = one.submit_batch_exists(["lost-1"])
        assert completed(one, looking)[looking][2] == [False]
        completed(one, one.submit_batch_set(["lost-1"], chunks(1, 9)))
        assert one.cache.counts.saves.saved == 3


def test_a_load_takes_room_until_it_has_ended(store):
    keys = ["room-0", "room-1", "room-2"]
    with opened(store.endpoints, load_queue_bytes=3 * CHUNK) as one:
        completed(one, one.submit_batch_set(keys, chunks(3, 7)))
        begun, goes_on = threading.Event(), threading.Event()
        load = one.cache.load

        def held(*arguments):
            begun.set()
            assert goes_on.wait(10)
            return load(*arguments)

        one.cache.load = held
        loading = one.submit_batch_get(keys[:2], room(2))
        assert begun.wait(10)
        looking = one.submit_batch_exists(keys)
        assert completed(one, looking)[looking][2] == [True, False, False]
        goes_on.set()
        assert completed(one, loading)[loading][2] == [True, True]
        looking = one.submit_batch_exists(keys)
        assert completed(one, looking)[looking][2] == [True] * 3


def test_a_load_that_fails_gives_its_room_back(store):
    with opened(store.endpoints, load_queue_bytes=CHUNK) as one:
        completed(one, one.submit_batch_set(["back-0"], chunks(1, 8)))
        completed(one, one.submit_batch_get(["back-0", "back-1"], room(1)))
        looking = one.submit_batch_exists(["back-0"])
        assert completed(one, looking)[looking][2] == [True]


def test_a_store_that_is_not_there_is_a_cache_that_misses():
    with opened([Endpoint("127.0.0.1", free_port(), None)], said := [], retry_s=60) as one:
        looking, loading = one.submit_batch_exists(["a"]), one.submit_batch_get(["a"], room(1))
        saving = one.submit_batch_set(["a"], chunks(1, 4))
        assert completed(one, looking, loading, saving) == {
            looking: (True, "", [False]),
            loading: (True, "", [False]),
            saving: (False, "not saved", None),
        }
    assert any("the store failed and is left alone" in line for line in said)


def test_a_load_that_cannot_be_done_ends_and_is_said(store):
    with opened(store.endpoints, said := []) as one:
        loading = one.submit_batch_get(["a", "b"], room(1))
        done, why, found = completed(one, loading)[loading]
    assert (done, found) == (False, None)
    assert why.startswith("ValueError")
    assert said == [f"a lookup or load failed: {why}"]


def test_an_empty_task_ends(store):
    with opened(store.endpoints) as one:
        numbers = [one.submit_batch_set([], []), one.submit_batch_get([], []), one.submit_batch_exists([])]
        assert {number: found[0] for number, found in completed(one, *numbers).items()} == dict.fromkeys(
            numbers, True
        )


def test_closed_it_has_no_descriptor_and_closing_again_does_nothing(store):
    with opened(store.endpoints) as one:
        completed(one, one.submit_batch_set(["closed"], chunks(1, 5)))
        one.close()
        with pytest.raises(ValueError, match="closed"):
            one.event_fd()
        assert eventually(lambda: one.cache.wait_saved(0))
