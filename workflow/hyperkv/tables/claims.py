"""Stage claims: the verdict on every claim of config/claims.yaml, from the result tables.

python -m workflow.hyperkv.tables.claims --claims config/claims.yaml --spec '{"chunk_tokens": 64}' --tables results/tables/cells.csv ... --records results/sweep/*/*.jsonl --table results/tables/claims.csv --text results/tables/claims.txt
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..base.cli import run_stage
from ..base.errors import UserError
from ..records.frames import add_asked, read_jsonl
from ..records.hardware import machine_words
from ..records.record_file import Identity
from .judging.claims_file import PREDICTED_TABLES, RECORDS_OF, Claim, columns_dictionary, read_claims
from .judging.claims_text import claims_text
from .judging.expressions import kind_of
from .judging.verdicts import UNDECIDED, Judged, Used, judge_claim

COLUMNS = (
    "claim", "statement", "source", "verdict", "value", "low", "high", "unit", "condition", "reason", "cells",
    "machine", "run",
)  # fmt: skip
_KINDS = {"cell": "sweep", "single": "sweep", "point": "point", "rung": "rung", "limit": "limit"}


@dataclass(frozen=True)
class Source:
    """A file of records: the kind of its records, the scenario (None: of none), and the machine they were measured on."""

    kind: str
    scenario: str | None
    path: Path
    machine: str


def main() -> None:
    """Parse the command line and write the table and the text."""
    parser = argparse.ArgumentParser(prog="python -m workflow.hyperkv.tables.claims", description=__doc__)
    parser.add_argument("--claims", required=True, type=Path, help="YAML file of claims")
    parser.add_argument("--spec", required=True, help='JSON: {"chunk_tokens": ...}, what `compared` means')
    parser.add_argument(
        "--tables", nargs="*", default=[], type=Path, help="CSV files, each named as its table"
    )
    parser.add_argument("--records", nargs="*", default=[], type=Path, help="JSONL files behind the tables")
    parser.add_argument("--table", required=True, type=Path, help="CSV file for the verdicts")
    parser.add_argument("--text", required=True, type=Path, help="text file for them")
    add_asked(parser)
    arguments = parser.parse_args()
    claims = read_claims(arguments.claims)
    tables = {path.stem: read_csv(path) for path in arguments.tables}
    sources = [source_of(path, arguments.asked) for path in arguments.records]
    table = claims_table(claims, tables, sources, json.loads(arguments.spec)["chunk_tokens"])
    arguments.table.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(arguments.table, index=False)
    arguments.text.write_text(claims_text(table))


def read_csv(path: Path) -> pd.DataFrame:
    """A result table; words such as none stay words. Raises UserError for what is no table of the dictionary."""
    if path.stem not in columns_dictionary():
        raise UserError(
            f"{path}: there is no table {path.stem}; allowed are {', '.join(columns_dictionary())}"
        )
    try:
        table = pd.read_csv(path, keep_default_na=False, na_values=[""])
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a table ({' '.join(str(error).split())}); make it again") from None
    for column, entry in columns_dictionary()[path.stem].items():
        if column in table and kind_of(entry["unit"]) == "number":
            wrong = table[column][
                pd.to_numeric(table[column], errors="coerce").isna() & table[column].notna()
            ]
            if len(wrong):
                raise UserError(
                    f"{path}: column {column} has {wrong.iloc[0]!r} where a number is wanted; make it again"
                )
            table[column] = pd.to_numeric(table[column])
    return table


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
    return pd.DataFrame(
        [_row(judge_claim(claim, tables, compared), sources) for claim in claims], columns=list(COLUMNS)
    )


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
        "condition": claim.condition_text,
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


if __name__ == "__main__":
    sys.exit(run_stage("claims", main))
