"""Stripes under the interface of an LMCache server's native connectors, against a real Valkey."""

import json
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
from workflow.plugin.lmcache_striped.cache import StripedCache
from workflow.plugin.lmcache_striped.cache_settings import CacheSettings
from workflow.plugin.lmcache_striped.connector import StripedConnector
from workflow.plugin.lmcache_striped.deadline import Endpoint
from workflow.plugin.lmcache_striped.gate_counts import told_by
from workflow.plugin.lmcache_striped.gate_settings import NO_GATE, GateSettings
from workflow.plugin.lmcache_striped.l2 import StripedL2
from workflow.plugin.lmcache_striped.stripes import stripe_key

STRIPE = 4096
CHUNK = 3 * STRIPE + 100


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Iterator[Store]:
    with make_store("valkey", store_config(tmp_path_factory.mktemp("l2"), "valkey")) as one:
        yield one


@contextmanager
def opened(endpoints, said=None, noted=None, **settings) -> Iterator[StripedL2]:
    chosen = CacheSettings(tuple(endpoints), **{"stripe_bytes": STRIPE, "connections": 2, **settings})
    said = [] if said is None else said
    noted = [] if noted is None else noted
    one = StripedL2(StripedCache(chosen, said.append, said.append, noted.append), said.append, noted.append)
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


def test_lookups_that_wait_are_one_question_and_deletions_keep_their_turn(store, monkeypatch):
    keys = [[f"model@00000000@0@{number:032x}{chunk:032x}" for chunk in range(4)] for number in range(30, 36)]
    asked, first, goes_on = [], threading.Event(), threading.Event()
    with opened(store.endpoints) as one:
        saves = [one.submit_batch_set(keys[number][:number], chunks(number, number)) for number in range(4)]
        completed(one, *saves)
        look = one.cache.count_present_of_each

        def counted(prompts):
            asked.append(len(prompts))
            first.set()
            assert goes_on.wait(10)
            return look(prompts)

        monkeypatch.setattr(one.cache, "count_present_of_each", counted)
        lookups = [one.submit_batch_exists(keys[0])]
        assert first.wait(10)
        lookups += [one.submit_batch_exists(own) for own in keys[1:]]
        deleting = one.submit_batch_delete(keys[3][:2])
        after = one.submit_batch_exists(keys[3])
        goes_on.set()
        done = completed(one, *lookups, deleting, after)
    assert asked == [1, 5, 1]
    assert [done[number][2].count(True) for number in lookups] == [0, 1, 2, 3, 0, 0]
    assert done[deleting][2] == [True, True]
    assert done[after][2] == [False] * 4


def test_lookups_that_fail_together_end_each(store, monkeypatch):
    with opened(store.endpoints, said := []) as one:
        monkeypatch.setattr(one.cache, "count_present_of_each", lambda prompts: 1 / 0)
        numbers = [one.submit_batch_exists([f"a{number}"]) for number in range(3)]
        assert {found[0] for found in completed(one, *numbers).values()} == {False}
    assert len(said) == 3


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


def test_lookups_do_not_wait_for_a_deletion_that_waits_for_a_save(store, monkeypatch):
    keys = [f"beside-{number}" for number in range(3)]
    under_way, goes_on, put = threading.Event(), threading.Event(), StripedConnector.put

    def slow(connector, *stripes):
        under_way.set()
        assert goes_on.wait(10)
        put(connector, *stripes)

    with opened(store.endpoints, bound_bytes=1 << 20) as one:
        assert one.cache.bound.wait(10)
        completed(one, one.submit_batch_set(keys[:2], chunks(2, 1)))
        monkeypatch.setattr(StripedConnector, "put", slow)
        saving = one.submit_batch_set(keys[2:], chunks(1, 2))
        assert under_way.wait(10)
        before = one.submit_batch_exists(keys[:2])
        deleting = one.submit_batch_delete(keys[1:2])
        looking = one.submit_batch_exists(keys[:2]), one.submit_batch_exists(keys[1:2])
        found = completed(one, before, *looking)
        assert [found[number][2] for number in (before, *looking)] == [[True, True], [True, False], [False]]
        goes_on.set()
        done = completed(one, deleting, saving)
        assert (done[deleting][2], done[saving][0]) == ([True], True)
        again = one.submit_batch_exists(keys[:2])
        assert completed(one, again)[again][2] == [True, False]
    with store.client(5.0) as client:
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


