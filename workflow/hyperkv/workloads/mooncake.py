"""Replay of Mooncake traces: requests with arrival times whose prompts are lists of hashed 512-token blocks.

Format and data: kvcache-ai/Mooncake, FAST25-release. Equal hash ids are equal blocks behind equal prefixes;
token ids are drawn from them. A trace does not say which blocks hold an earlier answer, so an answer here
is never part of a later prompt and saving decode KV buys nothing in a replay.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from math import isfinite
from pathlib import Path

import numpy as np

from ..errors import UserError
from . import Turn, check_count, generator

BLOCK_TOKENS = 512
_BLOCK, _ANSWER = 0, 1


@dataclass(frozen=True)
class Mooncake:
    """Parameters. trace: a JSONL file. max_requests: take the first ones only; None: all.

    max_context_tokens: refuse the trace when a request's prompt and answer pass it; None: no limit.
    """

    trace: str
    max_requests: int | None = None
    max_context_tokens: int | None = None
    vocabulary: int = 128256

    def __post_init__(self) -> None:
        if not isinstance(self.trace, str) or not self.trace:
            raise UserError(f"workload.trace: {self.trace!r}; write the path of a Mooncake JSONL file")
        if self.max_requests is not None:
            check_count("max_requests", self.max_requests)
        if self.max_context_tokens is not None:
            check_count("max_context_tokens", self.max_context_tokens)
        check_count("vocabulary", self.vocabulary, least=2)


@dataclass(frozen=True)
class Record:
    """One line of a trace: timestamp_ms from the start, lengths in tokens, one hash id per prompt block."""

    timestamp_ms: float
    input_tokens: int
    output_tokens: int
    hash_ids: tuple[int, ...]


@dataclass(frozen=True)
class Replay:
    """One request of a trace (see workloads.Conversation); its tokens are drawn on access."""

    name: str
    turns: tuple[Turn, ...]
    hash_ids: tuple[int, ...]
    seed: int
    index: int
    vocabulary: int

    @property
    def tokens(self) -> np.ndarray:
        """Token ids, uint32, shape (turns[-1].answer_end,): hashed blocks cut to the prompt, then the answer.

        Blocks are the same in every request of one seed that names them; an answer is this request's own.
        """
        turn, tokens = self.turns[0], np.empty(self.turns[0].answer_end, dtype=np.uint32)
        for start, hash_id in zip(range(0, turn.prompt_end, BLOCK_TOKENS), self.hash_ids, strict=True):
            part = tokens[start : min(start + BLOCK_TOKENS, turn.prompt_end)]
            part[:] = self._draw(hash_id, _BLOCK, len(part))
        tokens[turn.prompt_end :] = self._draw(self.index, _ANSWER, turn.answer_end - turn.prompt_end)
        return tokens

    def _draw(self, index: int, stream: int, count: int) -> np.ndarray:
        return generator(self.seed, index, stream).integers(0, self.vocabulary, count, dtype=np.uint32)


def conversations(workload: Mooncake, seed: int) -> list[Replay]:
    """One single-turn conversation per request of the trace, with arrival_s; reads the trace's file.

    Errors: UserError for a missing, malformed or empty trace and a request above max_context_tokens.
    """
    path = Path(workload.trace)
    try:
        with path.open(encoding="utf-8") as lines:
            records = list(islice(parse(lines, workload.trace), workload.max_requests))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UserError(f"{path}: {reason}; set workload.trace to a Mooncake JSONL file") from None
    if not records:
        raise UserError(f"{path}: no requests; set workload.trace to a Mooncake JSONL file")
    longest = max(record.input_tokens + record.output_tokens for record in records)
    if workload.max_context_tokens is not None and longest > workload.max_context_tokens:
        raise UserError(
            f"{path}: a request has {longest} tokens, more than workload.max_context_tokens "
            f"{workload.max_context_tokens}; raise it or take such requests out of the trace"
        )
    return [_replay(record, workload.vocabulary, seed, index) for index, record in enumerate(records)]


def parse(lines: Iterable[str], source: str) -> Iterator[Record]:
    """Records of a trace's lines, in order; blank lines are skipped.

    Errors: UserError "SOURCE:LINE: what; mend" for bad JSON, a missing key, a wrong type, a length below 1,
    hash_ids that are not one per started block of 512 tokens, and a timestamp before the last one.
    """
    last_ms: float = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        record = _record(line, f"{source}:{number}")
        if record.timestamp_ms < last_ms:
            raise UserError(
                f"{source}:{number}: timestamp {record.timestamp_ms} is before the last one, {last_ms}; "
                "sort the trace by timestamp, from 0 on"
            )
        last_ms = record.timestamp_ms
        yield record


def _record(line: str, where: str) -> Record:
    try:
        values = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where}: not JSON ({error}); write one JSON object a line") from None
    if not isinstance(values, dict):
        raise UserError(f"{where}: not a JSON object; write one JSON object a line")
    for key in ("timestamp", "input_length", "output_length", "hash_ids"):
        if key not in values:
            raise UserError(
                f"{where}: {key} is missing; write timestamp, input_length, output_length, hash_ids"
            )
    timestamp, hash_ids = values["timestamp"], values["hash_ids"]
    if not isinstance(timestamp, int | float) or isinstance(timestamp, bool) or not isfinite(timestamp):
        raise UserError(f"{where}: timestamp is {timestamp!r}; write milliseconds as a number")
    for key in ("input_length", "output_length"):
        if not _is_whole(values[key]) or values[key] < 1:
            raise UserError(
                f"{where}: {key} is {values[key]!r}; write a whole number of tokens of at least 1"
            )
    if not isinstance(hash_ids, list) or not all(_is_whole(h) and 0 <= h < 2**32 for h in hash_ids):
        raise UserError(
            f"{where}: hash_ids is no list of whole numbers from 0 to 2**32 - 1; write block hash ids"
        )
    blocks = -(-values["input_length"] // BLOCK_TOKENS)
    if len(hash_ids) != blocks:
        raise UserError(
            f"{where}: {len(hash_ids)} hash_ids for input_length {values['input_length']}; "
            f"write {blocks}, one per started block of {BLOCK_TOKENS} tokens"
        )
    return Record(timestamp, values["input_length"], values["output_length"], tuple(hash_ids))


def _replay(record: Record, vocabulary: int, seed: int, index: int) -> Replay:
    answer_end = record.input_tokens + record.output_tokens
    turn = Turn(record.input_tokens, answer_end, arrival_s=record.timestamp_ms / 1000)
    return Replay(f"request-{index}", (turn,), record.hash_ids, seed, index, vocabulary)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
