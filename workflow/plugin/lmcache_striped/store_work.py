"""What a store has to do for the engine, how fast it has been, and so how long a load will take. Times are the caller's."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from .estimates import Line

_TOUCHED = 1 << 16  # chunks of which is known when they were last saved or loaded
_MOSTLY = 0.9
_ALIKE = 1.3  # how many times as long as warm chunks cold ones may take, and memory makes no difference
_REACHES = 0.5  # how much of the way memory is taken to go back further, when a load that counted as cold came from it
_BEYOND = 1.1  # times the age of the oldest chunk that came from memory
_PLAUSIBLE = 4.0  # how many times as far as was guessed, or as little, it may go back; what would take more tells of the device


@dataclass(eq=False)
class Promise:
    """What a lookup found and is not loaded yet: its chunks and bytes, cold and warm ones apart. until_s: then nobody counts on it."""

    keys: Sequence[Hashable]
    cold: float
    warm: float
    until_s: float
    lookup: object = None


@dataclass(eq=False)
class Load:
    """A load that waits, is under way, or has ended. since_s: when it came. lookup: whose chunks they are, None when that is not known.
    ages: bytes that were saved or loaded since each chunk was, when the load came.

    predicted_s, served_s: seconds of the store alone that it was expected to take, and has taken.
    """

    keys: Sequence[Hashable]
    cold: float
    warm: float
    since_s: float
    ages: np.ndarray
    lookup: object = None
    begun: bool = False
    predicted_s: float = 0.0
    served_s: float = 0.0


class StoreWork:
    """Loads promised, waiting and under way, by one pipe which those that go on at once share alike. Not for several threads.

    warm_bytes: a chunk that was saved or loaded since so many bytes ago counts as warm at first, whose speed is learned apart; 0 for
    no such difference. How far back memory really goes is learned from loads that took as long as if they were of the other kind.
    Fixed seconds and seconds per byte are learned from how much of the pipe's time each load took.
    """

    def __init__(self, chunk_bytes: int = 0, warm_bytes: int = 0):
        self.chunk_bytes = chunk_bytes
        self._warm_bytes: float = warm_bytes
        self._guess = warm_bytes
        self._any, self._cold, self._warm = Line(), Line(), Line()
        self._apart, self._most = False, 0.0
        self._touched: OrderedDict[Hashable, float] = OrderedDict()
        self._moved = 0.0
        self._promises: dict[int, Promise] = {}
        self._promised: dict[Hashable, Promise] = {}
        self._owed = [0, 0.0, 0.0]
        self._running: list[Load] = []
        self._shared_s = 0.0
        self.busy_until_s = float("-inf")

    @property
    def known(self) -> bool:
        """Whether a load has ended, so that seconds can be told, and a chunk's size is known."""
        return bool(self.chunk_bytes and self._any.seen)

    @property
    def idle(self) -> bool:
        """Whether nothing is promised, waits or is under way."""
        return self.loads <= 0

    @property
    def loads(self) -> int:
        """How many are promised, wait or are under way."""
        return int(self._owed[0]) + len(self._running)

    @property
    def gbps(self) -> float | None:
        """What the store gives, of cold chunks where those were loaded; None when not known."""
        line = self._cold if self._apart else self._any
        return 1e-9 / line.per_unit if line.seen else None

    def promise(self, keys: Sequence[Hashable], until_s: float, lookup: object) -> None:
        """A lookup has found these chunks, to be loaded soon."""
        promise = Promise(keys, *self._split(keys, len(keys) * self.chunk_bytes), until_s, lookup)
        self._promises[id(promise)] = promise
        self._promised.update(dict.fromkeys(keys, promise))
        self._owe(1, promise)

    def expire(self, now: float) -> None:
        """Give up promises whose loads have not come."""
        for promise in [each for each in self._promises.values() if each.until_s <= now]:
            self._drop(promise)

    def waits(self, keys: Sequence[Hashable], size: int, now: float) -> Load:
        """A load of so many bytes is about to wait for its turn; what was promised for it is not owed twice."""
        if keys:
            self.chunk_bytes = size // len(keys) or self.chunk_bytes
        promise = next((found for key in keys if (found := self._promised.get(key))), None)
        if promise is not None:
            self._drop(promise)
        lookup = None if promise is None else promise.lookup
        load = Load(keys, *self._split(keys, size), now, self._ages(keys), lookup)
        self._owe(1, load)
        return load

    def begins(self, load: Load, now: float) -> None:
        """The load's turn has come."""
        self._share(now)
        self._owe(-1, load)
        load.begun, load.predicted_s = True, self._seconds(1, load.cold, load.warm)
        self._running.append(load)

    def ends(self, load: Load, now: float, whole: bool) -> None:
        """The load has ended; unless it was whole it says nothing of the store's speed."""
        if not load.begun:
            self._owe(-1, load)
            return
        self._share(now)
        self._running.remove(load)
        if whole and load.served_s > 0:
            self._observe(load, load.served_s)
            self.touch(load.keys)

    def touch(self, keys: Sequence[Hashable]) -> None:
        """These chunks have just been saved or loaded, and so may be in memory."""
        if not self._warm_bytes:
            return
        self._moved += len(keys) * self.chunk_bytes
        for key in keys:
            self._touched[key] = self._moved
            self._touched.move_to_end(key)
        while len(self._touched) > _TOUCHED:
            self._touched.popitem(last=False)

    def wait_s(self, now: float) -> tuple[float, float]:
        """Seconds until a load that came now would have its turn, and how many times slower the store is than it was.

        What is under way for longer than predicted is expected to take as long again as it is late.
        """
        owed_s = self._seconds(*self._owed)
        if not self._running:
            return max(self.busy_until_s - now, 0.0) + owed_s, 1.0
        self._share(now)
        predicted_s = sum(load.predicted_s for load in self._running)
        passed_s = sum(load.served_s for load in self._running)
        if predicted_s <= 0 or passed_s <= predicted_s:
            return max(predicted_s - passed_s, 0.0) + owed_s, 1.0
        slower = (2 * passed_s - predicted_s) / predicted_s
        return passed_s - predicted_s + slower * owed_s, slower

    def seconds_by_count(self, keys: Sequence[Hashable]) -> np.ndarray:
        """Seconds that a load of the first 0, 1, … of these chunks takes once it is its turn."""
        counts = np.arange(len(keys) + 1)
        warm = np.zeros(len(keys) + 1)
        if self._warm_bytes:
            np.cumsum([self._is_warm(key) for key in keys], out=warm[1:])
        found = self._seconds(1, (counts - warm) * self.chunk_bytes, warm * self.chunk_bytes)
        found[0] = 0.0
        return found

    def _seconds(self, loads, cold, warm):  # type: ignore[no-untyped-def]
        """Of so many loads of so many bytes together; bytes may be arrays."""
        if not self._apart:
            return loads * self._any.fixed + self._any.per_unit * (cold + warm)
        share = cold / np.maximum(cold + warm, 1.0)
        fixed = share * self._cold.fixed + (1 - share) * self._warm.fixed
        return loads * fixed + self._cold.per_unit * cold + self._warm.per_unit * warm

    def _observe(self, load: Load, took_s: float) -> None:
        """Learn of all loads together, and of cold and warm ones by themselves, which count where they are apart."""
        size = load.cold + load.warm
        self._any.observe(size, took_s)
        if self._apart:
            self._learn_reach(load, took_s)
        if load.warm >= _MOSTLY * size and self._warm_bytes:
            self._warm.observe(size, took_s)
        elif load.cold >= _MOSTLY * size:
            self._cold.observe(size, took_s)
        elif self._apart:
            expected = self._seconds(1, load.cold, load.warm)
            share = (expected - self._seconds(0, 0.0, load.warm)) / expected
            self._cold.observe(load.cold, took_s * share)
            self._warm.observe(load.warm, took_s * (1 - share))
        self._most = max(self._most, size)
        if self._cold.seen and self._warm.seen:
            self._apart = self._cold.seconds(self._most) > _ALIKE * self._warm.seconds(self._most)

    def _learn_reach(self, load: Load, took_s: float) -> None:
        """How far back memory goes, from a load that took less or more than was predicted, as if more or nothing of it had been warm."""
        size, known = load.cold + load.warm, load.ages[np.isfinite(load.ages)]
        if not len(known) or 1 / _ALIKE < took_s / self._seconds(1, load.cold, load.warm) < _ALIKE:
            return
        warm = size * len(known) / len(load.ages)
        if self._seconds(1, size, 0) < _ALIKE**2 * self._seconds(1, size - warm, warm):
            return
        off = {
            part: abs(np.log(took_s / self._seconds(1, size - part, part))) for part in (load.warm, warm, 0.0)
        }
        best = min(off, key=off.__getitem__)
        reach = known.max() if best > load.warm else known.min()
        if best == load.warm or not 1 / _PLAUSIBLE < reach / self._guess < _PLAUSIBLE:
            return
        if best > load.warm:
            self._warm_bytes += _REACHES * max(_BEYOND * reach - self._warm_bytes, 0)
        else:
            self._warm_bytes = min(self._warm_bytes, reach)
        load.cold, load.warm = size - best, best

    def _ages(self, keys: Sequence[Hashable]) -> np.ndarray:
        return np.array([self._moved - self._touched.get(key, -np.inf) for key in keys])

    def _split(self, keys: Sequence[Hashable], size: float) -> tuple[float, float]:
        """Bytes of these chunks that are cold, and those that are warm."""
        if not self._warm_bytes or not keys:
            return float(size), 0.0
        warm = size * sum(map(self._is_warm, keys)) / len(keys)
        return size - warm, warm

    def _is_warm(self, key: Hashable) -> bool:
        at = self._touched.get(key)
        return at is not None and self._moved - at < self._warm_bytes

    def _share(self, now: float) -> None:
        """Give what has passed since the last time to the loads that went on."""
        for load in self._running:
            load.served_s += (now - self._shared_s) / len(self._running)
        self._shared_s = now

    def _owe(self, sign: int, work: Promise | Load) -> None:
        for place, more in enumerate((1, work.cold, work.warm)):
            self._owed[place] += sign * more

    def _drop(self, promise: Promise) -> None:
        self._promises.pop(id(promise), None)
        for key in promise.keys:
            if self._promised.get(key) is promise:
                del self._promised[key]
        self._owe(-1, promise)
