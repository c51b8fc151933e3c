"""The value of a claim from result tables, and whether it confirms the claim."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from ...base.errors import UserError
from ...records.parity import SHARED, SHARED_BY_CACHING, require_parity
from ...records.stats import Interval, iso_tps_ratio
from .claims_file import PREDICTED_TABLES, Claim
from .expressions import COMPARED, Choice, Condition, EqualSpeed, Expression, Median, Named, Number, Selection
from .quantities import Quantity, Unmeasured, combine, reduce_all

CONFIRMED, REFUTED, UNDECIDED = "confirmed", "refuted", "undecided"
# What rows of one table must share, unless the claim is about it. Cells are held to require_parity as well.
ALWAYS = ("tier", "store", "connector")
PARITY = {
    "cells": ("load",),
    "cost_repeats": ("at", "load", "slo_tps_per_user", "slo_ttft_p95_ms"),
    "stores": ("operation", "cold", "connections", "value_bytes"),
    "layers": ("scenario", "operation", "connections", "value_bytes"),
    "latency": ("engine", "model", "gpu", "gpus", "prompt_tokens"),
    "hit_rates": ("case", "active_conversations", "clients", "save_decode_cache", "counted", "lookup", "tiers", "chunk_tokens"),
}  # fmt: skip
_WITH_REPEATS = ("cells", "cost_repeats")
# Where the SLO is kept at the highest load measured, more clients are possible: these are at most, these at least, so much.
AT_MOST = ("usd_per_million_tokens", "usd_per_million_answer_tokens", "endurance_years")
AT_LEAST = ("users_per_gpu", "rps_per_gpu", "tokens_per_s", "answer_tokens_per_s", "written_bytes_per_s")
_EQUAL_SPEED = "rps_per_gpu at equal tps_per_user"
_FAR = 1e6
_SAMPLES = ("repeats", "prompts", "seeds")


@dataclass(frozen=True)
class Used:
    """Rows that a value was taken from."""

    table: str
    column: str
    rows: pd.DataFrame

    @property
    def count(self) -> int:
        """Valid cells, or repeats, prompts or seeds that a row is the median of."""
        for name in _SAMPLES if self.table not in _WITH_REPEATS else ():
            if name in self.rows:
                return int(self.rows[name].sum())
        return len(self.rows)

    def words(self) -> str:
        """'rps_per_gpu of dram-64, load 4'."""
        first = self.rows.iloc[0]
        named = [str(first[key]) for key in ("scenario", "tiers") if key in first][:1]
        said = (
            "load", "at", "operation", "value_bytes", "prompt_tokens", "pass", "layer",
            *(("connections",) if self.table not in _WITH_REPEATS else ()),
            *(("chunk_tokens",) if self.table == "hit_rates" else ()),
        )  # fmt: skip
        more = [f"{key} {_plain(first[key])}" for key in said if key in first and pd.notna(first[key])]
        return f"{self.column} of {', '.join([*named, *more]) or self.table}"


@dataclass(frozen=True)
class Judged:
    """A claim with its value and verdict. used: the rows behind the value."""

    claim: Claim
    verdict: str
    interval: Interval
    reason: str
    used: tuple[Used, ...]


@dataclass
class Evaluation:
    """One expression over tables by name. compared: the configuration's figures.chunk_tokens.

    unbounded: take what is bounded on one side only, since no higher load was measured, as far off on the other.
    """

    tables: Mapping[str, pd.DataFrame]
    compared: int
    unbounded: bool = False
    used: list[Used] = field(default_factory=list)
    repeats: int = 1

    def value(self, expression: Expression) -> Quantity:
        """The expression's value. Raises Unmeasured with the reason why it has none."""
        if isinstance(expression, Number):
            return Quantity.number(expression.value)
        if isinstance(expression, Median):
            return self._median(expression)
        if isinstance(expression, EqualSpeed):
            return self._equal_speed(expression)
        parts = [self.value(part) for part in expression.parts]
        if expression.symbol == "negative":
            return combine("-", Quantity.number(0.0), parts[0])
        return reduce_all(expression.symbol, parts)

    def _median(self, expression: Median) -> Quantity:
        selection, column = self._resolved(expression.selection), expression.column
        table, rows = selection.table, self._rows(selection)
        if column not in rows:
            raise Unmeasured(
                f"not measured: {table}.csv has no column {column}; it was written before there was one"
            )
        if table in _WITH_REPEATS:
            rows = rows[rows[column].notna()]
            if rows.empty:
                raise Unmeasured(f"not measured: {_described(selection)} has no {column}")
            _one_per_repeat(selection, rows)
            self.used.append(Used(table, column, rows))
            return Quantity.sampled(
                {int(row["repeat"]): self._cell(row, column) for _, row in rows.iterrows()}
            )
        if len(rows) > 1:
            raise Unmeasured(
                f"{_described(selection)} are {len(rows)} rows, {_differences(rows)}; name one of them"
            )
        row = rows.iloc[0]
        if pd.isna(row[column]):
            raise Unmeasured(f"not measured: {_described(selection)} has no {column}")
        ends = [row.get(f"{column}{end}") for end in ("_low", "_high")]
        known = [None if end is None or pd.isna(end) else float(end) for end in ends]
        self.used.append(Used(table, column, rows))
        return Quantity(Interval(float(row[column]), *known))

    def _cell(self, row: pd.Series, column: str) -> float:
        if not self.unbounded or str(row.get("users_at_least")).lower() != "true":
            return float(row[column])
        factor = 1 / _FAR if column in AT_MOST else _FAR if column in AT_LEAST else 1.0
        return float(row[column]) * factor

    def _equal_speed(self, expression: EqualSpeed) -> Quantity:
        curves = []
        for selection in map(self._resolved, (expression.one, expression.other)):
            rows = self._rows(selection).dropna(subset=["tps_per_user", "rps_per_gpu"])
            if rows["scenario"].nunique() > 1:
                raise Unmeasured(
                    f"{_described(selection)} are several scenarios, {_differences(rows)}; name one"
                )
            self.used.append(Used(selection.table, _EQUAL_SPEED, rows.drop(columns="load")))
            curves.append(
                {
                    int(repeat): [
                        (float(r["tps_per_user"]), float(r["rps_per_gpu"])) for _, r in own.iterrows()
                    ]
                    for repeat, own in rows.groupby("repeat")
                }
            )
        shared = sorted(curves[0].keys() & curves[1].keys())
        ratios = {repeat: iso_tps_ratio(curves[0][repeat], curves[1][repeat]) for repeat in shared}
        found = {repeat: ratio for repeat, ratio in ratios.items() if ratio is not None}
        if not found:
            raise Unmeasured("the curves share no TPS/user in any repeat")
        return Quantity.sampled(found)

    def _resolved(self, selection: Selection) -> Selection:
        """The selection with the configuration's chunk size where it says compared."""
        where = [
            (
                column,
                tuple(float(self.compared) if choice == Named(COMPARED) else choice for choice in choices),
            )
            for column, choices in selection.where
        ]
        return Selection(selection.table, tuple(where))

    def _rows(self, selection: Selection) -> pd.DataFrame:
        """The valid rows of the first preference that has any. Raises Unmeasured."""
        table = self.tables.get(selection.table)
        if table is None:
            raise Unmeasured(f"not measured: there is no table {selection.table}")
        if table.empty:
            raise Unmeasured(f"not measured: table {selection.table} has no rows")
        for column, _ in selection.where:
            if column not in table:
                raise Unmeasured(f"not measured: {selection.table}.csv has no column {column}")
        for choices in itertools.product(*(values for _, values in selection.where)):
            chosen = [(column, choice) for (column, _), choice in zip(selection.where, choices, strict=True)]
            rows = self._matching(table, chosen)
            if len(rows):
                self.repeats = max(self.repeats, _repeats(rows))
                return _valid(selection, rows)
        raise Unmeasured(
            f"not measured: no row of {selection.table} has {_described(selection, table=False)}"
        )

    def _matching(self, table: pd.DataFrame, chosen: Sequence[tuple[str, Choice]]) -> pd.DataFrame:
        rows = table
        extremes = [(column, choice.name) for column, choice in chosen if isinstance(choice, Named)]
        for column, choice in chosen:
            if not isinstance(choice, Named):
                rows = rows[_equal(rows[column], choice)]
        for column, name in extremes:
            numbers = pd.to_numeric(rows[column], errors="coerce")
            rows = rows[numbers == (numbers.max() if name == "highest" else numbers.min())]
        return rows


