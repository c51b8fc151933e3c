"""Tiers without I/O: a pool in host memory that every chunk goes through, above a modelled store or none."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from .lane import Lane
from .modelled import Device
from .pools import LruPool, leading
from .tiers import NOBODY, Fetch, Load, Look, Tiers, Told


class PooledTiers(Tiers):
    """What an engine has below its HBM when a pool keeps chunks (pools.py) and a device has them all.

    chunk_s of the device is what a chunk takes from the pool into the engine, one request after the other; what the store has comes into host memory
    before, by the device's lane (lane.py), beside all else. What is found stays until it has been loaded, and takes its room at once. What is
    saved is in the pool at once, so that the engine's copy is all that this takes, and stays until the device has written it. queue_bytes: what may wait for that; the rest
    is not saved. has_store: without one the pool is all there is.
    """

    def __init__(
        self,
        device: Device,
        chunk_bytes: int,
        clock: Callable[[], float],
        pool: LruPool,
        has_store: bool,
        queue_bytes: float = math.inf,
    ):
        self.chunk_bytes = chunk_bytes
        self._device, self._clock, self._pool, self._has_store = device, clock, pool, has_store
        read_bps, write_bps = device.gbps * 1e9, device.write_gbps * 1e9
        self._lane = Lane(clock, read_bps, write_bps, queue_bytes, self._written)
        self._in_store: set[bytes] = set()
        self._saving: set[bytes] = set()

    @property
    def next_s(self) -> float:
        """When the device has loaded something, at the earliest."""
        return self._lane.next_s

    def go_on(self) -> None:
        """Have the device do what was due until now."""
        self._lane.go_on()

    def look(self, keys: Sequence[bytes]) -> Look:
        """Leading chunks in the pool, and behind them in either."""
        self._lane.go_on()
        pooled = self._pool.leading(keys)
        found = leading(keys, lambda key: self._pool.holds(key) or key in self._in_store)
        return Look(self._device.look_s, (pooled, found - pooled))

    def fetch(self, keys: Sequence[bytes], found: Sequence[int], told: Told = NOBODY) -> Fetch:
        """Hold what the pool has of it, and load the rest, or nothing behind the first chunk that is missing there if it has no room for all of that."""
        self._lane.go_on()
        wanted = keys[: sum(found)]
        stored = [key for key in wanted if not self._pool.holds(key)]
        if stored and not self._pool.take(stored):
            wanted, stored = wanted[: self._pool.leading(wanted)], []
            told.ended(False)
        missing = set(stored)
        own = [key for key in wanted if key not in missing]
        self._pool.use(own)
        self._pool.hold(own)
        fetch = Fetch((len(own), len(stored)), own=own, ready=not stored)

        def loaded() -> None:
            fetch.ready = True
            told.ended(True)

        if stored:
            self._lane.load(len(stored) * self.chunk_bytes, told.begun, loaded)
        return fetch

    def load_fetched(self, keys: Sequence[bytes], fetch: Fetch) -> Load:
        """Into the engine, what was fetched."""
        pooled, stored = fetch.found
        seconds = (pooled + stored) * self._device.chunk_s
        self._pool.read(fetch.own, self._clock() + seconds)
        self._pool.let_go(fetch.own, self._clock())
        self._pool.taken_until(stored, self._clock() + seconds)
        return Load(seconds, pooled + stored, {"dram": pooled, "store": stored})

    def load_last(self, keys: Sequence[bytes]) -> Load:
        """Of the store, into a buffer beside the pool."""
        return Load(len(keys) * self.chunk_bytes / (self._device.gbps * 1e9), len(keys), {"store": len(keys)})

    def computing(self, keys: Sequence[bytes]) -> None:
        """A step that will have computed chunks of a prompt begins."""
        self._lane.go_on()
        self._pool.reserve(keys)

    def save(self, keys: Sequence[bytes]) -> float:
        """Into the pool, and from there to the store meanwhile."""
        self._lane.go_on()
        for key in self._pool.admit(keys):
            fresh = self._has_store and key not in self._in_store and key not in self._saving
            if fresh and self._lane.save(key, self.chunk_bytes):
                self._saving.add(key)
                self._pool.hold([key])
        return 0.0

    def answered(self, keys: Sequence[bytes]) -> None:
        """A request of these chunks is over."""
        self._pool.done(keys)

    def _written(self, key: bytes, at_s: float) -> None:
        self._saving.discard(key)
        self._in_store.add(key)
        self._pool.let_go([key], at_s)
