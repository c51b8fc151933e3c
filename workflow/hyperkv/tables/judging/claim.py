"""Claims as they are written down (config/claims.yaml), checked before anything runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from reprlib import repr as short
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    model_validator,
)
from pydantic import ValidationInfo as Info

from ...base.config_files import read_mapping
from ...base.errors import UserError
from ..methods.dictionary import columns_dictionary

PREDICTED_TABLES = ("hit_rates", "break_even", "placed_stores")
# The tables that claims may read, and the kind of record that their rows are made of.
RECORDS_OF = {
    **dict.fromkeys(("cells", "scenarios", "ratios", "latency", "cost_repeats", "cost", "sweep_time"), "sweep"),
    **dict.fromkeys(("stores", "placed_stores"), "point"),
    "limits": "limit",
    "layers": "rung",
    **dict.fromkeys(("hit_rates", "break_even", "cost_sensitivity")),
}  # fmt: skip
_TEXT = ("name", "word", "text", "digest", "column", "UTC time")


class Named(StrEnum):
    """A number that the data or the configuration gives."""

    HIGHEST = "highest"
    LOWEST = "lowest"
    COMPARED = "compared"


Choice = Named | float | str | bool
Rows = dict[str, tuple[Choice, ...]]


def number_columns(table: str) -> list[str]:
    """The columns of a table that hold numbers."""
    return [column for column in columns_dictionary()[table] if _kind(table, column) == "number"]


def _kind(table: str, column: str) -> str:
    """Whether a column holds numbers, text or booleans. Raises ValueError when the table has no such column."""
    columns = columns_dictionary()[table]
    if column not in columns:
        raise ValueError(f"table {table} has no column {column}; it has {', '.join(columns)}")
    unit = columns[column]["unit"]
    return "boolean" if unit == "boolean" else "text" if unit in _TEXT else "number"


def _words(text: str) -> str:
    if not text.strip():
        raise ValueError("it is empty")
    return " ".join(text.split())


def _table(name: str) -> str:
    if name not in RECORDS_OF:
        raise ValueError(f"there is no table {name}; allowed are {', '.join(RECORDS_OF)}")
    return name


def _number(column: str, info: Info) -> str:
    if (table := info.data.get("table")) and (kind := _kind(table, column)) != "number":
        raise ValueError(f"{table}.{column} is {kind}, not a number, and has no median")
    return column


def _any_column(name: str) -> str:
    if not any(name in columns for columns in columns_dictionary().values()):
        raise ValueError(f"no table has a column {name}; tier, store and connector are some")
    return name


def _rows(value: Any, info: Info) -> Rows:
    """The rows of a key, which are as those of `where` as well. Raises ValueError."""
    table, shared = info.data.get("table"), info.data.get("where", {})
    if not isinstance(value, Mapping):
        raise ValueError(f"{short(value)} is wrong; it must be a mapping of columns to values")
    if table is None:
        return {}
    for column in value:
        if column in shared:
            raise ValueError(f"{column} is in `where` as well; leave one out")
    return {column: _choices(table, column, choices) for column, choices in value.items()} | shared


def _several(value: Any, info: Info) -> tuple[Rows, ...]:
    return tuple(_rows(rows, info) for rows in (value if isinstance(value, list) and value else [value]))


def _choices(table: str, column: str, value: Any) -> tuple[Choice, ...]:
    if value == []:
        raise ValueError(f"{column}: the list is empty")
    return tuple(_choice(table, column, one) for one in (value if isinstance(value, list) else [value]))


def _choice(table: str, column: str, value: Any) -> Choice:
    kind = _kind(table, column)
    if kind == "number" and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind == "number" and value in list(Named):
        return Named(value)
    if kind == "text" and isinstance(value, str):
        return value
    if kind == "boolean" and isinstance(value, bool):
        return value
    allowed = f"a number, {', '.join(Named)}" if kind == "number" else kind
    raise ValueError(f"{column}: {short(value)} is wrong; it must be {allowed}")


def _predicted(value: _Selected) -> _Selected:
    if value.table not in PREDICTED_TABLES:
        raise ValueError(f"allowed are the tables {', '.join(PREDICTED_TABLES)}")
    return value


Words = Annotated[str, AfterValidator(_words)]
Side = Annotated[Rows, PlainValidator(_rows)]
Sides = Annotated[tuple[Rows, ...], PlainValidator(_several)]
Column = Annotated[str, AfterValidator(_any_column)]


class _Selected(BaseModel):
    """A column of some rows of a table; every side of a comparison is also as `where` says."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    table: Annotated[str, AfterValidator(_table)]
    column: Annotated[str, AfterValidator(_number)]
    where: Side = Field(default_factory=dict)


class DifferenceOf(_Selected):
    """The median of the rows `of` less that of the rows `minus`."""

    of: Side
    minus: Side


