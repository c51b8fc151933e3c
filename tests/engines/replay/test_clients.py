"""Clients before several engines of replay: whom a request goes to, how the channel is shared, and who saved what was found."""

from dataclasses import dataclass

import numpy as np
import pytest

from tests.record_factory import cell
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.engines.replay.cells import measure_cell
from workflow.hyperkv.engines.replay.clients import Clients, by_conversation, by_request
from workflow.hyperkv.engines.replay.engine import ReplayEngine
from workflow.hyperkv.engines.replay.request import KeyedConversation, ReplaySettings, VirtualClock
from workflow.hyperkv.engines.replay.tiers import Load, Tiers
from workflow.hyperkv.models.gpu import GpuModel
from workflow.hyperkv.workloads import Turn
from workflow.hyperkv.workloads.chunks import chain_keys
from workflow.hyperkv.workloads.factory import make_workload

GPU = GpuModel("test", prefill_tokens_per_s=1000, host_device_gbps=1e12, decode_base_s=0.01)
SETTINGS = ReplaySettings(
    block_tokens=10, hbm_blocks=1000, chunk_tokens=20, max_num_batched_tokens=1000, max_num_seqs=100, staging_bytes=100
)  # fmt: skip


@dataclass(frozen=True)
class Talk:
    name: str
    turns: tuple[Turn, ...]
    tokens: np.ndarray


class SlowTiers(Tiers):
    """Chunks of one byte that are never there; a look takes half a second, a save a quarter."""

    chunk_bytes = 1

    def load(self, keys):
        return Load(0.5, 0, {"store": 0})

    def save(self, keys):
        return 0.25


def talks(count, *ends):
    """Conversations with nothing in common, of turns (prompt_end, answer_end)."""
    tokens = [np.arange(ends[-1][1], dtype=np.uint32) + number * 10_000 for number in range(count)]
    return [
        KeyedConversation(
            Talk(f"t{number}", tuple(Turn(*end) for end in ends), own), chain_keys(own, SETTINGS.block_tokens)
        )
        for number, own in enumerate(tokens)
    ]


def served(conversations, engines, clients, tiers=None, route=None):
    clock = VirtualClock()
    each = [
        ReplayEngine(conversations, GPU, SETTINGS, None if tiers is None else tiers(), None, clock)
        for _ in range(engines)
    ]
    turns = [len(item.conversation.turns) for item in conversations]
    return Clients(each, turns, clients, clock, route=route).run()


def test_a_conversation_stays_and_conversations_are_dealt_out():
    route = by_conversation(3)
    assert [route(number, 0) for number in range(6)] == [0, 1, 2, 0, 1, 2]
    assert {route(4, turn) for turn in range(9)} == {1}


def test_requests_go_to_any_engine_evenly_and_alike_in_every_scenario():
    route = by_request(4)
    asked = [(number, turn) for number in range(100) for turn in range(10)]
    counts = np.bincount([route(*each) for each in asked], minlength=4)
    assert counts.min() > 200
    assert [route(*each) for each in asked] == [by_request(4)(*each) for each in asked]
    assert len({route(7, turn) for turn in range(10)}) > 1


def test_engines_compute_at_once():
    # One engine has both prompts in a step: 0.2 s; two have one each: 0.1 s.
    alone, together = (served(talks(2, (100, 101)), engines, 2) for engines in (1, 2))
    assert [r.first_token_s for r in alone.requests] == pytest.approx([0.2, 0.2])
    assert [r.first_token_s for r in together.requests] == pytest.approx([0.1, 0.1])
    assert together.totals.gpu_busy_s == pytest.approx(alone.totals.gpu_busy_s)


def test_the_channel_is_one_and_goes_to_engines_in_turn_loads_before_saves():
    # Conversations 0 and 2 are the first engine's, 1 the second's: looks end at 0.5 (0), 1.0 (1), 1.5 (2), no save goes before.
    result = served(talks(3, (100, 101)), 2, 3, SlowTiers)
    assert {r.conversation: r.loaded_s for r in result.requests} == pytest.approx(
        {"t0": 0.5, "t1": 1.0, "t2": 1.5}
    )
    assert result.totals.saved_bytes == 15


def shared_by(tmp_path, scenario, load=1, **keys):
    """A tiny cell of two engines, whose HBM keeps nothing."""
    found = cell(tmp_path, scenario, load)
    found.spec["scenario"] |= keys
    found.spec["engines"], found.spec["replay"]["prefix_caching"] = 2, False
    return found


