"""A device that loads and saves share: by hand, and its sums over random histories."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow.hyperkv.engines.replay.lane import Lane
from workflow.hyperkv.engines.replay.request import VirtualClock
from workflow.plugin.lmcache_striped.save_share import RECENT_S

READ, WRITE = 2e9, 1e9


class Played:
    """A lane, when its loads began and ended, and its saves."""

    def __init__(self, most_bytes: float = math.inf, at_once: int = 2):
        self.clock = VirtualClock()
        self.began: list[tuple[str, float]] = []
        self.ended: list[tuple[str, float]] = []
        self.saved: list[bytes] = []
        self.lane = Lane(self.clock, READ, WRITE, most_bytes, self._saved, at_once)

    def _saved(self, key: bytes, at_s: float) -> None:
        assert at_s <= self.clock.now_s
        self.saved.append(key)

    def load(self, name: str, size: float) -> None:
        self.lane.load(
            size,
            lambda: self.began.append((name, self.clock.now_s)),
            lambda: self.ended.append((name, self.clock.now_s)),
        )

    def until(self, end_s: float) -> None:
        """Go from one change to the next, as the clients do."""
        while (at_s := self.lane.next_s) <= end_s:
            self.clock.now_s = at_s
            self.lane.go_on()
        self.clock.now_s = end_s
        self.lane.go_on()


def test_a_load_takes_its_bytes_and_two_at_once_share_the_device():
    played = Played()
    played.load("a", 2e9)
    played.until(0.5)
    played.load("b", 2e9)
    played.load("c", 1e9)
    assert dict(played.began) == pytest.approx({"a": 0, "b": 0.5})
    played.until(9)
    assert dict(played.ended) == pytest.approx({"a": 1.5, "b": 2.5, "c": 2.5})
    assert dict(played.began)["c"] == pytest.approx(1.5)
    assert played.lane.next_s == math.inf


def test_saves_go_one_after_the_other_as_fast_as_the_device_writes_while_nothing_is_loaded():
    played = Played()
    for name in (b"x", b"y"):
        assert played.lane.save(name, 1e9)
    played.until(0.9)
    assert played.saved == []
    played.until(1.1)
    assert played.saved == [b"x"]
    played.until(2.0)
    assert played.saved == [b"x", b"y"]


def test_saves_wait_for_the_load_that_shows_what_loads_reach_and_have_a_share_beside_others():
    """The first load goes on alone; beside the next saves have the tenth of its rate with which they begin, which costs loads as much of the device."""
    played = Played(at_once=1)
    played.load("alone", 2e9)
    for number in range(100):
        played.lane.save(bytes([number]), 1e7)
    played.until(1.0)
    assert dict(played.ended)["alone"] == pytest.approx(1.0)
    assert played.saved == []
    played.load("beside", 2e9)
    played.until(2.0)
    rate = 0.1 * READ
    assert len(played.saved) == pytest.approx(rate / 1e7, abs=1)
    played.until(5.0)
    taken_s = dict(played.ended)["beside"] - 1.0
    assert taken_s == pytest.approx(1 / (1 - rate / WRITE))
    assert len(played.saved) == 100


def test_half_a_second_after_the_last_load_nothing_bounds_saves():
    played = Played()
    played.load("a", 2e9)
    played.until(1.0)
    for number in range(100):
        played.lane.save(bytes([number]), 1e7)
    played.until(1.0 + RECENT_S)
    slowly = len(played.saved)
    assert slowly == pytest.approx(RECENT_S * 0.1 * READ / 1e7, abs=1)
    played.until(1.1 + RECENT_S)
    assert len(played.saved) - slowly == pytest.approx(10, abs=1)


def test_what_the_queue_has_no_room_for_is_dropped():
    played = Played(most_bytes=2.5e9)
    assert [played.lane.save(bytes([number]), 1e9) for number in range(3)] == [True, True, False]
    played.until(1.5)
    assert played.lane.save(b"late", 1e9)
    played.until(9)
    assert played.saved == [bytes([0]), bytes([1]), b"late"]


SIZES = st.floats(1e6, 3e9)
MOVES = st.lists(st.tuples(st.sampled_from(["load", "save"]), st.floats(0, 2), SIZES), max_size=30)


@given(moves=MOVES)
@settings(deadline=None)
def test_all_ends_in_order_and_no_faster_than_the_device(moves):
    played = Played()
    loads = 0.0
    for number, (kind, pause_s, size) in enumerate(moves):
        played.until(played.clock.now_s + pause_s)
        if kind == "load":
            played.load(str(number), size)
            loads += size
        else:
            assert played.lane.save(str(number).encode(), size)
    asked_s = played.clock.now_s
    played.until(asked_s + 1000)
    assert len(played.ended) == sum(kind == "load" for kind, *_ in moves)
    assert [name for name, _ in played.began] == [
        str(n) for n, (kind, *_) in enumerate(moves) if kind == "load"
    ]
    assert played.saved == [str(n).encode() for n, (kind, *_) in enumerate(moves) if kind == "save"]
    if loads:
        assert max(at for _, at in played.ended) >= loads / READ - 1e-6