def judge_claim(claim: Claim, tables: Mapping[str, pd.DataFrame], compared: int) -> Judged:
    """A claim's value and verdict. tables: by name; one that is not there was not measured.

    A value that was not measured, was only predicted, has no interval, or is made of rows that are not alike decides
    nothing, and the reason says which.
    """
    evaluation = Evaluation(tables, compared)
    try:
        quantity = evaluation.value(claim.expression)
        _require_alike(claim, evaluation.used)
    except Unmeasured as error:
        return _undecided(claim, str(error), tables, compared)
    except UserError as error:
        return Judged(
            claim,
            UNDECIDED,
            Interval(None, None, None),
            f"not like for like: {error}",
            tuple(evaluation.used),
        )
    used = tuple(evaluation.used)
    told = "; ".join(dict.fromkeys(part.words() for part in used))
    if any(part.table in PREDICTED_TABLES for part in used):
        return Judged(claim, UNDECIDED, quantity.interval, f"predicted only: {told}", used)
    modelled = {
        str(name)
        for part in used
        if "engine" in part.rows
        for name in part.rows["engine"]
        if name == "replay"
    }
    notes = [told, "paired by repeat"] if quantity.samples is not None and len(used) > 1 else [told]
    notes += ["engine replay: the GPU is modelled"] if modelled else []
    if quantity.interval.low is None:
        return Judged(
            claim, UNDECIDED, quantity.interval, "; ".join([_no_interval(evaluation), *notes]), used
        )
    found = verdict(claim.condition, quantity.interval)
    if found != UNDECIDED and not _is_bounded(claim, found, tables, compared):
        capped = "higher loads may decide otherwise: the SLO was still kept at the highest that was measured"
        return Judged(claim, UNDECIDED, quantity.interval, "; ".join([capped, *notes]), used)
    notes = ["the interval spans the condition's edge", *notes] if found == UNDECIDED else notes
    return Judged(claim, found, quantity.interval, "; ".join(notes), used)