def expected_others(record, spec):
    """Of the hits of a record those of chunks that another engine saved, by who was asked what in which order. One client."""
    chunk, route = spec["scenario"]["chunk_tokens"], by_request(2)
    planned = make_workload(spec["workload"], record["seed"])
    index = {each.name: number for number, each in enumerate(planned)}
    saved, others = [set(), set()], 0
    columns = (record["requests"][name] for name in ("conversation", "turn", "store_hit_tokens"))
    for name, turn, hits in zip(*columns, strict=True):
        engine = route(index[name], turn)
        found = [(name, number) for number in range(hits // chunk)]
        assert all(each in saved[0] | saved[1] for each in found)
        others += chunk * sum(each not in saved[engine] for each in found)
        end = planned[index[name]].turns[turn].answer_end - 1
        saved[engine] |= {(name, number) for number in range(hits // chunk, end // chunk)}
    return others


def test_who_saved_what_was_found_is_who_was_asked_first(tmp_path):
    asked = shared_by(tmp_path, "files", routing="request")
    record = measure_cell(asked).dump()
    evidence = record["evidence"]
    assert 0 < evidence["other_hit_tokens"] == expected_others(record, asked.spec)
    assert evidence["other_hit_tokens"] < evidence["store_hit_tokens"]
    assert evidence["hit_tokens"] + evidence["computed_tokens"] == evidence["queried_tokens"]


@pytest.mark.parametrize("keys", [{"routing": "request", "shared": False}, {"routing": "conversation"}])
def test_nothing_is_anothers_where_nothing_is_shared_or_in_common(tmp_path, keys):
    evidence = measure_cell(shared_by(tmp_path, "files", **keys)).dump()["evidence"]
    assert (evidence["other_hit_tokens"], evidence["store_hit_tokens"] > 0) == (0, True)


def test_with_a_store_of_its_own_each_engine_finds_less_and_all_save_more(tmp_path):
    one, apart = (
        measure_cell(shared_by(tmp_path, "files", routing="request", shared=shared)).dump()["evidence"]
        for shared in (True, False)
    )
    assert apart["store_hit_tokens"] < one["store_hit_tokens"]
    assert apart["saved_bytes"] > one["saved_bytes"]
    assert apart["taken_bytes"] == apart["saved_bytes"]


def test_a_pool_is_each_engines_own_and_all_are_counted(tmp_path):
    record = measure_cell(shared_by(tmp_path, "dram", load=2, routing="request")).dump()
    evidence = record["evidence"]
    assert (record["valid"], evidence["other_hit_tokens"]) == (True, 0)
    assert evidence["dram_hit_tokens"] > 0
    assert evidence["loaded_bytes"] == evidence["served_bytes"] > 0
    assert evidence["saved_bytes"] == evidence["taken_bytes"]


def test_pools_of_all_engines_must_fit(tmp_path):
    asked = shared_by(tmp_path, "dram", dram_pool_bytes=1 << 40)
    with pytest.raises(UserError, match=r"about 2199\.0 GB needed in memory"):
        measure_cell(asked)


def test_figures_per_gpu_are_divided_by_the_gpus_of_all_engines(tmp_path):
    asked = shared_by(tmp_path, "dram", load=2)
    asked.spec["replay"]["gpus"] = 2
    record = measure_cell(asked).dump()
    window_s, ends = record["values"]["window_s"], record["requests"]["finish_s"]
    answered = sum(end <= window_s + 1e-6 for end in ends)
    assert (record["gpus"], record["effective"]["gpus"], record["gpu_model"]["gpus"]) == (4, 2, 2)
    assert record["values"]["rps_per_gpu"] == pytest.approx(answered / window_s / 4)
    assert record["values"]["gpu_busy_share"] <= 1


def by_the_clock(conversations, begins_s, think_s=None):
    clock = VirtualClock()
    engine = ReplayEngine(conversations, GPU, SETTINGS, None, None, clock)
    turns = [len(item.conversation.turns) for item in conversations]
    return Clients([engine], turns, 1, clock, think_s=think_s, begins_s=begins_s).run()


def test_conversations_of_an_open_loop_begin_by_the_clock_whatever_the_engine_does():
    """Each takes a second of the GPU, and they come four a second: none waits for another's answer to be sent."""
    begins_s = [0.0, 0.25, 0.5, 0.75]
    result = by_the_clock(talks(4, (1000, 1001)), begins_s)
    assert [each.arrival_s for each in result.requests] == begins_s
    assert [each.first_token_s for each in result.requests] == pytest.approx([1, 2, 3, 4], abs=0.05)
    assert result.window_s == 0.75


def test_a_later_turn_of_an_open_loop_waits_for_its_answer():
    result = by_the_clock(talks(2, (1000, 1001), (1500, 1501)), [0.0, 5.0], think_s=lambda client: 0.5)
    first, later = (each for each in result.requests if each.client == 0)
    assert later.arrival_s == pytest.approx(first.finish_s + 0.5)
    assert result.window_s == result.requests[-1].arrival_s > 5.0
