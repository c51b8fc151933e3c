"""Agentic sessions, each with hash ids of its own: the form of kv-cache-tester (WEKA), which AIPerf calls weka_trace.

A record is a session: block_size, hash_id_scope (`local`: ids name blocks within this session alone; `global`: in all) and
requests, each with t (seconds from the session's start), in, out (tokens) and hash_ids (of whole blocks), or of type `subagent`
with requests of its own, which share the session's ids. Every session begins at 0, so that all run side by side; of a trace that is
not taken whole the first sessions are taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...base.errors import UserError
from . import Columns
from .lines import Record, at
from .reading import PER_SECOND, Asked, Filling, is_length, is_time, no_length, short

_SCOPES = ("local", "global")
_TYPES = ("n", "s", "subagent")
_EARLIER_S = (
    1e-6  # a subagent's request so much before its start counts from that start (AIPerf, weka_trace.py)
)


@dataclass
class _Reading:
    asked: Asked
    block_tokens: int | None
    found: Filling = field(default_factory=Filling)
    no_answer: int = 0
    short_of_ids: int = 0
    too_many_ids: int = 0


def read_sessions(records: Iterator[Record], asked: Asked) -> Columns:
    """Columns of sessions' requests, in the order of their times. Raises UserError "SOURCE:LINE: what; mend"."""
    reading = _Reading(asked, asked.block_tokens)
    for scope, (number, session) in enumerate(records):
        _read_session(reading, session, number, scope)
        if len(reading.found) == asked.most:
            break
    found = reading.found
    if not len(found):
        raise UserError(f"{asked.where}: no requests, its sessions have none")
    stamps = np.array(found.stamps)
    order = np.argsort(stamps, kind="stable")
    whole = found.columns(asked, reading.block_tokens or 1, stamps, notes=_notes(reading))
    return _taken(whole, order, PER_SECOND[asked.time_unit or "s"])


def _read_session(reading: _Reading, session: Mapping[str, Any], number: int, scope: int) -> None:
    where = at(reading.asked.where, number)
    reading.asked.require(session, number)
    size, ids_of = session["block_size"], session.get("hash_id_scope") or "local"
    if not is_length(size):
        raise UserError(f"{where}: {no_length('block_size', size)}")
    if ids_of not in _SCOPES:
        raise UserError(f"{where}: hash_id_scope is {short(ids_of)}; known are {' and '.join(_SCOPES)}")
    if reading.block_tokens not in (None, size):
        raise UserError(
            f"{where}: block_size is {size}, not {reading.block_tokens} as before or in workload.block_tokens; a trace has one"
        )
    reading.block_tokens = size
    requests = sorted(_requests(session["requests"], where, 0.0), key=lambda one: one[0])
    for stamp, values in requests:
        if len(reading.found) == reading.asked.most:
            return
        _read_request(reading, values, stamp, number, (scope,) if ids_of == "local" else ())


def _requests(given: Any, where: str, begun: float) -> Iterator[tuple[float, Mapping[str, Any]]]:
    """(seconds from the session's start, request) of requests and of those of subagents, which began at `begun`."""
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise UserError(f"{where}: requests is no list of JSON objects")
    for values in given:
        kind, stamp = values.get("type", "n"), values.get("t")
        if kind not in _TYPES:
            raise UserError(f"{where}: a request's type is {short(kind)}; known are {', '.join(_TYPES)}")
        if not is_time(stamp):
            raise UserError(
                f"{where}: a request's t is {short(stamp)}; write seconds from the session's start"
            )
        stamp = begun + stamp if stamp + _EARLIER_S < begun else stamp
        if kind == "subagent":
            yield from _requests(values.get("requests"), where, stamp)
        else:
            yield stamp, values


def _read_request(
    reading: _Reading, values: Mapping[str, Any], stamp: float, number: int, scope: tuple[int, ...]
) -> None:
    where, found, size = at(reading.asked.where, number), reading.found, reading.block_tokens or 1
    prompt, answer = values.get("in"), values.get("out")
    ids = values.get("hash_ids") or []
    if type(prompt) is not int or not is_length(prompt):
        raise UserError(f"{where}: a request's {no_length('in', prompt)}")
    if answer == 0:
        answer, reading.no_answer = 1, reading.no_answer + 1
    if type(answer) is not int or not is_length(answer):
        raise UserError(f"{where}: a request's {no_length('out', answer)}")
    if not isinstance(ids, list) or not set(map(type, ids)) <= {int, str}:
        raise UserError(f"{where}: a request's hash_ids is no list of whole numbers or texts")
    most = -(-prompt // size)
    reading.short_of_ids += len(ids) < prompt // size
    reading.too_many_ids += len(ids) > most
    names = found.names = found.names if found.names is not None else {}
    found.ids.extend([names.setdefault((*scope, one), len(names)) for one in ids[:most]])
    found.add(number, stamp, prompt, answer)


def _notes(reading: _Reading) -> tuple[str, ...]:
    told = {
        "have fewer hash_ids than whole blocks, and what these do not cover is taken as their own": reading.short_of_ids,
        "have more hash_ids than blocks, and those past the prompt are left out": reading.too_many_ids,
        "have no answer, and are given one of 1 token": reading.no_answer,
    }
    return tuple(f"trace: {count:,} requests {words}" for words, count in told.items() if count)


def _taken(columns: Columns, order: np.ndarray, per_second: int) -> Columns:
    """The requests of `order`, times from the first one's in seconds."""
    starts = columns.starts
    parts = [columns.ids[starts[one] : starts[one + 1]] for one in order.tolist()]
    stamps = columns.arrival_s[order]
    return Columns(
        columns.form,
        (stamps - stamps[0]) / per_second,
        columns.input_tokens[order],
        columns.output_tokens[order],
        np.concatenate(parts),
        np.concatenate([[0], np.cumsum([len(part) for part in parts])]),
        columns.block_tokens,
        notes=columns.notes,
    )
