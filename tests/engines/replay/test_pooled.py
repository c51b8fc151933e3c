"""A pool above a modelled store: what is found, held, loaded and saved."""

from dataclasses import replace

import pytest

from workflow.hyperkv.engines.replay.modelled import Device
from workflow.hyperkv.engines.replay.pooled import PooledTiers
from workflow.hyperkv.engines.replay.pools import LruPool, ServerPool
from workflow.hyperkv.engines.replay.request import VirtualClock
from workflow.hyperkv.engines.replay.tiers import Told

BYTES = 1_000_000
DEVICE = Device(gbps=2, write_gbps=1, chunk_s=1e-4, call_s=0, look_s=2e-4)
SECOND = replace(DEVICE, gbps=BYTES / 1e9, write_gbps=BYTES / 1e9)  # a chunk in a second
KEYS = [bytes([number]) for number in range(200)]


def save(tiers, keys):
    tiers.computing(keys)
    tiers.save(keys)


def fetched(tiers, clock, keys):
    """What is loaded of these chunks, and when."""
    fetch = tiers.fetch(keys, tiers.look(keys).by_tier)
    while not fetch.ready:
        clock.now_s = tiers.next_s
        tiers.go_on()
    return tiers.load_fetched(keys, fetch).by_tier


def test_a_pool_keeps_what_was_used_last_and_the_store_all_that_the_device_has_written():
    clock, keys = VirtualClock(), KEYS[:4]
    tiers = PooledTiers(SECOND, BYTES, clock, LruPool(2), has_store=True)
    assert tiers.save(keys) == 0
    assert tiers.look(keys).by_tier == (2, 0)
    assert tiers.look(keys[2:]).by_tier == (0, 0)
    clock.now_s = 3.0
    assert tiers.look(keys).by_tier == (2, 1)
    clock.now_s = 4.0
    assert tiers.look(keys).by_tier == (2, 2)
    assert fetched(tiers, clock, keys[2:]) == {"dram": 0, "store": 2}
    assert clock.now_s == pytest.approx(6.0)
    assert tiers.look(keys[2:]).by_tier == (2, 0)
    assert fetched(tiers, clock, keys[2:]) == {"dram": 2, "store": 0}
    assert clock.now_s == pytest.approx(6.0)
    tiers.save(keys[:1])
    assert tiers.look(keys).by_tier == (1, 3)


def test_what_the_pool_has_costs_the_copy_alone_and_waits_for_no_load():
    clock = VirtualClock()
    tiers = PooledTiers(SECOND, BYTES, clock, ServerPool(10, clock, watermark=0.0), has_store=True)
    save(tiers, KEYS[:4])
    clock.now_s = 9.0
    assert tiers.look(KEYS[:4]).by_tier == (0, 4)
    slow = tiers.fetch(KEYS[:4], (0, 4))
    save(tiers, KEYS[10:13])
    quick = tiers.fetch(KEYS[10:13], tiers.look(KEYS[10:13]).by_tier)
    assert (slow.ready, quick.ready) == (False, True)
    assert tiers.load_fetched(KEYS[10:13], quick).seconds == pytest.approx(3 * 1e-4)


def test_a_gate_is_told_when_a_load_begins_and_ends():
    clock, told = VirtualClock(), []
    tiers = PooledTiers(SECOND, BYTES, clock, ServerPool(4, clock, watermark=0.0), has_store=True)
    save(tiers, KEYS[:4])
    clock.now_s = 9.0
    for keys in (KEYS[:2], KEYS[2:4], KEYS[:1]):
        tiers.fetch(keys, (0, len(keys)), Told(lambda: told.append("begun"), told.append))
    assert told == ["begun", "begun", False]
    clock.now_s = 13.0
    tiers.go_on()
    assert told == ["begun", "begun", False, True, True]


def test_a_pool_alone_forgets():
    tiers = PooledTiers(DEVICE, 8, VirtualClock(), LruPool(1), has_store=False)
    tiers.save([b"a"])
    tiers.save([b"b"])
    assert (tiers.look([b"a"]).by_tier, tiers.look([b"b"]).by_tier) == ((0, 0), (1, 0))


def test_without_a_pool_all_passes_on_to_the_store():
    clock = VirtualClock()
    tiers = PooledTiers(DEVICE, BYTES, clock, LruPool(0), has_store=True)
    tiers.save(KEYS[:3])
    clock.now_s = 1.0
    assert fetched(tiers, clock, KEYS[:3]) == {"dram": 0, "store": 3}


def test_what_lmcaches_server_has_no_room_for_is_neither_saved_nor_loaded():
    """Four chunks of room. A prompt of five is not saved; of one of three the first chunk is written first, and goes when the server looks."""
    clock = VirtualClock()
    tiers = PooledTiers(SECOND, BYTES, clock, ServerPool(4, clock), has_store=True)
    save(tiers, KEYS[:5])
    assert tiers.look(KEYS).by_tier == (0, 0)
    save(tiers, KEYS[10:13])
    assert tiers.look(KEYS[10:]).by_tier == (3, 0)
    save(tiers, KEYS[20:21])
    clock.now_s = 9.0
    assert tiers.look(KEYS[10:13]).by_tier == (0, 3)
    assert tiers.look(KEYS[11:13]).by_tier == (2, 0)
    save(tiers, KEYS[30:31])
    assert fetched(tiers, clock, KEYS[10:13]) == {"dram": 0, "store": 0}
    assert fetched(tiers, clock, KEYS[11:13]) == {"dram": 2, "store": 0}


def test_room_for_a_load_is_taken_when_it_is_found_and_given_back_when_it_was_copied():
    clock = VirtualClock()
    device = replace(SECOND, chunk_s=0.25)
    tiers = PooledTiers(device, BYTES, clock, ServerPool(4, clock, watermark=0.0), has_store=True)
    save(tiers, KEYS[:4])
    clock.now_s = 9.0
    first = tiers.fetch(KEYS[:3], tiers.look(KEYS[:3]).by_tier)
    assert tiers.fetch(KEYS[:2], (0, 2)).found == (0, 0)
    clock.now_s = 12.0
    tiers.go_on()
    assert first.ready
    assert tiers.fetch(KEYS[:2], (0, 2)).found == (0, 0)
    tiers.load_fetched(KEYS[:3], first)
    assert tiers.fetch(KEYS[:2], (0, 2)).found == (0, 0)
    clock.now_s = 12.75
    assert tiers.fetch(KEYS[:2], (0, 2)).found == (0, 2)


def test_a_server_keeps_nothing_that_it_loads():
    clock = VirtualClock()
    tiers = PooledTiers(DEVICE, BYTES, clock, ServerPool(10, clock, watermark=0.0), has_store=True)
    save(tiers, KEYS[:2])
    clock.now_s = 9.0
    for _ in range(2):
        assert fetched(tiers, clock, KEYS[:2]) == {"dram": 0, "store": 2}


def test_what_waits_to_be_written_stays_and_what_the_queue_has_no_room_for_is_in_no_store():
    clock = VirtualClock()
    tiers = PooledTiers(
        SECOND, BYTES, clock, ServerPool(9, clock, watermark=0.0), has_store=True, queue_bytes=3 * BYTES
    )
    save(tiers, KEYS[:6])
    clock.now_s = 1.5
    assert tiers.look(KEYS[:6]).by_tier == (5, 0)  # the last went, a fifth of six
    clock.now_s = 9.0
    assert tiers.look(KEYS[:6]).by_tier == (0, 3)
