"""Questions about a few long documents that many requests share."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from . import Drawn, Turn, check_context, check_lowest, generator, uniform

_DOCUMENT_LENGTH, _DOCUMENT_TOKENS, _REQUEST_LENGTH, _REQUEST_TOKENS = 0, 1, 2, 3


@dataclass(frozen=True)
class LongDocuments:
    """Parameters; every range is uniform, in whole numbers, both ends included.

    reuse: how requests pick their document: uniform, or zipf, where document d (from 0) has a weight of
    1 / (d + 1). max_context_tokens: refuse ranges in which document, question and answer may pass it.
    """

    documents: int
    requests: int
    document_tokens: tuple[int, int]
    question_tokens: tuple[int, int]
    answer_tokens: tuple[int, int]
    reuse: str = "uniform"
    max_context_tokens: int | None = None
    vocabulary: int = 128256

    def __post_init__(self) -> None:
        check_lowest(
            document_tokens=self.document_tokens,
            question_tokens=self.question_tokens,
            answer_tokens=self.answer_tokens,
        )
        longest = self.document_tokens[1] + self.question_tokens[1] + self.answer_tokens[1]
        check_context(longest, self.max_context_tokens, "a request")


@dataclass(frozen=True)
class Question(Drawn):
    """One request about one document."""

    document: int
    document_tokens: int

    @property
    def tokens(self) -> np.ndarray:
        """Document, question and answer, uint32, shape (turns[-1].answer_end,)."""
        document = self.draw(self.document, _DOCUMENT_TOKENS, self.document_tokens)
        own = self.draw(self.index, _REQUEST_TOKENS, self.turns[-1].answer_end - self.document_tokens)
        return np.concatenate([document, own])

    @property
    def parts(self) -> list[tuple[Hashable, int]]:
        """The document, then question and answer, its own."""
        return [(self.document, self.document_tokens), (("own", self.name), self.turns[-1].answer_end)]


def conversations(workload: LongDocuments, seed: int) -> list[Question]:
    """One single-turn conversation per request; request i does not depend on how many there are."""
    lengths = [
        uniform(generator(seed, document, _DOCUMENT_LENGTH), workload.document_tokens)
        for document in range(workload.documents)
    ]
    cumulative = np.cumsum(_weights(workload))
    return [_question(workload, seed, index, lengths, cumulative) for index in range(workload.requests)]


def _weights(workload: LongDocuments) -> np.ndarray:
    ranks = np.arange(1, workload.documents + 1, dtype=float)
    weights = 1 / ranks if workload.reuse == "zipf" else np.ones_like(ranks)
    return weights / weights.sum()


def _question(
    workload: LongDocuments, seed: int, index: int, lengths: list[int], cumulative: np.ndarray
) -> Question:
    draw = generator(seed, index, _REQUEST_LENGTH)
    document = min(int(np.searchsorted(cumulative, draw.random(), side="right")), workload.documents - 1)
    prompt_end = lengths[document] + uniform(draw, workload.question_tokens)
    turn = Turn(prompt_end, prompt_end + uniform(draw, workload.answer_tokens))
    return Question(
        f"request-{index}", (turn,), seed, index, workload.vocabulary, document, lengths[document]
    )
