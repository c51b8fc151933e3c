"""Schedules worked out by hand, then properties of small random workloads."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.engines.replay.clients import replay
from workflow.hyperkv.engines.replay.request import KeyedConversation, ReplaySettings
from workflow.hyperkv.engines.replay.tiers import Load, Tiers
from workflow.hyperkv.models.gpu import GpuModel
from workflow.hyperkv.workloads import Turn
from workflow.hyperkv.workloads.chunks import chain_keys

GPU = GpuModel("test", prefill_tokens_per_s=1000, host_device_gbps=1e12, decode_base_s=0.01)
BASE = ReplaySettings(
    block_tokens=10,
    hbm_blocks=1000,
    chunk_tokens=20,
    max_num_batched_tokens=1000,
    max_num_seqs=100,
    staging_bytes=100,
)
HBM_OFF = replace(BASE, prefix_caching=False)


@dataclass(frozen=True)
class Talk:
    name: str
    turns: tuple[Turn, ...]
    tokens: np.ndarray


class FakeTiers(Tiers):
    """Chunks of one byte; loads and saves take constant time; calls are recorded by their chunk count."""

    chunk_bytes = 1

    def __init__(self, load_s=0.5, save_s=0.25, held=()):
        self.load_s, self.save_s, self.held, self.calls = load_s, save_s, set(held), []

    def load(self, keys):
        present = next((i for i, key in enumerate(keys) if key not in self.held), len(keys))
        self.calls.append(("load", len(keys)))
        return Load(self.load_s, present, {"store": present})

    def save(self, keys):
        self.calls.append(("save", len(keys)))
        self.held.update(keys)
        return self.save_s


def talk(name, *ends, first=None):
    """A conversation of turns (prompt_end, answer_end), of its own tokens or those counting from `first`."""
    start = sum(name.encode()) * 10_000 if first is None else first
    tokens = np.arange(start, start + ends[-1][1], dtype=np.uint32)
    return KeyedConversation(
        Talk(name, tuple(Turn(*end) for end in ends), tokens), chain_keys(tokens, BASE.block_tokens)
    )


def run(talks, clients=1, config=BASE, tiers=None):
    return replay(talks, clients, GPU, config, tiers)


def times(result):
    return [(r.conversation, r.arrival_s, r.first_token_s, r.finish_s) for r in result.requests]


def assert_times(result, expected):
    assert [row[0] for row in times(result)] == [row[0] for row in expected]
    for row, wanted in zip(times(result), expected, strict=True):
        assert row[1:] == pytest.approx(wanted[1:])


def tier_hits(result):
    return [sum(r.tier_hit_tokens.values()) for r in result.requests]


def hbm_hits(result):
    return [r.hbm_hit_tokens for r in result.requests]


@pytest.mark.parametrize(
    ("config", "hbm", "tier", "calls"),
    [
        (BASE, 100, 0, [("load", 4), ("save", 5), ("load", 1), ("save", 1)]),
        (HBM_OFF, 0, 100, [("load", 4), ("save", 5), ("load", 6), ("save", 1)]),
    ],
    ids=["hbm", "store"],
)
def test_second_turn_waits_for_the_save_then_loads_and_computes_the_rest(config, hbm, tier, calls):
    # 0.00 load of nothing -> 0.50; 100 tokens -> first 0.60; four decodes -> 0.64; save 0.60 -> 0.85
    # 0.64 second turn; load waits 0.85 -> 1.35; 30 tokens -> first 1.38; one decode -> 1.39
    tiers = FakeTiers()
    result = run([talk("a", (100, 105), (130, 132))], config=config, tiers=tiers)
    assert_times(result, [("a", 0, 0.6, 0.64), ("a", 0.64, 1.38, 1.39)])
    assert result.requests[1].loaded_s == pytest.approx(1.35)
    assert (hbm_hits(result)[1], tier_hits(result)[1]) == (hbm, tier)
    assert [r.computed_tokens for r in result.requests] == [100, 30]
    assert tiers.calls == calls
    assert result.totals.saved_bytes == 6
    assert result.totals.load_s == pytest.approx(1.0)
    assert result.totals.save_s == pytest.approx(0.5)
    assert result.totals.gpu_busy_s == pytest.approx(0.14 + 0.04)


def test_two_clients_share_steps():
    # 0.00-0.12 a 100 + b 20; 0.12-0.15 b 30, a decodes within it; 0.15-0.16 both decode and finish
    config = replace(BASE, max_num_batched_tokens=120)
    result = run([talk("a", (100, 103)), talk("b", (50, 52))], 2, config)
    assert_times(result, [("a", 0, 0.12, 0.16), ("b", 0, 0.15, 0.16)])
    assert result.totals.steps == 3


def test_a_load_goes_before_waiting_saves():
    # 0.04 both first tokens, two saves queue; b's second turn arrives and its load goes first: 0.04 -> 0.54
    # a decodes 19 steps -> 0.23; b computes 41 tokens 0.54 -> 0.581
    tiers = FakeTiers()
    result = run([talk("a", (20, 40)), talk("b", (20, 21), (41, 42))], 2, HBM_OFF, tiers)
    assert_times(result, [("a", 0, 0.04, 0.23), ("b", 0, 0.04, 0.04), ("b", 0.04, 0.581, 0.581)])
    assert tiers.calls == [("load", 2), ("save", 1), ("save", 1), ("save", 1)]
    assert tier_hits(result) == [0, 0, 0]


@pytest.mark.parametrize(
    ("policy", "finish", "stall", "dropped", "second_hit"),
    [("wait", 1.56, 1, 0, 40), ("drop", 0.56, 0, 1, 20)],
)
def test_a_full_staging_pool(policy, finish, stall, dropped, second_hit):
    # first 0.54 with two chunks for a pool of one; save 0.54 -> 1.54; two decodes of 0.01
    config = replace(HBM_OFF, staging_bytes=1, staging_full=policy)
    result = run([talk("a", (40, 43), (59, 60))], config=config, tiers=FakeTiers(save_s=1))
    assert result.requests[0].finish_s == pytest.approx(finish)
    assert result.totals.save_stall_s == pytest.approx(stall)
    assert result.totals.dropped_chunks == dropped
    # wait: the second turn's load, at 1.56, goes after the second save, which began at 1.54
    assert tier_hits(result)[1] == second_hit


def test_no_stall_is_counted_when_the_gpu_has_nothing_to_do():
    result = run([talk("a", (40, 41))], config=replace(HBM_OFF, staging_bytes=1), tiers=FakeTiers())
    assert result.totals.saved_bytes == 2
    assert result.totals.save_stall_s == 0


@pytest.mark.parametrize(("save_decode", "hit"), [(True, 40), (False, 20)])
def test_save_decode_cache_keeps_the_answer(save_decode, hit):
    # max_num_seqs 1: b runs between a's turns, long enough for the answer's chunk to be saved
    config = replace(HBM_OFF, save_decode_cache=save_decode, max_num_seqs=1)
    result = run([talk("a", (20, 45), (60, 61)), talk("b", (1000, 1001))], 2, config, FakeTiers())
    assert [r.conversation for r in result.requests] == ["a", "b", "a"]
    assert tier_hits(result)[2] == hit


def test_chunked_prefill():
    result = run([talk("a", (250, 251))], config=replace(BASE, max_num_batched_tokens=100))
    assert_times(result, [("a", 0, 0.25, 0.25)])
    assert result.totals.steps == 3


@pytest.mark.parametrize("limit", [{"max_num_seqs": 1}, {"hbm_blocks": 11}])
def test_admission_waits(limit):
    result = run([talk("a", (100, 102)), talk("b", (50, 51))], 2, replace(BASE, **limit))
    assert_times(result, [("a", 0, 0.1, 0.11), ("b", 0, 0.16, 0.16)])
    assert result.requests[1].admitted_s == pytest.approx(0.11)


def test_the_window_ends_when_a_client_finds_no_conversation():
    result = run([talk("a", (100, 101)), talk("b", (50, 51)), talk("c", (10, 11))], 2)
    assert result.window_s == pytest.approx(0.15)
    assert [r.arrival_s < result.window_s for r in result.requests] == [True, True, False]
    assert result.requests[2].finish_s == pytest.approx(0.16)


@pytest.mark.parametrize(("config", "hit"), [(BASE, 30), (HBM_OFF, 20)])
def test_the_last_prompt_token_is_always_computed(config, hit):
    talks = [talk("a", (40, 45), first=0), talk("b", (40, 41), first=0)]
    result = run(talks, config=config, tiers=FakeTiers(0, 0))
    assert hbm_hits(result)[1] + tier_hits(result)[1] == hit
    assert result.requests[1].computed_tokens == 40 - hit


def test_a_straddling_chunk_counts_once():
    talks = [talk("a", (35, 36), first=0), talk("b", (60, 61), first=0)]
    tiers = FakeTiers(held=talks[1].block_keys)
    result = run(talks, tiers=tiers)
    assert hbm_hits(result) == [0, 30]
    assert tier_hits(result) == [20, 10]
    assert result.requests[1].computed_tokens == 20


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"chunk_tokens": 25}, "chunk_tokens"),
        ({"hbm_blocks": 10}, "hbm_kv_bytes"),
        ({"staging_bytes": 0}, "staging"),
    ],
)
def test_bad_settings_are_refused(change, key):
    with pytest.raises(UserError, match=f"^{key}"):
        run([talk("a", (100, 101))], config=replace(BASE, **change), tiers=FakeTiers())


@st.composite
def workloads(draw, most_clients=3):
    """(talks, clients, settings, load_s, save_s); conversations of one `first` share their tokens."""
    talks = []
    for index in range(draw(st.integers(1, 4))):
        steps = draw(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 25)), min_size=1, max_size=3))
        end, ends = 0, []
        for prompt, answer in steps:
            ends.append((end + prompt, end + prompt + answer))
            end += prompt + answer
        talks.append(talk(f"t{index}", *ends, first=draw(st.sampled_from([0, 10_000]))))
    config = replace(
        BASE,
        hbm_blocks=draw(st.integers(26, 60)),
        chunk_tokens=draw(st.sampled_from([10, 20, 30])),
        max_num_batched_tokens=draw(st.integers(4, 80)),
        max_num_seqs=draw(st.integers(1, 3)),
        staging_bytes=draw(st.integers(1, 6)),
        staging_full=draw(st.sampled_from(["wait", "drop"])),
        save_decode_cache=draw(st.booleans()),
        prefix_caching=draw(st.booleans()),
    )
    seconds = st.sampled_from([0.0, 0.003, 0.05, 0.4])
    return talks, draw(st.integers(1, most_clients)), config, draw(seconds), draw(seconds)


def shared(a, b):
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def known_before(request, others, moment, per_unit, save_s=0.0):
    """Tokens of `request` that others had computed by `moment`, in whole units, at least save_s earlier."""
    best = 0
    for other in others:
        for at, tokens in (
            (other.first_token_s, other.prompt_tokens),
            (other.finish_s, other.prompt_tokens + other.answer_tokens - 1),
            (other.loaded_s, sum(other.tier_hit_tokens.values()) + other.hbm_hit_tokens),
        ):
            if other is not request and at + save_s <= moment + 1e-9:
                common = shared(request.block_keys, other.block_keys) * BASE.block_tokens
                best = max(best, min(common, tokens) // per_unit * per_unit)
    return best


@settings(max_examples=80)
@given(workloads())
def test_invariants(workload):
    talks, clients, config, load_s, save_s = workload
    result = run(talks, clients, config, FakeTiers(load_s, save_s))
    requests = result.requests
    assert len(requests) == sum(len(item.conversation.turns) for item in talks)
    for r in requests:
        assert r.arrival_s <= r.admitted_s <= r.loaded_s <= r.first_token_s <= r.finish_s
        tier = sum(r.tier_hit_tokens.values())
        assert min([0, *r.tier_hit_tokens.values()]) == 0
        assert r.hbm_hit_tokens + tier + r.computed_tokens == r.prompt_tokens
        assert r.computed_tokens >= 1
        assert r.generated_tokens == r.answer_tokens
        assert r.hbm_hit_tokens <= known_before(r, requests, r.admitted_s, config.block_tokens)
        if tier:
            began = r.loaded_s - load_s
            assert r.hbm_hit_tokens + tier <= known_before(r, requests, began, config.chunk_tokens, save_s)
    again = run(talks, clients, config, FakeTiers(load_s, save_s))
    assert times(again) == times(result)
    assert again.totals == result.totals


@settings(max_examples=40)
@given(workloads(most_clients=1))
def test_an_instant_store_never_costs_a_hit(workload):
    talks, _, config, _, _ = workload
    config = replace(config, staging_bytes=10**6)
    without = run(talks, 1, config)
    stored = run(talks, 1, config, FakeTiers(0, 0))
    pairs = zip(hbm_hits(without), hbm_hits(stored), tier_hits(stored), strict=True)
    assert all(hbm + tier >= alone for alone, hbm, tier in pairs)


LIKE_VLLM = replace(HBM_OFF, like_vllm=True, max_num_batched_tokens=100, staging_bytes=1000)


def test_like_vllm_a_step_has_what_was_ready_when_the_one_before_began_and_is_saved():
    # 0.00 a is computed, b looked for until 0.05; 0.02 c is considered at once, nothing is computed; looked for until 0.10
    # 0.05 100 of b; 0.15 100 more, c was not ready at 0.05; 0.25 50 of b and 50 of c; 0.35 100 of c; each step is saved after it
    tiers = FakeTiers(load_s=0.05, save_s=0)
    talks = [talk("a", (20, 21)), talk("b", (250, 251)), talk("c", (150, 151))]
    result = run(talks, 2, LIKE_VLLM, tiers)
    assert_times(result, [("a", 0, 0.02, 0.02), ("b", 0, 0.35, 0.35), ("c", 0.02, 0.45, 0.45)])
    assert tiers.calls[:2] == [("load", 12), ("load", 7)]
    assert sorted(tiers.calls[2:]) == sorted(("save", count) for count in (1, 5, 5, 2, 2, 5))


def test_like_vllm_a_request_is_considered_when_a_step_with_room_for_it_is_planned():
    # 0.1 c comes; of b 270 tokens are left, more than this step and the next take; 0.2 they are not
    result = run([talk("a", (20, 21)), talk("b", (350, 351)), talk("c", (40, 41))], 2, LIKE_VLLM)
    assert [each.admitted_s for each in result.requests] == pytest.approx([0, 0, 0.2])
    assert_times(result, [("a", 0, 0.1, 0.1), ("b", 0, 0.4, 0.4), ("c", 0.1, 0.41, 0.41)])


def test_tiers_are_told_what_a_step_computes_and_what_a_request_has_used():
    told = []

    class Told(FakeTiers):
        def computing(self, keys):
            told.append(("computing", len(keys)))

        def answered(self, keys):
            told.append(("answered", len(keys)))

    run([talk("a", (150, 162))], config=replace(LIKE_VLLM, save_decode_cache=True), tiers=Told(0, 0))
    assert [each for each in told if each[1]] == [
        ("computing", 5),
        ("computing", 2),
        ("computing", 1),
        ("answered", 8),
    ]
    told.clear()
    run([talk("a", (150, 162))], config=replace(LIKE_VLLM, save_decode_cache=False), tiers=Told(0, 0))
    assert [each for each in told if each[1]] == [("computing", 5), ("computing", 2), ("answered", 8)]
