"""The gate: what a lookup finds is what is worth loading, by a clock of its own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.plugin.gates import CHUNK, S_PER_TOKEN, TOKENS, gated, keys_of, knowing, load
from workflow.plugin.lmcache_striped.errors import UserError
from workflow.plugin.lmcache_striped.gate import OBJECTIVES
from workflow.plugin.lmcache_striped.gate_counts import LOAD, PROMPT, Compared, GateCounts, told_by

WORTH_IT, TOO_SLOW = 1e9, 2e7  # bytes/s: a chunk in 1 ms, and in 50 ms

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["decide", "load", "save", "wait", "engine"]), st.integers(0, 30), st.floats(0.001, 3)
    ),
    max_size=30,
)


@given(objective=st.sampled_from(OBJECTIVES), rate=st.floats(1e6, 1e10), events=EVENTS)
def test_whatever_happens_a_lookup_finds_no_more_than_is_there_and_ttft_nothing_that_makes_it_later(
    objective, rate, events
):
    gate, clock = knowing(rate, objective)
    waiting = []
    for number, (kind, size, seconds) in enumerate(events):
        keys = keys_of(str(number), size)
        if kind == "decide":
            decision = gate.decide(keys, present := int(size * seconds / 3))
            assert 0 <= decision.found <= present == decision.present
            waiting.append((keys, decision.found))
            if objective == "off":
                assert decision.found == present
            if objective == "ttft":
                assert decision.first_token_s <= decision.recompute_s
                assert not decision.found or decision.first_token_s < decision.recompute_s
        elif kind == "load" and waiting:
            asked, found = waiting.pop(0)
            load(gate, clock, asked[:found], CHUNK / seconds)
            gate.saves(asked[found:], (len(asked) - found) * CHUNK)
        elif kind == "save" and waiting:
            gate.saves(waiting[0][0], len(waiting[0][0]) * CHUNK)
        elif kind == "engine":
            gate.engine_waits(size)
        else:
            clock.now += seconds
    counts = gate.counts
    assert counts.left_chunks >= 0
    assert gate.decide([], 0).found == 0


@given(rate=st.floats(1e7, 1e10), count=st.integers(1, 40), objective=st.sampled_from(["ttft", "throughput"]))
def test_alone_it_takes_the_number_that_is_best_by_its_own_figures(rate, count, objective):
    gate, _ = knowing(rate, objective)
    found = gate.decide(keys_of("a", count), count)
    chunk_s, tokens = CHUNK / rate, (count + 0.5) * TOKENS
    first = [max(k * chunk_s, 0) + (tokens - k * TOKENS) * S_PER_TOKEN for k in range(count + 1)]
    assert found.first_token_s == pytest.approx(first[found.found], rel=0.02)
    assert found.recompute_s == pytest.approx(first[0], rel=0.02)
    assert first[found.found] <= min(first) + 0.03 * first[0]


def test_a_fast_store_is_loaded_from_and_a_slow_one_is_not():
    assert knowing(WORTH_IT)[0].decide(keys_of("a", 20), 20).found == 20
    assert knowing(TOO_SLOW)[0].decide(keys_of("a", 20), 20).found == 0
    assert knowing(TOO_SLOW, "off")[0].decide(keys_of("a", 20), 20).found == 20


def test_lookups_that_come_together_share_the_room():
    gate, _ = knowing(5e8)  # a chunk in 2 ms
    alone = gate.decide(keys_of("a", 20), 20)
    found = [alone, *(gate.decide(keys_of(f"b{number}", 20), 20) for number in range(9))]
    assert alone.found == 20
    assert found[1].load_s > 1.8 * alone.load_s
    assert sum(each.found for each in found) < 200
    assert all(each.first_token_s <= each.recompute_s for each in found)


def test_a_promise_whose_load_does_not_come_is_given_up_and_one_that_comes_is_not_owed_twice():
    gate, clock = knowing(2e8)
    first = gate.decide(keys_of("a", 20), 20)
    clock.now += 0.001
    assert gate.decide(keys_of("b", 20), 20).load_s > first.load_s or gate.counts.found_chunks == 20
    clock.now += 60.0
    assert gate.decide(keys_of("c", 20), 20) == first
    begun = gate.load_waits(keys_of("c", 20), 20 * CHUNK)
    gate.load_begins(begun)
    gate.load_ends(begun, whole=False)
    clock.now += 60.0
    assert gate.decide(keys_of("d", 20), 20) == first


@given(sizes=st.lists(st.integers(5, 30), min_size=6, max_size=12), at_once=st.integers(1, 3))
def test_loads_that_go_on_at_once_share_the_store_and_say_how_fast_it_is_together(sizes, at_once):
    gate, clock = gated()
    waiting = [gate.load_waits(keys_of(str(number), size), size * CHUNK) for number, size in enumerate(sizes)]
    left = {}
    while waiting or left:
        while waiting and len(left) < at_once:
            one = waiting.pop(0)
            gate.load_begins(one)
            left[id(one)] = (one, len(one.keys) * CHUNK / 5e8)
        passes_s = min(seconds for _, seconds in left.values()) * len(left)
        clock.now += passes_s
        left = {key: (one, seconds - passes_s / len(left)) for key, (one, seconds) in left.items()}
        for key in [key for key, (_, seconds) in left.items() if seconds < 1e-9]:
            gate.load_ends(left.pop(key)[0])
    assert gate.decide(keys_of("a", 20), 20).load_s == pytest.approx(20 * CHUNK / 5e8, rel=0.02)


@given(slower=st.floats(4, 100))
def test_a_store_that_gets_slower_is_noticed_within_a_second(slower):
    gate, clock = knowing(2e8)
    assert gate.decide(keys_of("a", 20), 20).found == 20
    one = gate.load_waits(keys_of("a", 20), 20 * CHUNK)
    gate.load_begins(one)
    clock.now += 0.99
    assert gate.decide(keys_of("b", 20), 20).found < 20
    gate.load_ends(one)
    for _ in range(2):
        load(gate, clock, keys_of("b", 20), 2e8 / slower)
    clock.now += 60.0
    assert gate.decide(keys_of("c", 20), 20).found == 0


def test_a_store_that_gets_faster_is_tried_again_at_little_cost():
    gate, clock = knowing(TOO_SLOW)
    read_s = 0.0
    for number in range(2_000):
        keys = keys_of(f"a{number}", 20)
        if gate.decide(keys, 20).found:
            break
        gate.saves(keys, 20 * CHUNK)
        if probed := gate.to_probe():
            assert all(key.startswith("a") for key in probed)
            rate = TOO_SLOW if clock.now < 200 else WORTH_IT
            load(gate, clock, probed, rate)
            if clock.now < 200:
                read_s += len(probed) * CHUNK / rate
        clock.now += 1.0
    assert 200 <= clock.now < 500, "it was never tried again, or the store was taken for fast when it was not"
    assert 0 < read_s < 0.05 * 100


def test_nothing_is_probed_while_something_is_loaded_or_nothing_was_left():
    gate, clock = knowing(TOO_SLOW)
    assert gate.to_probe() == []
    gate.decide(keys_of("a", 20), 20)
    clock.now += 100
    one = gate.load_waits(["other"], CHUNK)
    assert gate.to_probe() == []
    gate.load_begins(one)
    gate.load_ends(one)
    assert gate.to_probe() == []
    clock.now += 100
    assert gate.to_probe()


def test_what_a_load_costs_besides_its_bytes_is_learned_by_the_side():
    """300 chunks take 30 ms and 1 ms each, and are computed in 0.5 s; 32 of them take twice as long each."""
    gate, clock = gated(points=[[tokens, tokens * S_PER_TOKEN / 6] for tokens in (100, 1_000, 100_000)])
    for number in range(20):
        gate.decide(keys_of(f"a{number}", 300), 300)
        gate.saves(keys_of(f"a{number}", 300), 300 * CHUNK)
        if probed := gate.to_probe():
            load(gate, clock, probed, len(probed) * CHUNK / (0.03 + len(probed) * 1e-3))
        clock.now += 10
    assert gate.decide(keys_of("b", 300), 300).found == 300


def test_nothing_is_probed_once_what_was_found_has_been_loaded_since():
    """A request's load tells as much, and one that comes meanwhile would wait for the probe."""
    gate, clock = knowing(TOO_SLOW)
    gate.decide(keys_of("a", 20), 20)
    load(gate, clock, keys_of("by the side", 20), WORTH_IT)
    assert gate.decide(keys_of("b", 20), 20).found == 20
    load(gate, clock, keys_of("b", 20), WORTH_IT)
    clock.now += 100
    assert gate.to_probe() == []


