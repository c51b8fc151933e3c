"""The verdicts as a table and in words, each with the machine and the records that it is from."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ...base.errors import UserError
from ...records.frames import read_jsonl
from ...records.hardware import machine_words
from ...records.record_file import Identity
from ...records.templates import filled
from ..methods.dictionary import table_of
from .claim import PREDICTED_TABLES, RECORDS_OF, Claim
from .measured import Used
from .verdict import UNDECIDED, Judged, judge_claim

_ORDER = ("refuted", "confirmed", "undecided")
_KINDS = {"cell": "sweep", "single": "sweep", "point": "point", "rung": "rung", "limit": "limit"}


@dataclass(frozen=True)
class Source:
    """A file of records: the kind of its records, the scenario (None: of none), and the machine they were measured on."""

    kind: str
    scenario: str | None
    path: Path
    machine: str


def source_of(path: Path, asked: Mapping[str, Identity] | None = None) -> Source:
    """What a file of records is of, by its first record; asked: as for read_jsonl. Raises UserError naming the file."""
    first = read_jsonl([path], asked)[0]
    try:
        kind, scenario, environment = first["record"], first.get("scenario"), first["environment"]
    except KeyError as error:
        raise UserError(
            f"{path}: it does not begin with a record ({error!r}); delete the file to measure it again"
        ) from None
    gpus = ", ".join(dict.fromkeys(line.split(",")[0] for line in environment.get("gpu") or []))
    words = machine_words(environment)
    return Source(_KINDS.get(kind, kind), scenario, path, f"{words}, {gpus}" if gpus else words)


def claims_table(
    claims: Sequence[Claim], tables: Mapping[str, pd.DataFrame], sources: Sequence[Source], compared: int
) -> pd.DataFrame:
    """One row per claim, in their order. compared: figures.chunk_tokens of the configuration."""
    return table_of("claims", [_row(judge_claim(claim, tables, compared), sources) for claim in claims])


def _row(judged: Judged, sources: Sequence[Source]) -> dict[str, Any]:
    claim, behind = judged.claim, _behind(judged.used, sources)
    machines = list(dict.fromkeys(source.machine for source in behind))
    verdict, reason = judged.verdict, judged.reason
    if len(machines) > 1 and verdict != UNDECIDED:
        verdict, reason = UNDECIDED, f"not like for like: measured on different machines; {reason}"
    return {
        "claim": claim.id,
        "statement": claim.statement,
        "source": claim.source,
        "verdict": verdict,
        "value": judged.interval.median,
        "low": judged.interval.low,
        "high": judged.interval.high,
        "unit": claim.unit,
        "condition": claim.condition,
        "reason": reason,
        "cells": sum(used.count for used in judged.used),
        "machine": " | ".join(machines),
        "run": _run(judged.used, behind),
    }


def _behind(used: Iterable[Used], sources: Sequence[Source]) -> list[Source]:
    """The files of records that rows come from."""
    wanted = set()
    for part in used:
        names = part.rows["scenario"].unique() if "scenario" in part.rows else [None]
        wanted |= {(RECORDS_OF.get(part.table), name) for name in names}
    return [source for source in sources if (source.kind, source.scenario) in wanted]


def _run(used: Sequence[Used], behind: Sequence[Source]) -> str:
    """'dram-64, none (engine replay): results/sweep/dram-64, results/sweep/none'."""
    names = [str(name) for part in used if "scenario" in part.rows for name in part.rows["scenario"].unique()]
    engines = [str(name) for part in used if "engine" in part.rows for name in part.rows["engine"].unique()]
    predicted = [part.table for part in used if part.table in PREDICTED_TABLES]
    words = ", ".join(dict.fromkeys([*names, *(f"table {name}" for name in predicted)]))
    words += f" (engine {', '.join(dict.fromkeys(engines))})" if engines else ""
    files = dict.fromkeys(_place(source) for source in behind)
    return f"{words}: {', '.join(files)}" if files else words


def _place(source: Source) -> str:
    """The file of records, or the folder of all repeats; within the checkout as a relative path."""
    path = source.path.parent if source.kind == "sweep" else source.path
    return os.path.relpath(path) if path.is_absolute() and path.is_relative_to(Path.cwd()) else str(path)


def claims_text(table: pd.DataFrame) -> str:
    """claims.csv as text, refuted claims first. table: its rows; without any a line that says so."""
    claims = table.assign(order=table["verdict"].map(_ORDER.index)).sort_values("order", kind="stable")
    counts = [f"{(table['verdict'] == verdict).sum()} {verdict}" for verdict in _ORDER]
    return filled(__file__, claims=claims.to_dict("records"), counts=counts)
