"""What requests of a trace use again, block by block of what is in its columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import numpy as np

from ..prefix_tree import Order
from ..reuse import NEVER, Reuse, Spans
from . import Columns

_SLICE = 1 << 22


def reuse_in(columns: Columns, order: Order, save_decode_cache: bool) -> Reuse:
    """The spans of a trace's requests, sent in this order; save_decode_cache as in reuse_of."""
    of_prompts = _of_prompts(columns, order)
    if not save_decode_cache:
        return of_prompts
    return replace(of_prompts, saved=of_prompts.saved + columns.output_tokens[order.conversations] - 1)


@lru_cache(maxsize=2)
def _of_prompts(columns: Columns, order: Order) -> Reuse:
    """Nothing but whole blocks and a prompt's last, started one is shared, so that answers change no span."""
    nodes, size = chained(columns.ids, columns.starts), columns.block_tokens
    numbers = order.conversations
    last = np.full(int(nodes.max(initial=0)) + 1, NEVER, dtype=np.int32)
    spans, started = Spans(), _StartedBlocks(len(numbers), size)
    starts, lengths = columns.starts, columns.input_tokens
    asked = zip(
        starts[numbers].tolist(), starts[numbers + 1].tolist(), lengths[numbers].tolist(), strict=True
    )
    for request, (start, stop, length) in enumerate(asked):
        if start == stop:
            continue
        path = nodes[start:stop]
        before = last[path]
        last[path] = request
        part = length - (stop - start - 1) * size  # of the last block
        if before[0] != NEVER:
            ends = np.flatnonzero(before[1:] != before[:-1]) + 1
            begun = 0
            for past in [*ends.tolist(), stop - start]:
                use, whole = int(before[past - 1]), past < stop - start or part >= size
                if use == NEVER:
                    break
                if use < len(numbers):
                    spans.add(request, use, begun * size, past * size if whole else length)
                else:
                    used = started.uses(use, size if whole else part)
                    for of, low, high in used:
                        spans.add(request, of, begun * size + low, begun * size + high)
                begun = past
        if part < size:
            last[path[-1]] = started.use(int(before[-1]), part, request)
    return spans.reuse(lengths[numbers])


class _StartedBlocks:
    """Blocks that a request used in part, so that their tokens were used last by several.

    A block has a number from `requests` on. For each: (tokens, request) from its head on, up to which token which request was
    the last to use it.
    """

    def __init__(self, requests: int, size: int):
        self._first, self._size = requests, size
        self._blocks: list[tuple[tuple[int, int], ...]] = []

    def uses(self, number: int, tokens: int) -> Iterator[tuple[int, int, int]]:
        """(request, begin, end) of the first `tokens` of a block."""
        begin = 0
        for end, request in self._blocks[number - self._first]:
            if begin < min(end, tokens):
                yield request, begin, min(end, tokens)
            begin = end

    def use(self, before: int, tokens: int, request: int) -> int:
        """A request uses the first `tokens` of a block. before: the last use of it, or its number. Its number from now on."""
        known = self._first <= before
        if known:
            uses = self._blocks[before - self._first]
        else:
            uses = () if before == NEVER else ((self._size, before),)
        now = ((tokens, request), *(use for use in uses if use[0] > tokens))
        if known:
            self._blocks[before - self._first] = now
            return before
        self._blocks.append(now)
        return self._first + len(self._blocks) - 1


def chained(ids: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Ids that name a block with all blocks before it: the ids themselves where each comes behind one other only.

    ids, starts: as in Columns.
    """
    if not len(ids):
        return ids
    above = np.full(int(ids.max()) + 1, NEVER, dtype=np.int64)
    head = np.zeros(len(ids) + 1, dtype=bool)
    head[starts] = True

    def slices() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for begin in range(0, len(ids), _SLICE):
            end = min(begin + _SLICE, len(ids))
            before = np.empty(end - begin, dtype=np.int64)
            before[1:] = ids[begin : end - 1]
            before[0] = ids[begin - 1] if begin else 0
            before[head[begin:end]] = NEVER
            yield ids[begin:end], before

    for here, before in slices():
        above[here] = before
    if all(np.array_equal(above[here], before) for here, before in slices()):
        return ids
    return _numbered_behind(ids, starts)


def _numbered_behind(ids: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """New ids for blocks, equal where the blocks and all before them are."""
    found = np.empty(len(ids), dtype=np.uint32)
    lengths, kinds = np.diff(starts), int(ids.max()) + 1
    going = np.flatnonzero(lengths > 0)
    above, taken = np.zeros(len(going), dtype=np.int64), 0
    for depth in range(int(lengths.max())):
        still = lengths[going] > depth
        going, above = going[still], above[still]
        at = starts[going] + depth
        _, number = np.unique(above * kinds + ids[at], return_inverse=True)
        above = number + taken
        found[at] = above
        taken = int(above.max()) + 1
    return found
