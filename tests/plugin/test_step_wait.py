"""How long a step waits for lookups: all of it, and for a request, at most so long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow.plugin.lmcache_striped.step_wait import StepWait


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def waited(wait: StepWait, clock: Clock, request: str, poll_s: float = 0.5) -> float:
    """Seconds that a request without an answer is waited for now."""
    since = clock.now
    while wait.goes_on(request):
        clock.now += poll_s
    return clock.now - since


def test_a_request_is_waited_for_once():
    wait = StepWait(10, clock := Clock())
    assert waited(wait, clock, "a") == 10
    wait.step_ended()
    assert waited(wait, clock, "a") == 0


def test_requests_of_one_step_wait_at_the_same_time():
    wait = StepWait(10, clock := Clock())
    assert [waited(wait, clock, name) for name in "abc"] == [10, 0, 0]


def test_the_next_step_waits_for_what_was_not_waited_for_long_enough():
    wait = StepWait(10, clock := Clock())
    clock.now += 4 if wait.goes_on("a") else 0
    wait.forget("a")
    assert waited(wait, clock, "b") == 6
    wait.step_ended()
    assert waited(wait, clock, "b") == 4


def test_a_request_that_was_answered_may_ask_again():
    wait = StepWait(10, clock := Clock())
    waited(wait, clock, "a")
    wait.forget("a")
    wait.step_ended()
    assert waited(wait, clock, "a") == 10


def test_without_a_wait_nothing_is_waited_for():
    wait = StepWait(0, Clock())
    assert not wait.goes_on("a")
    with pytest.raises(ValueError, match="step_wait_ms: -1 is below 0"):
        StepWait(-0.001)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans(), st.floats(0, 3)), max_size=40))
def test_no_step_and_no_request_waits_longer(steps):
    wait = StepWait(2, clock := Clock())
    in_step, of_request = 0.0, dict.fromkeys("abcd", 0.0)
    for request, ends, between in steps:
        seconds = waited(wait, clock, request, 0.25)
        in_step, of_request[request] = in_step + seconds, of_request[request] + seconds
        assert in_step < 2.25
        assert of_request[request] < 2.25
        if ends:
            wait.step_ended()
            in_step = 0.0
            clock.now += between
