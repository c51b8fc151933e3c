"""What the gate believes to be under way comes to its end when nothing is, whatever became of requests, loads and saves."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.plugin.gates import CHUNK, CURVE, S_PER_TOKEN, TOKENS, gated, keys_of, knowing

SECONDS = st.floats(1e-4, 5.0)


class Engine(RuleBasedStateMachine):
    """Requests of an engine that may lose any of them, as when it is aborted or the engine starts anew, and of which any chunk may never
    be saved. A load that has come is carried out, whole or not, as those of the plugin are."""

    @initialize(
        objective=st.sampled_from(["ttft", "throughput"]),
        curve=st.sampled_from([CURVE, None]),
        rate=st.floats(1e6, 1e10),
        warm=st.sampled_from([0, 40 * CHUNK]),
        blocking=st.booleans(),
    )
    def begin(self, objective, curve, rate, warm, blocking):
        self.gate, self.clock = gated(objective, curve, warm_bytes=warm, blocking=blocking, slo_s=1.0)
        self.rate, self.requests, self.loads, self.begun, self.longest_s = rate, [], [], [], 60.0
        self.found_s = {}

    @rule(
        name=st.integers(0, 5), size=st.integers(1, 30), share=st.floats(0, 1), context=st.integers(0, 3000)
    )
    def lookup(self, name, size, share, context):
        """Names come again: a prompt that is looked up twice, by one request or two."""
        keys = keys_of(str(name), size)
        decision = self.gate.decide(keys, int(share * size), context_tokens=context)
        self.longest_s = max(
            self.longest_s, 1 + 3 * (decision.first_token_s or 0), 1 + 2 * (decision.load_s or 0)
        )
        self.requests.append((keys, decision.found))
        self.found_s.update(dict.fromkeys(keys[: decision.found], self.clock.now))

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def engine_asks_again(self, data):
        """For what it is about to load, of any of its requests, long ago though it may be."""
        keys, _ = data.draw(st.sampled_from(self.requests))
        since = [self.found_s.get(key, float("-inf")) for key in keys]
        assert self.gate.has_found(keys) == all(self.clock.now - found_s < 60 for found_s in since)

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), part=st.floats(0.1, 1))
    def load_comes(self, data, part):
        keys, found = data.draw(st.sampled_from(self.requests))
        if keys := keys[: int(part * found)]:
            self.loads.append(self.gate.load_waits(keys, len(keys) * CHUNK))

    @rule()
    def probe(self):
        if keys := self.gate.to_probe():
            self.loads.append(self.gate.load_waits(keys, len(keys) * CHUNK))

    @precondition(lambda self: self.loads)
    @rule()
    def load_begins(self):
        self.begun.append(self.loads.pop(0))
        self.gate.load_begins(self.begun[-1])

    @precondition(lambda self: self.begun)
    @rule(whole=st.booleans())
    def load_ends(self, whole):
        load = self.begun.pop(0)
        self.clock.now += len(load.keys) * CHUNK / self.rate
        self.gate.load_ends(load, whole)
        self.forget(load)

    def forget(self, load):
        for key in load.keys:
            self.found_s.pop(key, None)

    @precondition(lambda self: self.loads)
    @rule()
    def load_fails_at_once(self):
        self.forget(load := self.loads.pop(0))
        self.gate.load_ends(load, whole=False)

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), lost=st.integers(0, 3))
    def save(self, data, lost):
        """Of what was computed, but for its last chunks."""
        keys, found = data.draw(st.sampled_from(self.requests))
        if keys := keys[found : len(keys) - lost]:
            self.gate.saves(keys, len(keys) * CHUNK)

    @rule(waiting=st.integers(0, 40), running=st.integers(0, 40))
    def engine_tells(self, waiting, running):
        self.gate.engine_waits(waiting)
        self.gate.engine_runs(running)

    @rule()
    def engine_starts_anew(self):
        self.requests = []

    @rule(seconds=SECONDS)
    def time_passes(self, seconds):
        self.clock.now += seconds

    def teardown(self):
        """The engine is idle: all that came to be loaded is, and nothing else happens."""
        if not hasattr(self, "gate"):
            return
        while self.loads:
            self.load_begins()
        while self.begun:
            self.load_ends(whole=True)
        self.clock.now += self.longest_s + 1e-3
        assert not any(self.gate.has_found([key]) for key in self.found_s)
        decision = self.gate.decide(keys_of("new", 10), 10)
        assert (decision.queue_s or 0, decision.waiting) == (0, 0)
        self.clock.now += self.longest_s + 1 + 2 * (decision.load_s or 0)
        self.gate.decide([], 0)
        assert self.gate._store.idle
        assert self.gate._store.wait_s(self.clock.now) == (pytest.approx(0, abs=1e-9), 1)


def test_what_is_believed_to_be_under_way_ends():
    run_state_machine_as_test(Engine, settings=settings(max_examples=200, stateful_step_count=40))


@given(busy=st.floats(0.05, 0.9), size=st.integers(1, 30))
@settings(max_examples=30)
def test_prompts_none_of_which_is_ever_saved_are_not_waited_for_longer_and_longer(busy, size):
    """An LMCache server without room saves nothing; the engine has been done with each before the next one."""
    gate, clock = knowing(1e7)
    every_s = (size + 0.5) * TOKENS * S_PER_TOKEN / busy
    for number in range(int(60 / every_s) + 1):
        queue_s = gate.decide(keys_of(f"lost{number}", size), 0).queue_s
        clock.now += every_s
    assert queue_s == 0


def test_a_save_that_comes_makes_saves_be_waited_for_again():
    gate, clock = knowing(1e7)
    for number in range(10):
        gate.decide(keys_of(f"lost{number}", 20), 0)
        clock.now += 5
    assert gate.decide(keys_of("late", 20), 0).queue_s == 0
    clock.now += 0.3
    assert gate.decide(keys_of("a", 20), 0).queue_s == 0
    clock.now += 0.2
    gate.saves(keys_of("late", 20), 20 * CHUNK)
    gate.decide(keys_of("b", 20), 0)
    clock.now += 0.3
    assert gate.decide(keys_of("c", 20), 0).queue_s > 0


@pytest.mark.parametrize(("passed_s", "found"), [(1, 20), (11, 0)])
def test_what_the_engine_said_of_requests_that_are_answered_does_not_hold_for_ever(passed_s, found):
    gate, clock = knowing(5e7, "throughput", slo_s=10)  # 20 chunks in 0.4 s, computed in 0.2 s
    gate.engine_runs(10)
    clock.now += passed_s
    assert gate.decide(keys_of("a", 20), 20).found == found
