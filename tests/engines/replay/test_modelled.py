"""The modelled device: its seconds are those of its formula."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow.hyperkv.engines.replay.modelled import Device, ModelTiers
from workflow.hyperkv.engines.replay.request import VirtualClock

BYTES = 1_000_000
DEVICE = Device(gbps=2, write_gbps=1, chunk_s=1e-4, call_s=1e-3, look_s=2e-4)
KEYS = [bytes([number]) for number in range(200)]


def tiers_of(device, clock=None):
    tiers = ModelTiers(device, BYTES, clock or VirtualClock(), 1)
    tiers.save(KEYS)
    return tiers


@given(
    count=st.integers(1, 200), gbps=st.floats(0.5, 20), chunk_s=st.floats(0, 2e-3), call_s=st.floats(0, 5e-3)
)
def test_a_load_takes_its_call_its_chunks_and_its_bytes(count, gbps, chunk_s, call_s):
    tiers = tiers_of(replace(DEVICE, gbps=gbps, chunk_s=chunk_s, call_s=call_s))
    expected = call_s + count * (chunk_s + BYTES / gbps / 1e9)
    assert tiers.load_found(KEYS, (count,)).seconds == pytest.approx(expected)
    assert tiers.load(KEYS[:count]).seconds == pytest.approx(DEVICE.look_s + expected)


def test_only_leading_chunks_are_found_and_nothing_is_loaded_for_nothing():
    tiers = ModelTiers(DEVICE, BYTES, VirtualClock(), 1)
    assert tiers.save(KEYS[1:3]) == pytest.approx(1e-3 + 2 * (1e-4 + 1e-3))
    assert tiers.look(KEYS).by_tier == (0,)
    assert tiers.load(KEYS).seconds == DEVICE.look_s
    tiers.save(KEYS[:1])
    assert tiers.look(KEYS).by_tier == (3,)
    assert tiers.load(KEYS).by_tier == {"store": 3}


def test_speed_changes_when_it_is_said_to():
    clock = VirtualClock()
    tiers = tiers_of(replace(DEVICE, chunk_s=0, call_s=0, changes=((10.0, 0.5), (20.0, 4.0))), clock)
    seconds = []
    for clock.now_s in (0.0, 9.9, 10.0, 19.9, 25.0):
        seconds.append(tiers.load_found(KEYS, (1,)).seconds)
    assert seconds == pytest.approx([5e-4, 5e-4, 1e-3, 1e-3, 1.25e-4])


def test_what_was_saved_or_loaded_a_moment_ago_is_warm():
    device = replace(DEVICE, chunk_s=0, call_s=0, warm_gbps=20, warm_bytes=10 * BYTES)
    tiers = tiers_of(device)
    assert tiers.load_found(KEYS[190:], (10,)).seconds == pytest.approx(10 * BYTES / 20e9)
    assert tiers.load_found(KEYS[:10], (10,)).seconds == pytest.approx(10 * BYTES / 2e9)
    assert tiers.load_found(KEYS[:10], (10,)).seconds == pytest.approx(10 * BYTES / 20e9)


def test_noise_has_a_mean_of_one():
    tiers = tiers_of(replace(DEVICE, noise=0.2))
    seconds = [tiers.load_found(KEYS, (100,)).seconds for _ in range(4000)]
    assert np.mean(seconds) == pytest.approx(1e-3 + 100 * (1e-4 + 5e-4), rel=0.01)
    assert np.std(seconds) / np.mean(seconds) == pytest.approx(0.2, rel=0.1)
