"""Claims as they are written down (config/claims.yaml), checked before anything runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ...base.config_files import read_mapping
from ...base.errors import UserError
from .expressions import Condition, Expression, parse_condition, parse_expression, tables_of

COLUMNS_PATH = Path("workflow/schemas/columns.yaml")
REQUIRED = ("id", "statement", "source", "expression", "condition", "unit")
OPTIONAL = ("vary", "predicted")
VARY = ("tier", "store", "connector")
PREDICTED_TABLES = ("hit_rates", "break_even", "placed_stores")
# The kind of record that the rows of a table are made of.
RECORDS_OF = {
    "cells": "sweep",
    "cost": "sweep",
    "cost_repeats": "sweep",
    "scenarios": "sweep",
    "ratios": "sweep",
    "sweep_time": "sweep",
    "latency": "sweep",
    "stores": "point",
    "layers": "rung",
    "limits": "limit",
    "placed_stores": "point",
}
_ID = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Claim:
    """A statement, where it is from, and what decides it.

    expression: its value. condition: the values that confirm it. vary: columns in which the compared rows may differ.
    predicted: an expression over predictions, for the value while nothing is measured.
    """

    id: str
    statement: str
    source: str
    expression: Expression
    condition: Condition
    condition_text: str
    unit: str
    vary: tuple[str, ...]
    predicted: Expression | None

    def tables(self) -> set[str]:
        """The tables that it reads."""
        return tables_of(self.expression) | (tables_of(self.predicted) if self.predicted else set())


def readable_tables() -> dict[str, dict[str, dict[str, str]]]:
    """The part of the dictionary that claims may read: not the requests themselves, nor the verdicts."""
    return {
        name: columns for name, columns in columns_dictionary().items() if name not in ("requests", "claims")
    }


@cache
def columns_dictionary() -> dict[str, dict[str, dict[str, str]]]:
    """Unit and description of every column by table."""
    return yaml.safe_load(COLUMNS_PATH.read_text())


def read_claims(path: Path) -> list[Claim]:
    """The claims of a file. Raises UserError naming file, claim and key."""
    document = read_mapping(path, "claims", "config/claims.yaml is one")
    if not isinstance(document.get("claims"), list):
        raise UserError(f"{path}: it must be a mapping with one key, claims, a list")
    claims = [
        _claim(f"{path}: claim {number}", item) for number, item in enumerate(document["claims"], start=1)
    ]
    ids = [claim.id for claim in claims]
    for name in ids:
        if ids.count(name) > 1:
            raise UserError(f"{path}: two claims are called {name}; rename one")
    return claims


def claimed_tables(claims: Sequence[Claim]) -> list[str]:
    """The tables that claims read, each once, in the dictionary's order."""
    used = {name for claim in claims for name in claim.tables()}
    return [name for name in columns_dictionary() if name in used]


def claimed_records(claims: Sequence[Claim]) -> list[str]:
    """The kinds of records that these tables are made of, each once."""
    return list(dict.fromkeys(RECORDS_OF[name] for name in claimed_tables(claims) if name in RECORDS_OF))


def _claim(where: str, item: Any) -> Claim:
    if not isinstance(item, Mapping):
        raise UserError(f"{where}: it must be a mapping with {', '.join(REQUIRED)}")
    for key in item:
        if key not in (*REQUIRED, *OPTIONAL):
            raise UserError(f"{where}: {key} is not a key; allowed are {', '.join((*REQUIRED, *OPTIONAL))}")
    for key in REQUIRED:
        if not isinstance(item.get(key), str) or not item[key].strip():
            raise UserError(f"{where}: {key} is missing or not text")
    if not _ID.fullmatch(item["id"]):
        raise UserError(f"{where}: id {item['id']!r} is wrong; it must be like dram_beats_ssd")
    where = f"{where} ({item['id']})"
    vary = item.get("vary", list(VARY))
    known = {column for columns in columns_dictionary().values() for column in columns}
    if not isinstance(vary, list) or not all(isinstance(name, str) for name in vary):
        raise UserError(f"{where}: vary must be a list of columns")
    for name in vary:
        if name not in known:
            raise UserError(
                f"{where}: vary: no table has a column {name}; tier, store and connector are some"
            )
    predicted = _expression(f"{where}: predicted", item["predicted"]) if "predicted" in item else None
    if predicted is not None and not tables_of(predicted) <= set(PREDICTED_TABLES):
        raise UserError(f"{where}: predicted: allowed are the tables {', '.join(PREDICTED_TABLES)}")
    expression = _expression(f"{where}: expression", item["expression"])
    if not tables_of(expression):
        raise UserError(
            f"{where}: expression: it reads no table, so nothing can be measured; use median(...)"
        )
    try:
        condition = parse_condition(item["condition"])
    except UserError as error:
        raise UserError(f"{where}: condition: {error}") from None
    return Claim(
        id=item["id"],
        statement=" ".join(item["statement"].split()),
        source=" ".join(item["source"].split()),
        expression=expression,
        condition=condition,
        condition_text=" ".join(item["condition"].split()),
        unit=item["unit"],
        vary=tuple(vary),
        predicted=predicted,
    )


def _expression(where: str, text: Any) -> Expression:
    try:
        return parse_expression(text, readable_tables())
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
