"""Replay of traces: requests with arrival times, prompts of hashed blocks, in any form that is known (trace_forms).

Equal hash ids are equal blocks; token ids are drawn from them. What a trace does not name is a request's own: its answer, and
a prompt's tokens behind the last block that has an id, the whole prompt where a form has lengths alone. A trace does not say
which blocks hold an earlier answer, so an answer here is never part of a later prompt and saving decode KV buys nothing in a replay.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import overload

import numpy as np

from ..base.errors import UserError
from . import Columnar, Drawn, NothingLeft, Turn
from .prefix_tree import Order
from .reuse import Reuse
from .trace_forms import Columns
from .trace_forms.forms import read_trace
from .trace_forms.spans import reuse_in

_BLOCK, _ANSWER = 0, 1


@dataclass(frozen=True)
class Trace:
    """Parameters. trace: the file. form: one of trace_forms; None: recognised. max_requests: take its first ones only; None: all.

    block_tokens, time_unit (of timestamps: ms, s or us): None takes the form's. long_requests: what becomes of requests
    whose prompt and answer pass max_context_tokens (None: no limit): `refuse` the trace; `leave_out` the request, so
    that later ones do not find what it would have saved; `cut` its prompt's end, so that prompt and answer just fit: the
    chain of blocks before it stays, and prompts that part only behind the cut become the same, which raises hit rates.
    A request whose answer alone leaves no room for a prompt is left out in both.
    """

    trace: str
    form: str | None = None
    max_requests: int | None = None
    max_context_tokens: int | None = None
    long_requests: str = "refuse"
    block_tokens: int | None = None
    time_unit: str | None = None
    vocabulary: int = 128256


@dataclass(frozen=True, eq=False)
class Taken:
    """What is replayed of a trace. requests: those read of it. left_out, cut: how many of them were too long."""

    columns: Columns
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
        """Token ids, uint32, shape (turns[-1].answer_end,): hashed blocks cut to the prompt, then what is its own.

        Blocks are the same in every request of one seed that names them.
        """
        turn, tokens = self.turns[0], np.empty(self.turns[0].answer_end, dtype=np.uint32)
        start = 0
        for hash_id in self.hash_ids:
            part = tokens[start : min(start + self.block_tokens, turn.prompt_end)]
            part[:] = self.draw(hash_id, _BLOCK, len(part))
            start += len(part)
        tokens[start:] = self.draw(self.index, _ANSWER, turn.answer_end - start)
        return tokens

    @property
    def parts(self) -> list[tuple[Hashable, int]]:
        """The prompt's blocks by hash id, then its own."""
        turn, size = self.turns[0], self.block_tokens
        prompt = [(name, min(end * size, turn.prompt_end)) for end, name in enumerate(self.hash_ids, start=1)]
        return [*prompt, (("own", self.name), turn.answer_end)]


@dataclass(frozen=True, eq=False)
class Requests(Columnar):
    """The requests of a trace; a million of them take little room."""

    columns: Columns
    seed: int
    vocabulary: int

    def __len__(self) -> int:
        return len(self.columns)

    @overload
    def __getitem__(self, index: int) -> Replay: ...
    @overload
    def __getitem__(self, index: slice) -> list[Replay]: ...
    def __getitem__(self, index: int | slice) -> Replay | list[Replay]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        number, of = range(len(self))[index], self.columns
        prompt_end = int(of.input_tokens[number])
        turn = Turn(prompt_end, prompt_end + int(of.output_tokens[number]), float(of.arrival_s[number]))
        ids = tuple(of.ids[of.starts[number] : of.starts[number + 1]].tolist())
        return Replay(f"request-{number}", (turn,), self.seed, number, self.vocabulary, ids, of.block_tokens)

    @property
    def longest(self) -> Replay:
        return self[int(self.columns.total_tokens.argmax())]

    @property
    def prompts(self) -> np.ndarray:
        return self.columns.input_tokens

    def reuse(self, order: Order, save_decode_cache: bool) -> Reuse:
        return reuse_in(self.columns, order, save_decode_cache)


