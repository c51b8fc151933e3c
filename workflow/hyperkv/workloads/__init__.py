"""Workloads: conversations of token ids, deterministic from a seed and free of I/O.

A workload is a sequence of `Conversation`. Turn k of a conversation sends the prompt
`tokens[:turns[k].prompt_end]` and receives `tokens[turns[k].prompt_end:turns[k].answer_end]`, so a
context only ever grows and two requests share a prefix exactly when their tokens do.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from ..base.errors import UserError

SEEDS_PER_RUN = 10_000


@dataclass(frozen=True)
class Turn:
    """One request of a conversation, as positions in its token array.

    prompt_end: length of the prompt in tokens (all earlier turns and answers included).
    answer_end: prompt_end plus the answer's length in tokens.
    arrival_s: when the request arrives in an open-loop replay, seconds from the start; None in a closed loop.
    """

    prompt_end: int
    answer_end: int
    arrival_s: float | None = None


class Conversation(Protocol):
    """Turns over one token array.

    name: unique within the workload. turns: in order, each prompt_end >= the last turn's answer_end.
    tokens: uint32, shape (turns[-1].answer_end,); may be built on access, so hold it while it is in use.
    parts: (identity, end in tokens) of what the tokens are made of; behind equal parts, equal identities are equal tokens.
    said: role and text of what a client sends, in order, where the tokens are those of a text; None where they are drawn.
    """

    @property
    def name(self) -> str: ...

    @property
    def turns(self) -> tuple[Turn, ...]: ...

    @property
    def tokens(self) -> np.ndarray: ...

    @property
    def parts(self) -> list[tuple[Hashable, int]]: ...

    @property
    def said(self) -> tuple[tuple[str, str], ...] | None: ...


class Columnar(Sequence[Conversation]):
    """Conversations of one turn each that are made when they are asked for; what is asked of all of them is there at once.

    longest: the one with the longest context. prompts: length of each one's prompt in tokens, int64.
    """

    @property
    @abstractmethod
    def longest(self) -> Conversation: ...

    @property
    @abstractmethod
    def prompts(self) -> np.ndarray: ...

    @abstractmethod
    def reuse(self, order: Any, save_decode_cache: bool) -> Any:
        """What reuse.reuse_of says of them."""


@dataclass(frozen=True)
class Drawn:
    """A conversation whose tokens are drawn on access, from the workload's seed and its own number in the workload."""

    name: str
    turns: tuple[Turn, ...]
    seed: int
    index: int
    vocabulary: int
    said: ClassVar[None] = None

    def draw(self, index: int, stream: int, count: int) -> np.ndarray:
        """`count` token ids of one thing, uniform over the vocabulary: uint32. index, stream: see generator."""
        return generator(self.seed, index, stream).integers(0, self.vocabulary, count, dtype=np.uint32)


def generator(seed: int, index: int, stream: int) -> np.random.Generator:
    """The random numbers of one item (conversation, document, block), independent of every other item's.

    seed, index: 0 <= value < 2**32. stream: keeps apart the kinds of things one seed and index draw.
    """
    sequence = np.random.SeedSequence([seed, index], spawn_key=(stream,))
    return np.random.Generator(np.random.PCG64(sequence))


def uniform(draw: np.random.Generator, bounds: tuple[int, int]) -> int:
    """A whole number from bounds = (lowest, highest), both included."""
    return int(draw.integers(bounds[0], bounds[1], endpoint=True))


def check_lowest(**ranges: tuple[int, int]) -> None:
    """Raise UserError, naming the workload's key, for a range of lengths that begins below 1."""
    for key, (lowest, highest) in ranges.items():
        if lowest < 1:
            raise UserError(
                f"workload.{key}: [{lowest}, {highest}]; write [lowest, highest], both at least 1"
            )


def check_context(longest_tokens: int, max_context_tokens: int | None, what: str) -> None:
    """Raise UserError when `what` may reach longest_tokens, more than max_context_tokens (None: no limit)."""
    if max_context_tokens is not None and longest_tokens > max_context_tokens:
        raise UserError(
            f"workload.max_context_tokens: {max_context_tokens} is less than the {longest_tokens} tokens "
            f"{what} may have; raise it or shorten the ranges"
        )


def longest_of(conversations: Iterable[Conversation]) -> Conversation:
    """The conversation with the longest context, last answer included."""
    if isinstance(conversations, Columnar):
        return conversations.longest
    return max(conversations, key=lambda conversation: conversation.turns[-1].answer_end)


def longest_context(conversations: Iterable[Conversation]) -> int:
    """Tokens of the longest context, last answer included, that a workload reaches."""
    return longest_of(conversations).turns[-1].answer_end


def repeat_seed(seed: int, repeat: int) -> int:
    """The workload's seed of one repeat: the same for every scenario and load, so that repeats are paired."""
    return seed * SEEDS_PER_RUN + repeat


class NothingLeft(UserError):
    """No request of a trace fits. where: the trace. words: why. least: tokens of a context that one would fit."""

    def __init__(self, where: str, words: str, least: int, limit: int):
        self.where, self.words, self.least = where, words, least
        super().__init__(
            f"{where}: no request is left within {limit} tokens, which is workload.max_context_tokens or, without it, what "
            f"model and engine take; {words}: raise it to {least} at least"
        )