@pytest.mark.parametrize("objective", ["ttft", "throughput"])
def test_without_a_curve_all_is_found_and_that_is_said_once(objective):
    said: list[str] = []
    gate, clock = gated(objective, points=None, warn=said.append)
    load(gate, clock, keys_of("seen", 20), TOO_SLOW)
    for number in range(3):
        decision = gate.decide(keys_of(str(number), 20), 20)
        assert (decision.found, decision.first_token_s) == (20, None)
    (line,) = said
    assert "gate_curve" in line


def test_without_a_curve_it_learns_from_what_is_computed():
    gate, clock = gated(points=None)
    load(gate, clock, keys_of("seen", 20), TOO_SLOW)
    for number, count in enumerate((5, 20, 10, 15, 8)):
        keys = keys_of(str(number), count)
        gate.decide(keys, 0)
        clock.now += count * TOKENS * S_PER_TOKEN
        gate.saves(keys, count * CHUNK)
        clock.now += 10
    decision = gate.decide(keys_of("a", 20), 20)
    assert decision.found == 0
    assert decision.recompute_s == pytest.approx(20.5 * TOKENS * S_PER_TOKEN, rel=0.2)


def test_a_store_that_no_load_has_told_of_is_probed_before_a_request_pays_for_it():
    gate, clock = gated()
    assert gate.to_probe() == []
    assert gate.decide(keys_of("a", 20), 20).found == 0
    load(gate, clock, gate.to_probe(), WORTH_IT)
    assert gate.decide(keys_of("b", 20), 20).found == 20


