"""The prefixes that a workload's requests share, as a tree of token spans, and the order in which they are sent.

Chained keys say which chunks of two contexts are equal: those up to where their tokens part. The workloads know
where that is without drawing tokens, so that nothing is hashed; the tests hold this against chunks.chain_keys.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from . import Columnar, Conversation
from .closed_loop import ClosedLoop

ROOT = 0


@dataclass(frozen=True)
class PrefixTree:
    """Spans of tokens that are always used whole; node 0 is the root, a parent comes before its children.

    parent, end: per node, the node that its prefix ends in and its own end, in tokens from the start of a context.
    leaves: per conversation and turn, the node in which the saved part of the turn's context ends.
    """

    parent: list[int]
    end: list[int]
    leaves: list[list[int]]

    def units(self, unit_tokens: int) -> Units:
        """The tree in whole blocks or chunks of `unit_tokens`."""
        depth = [end // unit_tokens for end in self.end]
        whole, parent, count = [ROOT] * len(depth), [ROOT] * len(depth), [0] * len(depth)
        for node in range(1, len(depth)):
            above = whole[self.parent[node]]
            parent[node], count[node] = above, depth[node] - depth[above]
            whole[node] = node if count[node] else above
        return Units(parent, count, depth, whole)


@dataclass(frozen=True)
class Units:
    """A PrefixTree in whole units. parent: nearest node above that has a unit of its own. count: units of a node.

    depth: units up to a node's end. whole: the node itself, or where its prefix's last unit is when it has none.
    """

    parent: list[int]
    count: list[int]
    depth: list[int]
    whole: list[int]


@dataclass(frozen=True, eq=False)
class Order:
    """Requests in the order in which they are sent. conversations, turns: int64, of each. window: see request_order."""

    conversations: np.ndarray
    turns: np.ndarray
    window: int

    @property
    def requests(self) -> list[tuple[int, int]]:
        """(conversation, turn) of each."""
        return list(zip(self.conversations.tolist(), self.turns.tolist(), strict=True))


def prefix_tree(conversations: Sequence[Conversation], save_decode_cache: bool) -> PrefixTree:
    """The tree of a workload's saved contexts.

    save_decode_cache: a context is saved up to its prompt's end when false, else up to its answer's last token but
    one: no engine computes the KV of the last.
    """
    segments: dict[tuple[int, int, Hashable], int] = {}
    cuts: list[set[int]] = [set()]
    above: list[tuple[int, int]] = [(0, 0)]
    marks: list[list[tuple[int, int]]] = []
    for conversation in conversations:
        ends, path, at = [], [], (0, 0)
        for identity, end in conversation.parts:
            key = (*at, identity)
            if (segment := segments.get(key)) is None:
                segment = segments[key] = len(cuts)
                cuts.append(set())
                above.append(at)
            ends.append(end)
            path.append(segment)
            at = (segment, end)
        turns = []
        for turn in conversation.turns:
            saved = turn.answer_end - 1 if save_decode_cache else turn.prompt_end
            segment = path[bisect_left(ends, saved)]
            cuts[segment].add(saved)
            turns.append((segment, saved))
        marks.append(turns)
    for cut, (segment, end) in zip(reversed(cuts[1:]), reversed(above[1:]), strict=True):
        if cut:  # else nothing behind it is saved
            cuts[segment].add(end)
    return _numbered(cuts, above, marks)


def request_order(turns: Sequence[int], clients: int, active_conversations: int) -> Order:
    """How closed-loop clients send conversations of so many turns (closed_loop.py), every answer taking as long as any other.

    Order.window: requests sent before a client finds nothing left to send, which the replay engine's measured window ends with.
    """
    loop = ClosedLoop(turns, clients, active_conversations)
    requests: list[tuple[int, int]] = []
    window, whole = None, sum(turns)
    while len(requests) < whole:
        for client in range(clients):
            if (sent := loop.send(client)) is not None:
                requests.append(sent)
                loop.answered(client)
            elif window is None:
                window = len(requests)
    numbers = np.array(requests, dtype=np.int64).reshape(-1, 2)
    return Order(numbers[:, 0], numbers[:, 1], len(requests) if window is None else window)


def as_they_are(conversations: Sequence[Conversation]) -> Order:
    """The order of one conversation after the other."""
    return request_order(turns_of(conversations), 1, 1)


def turns_of(conversations: Sequence[Conversation]) -> list[int]:
    """How many turns each conversation has."""
    if isinstance(conversations, Columnar):
        return [1] * len(conversations)
    return [len(conversation.turns) for conversation in conversations]


def prompt_tokens(conversations: Sequence[Conversation], order: Order) -> np.ndarray:
    """Length of every request's prompt in tokens, int64, in the order in which they are sent."""
    if isinstance(conversations, Columnar):
        return conversations.prompts[order.conversations]
    return np.array([conversations[index].turns[turn].prompt_end for index, turn in order.requests])


def _numbered(
    cuts: list[set[int]], above: list[tuple[int, int]], marks: list[list[tuple[int, int]]]
) -> PrefixTree:
    parent, ends, nodes = [ROOT], [0], {(0, 0): ROOT}
    for segment in range(1, len(cuts)):
        if not cuts[segment]:
            continue
        before = nodes[above[segment]]
        for end in sorted(cuts[segment]):
            nodes[segment, end] = len(parent)
            parent.append(before)
            ends.append(end)
            before = nodes[segment, end]
    return PrefixTree(parent, ends, [[nodes[mark] for mark in turns] for turns in marks])