def _no_interval(evaluation: Evaluation) -> str:
    """Why a value has none: one repeat was measured, or one alone of several gave a value."""
    if evaluation.repeats == 1:
        return "no interval: one repeat"
    at_equal_speed = [part for part in evaluation.used if part.column == _EQUAL_SPEED]
    met = at_equal_speed and all(_repeats(part.rows) > 1 for part in at_equal_speed)
    return f"no interval: one alone of {evaluation.repeats} repeats {'met an equal speed' if met else 'gave a value'}"


def _repeats(rows: pd.DataFrame) -> int:
    """How many repeats rows are of: of their own column, or of the one that counts them."""
    if "repeat" in rows:
        return rows["repeat"].nunique()
    counted = pd.to_numeric(rows["repeats"], errors="coerce").max() if "repeats" in rows else 1
    return 1 if pd.isna(counted) else int(counted)


def verdict(condition: Condition, interval: Interval) -> str:
    """confirmed when the whole interval satisfies the condition, refuted when none of it does, else undecided."""
    if interval.low is None or interval.high is None:
        return UNDECIDED
    ends = (interval.low, interval.high)
    if all(condition.above_low(end) and condition.below_high(end) for end in ends):
        return CONFIRMED
    below, above = not condition.above_low(interval.high), not condition.below_high(interval.low)
    return REFUTED if below or above else UNDECIDED


def _is_bounded(claim: Claim, found: str, tables: Mapping[str, pd.DataFrame], compared: int) -> bool:
    """Whether a verdict stays, however much better the scenarios do whose highest load still kept the SLO."""
    try:
        return (
            verdict(claim.condition, Evaluation(tables, compared, True).value(claim.expression).interval)
            == found
        )
    except Unmeasured:
        return False