def test_where_no_probe_comes_one_lookup_alone_finds_all():
    gate, clock = gated()
    assert gate.decide(keys_of("a", 20), 20).found == 0
    clock.now += 10
    assert gate.decide(keys_of("b", 20), 20).found == 20
    assert gate.decide(keys_of("c", 20), 20).found == 0
    failed = gate.load_waits(keys_of("b", 20), 20 * CHUNK)
    gate.load_begins(failed)
    clock.now += 0.1
    gate.load_ends(failed, whole=False)
    assert gate.decide(keys_of("e", 20), 20).found == 0
    load(gate, clock, keys_of("b", 20), WORTH_IT)
    clock.now += 1
    assert gate.decide(keys_of("d", 20), 20).found == 20


@pytest.mark.parametrize(
    ("slo_s", "running", "found"),
    [(None, 10, 0), (10, 10, 20), (10, 0, 0), (0.3, 1, 0), (0.3, 10, 20), (0.1, 1, 0), (0.1, 10, 20)],
)
def test_throughput_spares_the_gpu_for_those_that_are_answered_unless_a_late_first_token_costs_more(
    slo_s, running, found
):
    """Ten that wait for 0.2 s are more than the 0.3 s of one answer, one is less. What is late whatever is done spares the GPU."""
    gate, _ = knowing(5e7, "throughput", slo_s=slo_s)  # 20 chunks in 0.4 s, computed in 0.2 s
    gate.engine_runs(running)
    assert gate.decide(keys_of("a", 20), 20).found == found


