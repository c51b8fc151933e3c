"""Exact simulation of one tier with LRU eviction over what a workload's requests use again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..workloads.reuse import Reuse


@dataclass(frozen=True)
class Tier:
    """What a tier did for each request, in units, int64. held: leading units of its saved context that were there when it came.

    written: units that were written behind it.
    """

    held: np.ndarray
    written: np.ndarray


def simulated_tier(reuse: Reuse, unit_tokens: int, capacity: int | None, uses: int = 1) -> Tier:
    """A tier of `capacity` units of `unit_tokens`, None for unbounded, that a unit enters at its use number `uses`, 1 or 2.

    A request uses its whole prefix and saves what was missing and is to be saved, the last unit first and the first one last,
    so that the tail of a context goes before its head: the order of vLLM's free blocks and of LMCache's touches. Then what is
    held is a prefix of every path, and a context longer than the tier keeps its head. What was used is remembered for ever;
    second_use.py says how much of it is.
    """
    end, wanted = reuse.end, reuse.saved
    if uses > 1:
        wanted = reuse.reused
        end = np.minimum(end, wanted[reuse.last])  # what the last use had used before, and so saved
    units = np.maximum(end // unit_tokens - reuse.begin // unit_tokens, 0)
    wanted = wanted // unit_tokens
    if capacity is None:
        held = np.zeros_like(wanted)
        np.add.at(held, reuse.request, units)
    else:
        shared = units > 0
        found = _bounded(wanted, reuse.request[shared], reuse.last[shared], units[shared], capacity)
        held = np.array(found, dtype=np.int64)
    return Tier(held, wanted - held)


def _bounded(
    wanted: np.ndarray, request: np.ndarray, last: np.ndarray, units: np.ndarray, capacity: int
) -> list[int]:
    """Units held of each request's context. wanted: units of it that are in the tier behind it. request, last, units: spans.

    What is there of the units that a request was the last to use is the head of them, so that their number says which.
    """
    there: list[int] = []
    ends = np.searchsorted(request, np.arange(len(wanted)), side="right").tolist()
    lasts, sizes = last.tolist(), units.tolist()
    taken = oldest = at = 0
    found = []
    for whole, end in zip(wanted.tolist(), ends, strict=True):
        held = 0
        while at < end:
            use = lasts[at]
            if here := there[use]:
                if here > sizes[at]:
                    here = sizes[at]
                there[use] -= here
                held += here
            at += 1
        there.append(whole)
        found.append(held)
        taken += whole - held
        while taken > capacity:
            here = there[oldest]
            if here > taken - capacity:
                there[oldest] = here - (taken - capacity)
                taken = capacity
            else:
                there[oldest] = 0
                taken -= here
                oldest += 1
    return found