def _undecided(claim: Claim, reason: str, tables: Mapping[str, pd.DataFrame], compared: int) -> Judged:
    """A claim that nothing measured decides, with its predicted value where there is one."""
    evaluation = Evaluation(tables, compared)
    interval = Interval(None, None, None)
    if claim.predicted is not None:
        try:
            interval = evaluation.value(claim.predicted).interval
            reason = f"{reason}; the value is predicted"
        except Unmeasured:
            evaluation.used.clear()
    return Judged(claim, UNDECIDED, interval, reason, tuple(evaluation.used))


def _require_alike(claim: Claim, used: Sequence[Used]) -> None:
    """Refuse rows of one table that differ in what the claim is not about. Raises UserError."""
    for table, group in itertools.groupby(
        sorted(used, key=lambda part: part.table), key=lambda part: part.table
    ):
        rows = pd.concat([part.rows for part in group], ignore_index=True)
        for column in (*ALWAYS, *PARITY.get(table, ())):
            found = rows[column].dropna().unique() if column in rows and column not in claim.vary else ()
            if len(found) > 1:
                raise UserError(f"they differ in {column} ({', '.join(map(_plain, found))})")
        if table in _WITH_REPEATS:
            if missing := [column for column in ("tier", *SHARED, *SHARED_BY_CACHING) if column not in rows]:
                raise UserError(f"{table}.csv has no column {missing[0]} to compare by")
            require_parity(rows, claim.vary, who="claims")


def _valid(selection: Selection, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that prove themselves. Raises Unmeasured with the others' reasons when none does."""
    if "valid" not in rows:
        unproven = (
            rows[(rows["operation"] == "get_cold") & ~_equal(rows["cold"], True)]
            if "cold" in rows
            else rows[:0]
        )
        if len(unproven):
            raise Unmeasured(f"{_described(selection)}: the page cache could not be dropped")
        return rows
    valid = rows[_equal(rows["valid"], True)]
    if valid.empty:
        reasons = (
            "; ".join(dict.fromkeys(str(text) for text in rows["reasons"].dropna())) or "no reason given"
        )
        raise Unmeasured(f"{_described(selection)}: {len(rows)} measured, none valid: {reasons}")
    return valid


def _one_per_repeat(selection: Selection, rows: pd.DataFrame) -> None:
    if rows["repeat"].duplicated().any():
        raise Unmeasured(
            f"{_described(selection)} are several cells of one repeat, {_differences(rows)}; name one"
        )


def _differences(rows: pd.DataFrame) -> str:
    """'scenario a or b, load 1 or 2': what tells rows apart."""
    keys = ("case", "scenario", "tiers", "at", "load", "chunk_tokens", "operation", "value_bytes", "connections", "prompt_tokens", "pass", "kind", "layer")  # fmt: skip
    found = [
        f"{key} {' or '.join(dict.fromkeys(_plain(value) for value in rows[key]))}"
        for key in keys
        if key in rows and rows[key].nunique() > 1
    ]
    return ", ".join(found) or "alike in all that names them"


def _described(selection: Selection, table: bool = True) -> str:
    """'cells with store kvrocks or rocksdb, load highest'."""
    parts = [
        f"{column} {' or '.join(_plain(value) for value in values)}" for column, values in selection.where
    ]
    text = ", ".join(parts) or "any value"
    return f"{selection.table} with {text}" if table else text


def _equal(column: pd.Series, value: float | str | bool) -> pd.Series:
    if isinstance(value, bool):
        return column.map(lambda cell: str(cell).lower()) == str(value).lower()
    if isinstance(value, str):
        return column.map(str) == value
    return pd.to_numeric(column, errors="coerce") == value


def _plain(value: object) -> str:
    if isinstance(value, Named):
        return value.name
    if isinstance(value, float):
        return f"{value:.0f}" if value == int(value) else f"{value:g}"
    return str(value)
