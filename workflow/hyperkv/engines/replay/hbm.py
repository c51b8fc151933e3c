"""The engine's own KV cache in HBM: blocks with reference counts and an LRU of idle ones, as in vLLM."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Allocation:
    """The blocks one request holds: shared ones by key, the rest not yet computed.

    hit_blocks: leading blocks found in HBM when the request was admitted.
    """

    keys: Sequence[bytes]
    hit_blocks: int
    committed: int
    own_keys: list[bytes] = field(default_factory=list)
    anonymous: int = 0


class HbmCache:
    """Bookkeeping of `capacity_blocks` blocks; no bytes are held. prefix_caching off: nothing is shared or kept."""

    def __init__(self, capacity_blocks: int, prefix_caching: bool = True):
        self.capacity_blocks = capacity_blocks
        self._prefix_caching = prefix_caching
        self._references: dict[bytes, int] = {}
        self._idle: OrderedDict[bytes, None] = OrderedDict()
        self._anonymous = 0

    def allocate(self, keys: Sequence[bytes], matchable: int, total_blocks: int) -> Allocation | None:
        """Reserve `total_blocks` for a request, sharing what is cached; None while there is no room.

        keys: chained keys of the request's full blocks. matchable: how many leading ones may count as hits.
        """
        hit = 0
        while hit < matchable and keys[hit] in self._references:
            hit += 1
        idle_hits = sum(key in self._idle for key in keys[:hit])
        free = self.capacity_blocks - len(self._references) - self._anonymous
        needed = total_blocks - hit
        if needed > free + len(self._idle) - idle_hits:
            return None
        for key in keys[:hit]:
            self._references[key] += 1
            self._idle.pop(key, None)
        for _ in range(needed - free):
            del self._references[self._idle.popitem(last=False)[0]]
        self._anonymous += needed
        return Allocation(keys, hit, hit, list(keys[:hit]), needed)

    def commit(self, allocation: Allocation, blocks: int) -> None:
        """Mark the request's leading `blocks` as computed or loaded, so that others can share them."""
        if not self._prefix_caching:
            return
        for key in allocation.keys[allocation.committed : blocks]:
            if key not in self._references:
                self._references[key] = 1
                allocation.own_keys.append(key)
                allocation.anonymous -= 1
                self._anonymous -= 1
        allocation.committed = max(allocation.committed, blocks)

    def release(self, allocation: Allocation) -> None:
        """Let a finished request's blocks go; cached ones turn idle, the tail of the context first to be evicted."""
        for key in reversed(allocation.own_keys):
            self._references[key] -= 1
            if self._references[key] == 0:
                self._idle[key] = None
        self._anonymous -= allocation.anonymous
        allocation.own_keys.clear()
        allocation.anonymous = 0