def conversations(workload: Trace, seed: int) -> Requests:
    """One single-turn conversation per request of the trace, with arrival_s; reads the trace's file.

    Raises UserError for a file that is no trace and a request above max_context_tokens that is to be refused.
    """
    return Requests(taken(workload).columns, seed, workload.vocabulary)


def notes(workload: Trace) -> list[str]:
    """What was done to make requests of the trace, a line each for a record's notes; none when all were taken as they are."""
    found = taken(workload)
    told = list(found.columns.notes)
    done = [f"{found.cut} cut at the prompt's end"] if found.cut else []
    done += [f"{found.left_out} left out"] if found.left_out else []
    if done:
        told.append(
            f"trace: of {found.requests:,} requests {' and '.join(done)}, longer than {workload.max_context_tokens:,} tokens with "
            f"their answers"
        )
    return told


def prefixes_known(workload: Trace) -> bool:
    """Whether the trace's form says which blocks prompts are made of."""
    return taken(workload).columns.known


def taken(workload: Trace) -> Taken:
    """The trace's requests as `workload` takes them. A file is read once as long as it stays as it is."""
    path = Path(workload.trace)
    try:
        stat = path.stat()
        state = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    except OSError:
        state = (0, 0, 0)
    return _taken(workload, state)


@lru_cache(maxsize=4)
def _taken(workload: Trace, state: tuple[int, int, int]) -> Taken:
    where = f"workload.trace: {workload.trace}"
    asked = (workload.form, workload.block_tokens, workload.time_unit, workload.max_requests)
    return _within(read_trace(Path(workload.trace), where, *asked), workload, where)


def _within(columns: Columns, workload: Trace, where: str) -> Taken:
    limit, totals = workload.max_context_tokens, columns.total_tokens
    if limit is None or int(totals.max()) <= limit:
        return Taken(columns, len(columns))
    if workload.long_requests == "refuse":
        ways, longest = _ways(columns, limit), int(totals.max())
        set_to = f"set workload.long_requests: {', or '.join(ways)}, or " if ways else ""
        raise UserError(
            f"{where}: {(totals > limit).sum():,} of {len(columns):,} requests have more than workload.max_context_tokens {limit}, "
            f"prompt and answer, up to {longest}; {set_to}raise it to {longest}"
        )
    room, answers = limit - columns.output_tokens, columns.output_tokens
    if workload.long_requests == "cut":
        kept, words = room > 0, f"the shortest answer has {answers.min()} tokens"
        least = int(answers.min()) + 1
    else:
        kept, words = totals <= limit, f"the shortest has {totals.min()} tokens, prompt and answer"
        least = int(totals.min())
    if not kept.any():
        raise NothingLeft(where, words, least, limit)
    lengths = np.minimum(columns.input_tokens, room)
    cut = int((kept & (lengths < columns.input_tokens)).sum())
    return Taken(_kept(columns, np.flatnonzero(kept), lengths), len(columns), int((~kept).sum()), cut)


def _kept(columns: Columns, numbers: np.ndarray, lengths: np.ndarray) -> Columns:
    """The requests `numbers`, their prompts as long as `lengths` has them."""
    blocks = -(-lengths // columns.block_tokens)
    ends = np.minimum(columns.starts[1:], columns.starts[:-1] + blocks)
    pairs = zip(columns.starts[numbers].tolist(), ends[numbers].tolist(), strict=True)
    parts = [columns.ids[start:end] for start, end in pairs]
    return replace(
        columns,
        arrival_s=columns.arrival_s[numbers],
        input_tokens=lengths[numbers],
        output_tokens=columns.output_tokens[numbers],
        ids=np.concatenate(parts),
        starts=np.concatenate([[0], np.cumsum([len(part) for part in parts])]),
    )


def shortenings(workload: Trace, limit_tokens: int) -> list[str]:
    """Values of long_requests, beside refuse, that leave requests of the trace within a limit."""
    unlimited = replace(workload, max_context_tokens=None, long_requests="refuse")
    return _ways(taken(unlimited).columns, limit_tokens)


def _ways(columns: Columns, limit: int) -> list[str]:
    found = ["leave_out"] if int(columns.total_tokens.min()) <= limit else []
    return [*found, "cut"] if int(columns.output_tokens.min()) < limit else found
