"""The cache tiers below HBM: real lookups, loads and saves, each returning the seconds it took."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ....plugin.lmcache_striped.base import Connector
from ....plugin.lmcache_striped.second_use import SecondUse
from ...stores.base import Store
from ...workloads.payload import Payload, aligned_buffer, slots


@dataclass(frozen=True)
class Load:
    """What one lookup and load did.

    seconds: wall time of both. present: leading chunks that were loaded, those with wrong bytes included.
    by_tier: chunks of `present` per tier name. corrupt: how many of them arrived with wrong bytes. others: of each chunk of the last
    tier whether another engine saved it, and this one did not; empty where nobody asks.
    """

    seconds: float
    present: int
    by_tier: dict[str, int]
    corrupt: int = 0
    others: Sequence[bool] = ()


@dataclass(frozen=True)
class Look:
    """What one lookup found: the seconds it took, and leading chunks by tier, in order, those of a tier behind those of the one above."""

    seconds: float
    by_tier: tuple[int, ...]


class Told(NamedTuple):
    """Who is told of a load: when it begins, and when it has ended, with whether all came."""

    begun: Callable[[], None] = lambda: None
    ended: Callable[[bool], None] = lambda whole: None


NOBODY = Told()


@dataclass
class Fetch:
    """What is to be loaded of what a lookup found: leading chunks by tier. told: to be called by whoever loads it. own: of a pool, those
    that it has. ready: whether it may be loaded."""

    found: tuple[int, ...]
    told: Told = NOBODY
    own: Sequence[bytes] = ()
    ready: bool = True


@dataclass(frozen=True)
class Tier:
    """One level below HBM.

    name: the word counted in the record ("dram" or "store"). evict: take the store's files out of the page
    cache before each load, outside the timed part. uses: of a tier that gets only chunks that come to be saved again. saved: what the
    engine, to which it belongs, has saved there.
    """

    name: str
    store: Store
    connector: Connector
    evict: bool = False
    uses: SecondUse | None = None
    saved: set[bytes] = field(default_factory=set)


class Tiers:
    """What the engine looks for, loads and saves; see RealTiers. chunk_bytes: of one chunk. next_s: when something may be ready that is
    fetched, for which it has to be told to go on. Tiers that fetch by themselves (pooled.py) have no load and no load_found.

    computing, answered: told of the chunks of a request that a step computes to their end, when it begins, and of all that it has used when it is over.
    """

    chunk_bytes: int

    @property
    def next_s(self) -> float:
        return math.inf

    def look(self, keys: Sequence[bytes]) -> Look:
        raise NotImplementedError

    def load(self, keys: Sequence[bytes]) -> Load:
        raise NotImplementedError

    def load_found(self, keys: Sequence[bytes], found: Sequence[int]) -> Load:
        raise NotImplementedError

    def load_last(self, keys: Sequence[bytes]) -> Load:
        raise NotImplementedError

    def save(self, keys: Sequence[bytes]) -> float:
        raise NotImplementedError

    def fetch(self, keys: Sequence[bytes], found: Sequence[int], told: Told = NOBODY) -> Fetch:
        return Fetch(tuple(found), told)

    def load_fetched(self, keys: Sequence[bytes], fetch: Fetch) -> Load:
        fetch.told.begun()
        return self.load_found(keys, fetch.found)

    def go_on(self) -> None:
        return

    def computing(self, keys: Sequence[bytes]) -> None:
        return

    def answered(self, keys: Sequence[bytes]) -> None:
        return


class RealTiers(Tiers):
    """Tiers in order of speed; a chunk is loaded from the first that has it and copied up to those above.

    max_chunks: chunks of the longest context, the size of the receiving buffer. Received bytes are compared
    with what was saved, outside the timed part.
    """

    def __init__(self, tiers: Sequence[Tier], payload: Payload, max_chunks: int):
        self.chunk_bytes = payload.value_bytes
        self._tiers = list(tiers)
        self._payload = payload
        self._buffers = slots(aligned_buffer(max_chunks * payload.value_bytes), payload.value_bytes)

    def look(self, keys: Sequence[bytes]) -> Look:
        """Look up the longest prefix of `keys` without loading it."""
        started = time.perf_counter()
        found: list[int] = []
        for tier in self._tiers:
            with tier.store.explaining():
                found.append(tier.connector.count_present(keys[sum(found) :]))
        return Look(time.perf_counter() - started, tuple(found))

    def load(self, keys: Sequence[bytes]) -> Load:
        """Look up the longest prefix of `keys` and load it."""
        by_tier = {tier.name: 0 for tier in self._tiers}
        seconds, done, others = 0.0, 0, []
        while done < len(keys):
            began = done
            for level, tier in enumerate(self._tiers):
                spent, flags = self._load_from(tier, keys[done:], self._buffers[done : len(keys)])
                seconds += spent
                seconds += self._promote(level, keys[done : done + len(flags)], done)
                by_tier[tier.name] += len(flags)
                others += self._others(level, keys[done : done + len(flags)])
                done += len(flags)
            if done == began or len(self._tiers) == 1:
                break
        return self._proved(keys, seconds, by_tier, others)

    def load_last(self, keys: Sequence[bytes]) -> Load:
        """Load chunks of the last tier that a lookup has found there."""
        return self.load_found(keys, [*(0 for _ in self._tiers[:-1]), len(keys)])

    def load_found(self, keys: Sequence[bytes], found: Sequence[int]) -> Load:
        """Load what a lookup has found of `keys`, by tier in order, or less of it."""
        by_tier = {tier.name: 0 for tier in self._tiers}
        seconds, done, others = 0.0, 0, []
        for level, (tier, count) in enumerate(zip(self._tiers, found, strict=True)):
            spent, flags = self._load_from(tier, keys[done : done + count], self._buffers[done:], looked=True)
            seconds += spent + self._promote(level, keys[done : done + len(flags)], done)
            by_tier[tier.name] = len(flags)
            others += self._others(level, keys[done : done + len(flags)])
            done += len(flags)
            if len(flags) < count:
                break
        return self._proved(keys, seconds, by_tier, others)

    def _others(self, level: int, keys: Sequence[bytes]) -> list[bool]:
        """Of chunks that were loaded from the last tier whether this engine did not save them; of those of another nothing."""
        last = level == len(self._tiers) - 1
        return [key not in self._tiers[level].saved for key in keys] if last else []

    def _proved(
        self, keys: Sequence[bytes], seconds: float, by_tier: dict[str, int], others: list[bool]
    ) -> Load:
        done = sum(by_tier.values())
        right = [self._payload.matches(key, self._buffers[i]) for i, key in enumerate(keys[:done])]
        return Load(seconds, done, by_tier, right.count(False), others)

    def _load_from(
        self, tier: Tier, keys: Sequence[bytes], buffers: Sequence[np.ndarray], looked: bool = False
    ) -> tuple[float, list[bool]]:
        """Seconds spent, and one True per leading chunk that this tier filled."""
        if tier.evict:
            tier.store.evict_page_cache()
        started = time.perf_counter()
        with tier.store.explaining():
            present = len(keys) if looked else tier.connector.count_present(keys)
            flags = tier.connector.get(keys[:present], buffers[:present]) if present else []
        leading = flags.index(False) if False in flags else len(flags)
        return time.perf_counter() - started, flags[:leading]

    def _promote(self, level: int, keys: Sequence[bytes], offset: int) -> float:
        if not level or not keys:
            return 0.0
        values = self._buffers[offset : offset + len(keys)]
        return sum(_timed_put(tier, keys, values) for tier in self._tiers[:level])

    def save(self, keys: Sequence[bytes]) -> float:
        """Save the chunks in the tiers that get them; returns the seconds it took."""
        values = [self._payload.value(key) for key in keys]
        return sum(_timed_save(tier, keys, values) for tier in self._tiers)


def _timed_save(tier: Tier, keys: Sequence[bytes], values: Sequence[np.ndarray]) -> float:
    worth = tier.uses.again(keys) if tier.uses is not None else [True] * len(keys)
    numbers = [number for number, saved in enumerate(worth) if saved]
    own = [keys[i] for i in numbers]
    tier.saved.update(own)
    return _timed_put(tier, own, [values[i] for i in numbers]) if numbers else 0.0


def _timed_put(tier: Tier, keys: Sequence[bytes], values: Sequence[np.ndarray]) -> float:
    started = time.perf_counter()
    with tier.store.explaining():
        tier.connector.put(keys, values)
    return time.perf_counter() - started
