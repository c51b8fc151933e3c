"""Conversations as text, through a model's own chat template and tokenizer (sharegpt.py, tokenize_texts.py).

A prompt is all that was said before, answers as the file has them; an engine that really answers puts its own in their place,
of as many tokens. A number in front of each conversation, another for every seed, keeps runs from finding what others saved.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ...base.errors import UserError
from .. import NothingLeft, Turn, generator
from .sharegpt import TAG

_TAG, _ANSWER = 0, 1


@dataclass(frozen=True)
class Text:
    """Parameters. file: the conversations. tokenizer: folder of the model whose tokens they are. tokens: what tokenize_texts made of
    both.

    max_conversations: the file's first ones; None: all. max_answer_tokens: of an answer at most, and of one to a last question
    that the file has no answer to; None: answers as long as the file's, and such a question is left out. max_context_tokens: a
    conversation ends before the turn whose answer would pass it; None: never.
    """

    file: str
    tokenizer: str | None = None
    max_conversations: int | None = None
    max_answer_tokens: int | None = None
    max_context_tokens: int | None = None
    tokens: str = ""
    vocabulary: int = 128256


@dataclass(frozen=True)
class Spoken:
    """One conversation. said: role and text of what is sent, in order, a system prompt first if there is one."""

    name: str
    turns: tuple[Turn, ...]
    tokens: np.ndarray
    parts: list[tuple[Hashable, int]]
    said: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Kept:
    """What is asked of a conversation of the file. spans: where in its tokens each turn's new ones and its answer are."""

    about: dict[str, Any]
    spans: tuple[tuple[int, int, int], ...]
    lengths: tuple[int, ...]


def conversations(workload: Text, seed: int) -> list[Spoken]:
    """The file's conversations in order, each with the seed's number in front. Raises UserError when none is left."""
    kept = _kept(workload)
    tokens = [_tokens(each, workload, seed, index) for index, each in enumerate(kept)]
    parts = _parts(tokens)
    return [_spoken(*each, seed) for each in zip(kept, tokens, parts, strict=True)]


def notes(workload: Text) -> list[str]:
    """What of the file is not asked, a line for a record's notes; none when all of it is."""
    lines, kept = _lines(workload.tokens, _state(workload)), _kept(workload)
    turns = sum(len(line["turns"]) for line in lines) - sum(len(each.spans) for each in kept)
    if not turns:
        return []
    why = [f"longer than {workload.max_context_tokens:,} tokens"] if workload.max_context_tokens else []
    why += [] if workload.max_answer_tokens else ["without an answer"]
    return [f"text: {turns} questions of {len(lines):,} conversations left out, {' or '.join(why)}"]


def _kept(workload: Text) -> list[_Kept]:
    limit, lines = workload.max_context_tokens, _lines(workload.tokens, _state(workload))
    kept = [found for line in lines if (found := _turns_of(line, workload)).spans]
    if kept:
        return kept
    unlimited = Text(workload.file, max_answer_tokens=workload.max_answer_tokens)
    first = [found.lengths[0] for line in lines if (found := _turns_of(line, unlimited)).spans]
    where = f"workload.file: {workload.file}"
    if limit is None or not first:
        raise UserError(
            f"{where}: no question has an answer; set workload.max_answer_tokens to ask them nevertheless"
        )
    raise NothingLeft(where, f"the shortest first turn has {min(first)} tokens", min(first), limit)


def _turns_of(line: dict[str, Any], workload: Text) -> _Kept:
    most, spans, lengths, start, length = workload.max_answer_tokens, [], [], 0, 0
    for prompt_end, answer_end in line["turns"]:
        answer = answer_end - prompt_end or most or 0
        answer = min(answer, most or answer)
        length += prompt_end - start + answer
        if not answer or length > (workload.max_context_tokens or length):
            break
        spans.append((start, prompt_end, answer))
        lengths.append(length)
        start = answer_end
    return _Kept(line, tuple(spans), tuple(lengths))


def _tokens(kept: _Kept, workload: Text, seed: int, index: int) -> np.ndarray:
    """Token ids, uint32, the seed's number and an answer that the file lacks drawn."""
    told = np.array(kept.about["tokens"], dtype=np.uint32)
    begin, end = kept.about["tag"]
    told[begin:end] = generator(seed, 0, _TAG).integers(0, workload.vocabulary, end - begin)
    parts = []
    for start, prompt_end, answer in kept.spans:
        known = told[prompt_end : prompt_end + answer]
        drawn = generator(seed, index, _ANSWER).integers(
            0, workload.vocabulary, answer - len(known), dtype=np.uint32
        )
        parts += [told[start:prompt_end], known, drawn]
    return np.concatenate(parts)


def _spoken(kept: _Kept, tokens: np.ndarray, parts: list[tuple[Hashable, int]], seed: int) -> Spoken:
    answers = (answer for *_, answer in kept.spans)
    turns = tuple(Turn(end - answer, end) for end, answer in zip(kept.lengths, answers, strict=True))
    said = [(role, text.replace(TAG, f"{seed:0{len(TAG)}d}", 1)) for role, text in kept.about["said"][:1]]
    said += [(role, text) for role, text in kept.about["said"][1:]]
    questions = [part for part in said if part[0] == "user"][: len(turns)]
    system = [part for part in said if part[0] != "user"]
    return Spoken(kept.about["name"], turns, tokens, parts, (*system, *questions))


def _parts(tokens: Sequence[np.ndarray]) -> list[list[tuple[Hashable, int]]]:
    """Of each conversation its spans between the places where others part from it, by their contents."""
    order = sorted(range(len(tokens)), key=lambda index: tokens[index].astype(">u4").tobytes())
    shared = [_common(tokens[a], tokens[b]) for a, b in pairwise(order)]
    cuts: list[set[int]] = [{len(each)} for each in tokens]
    for places, between in ((order, shared), (order[::-1], shared[::-1])):
        above: list[int] = []
        for index, common in zip(places[1:], between, strict=True):
            while above and above[-1] > common:
                above.pop()
            if common and (not above or above[-1] < common):
                above.append(common)
            cuts[index] |= {*above}
    return [_spans(each, sorted(own)) for each, own in zip(tokens, cuts, strict=True)]


def _common(left: np.ndarray, right: np.ndarray) -> int:
    """Tokens until two conversations part."""
    least = min(len(left), len(right))
    apart = np.flatnonzero(left[:least] != right[:least])
    return int(apart[0]) if len(apart) else least


def _spans(tokens: np.ndarray, ends: Sequence[int]) -> list[tuple[Hashable, int]]:
    starts = [0, *ends[:-1]]
    return [
        (hashlib.blake2b(tokens[start:end].tobytes(), digest_size=16).digest(), end)
        for start, end in zip(starts, ends, strict=True)
    ]


def _state(workload: Text) -> tuple[int, int]:
    try:
        stat = Path(workload.tokens).stat()
    except OSError:
        return 0, 0
    return stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=4)
def _lines(path: str, state: tuple[int, int]) -> list[dict[str, Any]]:
    """The conversations of a file of tokens, read once as long as it stays as it is."""
    with Path(path).open() as lines:
        return [json.loads(line) for line in lines]
