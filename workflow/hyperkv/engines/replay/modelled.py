"""Tiers without I/O: a modelled device in place of a store, so that thousands of schedules are played in minutes."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .pools import LruPool
from .tiers import Load, Look, Tiers


@dataclass(frozen=True)
class Device:
    """What loads and saves of a modelled store cost.

    seconds of one load or save = (call_s + chunks * chunk_s + bytes / GB/s / speed) * noise

    gbps, write_gbps: of loads and saves; warm_gbps: of chunks that were saved or loaded since warm_bytes bytes ago. look_s: of
    a lookup. noise: sigma of a lognormal factor of mean 1. changes: (from when on, speed relative to the beginning), in order of time.
    """

    gbps: float
    write_gbps: float
    chunk_s: float
    call_s: float
    look_s: float = 1e-4
    noise: float = 0.0
    warm_gbps: float = 0.0
    warm_bytes: int = 0
    changes: tuple[tuple[float, float], ...] = ()

    def speed(self, now_s: float) -> float:
        """Relative to the beginning."""
        return next((factor for since_s, factor in reversed(self.changes) if now_s >= since_s), 1.0)


class ModelTiers(Tiers):
    """A store of unbounded size behind a modelled device, in the form of RealTiers (tiers.py). clock: the engine's."""

    def __init__(self, device: Device, chunk_bytes: int, clock: Callable[[], float], seed: int):
        self.chunk_bytes = chunk_bytes
        self._device, self._clock = device, clock
        self._rng = np.random.default_rng(seed)
        self._held: set[bytes] = set()
        self._warm: OrderedDict[bytes, None] = OrderedDict()

    def look(self, keys: Sequence[bytes]) -> Look:
        """Leading chunks that are there."""
        return Look(self._device.look_s, (_leading(keys, self._held.__contains__),))

    def load(self, keys: Sequence[bytes]) -> Load:
        """Look up and load."""
        looked = self.look(keys)
        load = self.load_found(keys, looked.by_tier)
        return Load(looked.seconds + load.seconds, load.present, load.by_tier)

    def load_last(self, keys: Sequence[bytes]) -> Load:
        """Load chunks that are there."""
        return self.load_found(keys, (len(keys),))

    def load_found(self, keys: Sequence[bytes], found: Sequence[int]) -> Load:
        """Load leading chunks that are there."""
        (count,) = found
        warm = sum(key in self._warm for key in keys[:count])
        seconds = self._seconds(count, count - warm, self._device.gbps, warm) if count else 0.0
        self._touch(keys[:count])
        return Load(seconds, count, {"store": count})

    def save(self, keys: Sequence[bytes]) -> float:
        """Keep the chunks; the seconds it takes."""
        self._held.update(keys)
        self._touch(keys)
        return self._seconds(len(keys), len(keys), self._device.write_gbps)

    def _seconds(self, chunks: int, cold: int, gbps: float, warm: int = 0) -> float:
        device = self._device
        moving_s = cold * self.chunk_bytes / gbps / 1e9 / device.speed(self._clock())
        if warm:
            moving_s += warm * self.chunk_bytes / device.warm_gbps / 1e9
        noise = math.exp(device.noise * self._rng.standard_normal() - device.noise**2 / 2)
        return (device.call_s + chunks * device.chunk_s + moving_s) * noise

    def _touch(self, keys: Sequence[bytes]) -> None:
        for key in keys:
            self._warm[key] = None
            self._warm.move_to_end(key)
        while len(self._warm) > self._device.warm_bytes // self.chunk_bytes:
            self._warm.popitem(last=False)


class PooledTiers(ModelTiers):
    """A pool that every chunk goes through, above a modelled store or none.

    pool: which chunks it holds (pools.py). has_store: without one only the device's chunk_s counts. A chunk takes chunk_s to load from either. What is
    saved is in the pool at once, pinned, so that the engine's copy is all that this takes, and in the store when the device has written it, which
    holds back no load here.
    """

    def __init__(
        self,
        device: Device,
        chunk_bytes: int,
        clock: Callable[[], float],
        seed: int,
        pool: LruPool,
        has_store: bool,
    ):
        super().__init__(device, chunk_bytes, clock, seed)
        self._pool, self._has_store = pool, has_store
        self._written_s: dict[bytes, float] = {}
        self._writing_until_s = 0.0

    def look(self, keys: Sequence[bytes]) -> Look:
        """Leading chunks in the pool, and behind them in either."""
        pooled, now_s = self._pool.leading(keys), self._clock()
        found = _leading(
            keys, lambda key: self._pool.holds(key) or self._written_s.get(key, math.inf) <= now_s
        )
        return Look(self._device.look_s, (pooled, found - pooled))

    def load_last(self, keys: Sequence[bytes]) -> Load:
        """Load chunks of the store."""
        return super().load_found(keys, (len(keys),))

    def load_found(self, keys: Sequence[bytes], found: Sequence[int]) -> Load:
        """Load from both, or from the pool alone where it has no room for what the store has."""
        wanted = keys[: sum(found)]
        leading = self._pool.leading(wanted)
        stored = [key for key in wanted if not self._pool.holds(key)]
        seconds = (len(wanted) - len(stored)) * self._device.chunk_s
        if stored:
            with_store_s = seconds + super().load_found(stored, (len(stored),)).seconds
            if self._pool.take(stored, self._clock() + with_store_s):
                seconds = with_store_s
            else:
                wanted, stored, seconds = wanted[:leading], [], leading * self._device.chunk_s
        self._pool.use(wanted)
        self._pool.read(wanted, self._clock() + seconds)
        return Load(seconds, len(wanted), {"dram": len(wanted) - len(stored), "store": len(stored)})

    def computing(self, keys: Sequence[bytes]) -> None:
        """A step that will have computed chunks of a prompt begins."""
        self._pool.reserve(keys)

    def save(self, keys: Sequence[bytes]) -> float:
        """Into the pool, and from there to the store meanwhile."""
        for key in self._pool.admit(keys):
            if self._has_store and key not in self._written_s:
                begins_s = max(self._writing_until_s, self._clock())
                self._writing_until_s = begins_s + self.chunk_bytes / self._device.write_gbps / 1e9
                self._written_s[key] = self._writing_until_s
                self._pool.read([key], self._writing_until_s)
        return 0.0

    def answered(self, keys: Sequence[bytes]) -> None:
        """A request of these chunks is over."""
        self._pool.done(keys)


def _leading(keys: Sequence[bytes], held: Callable[[bytes], bool]) -> int:
    return next((number for number, key in enumerate(keys) if not held(key)), len(keys))