@pytest.mark.parametrize(
    ("objective", "waiting", "found"), [("throughput", 0, 20), ("throughput", 6, 0), ("ttft", 6, 20)]
)
def test_throughput_spares_the_store_for_loads_that_wait_for_it(objective, waiting, found):
    """20 chunks in 0.1 s, computed in 0.2 s. Six others wait for 0.03 s together, and each would wait 0.1 s longer."""
    gate, _ = knowing(2e8, objective)
    for number in range(waiting):
        gate.load_waits(keys_of(f"other{number}", 1), CHUNK)
    assert gate.decide(keys_of("a", 20), 20).found == found


@pytest.mark.parametrize(("every_s", "found"), [(0.05, 20), (1.0, 9)])
def test_a_late_first_token_costs_the_seconds_in_which_a_request_is_answered(every_s, found):
    """Of 11 that the engine has, one is answered every 0.05 s: 0.55 s each, and ten that wait for 0.2 s are more. Every second: 11 s."""
    gate, clock = knowing(5e7, "throughput", slo_s=0.3)
    for number in range(40):
        computed_s = gate.decide(keys_of(str(number), 1), 0).first_token_s
        clock.now += computed_s
        gate.saves(keys_of(str(number), 1), CHUNK)
        clock.now += every_s - computed_s
    gate.engine_runs(10)
    decision = gate.decide(keys_of("a", 20), 20)
    assert (decision.found, decision.first_token_s < 0.3) == (found, found == 9)


def test_how_likely_a_first_token_is_late_is_told_by_how_much_later_others_came():
    compared, first_s = Compared(), np.array([0.2, 0.4, 0.6])
    assert list(compared.late(first_s, 0.5)) == [0, 0, 1]
    for later_s in (0.0, 0.0, 0.2, 0.4):
        compared.add(PROMPT, 0.1, 0.1 + later_s)
        compared.add(LOAD, 0.1, 5.0)
    assert compared.late(first_s, 0.5) == pytest.approx([0.25, 0.5, 1])


def test_a_store_that_does_something_else_is_waited_for():
    gate, clock = knowing(WORTH_IT)
    gate.busy_until(clock.now + 0.1)
    decision = gate.decide(keys_of("a", 20), 20)
    assert decision.load_s == pytest.approx(0.12, rel=0.1)
    assert decision.found == 20
    gate.busy_until(clock.now + 1.0)
    assert gate.decide(keys_of("b", 20), 20).found == 0


def test_a_queue_before_the_gpu_hides_a_load():
    gate, clock = knowing(1.2e8)  # 20 chunks in 0.17 s, computed in 0.2 s
    assert gate.decide(keys_of("waits", 30), 0).recompute_s == pytest.approx(0.305, rel=0.01)
    decision = gate.decide(keys_of("a", 20), 20)
    assert decision.queue_s == pytest.approx(0.305, rel=0.01)
    assert decision.found == 20
    assert decision.first_token_s < 0.33
    clock.now += 0.2
    gate.saves(keys_of("waits", 30), 30 * CHUNK)
    assert gate.decide(keys_of("b", 20), 0).queue_s < 0.02


IN_A_STEP = [[tokens, 0.02 * max(1.0, tokens / 4_000)] for tokens in (100, 1_000, 4_000, 8_000, 40_000)]


def test_prompts_that_wait_are_computed_in_one_step_in_which_each_token_counts():
    """The time of a step is that of 4,000 tokens even for one, so that a load saves nothing alone."""
    gate, clock = knowing(WORTH_IT, points=IN_A_STEP)
    assert gate.decide(keys_of("alone", 10), 10, 1_000).found == 0
    clock.now += 0.001
    for name in "abcdef":
        decision = gate.decide(keys_of(name, 10), 0, 1_000)
    assert decision.recompute_s == pytest.approx(0.019 + 0.02 * 6_000 / 4_000, rel=0.1)
    waits = gate.decide(keys_of("waits", 10), 10, 1_000)
    assert waits.found == 10
    assert waits.first_token_s == pytest.approx(decision.recompute_s, rel=0.02)


