"""Exact simulation of tiers that are asked only for what HBM did not have, as engine replay does; chunk by chunk."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...plugin.lmcache_striped.order import Prompts
from ..workloads.prefix_tree import Units


class LruTier:
    """Chunk numbers that a tier holds; beyond `capacity`, the least recently used goes first. None: unbounded.

    uses: how often a chunk has to come before it is saved, 1 or 2. written: chunks that were.
    """

    def __init__(self, capacity: int | None, uses: int = 1):
        self._capacity, self._uses = capacity, uses
        self._held: OrderedDict[int, None] = OrderedDict()
        self._came: set[int] = set()
        self.written = 0

    def load(self, chunks: Sequence[int]) -> int:
        """How many leading chunks it holds; they are used."""
        for found, chunk in enumerate(chunks):
            if chunk not in self._held:
                return found
            self._held.move_to_end(chunk)
        return len(chunks)

    def save(self, chunks: Sequence[int]) -> None:
        """Put chunks in, the first one first; those that come once too seldom are remembered."""
        for chunk in chunks:
            if not self._comes(chunk):
                continue
            self._held[chunk] = None
            self._held.move_to_end(chunk)
            if self._capacity is not None and len(self._held) > self._capacity:
                self._held.popitem(last=False)

    def _comes(self, chunk: int) -> bool:
        """Whether a chunk that comes is saved."""
        if self._uses > 1 and chunk not in self._came:
            self._came.add(chunk)
            return False
        self.written += 1
        return True


class BoundedTier(LruTier):
    """A store with bound_bytes: of a prompt the last chunk goes first, and a save is a use of what comes before it (plugin, order.py)."""

    def __init__(self, capacity: int, uses: int = 1):
        super().__init__(capacity, uses)
        self._most = capacity
        self._prompts: Prompts[int] = Prompts()

    def load(self, chunks: Sequence[int]) -> int:
        found = next((at for at, chunk in enumerate(chunks) if chunk not in self._held), len(chunks))
        self._prompts.looked_for(chunks, found)
        self._use(chunks[:found])
        return found

    def save(self, chunks: Sequence[int]) -> None:
        chunks = [chunk for chunk in chunks if self._comes(chunk)]
        for chunk in chunks:
            while chunk not in self._held and len(self._held) >= self._most:
                self._held.popitem(last=False)
            self._held[chunk] = None
            self._held.move_to_end(chunk)
        self._use(chunks)

    def _use(self, chunks: Sequence[int]) -> None:
        for chunk in [*reversed(chunks), *self._prompts.before(chunks)]:
            if chunk in self._held:
                self._held.move_to_end(chunk)


def _tier(name: str, capacity: int | None, uses: int = 1) -> LruTier:
    return LruTier(capacity, uses) if capacity is None or name != "ssd" else BoundedTier(capacity, uses)


@dataclass(frozen=True)
class Loaded:
    """chunks: that each tier served each request, int64, by tier name. written: to the lowest one behind each request."""

    chunks: dict[str, np.ndarray]
    written: np.ndarray


def loaded_chunks(
    units: Units,
    leaves: Sequence[int],
    asked: Sequence[tuple[int, int]],
    prompts: Sequence[int],
    capacities: Mapping[str, int | None],
    uses: int = 1,
    answers_at_once: bool = False,
) -> Loaded:
    """What requests load from the tiers, and what is saved.

    units: in chunks. leaves: a node of the tree per request, in the order in which they are sent. asked: first and last of
    the chunks that a request asks for, those past HBM's hit that could serve its prompt. prompts: whole chunks of its prompt.
    capacities: chunks by tier name, fastest first. A request loads from the fastest tier that has its next chunk, which
    copies it to those above (engines/tiers), and saves what none had to all of them: its prompt's chunks before the
    next request comes, its answer's after that one has loaded, since loads go first (engines/replay), or with the prompt's
    (answers_at_once). uses: at which use of a chunk the lowest tier gets it.
    """
    starts = np.cumsum([0, *units.count]).tolist()
    tiers = {name: _tier(name, capacity) for name, capacity in capacities.items()}
    lowest = LruTier(None)
    if capacities:
        name = list(capacities)[-1]
        lowest = tiers[name] = _tier(name, capacities[name], uses)
    served = {name: np.zeros(len(leaves), dtype=np.int64) for name in tiers}
    written = np.zeros(len(leaves), dtype=np.int64)
    answer: Sequence[int] = ()
    for request, leaf in enumerate(leaves):
        path = _path(units, units.whole[leaf], starts)
        done, last = asked[request]
        for name, count in _load(tiers, path[done:last]):
            served[name][request] += count
            done += count
        prompt = len(path) if answers_at_once else prompts[request]
        before = lowest.written
        for tier in tiers.values():
            tier.save([*answer, *path[done:prompt]])
        written[request] = lowest.written - before
        answer = path[max(done, prompt) :]
    return Loaded(served, written)


def _load(tiers: Mapping[str, LruTier], chunks: Sequence[int]) -> list[tuple[str, int]]:
    """What was loaded from where, in order."""
    found: list[tuple[str, int]] = []
    done = 0
    while True:
        began = done
        above: list[LruTier] = []
        for name, tier in tiers.items():
            count = tier.load(chunks[done:])
            for upper in above:
                upper.save(chunks[done : done + count])
            above.append(tier)
            found.append((name, count))
            done += count
        if done == began:
            return found


def _path(units: Units, leaf: int, starts: Sequence[int]) -> list[int]:
    """Numbers of a context's chunks, the first one first."""
    nodes = []
    while leaf:
        nodes.append(leaf)
        leaf = units.parent[leaf]
    return [chunk for node in reversed(nodes) for chunk in range(starts[node], starts[node + 1])]
