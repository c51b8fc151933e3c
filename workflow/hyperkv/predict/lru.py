"""Exact simulation of one tier with LRU eviction over a workload's prefix tree."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..workloads.prefix_tree import ROOT, Units


@dataclass(frozen=True)
class Tier:
    """What a tier did for each request, in units, int64. held: leading units of its saved context that were there when it came.

    written: units that were written behind it.
    """

    held: np.ndarray
    written: np.ndarray


def simulated_tier(units: Units, leaves: Sequence[int], capacity: int | None, uses: int = 1) -> Tier:
    """A tier of `capacity` units, None for unbounded, that a unit enters at its use number `uses`, 1 or 2.

    leaves: a node of the tree per request, in the order in which they are sent. A request uses its whole prefix and
    saves what was missing and is to be saved, the last unit first and the first one last, so that the tail of a context goes before
    its head: the order of vLLM's free blocks and of LMCache's touches. Then what is held is a prefix of every path, and a
    context longer than the tier keeps its head. What was used is remembered for ever; second_use.py says how much of it is.
    """
    whole = units.whole
    wanted = [whole[leaf] for leaf in leaves]
    found = _unbounded(units, wanted, uses) if capacity is None else _bounded(units, wanted, capacity, uses)
    held, written = np.array(found, dtype=np.int64).reshape(-1, 2).T
    return Tier(held, written)


def _unbounded(units: Units, leaves: Sequence[int], uses: int) -> list[tuple[int, int]]:
    parent, depth, count = units.parent, units.depth, units.count
    used = bytearray(len(parent))
    used[ROOT] = uses
    found = []
    for leaf in leaves:
        node, written = leaf, 0
        while used[node] < uses:
            used[node] += 1
            if used[node] == uses:
                written += count[node]
            node = parent[node]
        found.append((depth[node], written))
    return found


def _bounded(units: Units, leaves: Sequence[int], capacity: int, uses: int) -> list[tuple[int, int]]:
    parent, count = units.parent, units.count
    held = [0] * len(parent)
    used = bytearray(len(parent))
    order: OrderedDict[int, None] = OrderedDict()
    use_last, take_first = order.move_to_end, order.popitem
    taken, results = 0, []
    for leaf in leaves:
        found, written, node = 0, 0, leaf
        while node:
            if used[node] < uses:
                used[node] += 1
            if used[node] == uses:
                size, here = count[node], held[node]
                if here:
                    use_last(node)
                    found += here
                else:
                    order[node] = None
                if here != size:
                    written += size - here
                    held[node] = size
            node = parent[node]
        taken += written
        results.append((found, written))
        while taken > capacity:
            node, _ = take_first(last=False)
            here = held[node]
            if here > taken - capacity:
                held[node] = here - (taken - capacity)
                taken = capacity
                order[node] = None
                use_last(node, last=False)
            else:
                held[node] = 0
                taken -= here
    return results