@pytest.mark.parametrize(("tokens", "running", "found"), [(3_000, 20, 20), (1_000, 20, 0)])
def test_a_prompt_takes_of_the_gpu_what_it_takes_beside_another_as_long(tokens, running, found):
    """Of 6,000 tokens in a step those past 4,000 cost the 20 that are answered something, of 2,000 none."""
    gate, _ = knowing(WORTH_IT, "throughput", points=IN_A_STEP, slo_s=1)
    gate.engine_runs(running)
    assert gate.decide(keys_of("a", tokens // TOKENS), tokens // TOKENS, tokens).found == found


def test_prompts_that_were_computed_in_one_step_do_not_make_each_of_them_look_quick():
    gate, clock = knowing(WORTH_IT, points=IN_A_STEP)
    names = [f"{step}-{number}" for step in range(20) for number in range(5)]
    for name in names:
        gate.decide(keys_of(name, 10), 0, 1_000)
    for name in names:
        clock.now += 0.025 if name.endswith("-0") else 1e-4
        gate.saves(keys_of(name, 10), 10 * CHUNK)
    clock.now += 10
    assert gate.decide(keys_of("a", 10), 0, 1_000).compute_s == pytest.approx(0.02, rel=0.1)


def test_a_load_may_take_as_long_as_computing_the_prompts_before_it_too():
    """So a prompt does not take the GPU from one that waits for its load."""
    gate, _ = knowing(1.4e8)  # 20 chunks in 0.143 s, computed in 0.205 s
    first, second = (gate.decide(keys_of(name, 20), 20) for name in "ab")
    assert (first.found, first.recompute_s) == (20, pytest.approx(0.205, rel=0.01))
    assert (second.found, second.recompute_s) == (20, pytest.approx(0.41, rel=0.01))
    assert 0.205 < second.first_token_s == pytest.approx(0.29, rel=0.01)
    assert gate.decide(keys_of("c", 20), 20).found < 20


def test_a_prompt_whose_last_chunk_is_not_saved_is_computed_when_one_behind_it_is():
    gate, clock = knowing(1.2e8)
    gate.decide(keys_of("lost", 30), 0)
    clock.now += 0.01
    gate.decide(keys_of("behind", 10), 0)
    clock.now += 0.4
    gate.saves(keys_of("behind", 10), 10 * CHUNK)
    assert gate.decide(keys_of("new", 20), 20).queue_s == 0
    clock.now += 3.0
    gate.saves(keys_of("lost", 30), 30 * CHUNK)  # with the answer, say
    assert gate.counts.prompt_error_p90 < 0.1


def test_a_prompt_that_is_still_loaded_is_not_computed_for_one_behind_it_is():
    gate, clock = knowing(1.2e8)
    gate.decide(keys_of("waits", 30), 0)
    found = gate.decide(keys_of("loads", 40), 20).found
    assert found == 20
    clock.now += 0.01
    gate.decide(keys_of("behind", 1), 0)
    one = gate.load_waits(keys_of("loads", found), found * CHUNK)
    gate.load_begins(one)
    clock.now += 0.32
    gate.saves(keys_of("behind", 1), CHUNK)
    gate.load_ends(one)
    assert gate.decide(keys_of("new", 20), 0).queue_s == pytest.approx(0.205, rel=0.05)


def test_requests_that_the_engine_says_wait_count_where_the_gate_has_not_seen_them():
    gate, clock = knowing(2e7, "throughput")
    for _ in range(4):
        gate.decide(keys_of("x", 20), 0)
        clock.now += 0.205
        gate.saves(keys_of("x", 20), 20 * CHUNK)
    clock.now += 10
    assert gate.decide(keys_of("a", 20), 20).found == 0
    clock.now += 10
    gate.engine_waits(30)
    decision = gate.decide(keys_of("b", 20), 20)
    assert decision.waiting == pytest.approx(30)
    assert decision.found == 20
    clock.now += 5
    assert gate.decide(keys_of("c", 20), 0).waiting == 0


@given(pace=st.floats(0.6, 1.8))
def test_compute_time_follows_what_is_observed_while_prompts_wait_for_each_other(pace):
    gate, clock = knowing(WORTH_IT)
    each_s = 20.5 * TOKENS * S_PER_TOKEN
    for number in range(30):
        gate.decide(keys_of(str(number), 20), 0)
    for number in range(30):
        clock.now += each_s * pace
        gate.saves(keys_of(str(number), 20), 20 * CHUNK)
    assert gate.decide(keys_of("a", 20), 0).compute_s == pytest.approx(each_s * pace, rel=0.1)


def test_what_passes_between_a_load_and_the_computing_of_the_rest_is_learned():
    gate, clock = knowing(2e8)
    before = gate.decide(keys_of("a", 20), 20)
    for number in range(5):
        keys = keys_of(str(number), 21)
        clock.now += 10
        found = gate.decide(keys, 20).found
        load(gate, clock, keys[:found], 2e8)
        clock.now += (20.5 - found + 1) * TOKENS * S_PER_TOKEN + 0.002 * found
        gate.saves(keys[found:], CHUNK)
    clock.now += 10
    after = gate.decide(keys_of("b", 20), 20)
    assert before.load_all_s + 0.03 < after.load_all_s < before.load_all_s + 0.05
    assert gate.counts.load_error_p90 < 0.05
    clock.now += 10
    for number in range(3):
        keys = keys_of(f"c{number}", 21)
        gate.decide(keys, 20)
        load(gate, clock, keys[:20], 2e8)
        clock.now += 1.5 * TOKENS * S_PER_TOKEN + (0.3 if number == 1 else 0.002 * 20)
        gate.saves(keys[20:], CHUNK)
        clock.now += 10
    assert gate.decide(keys_of("d", 20), 20).load_all_s < after.load_all_s + 0.06


def test_one_first_token_that_was_late_behind_a_load_does_not_keep_all_others_from_loading():
    gate, clock = knowing(1e9)
    keys = keys_of("late", 101)
    assert gate.decide(keys, 100).found == 100
    load(gate, clock, keys[:100], 1e9)
    clock.now += 10
    gate.saves(keys[100:], CHUNK)
    found = []
    for number in range(100):
        clock.now += 10
        keys = keys_of(str(number), 101)
        found.append(gate.decide(keys, 100).found)
        load(gate, clock, keys[: found[-1]], 1e9)
        clock.now += (101.5 - found[-1]) * TOKENS * S_PER_TOKEN
        gate.saves(keys[found[-1] :], CHUNK)
    assert found[0] == 0
    assert set(found[-10:]) == {100}


def test_chunks_that_were_left_are_there_already_when_they_come_to_be_saved():
    gate, clock = knowing(TOO_SLOW)
    gate.decide(keys_of("a", 20), 18)
    for _ in range(2):
        assert gate.saves(keys_of("a", 20), 20 * CHUNK) == [True] * 18 + [False] * 2
    gate.decide(keys_of("a", 20), 18)
    gate.decide(keys_of("a", 20), 0)
    assert not any(gate.saves(keys_of("a", 20)))
    gate.decide(keys_of("a", 20), 18)
    clock.now += 3600
    assert not any(gate.saves(keys_of("a", 20)))


def test_warm_chunks_are_known_to_be_fast_where_they_are():
    gate, clock = gated(warm_bytes=40 * CHUNK)
    for round_ in range(8):
        load(gate, clock, keys_of(f"cold{round_}", 20), TOO_SLOW)
        load(gate, clock, keys_of(f"cold{round_}", 20), WORTH_IT)
    clock.now += 100
    cold, warm = gate.decide(keys_of("cold0", 20), 20), gate.decide(keys_of("cold7", 20), 20)
    assert (cold.found, warm.found) == (0, 20)


def test_a_chunk_that_was_left_is_not_in_memory_for_having_been_computed():
    gate, clock = gated(warm_bytes=40 * CHUNK)
    for round_ in range(8):
        load(gate, clock, keys_of(f"cold{round_}", 20), TOO_SLOW)
        load(gate, clock, keys_of(f"cold{round_}", 20), WORTH_IT)
    clock.now += 100
    for _ in range(2):
        assert gate.decide(keys_of("cold0", 20), 20).found == 0
        assert all(gate.saves(keys_of("cold0", 20), 20 * CHUNK))
        clock.now += 10


def test_one_load_that_was_mispredicted_does_not_keep_all_others_from_being_tried():
    """What is read by the side is compared, too, and tells that predictions are right again."""
    gate, clock = knowing(1.1e8)  # 20 chunks in 0.18 s, computed in 0.2 s
    keys = keys_of("quick", 20)
    assert gate.decide(keys, 20).found == 20
    load(gate, clock, keys, 3e8)
    for number in range(20):
        clock.now += 10
        load(gate, clock, keys_of(f"probe{number}", 1 + number % 5), 1.1e8)
    clock.now += 10
    assert gate.decide(keys_of("a", 20), 20).found == 20


def test_what_was_predicted_is_compared_with_what_happened_and_told():
    lines: list[str] = []
    gate, clock = knowing(2e8, tell=lines.append)
    lines.clear()
    for number in range(10):
        keys = keys_of(str(number), 21)
        decision = gate.decide(keys, 20)
        load(gate, clock, keys[: decision.found], 2e8)
        clock.now += decision.compute_s
        gate.saves(keys[decision.found :], CHUNK)
        clock.now += 1
    counts = gate.counts
    assert (counts.lookups, counts.present_chunks, counts.found_chunks, counts.left_chunks) == (
        10,
        200,
        200,
        0,
    )
    assert max(counts.load_error_p90, counts.prompt_error_p90) < 0.1
    read = told_by([f"LMCache INFO: striped: {line} (l2.py:1)" for line in lines])
    assert (read.lookups, read.present_chunks, read.found_chunks) == (10, 200, 200)
    assert read.load_error == pytest.approx(counts.load_error, abs=1e-2)
    assert told_by(["striped: dropped 3 chunks"]) is None


@pytest.mark.parametrize(("times", "said"), [(10.0, True), (0.1, True), (2.0, False), (0.5, False)])
def test_a_curve_of_another_engine_is_told_once(times, said):
    lines: list[str] = []
    gate, clock = knowing(TOO_SLOW, warn=lines.append)
    for number in range(40):
        keys = keys_of(str(number), 50)
        clock.now += times * gate.decide(keys, 0).first_token_s
        gate.saves(keys, 50 * CHUNK)
        clock.now += 10
    assert len(lines) == said
    assert all("is gate_curve this engine's?" in line for line in lines)


def test_errors_are_relative_to_what_was_taken():
    counts = GateCounts.of([(1, 2), (0, 3)], [("load", 1.0, 2.0), ("load", 3.0, 2.0), ("prompt", 2.0, 1.0)])
    assert (counts.load_error, counts.prompt_error, counts.left_chunks) == (0.5, 1.0, 4)


@pytest.mark.parametrize("points", [[], [[1]], "no", [[1, "x"]], [[0, 1]], [[1, -1]], [[1, float("nan")]], 3])
def test_a_curve_that_is_none_is_refused(points):
    with pytest.raises(UserError, match="curve"):
        gated(points=points)


def test_first_loads_that_are_warm_in_part_tell_how_fast_the_store_is():
    gate, clock = gated(warm_bytes=40 * CHUNK)
    gate.saves(keys_of("a", 10), 10 * CHUNK)
    load(gate, clock, [*keys_of("a", 5), *keys_of("b", 5)], WORTH_IT)
    assert gate.decide(keys_of("c", 20), 20).load_s == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(("before", "after", "found"), [(WORTH_IT, TOO_SLOW, 0), (TOO_SLOW, WORTH_IT, 20)])
def test_where_memory_makes_no_difference_a_cold_load_tells_of_warm_ones_too(before, after, found):
    gate, clock = gated(warm_bytes=40 * CHUNK)
    for round_ in range(8):
        load(gate, clock, keys_of(f"old{round_}", 20), before)
        load(gate, clock, keys_of(f"old{round_}", 20), before)
    for round_ in range(2):
        load(gate, clock, keys_of(f"new{round_}", 20), after)
    clock.now += 100
    assert gate.decide(keys_of("unseen", 20), 20).found == found
    if after > before:
        assert gate.decide(keys_of("new1", 20), 20).found == found


def aged(gate, clock, reach: float, rates: tuple[float, float], rounds: int = 12) -> list[float]:
    """Loads of 20 chunks that were saved 50 chunks ago, between which others come that were never seen; memory keeps `reach` chunks and
    gives rates[0] bytes/s, the device rates[1]. How far off each load was."""
    off = []
    for number in range(rounds):
        asked = keys_of(f"asked{number}-{clock.now}", 20)
        gate.saves(asked, 20 * CHUNK)
        gate.saves(keys_of(f"beside{number}-{clock.now}", 50), 50 * CHUNK)
        clock.now += 100
        for keys, rate in (
            (asked, rates[reach < 50]),
            (keys_of(f"unseen{number}-{clock.now}", 20), rates[1]),
        ):
            took_s = 20 * CHUNK / rate
            off.append(abs(gate.decide(keys, 20).load_all_s - took_s - 0.5 * TOKENS * S_PER_TOKEN) / took_s)
            load(gate, clock, keys, rate)
            clock.now += 100
    return off


@pytest.mark.parametrize(("guessed", "reach"), [(40, 80), (80, 40), (60, 60)])
def test_how_far_back_memory_goes_is_learned_also_when_the_device_gets_slower(guessed, reach):
    gate, clock = gated(warm_bytes=guessed * CHUNK)
    gate.saves(keys_of("a", 1), CHUNK)
    load(gate, clock, keys_of("a", 1), WORTH_IT)
    aged(gate, clock, reach, (WORTH_IT, WORTH_IT / 3))
    off = aged(gate, clock, reach, (WORTH_IT, WORTH_IT / 12))
    assert max(off[-12:]) < 0.3


def test_what_memory_could_not_reach_back_to_tells_of_the_device():
    gate, clock = gated(warm_bytes=4 * CHUNK)
    gate.saves(keys_of("a", 1), CHUNK)
    load(gate, clock, keys_of("a", 1), WORTH_IT)
    aged(gate, clock, 1, (WORTH_IT, WORTH_IT / 3))
    off = aged(gate, clock, 1, (WORTH_IT, WORTH_IT))
    assert max(off[-12:]) < 0.3


def test_small_loads_that_were_far_off_are_no_reason_for_caution_with_large_ones():
    compared = Compared()
    for number in range(32):
        compared.loaded(6e-3, 1e-3) if number % 4 else compared.loaded(0.2, 0.21)
    assert compared.caution == pytest.approx(0.05, abs=0.01)


def test_by_a_curve_that_does_not_rise_prompts_that_were_computed_together_tell_nothing():
    gate, clock = gated(points=[[100, 0.05], [200, 0.05], [300, 0.05]])
    gate.decide(keys_of("untold", 1), 1)
    clock.now += 10.0
    first, second = keys_of("first", 5), keys_of("second", 5)
    assert gate.decide(first, 3).found == 3
    load(gate, clock, first[:3], 1e9)
    gate.decide(second, 0)
    clock.now += 0.1
    assert gate.saves(first[3:], 2 * CHUNK) == [False] * 2
    assert gate.saves(second, 5 * CHUNK) == [False] * 5
    assert gate.told.endswith("computing takes 1.00 times the curve's seconds")
