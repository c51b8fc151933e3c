"""Replay of traces: requests with arrival times whose prompts are lists of hashed blocks (workloads/trace.py).

Equal hash ids are equal blocks behind equal prefixes; token ids are drawn from them. A trace does not say which blocks
hold an earlier answer, so an answer here is never part of a later prompt and saving decode KV buys nothing in a replay.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..base.errors import UserError
from . import Drawn, NothingLeft, Turn
from .trace import Record, parse
from .trace_file import FORMS, lines_of

_BLOCK, _ANSWER = 0, 1


@dataclass(frozen=True)
class Mooncake:
    """Parameters. trace: the file. max_requests: take its first ones only; None: all.

    block_tokens: tokens per hash id. time_unit: of timestamps, ms, s or us; None: ms. long_requests: what becomes of requests
    whose prompt and answer pass max_context_tokens (None: no limit): `refuse` the trace; `leave_out` the request, so
    that later ones do not find what it would have saved; `cut` its prompt's end, so that prompt and answer just fit: the
    chain of blocks before it stays, and prompts that part only behind the cut become the same, which raises hit rates.
    A request whose answer alone leaves no room for a prompt is left out in both.
    """

    trace: str
    max_requests: int | None = None
    max_context_tokens: int | None = None
    long_requests: str = "refuse"
    block_tokens: int = 512
    time_unit: str | None = None
    vocabulary: int = 128256


@dataclass(frozen=True)
class Taken:
    """What is replayed of a trace. requests: those read of it. left_out, cut: how many of them were too long."""

    records: tuple[Record, ...]
    requests: int
    left_out: int = 0
    cut: int = 0


@dataclass(frozen=True)
class Replay(Drawn):
    """One request of a trace."""

    hash_ids: tuple[int, ...]
    block_tokens: int

    @property
    def tokens(self) -> np.ndarray:
        """Token ids, uint32, shape (turns[-1].answer_end,): hashed blocks cut to the prompt, then the answer.

        Blocks are the same in every request of one seed that names them; an answer is this request's own.
        """
        turn, tokens = self.turns[0], np.empty(self.turns[0].answer_end, dtype=np.uint32)
        for start, hash_id in zip(range(0, turn.prompt_end, self.block_tokens), self.hash_ids, strict=True):
            part = tokens[start : min(start + self.block_tokens, turn.prompt_end)]
            part[:] = self.draw(hash_id, _BLOCK, len(part))
        tokens[turn.prompt_end :] = self.draw(self.index, _ANSWER, turn.answer_end - turn.prompt_end)
        return tokens

    @property
    def parts(self) -> list[tuple[Hashable, int]]:
        """The prompt's blocks by hash id, then the answer, its own."""
        turn = self.turns[0]
        starts = range(0, turn.prompt_end, self.block_tokens)
        blocks = zip(starts, self.hash_ids, strict=True)
        prompt = [(name, min(start + self.block_tokens, turn.prompt_end)) for start, name in blocks]
        return [*prompt, (("own", self.name), turn.answer_end)]


def conversations(workload: Mooncake, seed: int) -> list[Replay]:
    """One single-turn conversation per request of the trace, with arrival_s; reads the trace's file.

    Raises UserError for a file that is no trace and a request above max_context_tokens that is to be refused.
    """
    return [_replay(record, workload, seed, index) for index, record in enumerate(taken(workload).records)]


def notes(workload: Mooncake) -> list[str]:
    """What was done to requests that were too long, a line for a record's notes; none when all were taken as they are."""
    found = taken(workload)
    if not found.left_out and not found.cut:
        return []
    done = [f"{found.cut} cut at the prompt's end"] if found.cut else []
    done += [f"{found.left_out} left out"] if found.left_out else []
    return [
        f"trace: of {found.requests:,} requests {' and '.join(done)}, longer than {workload.max_context_tokens:,} tokens with "
        f"their answers"
    ]


def taken(workload: Mooncake) -> Taken:
    """The trace's records as `workload` takes them. A file is read once as long as it stays as it is."""
    path = Path(workload.trace)
    try:
        stat = path.stat()
        state = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    except OSError:
        state = (0, 0, 0)
    return _taken(workload, state)


@lru_cache(maxsize=4)
def _taken(workload: Mooncake, state: tuple[int, int, int]) -> Taken:
    path, where = Path(workload.trace), f"workload.trace: {workload.trace}"
    lines = lines_of(path, where)
    records = parse(lines, where, workload.block_tokens, workload.time_unit, workload.max_requests)
    if not records:
        raise UserError(f"{where}: no requests, the file is empty; {FORMS}")
    return _within(records, workload, where)


def _within(records: Sequence[Record], workload: Mooncake, where: str) -> Taken:
    limit = workload.max_context_tokens
    too_long = [r for r in records if limit is not None and r.input_tokens + r.output_tokens > limit]
    if limit is None or not too_long:
        return Taken(tuple(records), len(records))
    longest = max(record.input_tokens + record.output_tokens for record in too_long)
    if workload.long_requests == "refuse":
        ways = _ways(records, limit)
        set_to = f"set workload.long_requests: {', or '.join(ways)}, or " if ways else ""
        raise UserError(
            f"{where}: {len(too_long):,} of {len(records):,} requests have more than workload.max_context_tokens {limit}, prompt "
            f"and answer, up to {longest}; {set_to}raise it to {longest}"
        )
    kept = []
    cut = 0
    for record in records:
        room = limit - record.output_tokens
        if record.input_tokens <= room:
            kept.append(record)
        elif workload.long_requests == "cut" and room > 0:
            kept.append(_cut(record, room, workload.block_tokens))
            cut += 1
    if not kept:
        if workload.long_requests == "cut":
            least = min(record.output_tokens for record in records) + 1
            words = f"the shortest answer has {least - 1} tokens"
        else:
            least = min(record.input_tokens + record.output_tokens for record in records)
            words = f"the shortest has {least} tokens, prompt and answer"
        raise NothingLeft(where, words, least, limit)
    return Taken(tuple(kept), len(records), len(records) - len(kept), cut)


def shortenings(workload: Mooncake, limit_tokens: int) -> list[str]:
    """Values of long_requests, beside refuse, that leave requests of the trace within a limit."""
    unlimited = replace(workload, max_context_tokens=None, long_requests="refuse")
    return _ways(taken(unlimited).records, limit_tokens)


def _ways(records: Sequence[Record], limit: int) -> list[str]:
    found = ["leave_out"] if any(r.input_tokens + r.output_tokens <= limit for r in records) else []
    return [*found, "cut"] if any(r.output_tokens < limit for r in records) else found


def _cut(record: Record, prompt_tokens: int, block_tokens: int) -> Record:
    blocks = -(-prompt_tokens // block_tokens)
    return replace(record, input_tokens=prompt_tokens, hash_ids=record.hash_ids[:blocks])


def _replay(record: Record, workload: Mooncake, seed: int, index: int) -> Replay:
    answer_end = record.input_tokens + record.output_tokens
    turn = Turn(record.input_tokens, answer_end, arrival_s=record.arrival_s)
    name, blocks = f"request-{index}", workload.block_tokens
    return Replay(name, (turn,), seed, index, workload.vocabulary, record.hash_ids, blocks)
