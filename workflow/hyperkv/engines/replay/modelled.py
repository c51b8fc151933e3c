"""Tiers without I/O: a modelled device in place of a store, so that thousands of schedules are played in minutes."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .pools import leading
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
        return Look(self._device.look_s, (leading(keys, self._held.__contains__),))

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
