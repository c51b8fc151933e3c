"""Exact simulation of one tier with LRU eviction over a workload's prefix tree."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from ..workloads.prefix_tree import ROOT, Units


def held_units(units: Units, leaves: Sequence[int], capacity: int | None) -> np.ndarray:
    """Leading units of each request's saved context that the tier holds when the request comes, int64.

    leaves: a node of the tree per request, in the order in which they are sent. capacity: units; None: unbounded.
    A request uses its whole prefix and saves what was missing, the last unit first and the first one last, so that
    the tail of a context goes before its head: the order of vLLM's free blocks and of LMCache's touches. Then what
    is held is a prefix of every path, and a context longer than the tier keeps its head.
    """
    whole = units.whole
    wanted = [whole[leaf] for leaf in leaves]
    return np.array(
        _unbounded(units, wanted) if capacity is None else _bounded(units, wanted, capacity), dtype=np.int64
    )


def _unbounded(units: Units, leaves: Sequence[int]) -> list[int]:
    parent, depth = units.parent, units.depth
    seen = bytearray(len(parent))
    seen[ROOT] = 1
    found = []
    for leaf in leaves:
        node = leaf
        while not seen[node]:
            seen[node] = 1
            node = parent[node]
        found.append(depth[node])
    return found


def _bounded(units: Units, leaves: Sequence[int], capacity: int) -> list[int]:
    parent, count = units.parent, units.count
    held = [0] * len(parent)
    order: OrderedDict[int, None] = OrderedDict()
    use_last, take_first = order.move_to_end, order.popitem
    used, results = 0, []
    for leaf in leaves:
        found, node = 0, leaf
        while node:
            size, here = count[node], held[node]
            if here:
                use_last(node)
                found += here
            else:
                order[node] = None
            if here != size:
                used += size - here
                held[node] = size
            node = parent[node]
        results.append(found)
        while used > capacity:
            node, _ = take_first(last=False)
            here = held[node]
            if here > used - capacity:
                held[node] = here - (used - capacity)
                used = capacity
                order[node] = None
                use_last(node, last=False)
            else:
                held[node] = 0
                used -= here
    return results
