"""Which part of each request's context was used before, and by which request last: all that an LRU cache of any size depends on.

A context is a path in the tree of prefixes. A request uses its whole path, so that what was last used by one request is one
span of a later request's path, and the spans of a path follow each other, the latest use first. There are few: with each use
the spans of a path become one. No span depends on the size of blocks or chunks.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import Columnar, Conversation
from .prefix_tree import ROOT, Order, PrefixTree, prefix_tree

NEVER = -1


@dataclass(frozen=True, eq=False)
class Reuse:
    """Of requests in the order in which they are sent. saved: tokens of each one's context that are saved, int64.

    request, last, begin, end: spans, those of a request from the head of its context on and without a gap: tokens
    [begin, end) of the context of `request` are what an earlier one shares with it, `last` the latest of these.
    """

    saved: np.ndarray
    request: np.ndarray
    last: np.ndarray
    begin: np.ndarray
    end: np.ndarray

    @property
    def reused(self) -> np.ndarray:
        """Leading tokens of each request's context that were used before: int64."""
        found = np.zeros_like(self.saved)
        np.maximum.at(found, self.request, self.end)
        return found

    def units(self, unit_tokens: int) -> int:
        """Distinct whole units of `unit_tokens` in all contexts."""
        return int((self.saved // unit_tokens - self.reused // unit_tokens).sum())


def reuse_of(conversations: Sequence[Conversation], order: Order, save_decode_cache: bool) -> Reuse:
    """The spans of a workload's requests, sent in this order.

    save_decode_cache: a context is saved up to its prompt's end when false, else up to its answer's last token but
    one: no engine computes the KV of the last.
    """
    if isinstance(conversations, Columnar):
        return conversations.reuse(order, save_decode_cache)
    tree = prefix_tree(conversations, save_decode_cache)
    return _of_tree(tree, [tree.leaves[conversation][turn] for conversation, turn in order.requests])


class Spans:
    """Spans as they are found; the next one of a request is one with that before where their last use is the same."""

    def __init__(self) -> None:
        self._columns = [array("q") for _ in range(4)]

    def add(self, request: int, last: int, begin: int, end: int) -> None:
        """The next span."""
        requests, lasts, begins, ends = self._columns
        if requests and requests[-1] == request and lasts[-1] == last:
            ends[-1] = end
            return
        requests.append(request)
        lasts.append(last)
        begins.append(begin)
        ends.append(end)

    def reuse(self, saved: Sequence[int] | np.ndarray) -> Reuse:
        """All that were added."""
        return Reuse(
            np.array(saved, dtype=np.int64), *(np.array(one, dtype=np.int64) for one in self._columns)
        )


def _of_tree(tree: PrefixTree, leaves: Sequence[int]) -> Reuse:
    parent, end = tree.parent, tree.end
    last, spans = [NEVER] * len(parent), Spans()
    for request, leaf in enumerate(leaves):
        path, node = [], leaf
        while node != ROOT:
            path.append(node)
            node = parent[node]
        for node in reversed(path):
            if last[node] != NEVER:
                spans.add(request, last[node], end[parent[node]], end[node])
            last[node] = request
    return spans.reuse([end[leaf] for leaf in leaves])
