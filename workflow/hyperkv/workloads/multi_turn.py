"""The reference workload: chats that grow turn by turn, each with a prefix of its own.

It follows generate_conversations of vLLM's benchmarks/multi_turn/bench_dataset.py, with token ids in place
of text: the reference project took its figures with that tool.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from . import Drawn, Turn, check_context, check_lowest, generator, uniform

_LENGTHS, _TOKENS = 0, 1


@dataclass(frozen=True)
class MultiTurn:
    """Parameters; every range is uniform, in whole numbers, both ends included.

    turns: messages of a conversation as vLLM counts them, user's and model's alike, rounded up to even:
    (2, 28) is 1 to 14 requests. prefix_tokens: context put before the first user message.
    max_context_tokens: a conversation ends before the turn whose answer would pass it; None: never.
    """

    conversations: int
    turns: tuple[int, int] = (2, 28)
    prefix_tokens: tuple[int, int] = (800, 1200)
    user_tokens: tuple[int, int] = (50, 150)
    answer_tokens: tuple[int, int] = (100, 230)
    max_context_tokens: int | None = None
    vocabulary: int = 128256

    def __post_init__(self) -> None:
        check_lowest(turns=self.turns, user_tokens=self.user_tokens, answer_tokens=self.answer_tokens)
        longest = self.prefix_tokens[1] + self.user_tokens[1] + self.answer_tokens[1]
        check_context(longest, self.max_context_tokens, "a first turn")


class Chat(Drawn):
    """One conversation."""

    @property
    def tokens(self) -> np.ndarray:
        """Token ids, uint32, shape (turns[-1].answer_end,)."""
        return self.draw(self.index, _TOKENS, self.turns[-1].answer_end)

    @property
    def parts(self) -> list[tuple[Hashable, int]]:
        """One part: nothing is shared with other chats."""
        return [(("own", self.name), self.turns[-1].answer_end)]


def conversations(workload: MultiTurn, seed: int) -> list[Chat]:
    """The workload's conversations; conversation i depends on (workload's ranges, seed, i) only."""
    return [_chat(workload, seed, index) for index in range(workload.conversations)]


def _chat(workload: MultiTurn, seed: int, index: int) -> Chat:
    draw = generator(seed, index, _LENGTHS)
    requests = (uniform(draw, workload.turns) + 1) // 2
    end = uniform(draw, workload.prefix_tokens)
    turns: list[Turn] = []
    for _ in range(requests):
        prompt_end = end + uniform(draw, workload.user_tokens)
        end = prompt_end + uniform(draw, workload.answer_tokens)
        if workload.max_context_tokens is not None and end > workload.max_context_tokens:
            break
        turns.append(Turn(prompt_end, end))
    return Chat(f"chat-{index}", tuple(turns), seed, index, workload.vocabulary)