@pytest.mark.parametrize(
    ("chunks_held", "kept", "line"),
    [
        (0.5, 0, "do not hold a chunk, which takes"),
        (4, 4, "do not hold the prompts that come at once"),
        (9, 8, None),
    ],
)
def test_a_bound_that_does_not_hold_a_prompt_says_so_once(store, chunks_held, kept, line):
    with store.client(5.0) as client:
        client.flushall()
    keys = [f"large-{number}" for number in range(8)]
    bound = int(chunks_held * (CHUNK + 700))
    with opened(store.endpoints, said := [], noted=[], bound_bytes=bound, retry_s=0.01) as one:
        assert one.cache.bound.wait(10)
        for _ in range(2):
            looked_up(one, keys)
            completed(one, one.submit_batch_set(keys, chunks(8, 13)))
        assert one.cache.counts.bound.chunks == kept
        assert one.cache.counts.bound.used_bytes <= bound
    told = {text for text in said if "bound_bytes" in text}
    assert len(told) == (line is not None)
    assert all(line in text for text in told)


def test_at_the_second_use_only_what_comes_again_is_saved(store):
    keys = [f"second-{number}" for number in range(3)]
    with opened(store.endpoints, noted=(said := []), save="second_use") as one:
        for saved, present in ((keys[:2], 0), (keys, 2), (keys[2:], 3)):
            saving = one.submit_batch_set(saved, chunks(len(saved), 11))
            assert completed(one, saving) == {saving: (True, "", None)}
            looking = one.submit_batch_exists(keys)
            assert completed(one, looking)[looking][2] == [number < present for number in range(3)]
        assert (one.cache.counts.first_uses, one.cache.counts.saves.saved) == (3, 3)
    assert said == [f"{count} chunks came for the first time, and are not saved" for count in (2, 1)]


def gated(tmp_path, chunk_s: float) -> GateSettings:
    """A gate of an engine that computes a chunk, 100 tokens, in so many seconds."""
    curve = tmp_path / "curve.json"
    curve.write_text(json.dumps([[100 * count, count * chunk_s] for count in (1, 10, 100)]))
    return GateSettings("ttft", curve, chunk_tokens=100)


def looked_up(one: StripedL2, keys) -> list[bool]:
    looking = one.submit_batch_exists(keys)
    return completed(one, looking)[looking][2]


def loaded_once(one: StripedL2, count: int = 3) -> None:
    """So that the gate knows how fast the store is."""
    keys = [f"once-{number}" for number in range(count)]
    completed(one, one.submit_batch_set(keys, chunks(count, 5)))
    loading = one.submit_batch_get(keys, room(count))
    assert completed(one, loading)[loading][2] == [True] * count


def test_what_is_worth_loading_is_found_and_the_rest_is_not_saved_again_until_it_is_lost(store, tmp_path):
    keys = [f"gated-{number}" for number in range(5)]
    with opened(store.endpoints, noted=(told := []), gate=gated(tmp_path, 1e-9)) as one:
        loaded_once(one)
        completed(one, one.submit_batch_set(keys, chunks(5, 6)))
        assert looked_up(one, keys) == [False] * 5
        assert any(line.startswith("gate found 0 of 5 chunks") for line in told)
        for _ in range(2):
            saving = one.submit_batch_set(keys, chunks(5, 6))
            assert completed(one, saving)[saving] == (True, "", None)
        assert one.cache.counts.saves.saved == 8
        with store.client(5.0) as client:
            client.delete(stripe_key(b"gated-2", 0))
        assert looked_up(one, keys) == [False] * 5
        completed(one, one.submit_batch_set(keys, chunks(5, 6)))
        assert one.cache.counts.saves.saved == 8 + 3


