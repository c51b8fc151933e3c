"""The gate in engine replay: what is found, left, loaded by the side and saved, by the engine's clock."""

import numpy as np
import pytest

from tests.engines.replay.modelled_device import QUICK, SLOW, Talk, served
from workflow.hyperkv.connectors.inprocess import InprocessConnector
from workflow.hyperkv.engines.replay.gating import Gating, curve_points
from workflow.hyperkv.engines.replay.request import Request, VirtualClock
from workflow.hyperkv.engines.replay.tiers import RealTiers, Tier
from workflow.hyperkv.models.gpu import GpuModel
from workflow.hyperkv.stores.base import StoreConfig
from workflow.hyperkv.stores.dram import DramStore
from workflow.hyperkv.workloads.payload import Payload
from workflow.plugin.lmcache_striped.gate import Gate

TURNS = ((1000, 1010), (1050, 1060), (1100, 1110), (1150, 1160), (1200, 1210))


def first_tokens(result):
    return np.array([item.first_token_s - item.arrival_s for item in result.requests])


TALKS = [Talk(f"talk-{number}", TURNS) for number in range(4)]


def test_what_is_slower_to_load_than_to_compute_is_left_and_computed_and_not_saved_again():
    result, gating, tiers = served(TALKS, SLOW)
    recomputed, *_ = served(TALKS, None)
    assert gating.counts.left_chunks > 20 * gating.counts.found_chunks
    assert len(tiers.saved) < 1.05 * len(set(tiers.saved))
    assert result.totals.saved_bytes == len(tiers.saved) * tiers.chunk_bytes
    assert first_tokens(result).mean() < 1.02 * first_tokens(recomputed).mean()


def test_what_is_quicker_to_load_is_loaded():
    result, gating, _ = served(TALKS, QUICK)
    assert gating.counts.found_chunks > 0.8 * gating.counts.present_chunks
    assert sum(item.computed_tokens for item in result.requests) < 0.5 * sum(
        item.prompt_tokens for item in result.requests
    )
    assert gating.counts.load_error < 0.1
    assert "gate ttft: store" in gating.told


def test_a_device_that_slows_down_in_the_middle_is_left_alone():
    slowing = QUICK.changed((5.0, 0.01))
    result, *_ = served(TALKS * 5, slowing)
    always, *_ = served(TALKS * 5, slowing, objective=None)
    before, after = (
        [item.loaded_bytes for item in result.requests if (item.arrival_s < 5) == early]
        for early in (True, False)
    )
    assert len(after) > 10
    assert np.mean(after) < 0.1 * np.mean(before)
    assert result.window_s < 0.5 * always.window_s


def test_a_device_that_becomes_faster_is_tried_again_by_the_side():
    result, _, tiers = served(TALKS * 5, SLOW.changed((5.0, 1000.0)))
    before = [item.loaded_bytes for item in result.requests if item.arrival_s < 5]
    after = [item.loaded_bytes for item in result.requests if item.arrival_s > 8]
    assert np.mean(before) < 0.1 * np.mean(after)
    assert tiers.probed


def test_all_that_was_asked_is_answered_and_every_token_is_hit_or_computed():
    for device in (QUICK, SLOW, QUICK.changed((2.0, 0.02), (4.0, 1.0))):
        for objective in ("ttft", "throughput", "off"):
            result, *_ = served(TALKS, device, objective)
            assert len(result.requests) == len(TALKS) * len(TURNS)
            for item in result.requests:
                hit = item.hbm_hit_tokens + sum(item.tier_hit_tokens.values())
                assert hit + item.computed_tokens == item.prompt_tokens
                assert item.finish_s is not None


def test_the_curve_of_a_modelled_gpu_is_its_prefill_time_in_steps():
    gpu = GpuModel("test", 1000, 1, prefill_attention_s_per_token2=1e-6)
    curve = dict(curve_points(gpu, 2048))
    assert curve[1024] == pytest.approx(1.024 + 1e-6 * 1024**2 / 2)
    assert curve[4096] == pytest.approx(4.096 + 1e-6 * 4096**2 / 2)


SIZE = 4100
KEYS = [bytes([0, 0, 0, number]) * 4 for number in range(6)]


@pytest.fixture
def levels(tmp_path):
    payload = Payload(SIZE)
    with (
        DramStore(StoreConfig(tmp_path, SIZE, tmp_path / "log", capacity_bytes=10 * SIZE)) as pool,
        DramStore(StoreConfig(tmp_path, SIZE, tmp_path / "log", capacity_bytes=10 * SIZE)) as store,
    ):
        tiers = [
            Tier(name, one, InprocessConnector(one, 1)) for name, one in (("dram", pool), ("store", store))
        ]
        for number, key in enumerate(KEYS[:5]):
            (pool if number < 2 else store).put(key, payload.value(key))
        yield RealTiers(tiers, payload, len(KEYS))


def test_what_a_tier_above_has_is_loaded_whatever_the_gate_says(levels):
    assert levels.look(KEYS).by_tier == (2, 3)
    clock = VirtualClock()
    gate = Gate("ttft", 16, clock, [[100, 1e-6], [1000, 1e-5]], SIZE)
    gating = Gating(gate, levels, 16)
    request = Request("a", 0, 0, 100, 10, [], KEYS, 0.0)
    looked = gating.look(request, KEYS, 0)
    assert looked.by_tier == (2, 0)
    assert request.fetch is not None
    assert request.fetch.found == looked.by_tier
    load = gating.load(request, KEYS)
    assert (load.by_tier, load.present, load.corrupt) == ({"dram": 2, "store": 0}, 2, 0)


def test_what_was_looked_up_is_loaded_without_another_lookup(levels):
    load = levels.load_found(KEYS, (2, 2))
    assert (load.by_tier, load.present, load.corrupt) == ({"dram": 2, "store": 2}, 4, 0)
    assert levels.load_found(KEYS, (2, 4)).by_tier == {"dram": 2, "store": 3}
    assert levels.load_last(KEYS[4:5]).present == 1
