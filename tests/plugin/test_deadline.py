"""The one definition of how long an operation may take."""

from hypothesis import given
from hypothesis import strategies as st

from workflow.plugin.lmcache_striped import deadline
from workflow.plugin.lmcache_striped.deadline import COMMAND_BYTES, LEAST_BYTES_PER_S, Deadline

steps = st.lists(st.tuples(st.floats(0, 2), st.integers(0, 4 << 20), st.booleans()), max_size=60)


class Time:
    """A clock that a test turns."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@given(st.floats(0.1, 5), st.integers(0, 64 << 20), st.integers(0, 9), steps)
def test_the_whole_is_bounded_and_no_wait_is_longer_than_the_time_out(timeout_s, size, commands, moves):
    """Whatever moves: over at timeout_s + bytes / rate at the latest, and never more than timeout_s ahead."""
    time, real = Time(), deadline.time
    deadline.time = time
    try:
        one = Deadline(timeout_s, size, commands)
        longest_s = timeout_s + (size + commands * COMMAND_BYTES) / LEAST_BYTES_PER_S
        for wait_s, count, answered in moves:
            assert one.left_s() <= timeout_s + 1e-6
            assert time.now + one.left_s() <= 1000 + longest_s + 1e-6
            time.now += wait_s
            one.answered() if answered else one.moved(count)
    finally:
        deadline.time = real


@given(st.floats(0.1, 5), st.lists(st.floats(0.001, 0.09), min_size=1, max_size=200))
def test_an_operation_that_keeps_up_is_never_over(timeout_s, waits):
    time, real = Time(), deadline.time
    deadline.time = time
    try:
        one = Deadline(timeout_s, size=1 << 40)
        for wait_s in waits:
            time.now += wait_s
            assert one.left_s() > 0
            one.moved(int(wait_s * LEAST_BYTES_PER_S) + 1)
    finally:
        deadline.time = real


@given(st.floats(0.1, 5), st.lists(st.tuples(st.floats(0, 9), st.floats(0, 0.09)), min_size=1, max_size=50))
def test_waiting_of_its_own_accord_takes_nothing_and_gives_nothing(timeout_s, waits):
    time, real = Time(), deadline.time
    deadline.time = time
    try:
        one = Deadline(timeout_s)
        for own_s, wait_s in waits:
            before_s = one.left_s()
            time.now += own_s + wait_s
            one.waited(own_s)
            assert abs(one.left_s() - (before_s - wait_s)) < 1e-6
    finally:
        deadline.time = real