def test_where_loading_is_sooner_all_is_found_and_what_happened_is_told(store, tmp_path):
    with opened(store.endpoints, noted=(told := []), gate=gated(tmp_path, 10.0)) as one:
        loaded_once(one)
        keys = [f"once-{number}" for number in range(3)]
        assert looked_up(one, [*keys, "new"]) == [True] * 3 + [False]
        loading = one.submit_batch_get(keys, room(3))
        completed(one, loading, one.submit_batch_set(["new"], chunks(1, 7)))
    counts = told_by(f"striped: {line}" for line in told)
    assert (counts.lookups, counts.found_chunks, counts.left_chunks) == (1, 3, 0)
    assert counts.load_error is not None
    assert counts.prompt_error is not None


def test_what_lmcaches_pool_has_is_no_load_and_the_rest_is_behind_it(store, tmp_path):
    keys = [f"pool-{number}" for number in range(6)]
    with opened(store.endpoints, noted=(told := []), gate=gated(tmp_path, 1e-9)) as one:
        loaded_once(one)
        completed(one, one.submit_batch_set(keys[:5], chunks(5, 12)))
        for held, present in ((keys, 0), (keys[:5], 0), (keys[:3], 2), (["pool-1"], 5)):
            one.pool.went(keys)
            one.pool.came(held)
            leading = [True] * min(5, len(held)) if "pool-0" in held else []
            assert looked_up(one, keys) == leading + [False] * (6 - len(leading))
            assert told[-1].startswith(f"gate found 0 of {present} chunks")
        one.pool.came(keys)
        completed(one, one.submit_batch_get(keys[3:5], room(2)))
        assert looked_up(one, keys) == [True] * 3 + [False] * 3


def test_a_load_that_fails_is_no_measure_of_the_store_and_ends(store, tmp_path):
    with opened(store.endpoints, gate=gated(tmp_path, 10.0)) as one:
        loaded_once(one)
        completed(one, one.submit_batch_get(["once-0", "once-1"], room(1)))
        assert looked_up(one, ["once-0"]) == [True]


def test_a_store_that_was_too_slow_is_tried_by_the_side(store, tmp_path, monkeypatch):
    with opened(store.endpoints, gate=gated(tmp_path, 1e-9)) as one:
        loaded_once(one)
        asked, load = [], one.cache.load
        monkeypatch.setattr(
            one.cache, "load", lambda names, *rest: asked.append(list(names)) or load(names, *rest)
        )
        keys = [f"once-{number}" for number in range(3)]
        assert eventually(lambda: looked_up(one, keys) == [False] * 3 and asked)
        assert set(asked[0]) <= {key.encode() for key in keys}


def test_chunks_of_several_ranks_are_found_when_every_rank_s_value_is_there(store, tmp_path):
    def of_rank(rank: int, count: int) -> list[str]:
        return [f"m@{rank:08x}@0@{number:064x}" for number in range(count)]

    for gate in (NO_GATE, gated(tmp_path, 10.0)):
        with opened(store.endpoints, gate=gate) as one:
            loaded_once(one)
            completed(one, one.submit_batch_set(of_rank(0, 3), chunks(3, 8)))
            completed(one, one.submit_batch_set(of_rank(1, 2), chunks(2, 9)))
            found = [True, True, False, False] * 2
            assert looked_up(one, of_rank(0, 4) + of_rank(1, 4)) == found
            keys = of_rank(0, 2) + of_rank(1, 2)
            loading = one.submit_batch_get(keys, room(4))
            assert completed(one, loading)[loading][2] == [True] * 4


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