class Claim(_Selected):
    """A statement, where it is from, and the values that confirm it. vary: columns in which compared rows may differ."""

    id: Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")]
    statement: Words
    source: Words
    unit: Words
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    vary: list[Column] = Field(default=["tier", "store", "connector"])

    @model_validator(mode="after")
    def _has_a_condition(self) -> Claim:
        lows = [end for end in (self.at_least, self.above) if end is not None]
        highs = [end for end in (self.at_most, self.below) if end is not None]
        if not lows + highs or len(lows) > 1 or len(highs) > 1:
            raise ValueError("write at_least or above, at_most or below, or one of each")
        if lows and highs and not (self.above_low(highs[0]) and self.below_high(lows[0])):
            raise ValueError(f"no value can be so: {self.condition}")
        return self

    def above_low(self, value: float) -> bool:
        """Whether a value is not below the lower end."""
        if self.at_least is not None:
            return value >= self.at_least
        return self.above is None or value > self.above

    def below_high(self, value: float) -> bool:
        """Whether a value is not above the upper end."""
        if self.at_most is not None:
            return value <= self.at_most
        return self.below is None or value < self.below

    @property
    def condition(self) -> str:
        """'2 <= value <= 3', 'value > 1'."""
        signs = ((">=", self.at_least), (">", self.above), ("<=", self.at_most), ("<", self.below))
        ends = [(sign, f"{end:.12g}") for sign, end in signs if end is not None]
        if len(ends) == 1:
            return " ".join(["value", *ends[0]])
        (low_sign, low), (high_sign, high) = ends
        return f"{low} {low_sign.replace('>', '<')} value {high_sign} {high}"


class Median(Claim):
    """The median over repeats of the rows `where`."""

    kind: Literal["median"]


class Ratio(Claim):
    """The median of the rows `of` over that of the rows `over`: of several selections over the largest, repeat by repeat."""

    kind: Literal["ratio"]
    of: Side
    over: Sides


class Difference(Claim, DifferenceOf):
    """The same as a claim. predicted: the value while nothing is measured, of a table of predictions; it decides nothing."""

    kind: Literal["difference"]
    predicted: Annotated[DifferenceOf, AfterValidator(_predicted)] | None = None


class AtEqualSpeed(Claim):
    """RPS/GPU of the curve `of` over that of the curve `over` at equal TPS/user, repeat by repeat."""

    kind: Literal["at_equal_speed"]
    table: Literal["cells"] = "cells"
    column: Literal["rps_per_gpu"] = "rps_per_gpu"
    of: Side
    over: Side


KINDS: dict[str, type[Claim]] = {
    "ratio": Ratio, "difference": Difference, "median": Median, "at_equal_speed": AtEqualSpeed,
}  # fmt: skip


def read_claims(path: Path) -> list[Claim]:
    """The claims of a file. Raises UserError: one line naming file, claim and key."""
    document = read_mapping(path, "claims", "config/claims.yaml is one")
    if list(document) != ["claims"] or not isinstance(document["claims"], list):
        raise UserError(f"{path}: it must be a mapping with one key, claims, a list")
    claims = [_claim(f"{path}: claim {n}", item) for n, item in enumerate(document["claims"], start=1)]
    ids = [claim.id for claim in claims]
    for name in ids:
        if ids.count(name) > 1:
            raise UserError(f"{path}: two claims are called {name}; rename one")
    return claims


def claimed_tables(claims: Sequence[Claim]) -> list[str]:
    """The tables that claims read, each once."""
    predicted = [claim.predicted for claim in claims if isinstance(claim, Difference) and claim.predicted]
    return list(dict.fromkeys(part.table for part in [*claims, *predicted]))


def claimed_records(claims: Sequence[Claim]) -> list[str]:
    """The kinds of records that these tables are made of, each once."""
    kinds = (RECORDS_OF[name] for name in claimed_tables(claims))
    return list(dict.fromkeys(kind for kind in kinds if kind))


def _claim(where: str, item: Any) -> Claim:
    if not isinstance(item, Mapping):
        raise UserError(f"{where}: it must be a mapping with id, statement, source, kind, ...")
    where += f" ({item['id']})" if isinstance(item.get("id"), str) else ""
    model = KINDS.get(str(item.get("kind")))
    if model is None:
        raise UserError(f"{where}: kind: {short(item.get('kind'))} is wrong; allowed are {', '.join(KINDS)}")
    try:
        return model.model_validate(item)
    except ValidationError as error:
        first = min(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        of = model if len(first["loc"]) == 1 else DifferenceOf
        told = f"{key} is not a key; allowed are {', '.join(of.model_fields)}"
    elif first["type"] == "missing":
        told = f"{key} is missing"
    elif first["type"] == "value_error":
        told = f"{key}: {first['ctx']['error']}".removeprefix(": ")
    else:
        told = f"{key}: {short(first['input'])} is wrong; {re.sub('^.*? should', 'it should', first['msg'])}"
    raise UserError(f"{where}: {told}")
