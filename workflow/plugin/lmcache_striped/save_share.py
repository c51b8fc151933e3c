"""A share for saves: while loads come, saves take what leaves the loads as fast as they are without them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .save_queue import TOGETHER_BYTES

KEPT = 0.9  # of what loads reach without saves
LEAST_BYTES_PER_S = 16 << 20
LEAST_SHARE = 0.05
RECENT_S = 0.5
_FIRST_SHARE, _MOST_SHARE, _STEP_SHARE, _BACK = 0.1, 4.0, 0.05, 0.6
_JUDGED = 4
_WITH_SAVES = 6
_HOLD_S = 5.0
_WEIGHT = 0.25
_TOGETHER_S = 0.5


@dataclass(eq=False)
class Load:
    """A load under way. probe: saves wait meanwhile, so that it shows what loads reach without them."""

    size: int
    begun: float
    probe: bool


class Share:
    """The rate of saves while loads come, by AIMD; a pure function of the times that it is told, in seconds.

    Loads of a size, to a power of two, are held against others of the size that went on without saves: those RECENT_S after the
    last save, and one after every _WITH_SAVES others, during which saves wait, _HOLD_S at most. After _JUDGED others
    the rate of saves falls to 0.6 of what it was when these loads together reached less than KEPT of that, else it grows by a
    twentieth of it. It never falls below LEAST_SHARE of what loads reach, nor LEAST_BYTES_PER_S. RECENT_S after the last load
    nothing bounds saves: a store writes behind, so that what was saved between two loads slows the second.
    """

    def __init__(self) -> None:
        self.rate: float | None = None
        self._alone: dict[int, float] = {}
        self._since_probe: dict[int, int] = {}
        self._judged = 0
        self._expected_s = self._taken_s = 0.0
        self._under_way: set[Load] = set()
        self._ended = self._saved = float("-inf")
        self._next = 0.0

    def comes(self, now: float) -> bool:
        """Whether loads come."""
        return bool(self._under_way) or now < self.quiet_s

    @property
    def quiet_s(self) -> float:
        """From when on loads do not come, unless one is under way or begins."""
        return self._ended + RECENT_S

    def begin(self, now: float, size: int) -> Load:
        """A load of so many bytes begins."""
        kind = size.bit_length()
        since = self._since_probe.get(kind, _WITH_SAVES)
        load = Load(size, now, probe=since == _WITH_SAVES)
        self._since_probe[kind] = 0 if load.probe else since + 1
        self._under_way.add(load)
        return load

    def end(self, now: float, load: Load, size: int) -> None:
        """It ended, having loaded `size` bytes; of one that did not load what it was to nothing is learnt."""
        self._under_way.discard(load)
        self._ended = now
        taken_s, kind = now - load.begun, size.bit_length()
        if size < load.size or not size or taken_s <= 0:
            return
        if load.probe or self._saved < load.begun - RECENT_S:
            known = self._alone.get(kind, size / taken_s)
            self._alone[kind] = known + _WEIGHT * (size / taken_s - known)
            if self.rate is None:
                self.rate = max(self._least(kind), _FIRST_SHARE * self._alone[kind])
        elif kind in self._alone:
            self._judge(size / self._alone[kind], taken_s, kind)

    def held(self, now: float) -> float:
        """Until when no save begins, `now` where one may, unless the loads that it waits for end before."""
        return max([now, *(load.begun + _HOLD_S for load in self._under_way if load.probe)])

    def slot(self, now: float, size: int) -> float:
        """When a save of so many bytes may begin; it takes its turn."""
        begin = max(now, self._next) if self.comes(now) else now
        self._next = begin + (size / self.rate if self.rate else 0.0)
        return begin

    def saves(self, now: float) -> None:
        """A save begins."""
        self._saved = now

    def _judge(self, expected_s: float, taken_s: float, kind: int) -> None:
        self._judged += 1
        self._expected_s += expected_s
        self._taken_s += taken_s
        if self._judged < _JUDGED:
            return
        alone, rate = self._alone[kind], self.rate or 0.0
        slow = self._expected_s < KEPT * self._taken_s
        wanted = rate * _BACK if slow else rate + _STEP_SHARE * alone
        self.rate = min(max(wanted, self._least(kind)), max(_MOST_SHARE * alone, self._least(kind)))
        self._judged, self._expected_s, self._taken_s = 0, 0.0, 0.0

    def _least(self, kind: int) -> float:
        return max(LEAST_BYTES_PER_S, LEAST_SHARE * self._alone[kind])


class SaveShare:
    """A Share for threads: loads are told of, saves wait for their turn."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._share = Share()
        self._clock = clock
        self._changed = threading.Condition()
        self._closed = False

    def together(self) -> int:
        """How many bytes to save at once: those of half a second."""
        with self._changed:
            rate = self._share.rate if self._share.comes(self._clock()) else None
        return TOGETHER_BYTES if rate is None else min(TOGETHER_BYTES, int(rate * _TOGETHER_S))

    @contextmanager
    def load(self, size: int) -> Iterator[Callable[[int], None]]:
        """A load of so many bytes is under way within the block, which is to tell how many it loaded."""
        loaded = [0]
        with self._changed:
            begun = self._share.begin(self._clock(), size)
        try:
            yield loaded.append
        finally:
            with self._changed:
                self._share.end(self._clock(), begun, loaded[-1])
                self._changed.notify_all()

    def wait(self, size: int) -> float:
        """Wait until a save of so many bytes may begin; how many seconds."""
        with self._changed:
            begun = now = self._clock()
            slot: float | None = None
            while not self._closed:
                until = self._share.held(now)
                if until <= now:
                    slot = self._share.slot(now, size) if slot is None else slot
                    until = slot if self._share.comes(now) else now
                if until <= now:
                    break
                self._changed.wait(until - now)
                now = self._clock()
            self._share.saves(now)
            return now - begun

    def close(self) -> None:
        """Let every save go on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
