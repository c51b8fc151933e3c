"""The value of a claim from result tables: medians, paired by repeat where they can be, else by the ends of their intervals."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import sub, truediv

import pandas as pd

from ...records.stats import Interval, iso_tps_ratio, median_interval
from .claim import AtEqualSpeed, Choice, Claim, DifferenceOf, Median, Named, Ratio, Rows

WITH_REPEATS = ("cells", "cost_repeats")
_EQUAL_SPEED = "rps_per_gpu at equal tps_per_user"
# Where the SLO is kept at the highest load measured, more clients are possible: these are at most, these at least, so much.
_AT_MOST = ("usd_per_million_tokens", "usd_per_million_answer_tokens", "endurance_years")
_AT_LEAST = ("users_per_gpu", "rps_per_gpu", "tokens_per_s", "answer_tokens_per_s", "written_bytes_per_s")
_FAR = 1e6
_SAMPLES = ("repeats", "prompts", "seeds")
_NAMING = ("case", "scenario", "tiers", "at", "load", "chunk_tokens", "operation", "value_bytes", "connections", "prompt_tokens", "pass", "kind", "layer")  # fmt: skip


class Unmeasured(Exception):
    """A value that cannot be had from what was measured; the message says why."""


@dataclass(frozen=True)
class Quantity:
    """A median with its interval; samples: its values by repeat, where it has any."""

    interval: Interval
    samples: Mapping[int, float] | None = None

    @classmethod
    def sampled(cls, samples: Mapping[int, float]) -> Quantity:
        """The median over repeats. Raises Unmeasured without any, or when one is not a finite number."""
        if not samples:
            raise Unmeasured("no repeat has a value")
        if not all(map(math.isfinite, samples.values())):
            raise Unmeasured("a repeat's value is not a finite number")
        return cls(median_interval([samples[repeat] for repeat in sorted(samples)]), dict(samples))


def combined(apply: Callable[[float, float], float], one: Quantity, other: Quantity) -> Quantity:
    """apply(one, other): truediv, sub or max.

    Both by repeat: the repeats that both have, each on its own, then the median. Else the ends of both intervals, the
    widest that they allow; without an interval when either has none. Raises Unmeasured.
    """

    def applied(a: float, b: float) -> float:
        if apply is truediv and b == 0:
            raise Unmeasured("it divides by a value of 0")
        if not math.isfinite(value := apply(a, b)):
            raise Unmeasured("the value is not a finite number")
        return value

    if one.samples is not None and other.samples is not None:
        shared = one.samples.keys() & other.samples.keys()
        if not shared:
            raise Unmeasured("no repeat has both values")
        return Quantity.sampled({key: applied(one.samples[key], other.samples[key]) for key in shared})
    a, b = one.interval, other.interval
    assert a.median is not None
    assert b.median is not None
    median = applied(a.median, b.median)
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return Quantity(Interval(median, None, None))
    if apply is truediv and b.low <= 0 <= b.high:
        raise Unmeasured("it divides by a value whose interval spans 0")
    ends = list(itertools.starmap(applied, itertools.product((a.low, a.high), (b.low, b.high))))
    return Quantity(Interval(median, min(ends), max(ends)))


@dataclass(frozen=True)
class Used:
    """Rows that a value was taken from."""

    table: str
    column: str
    rows: pd.DataFrame

    @property
    def count(self) -> int:
        """Valid cells, or repeats, prompts or seeds that a row is the median of."""
        for name in _SAMPLES if self.table not in WITH_REPEATS else ():
            if name in self.rows:
                return int(self.rows[name].sum())
        return len(self.rows)

    def words(self) -> str:
        """'rps_per_gpu of dram-64, load 4'."""
        first = self.rows.iloc[0]
        named = [str(first[key]) for key in ("scenario", "tiers") if key in first][:1]
        said = (
            "load", "at", "operation", "value_bytes", "prompt_tokens", "pass", "layer",
            *(("connections",) if self.table not in WITH_REPEATS else ()),
            *(("chunk_tokens",) if self.table == "hit_rates" else ()),
        )  # fmt: skip
        more = [f"{key} {plain(first[key])}" for key in said if key in first and pd.notna(first[key])]
        return f"{self.column} of {', '.join([*named, *more]) or self.table}"


@dataclass
class Measured:
    """What claims are about: result tables by name; one that is not there was not measured.

    compared: the configuration's figures.chunk_tokens. unbounded: take what is bounded on one side only, since no higher
    load was measured, as far off on the other. used, repeats: the rows behind the values asked for so far, and the most
    repeats that any of them was measured with.
    """

    tables: Mapping[str, pd.DataFrame]
    compared: int
    unbounded: bool = False
    used: list[Used] = field(default_factory=list)
    repeats: int = 1

    def value(self, claim: Claim | DifferenceOf) -> Quantity:
        """A claim's value. Raises Unmeasured with the reason why it has none."""
        match claim:
            case Median():
                return self._median(claim, claim.where)
            case Ratio():
                sides = self._together(claim, claim.of, *claim.over)
                of, *over = (self._median(claim, rows) for rows in sides)
                return combined(truediv, of, reduce(lambda one, other: combined(max, one, other), over))
            case DifferenceOf():
                return combined(
                    sub, *(self._median(claim, rows) for rows in self._together(claim, claim.of, claim.minus))
                )
            case AtEqualSpeed():
                return self._at_equal_speed(claim, *self._together(claim, claim.of, claim.over))
        raise TypeError(f"no kind of claim: {type(claim)}")

    def no_interval(self) -> str:
        """Why a value has none: one repeat was measured, or one alone of several gave a value."""
        if self.repeats == 1:
            return "no interval: one repeat"
        curves = [part.rows for part in self.used if part.column == _EQUAL_SPEED]
        did = (
            "met an equal speed" if curves and all(_repeats(rows) > 1 for rows in curves) else "gave a value"
        )
        return f"no interval: one alone of {self.repeats} repeats {did}"

    def _together(self, claim: Claim | DifferenceOf, *sides: Rows) -> list[Rows]:
        """Both sides with the same choice of what `where` leaves open: the first of which both have rows, and not the same.

        Of a table with several pairs of vLLM and LMCache both sides are of one, the first that has both. Without such a choice
        the sides as they are, of which one has no rows. Raises Unmeasured when they are always the same.
        """
        open_to = {column: choices for column, choices in claim.where.items() if len(choices) > 1}
        open_to |= self._pairs(claim.table, sides)
        same = False
        for choices in itertools.product(*open_to.values()):
            chosen = {column: (choice,) for column, choice in zip(open_to, choices, strict=True)}
            narrowed = [{**side, **chosen} for side in sides]
            rows = [self._first(claim.table, side) for side in narrowed]
            if all(len(found) for found in rows):
                if not any(one.index.equals(other.index) for one, other in itertools.combinations(rows, 2)):
                    return narrowed
                same = True
        if same:
            raise Unmeasured("not measured: both sides are the same rows")
        return list(sides)

    def _pairs(self, name: str, sides: Sequence[Rows]) -> dict[str, tuple[Choice, ...]]:
        """The pairs of a table that has several, unless a side names one."""
        table = self.tables.get(name, pd.DataFrame())
        found = tuple(table["pair"].dropna().unique()) if "pair" in table else ()
        return {"pair": found} if len(found) > 1 and not any("pair" in side for side in sides) else {}

    def _median(self, claim: Claim | DifferenceOf, where: Rows) -> Quantity:
        table, column = claim.table, claim.column
        rows, told = self._rows(table, where)
        if column not in rows:
            raise Unmeasured(
                f"not measured: {table}.csv has no column {column}; it was written before there was one"
            )
        rows = rows[rows[column].notna()] if table in WITH_REPEATS else rows
        if len(rows) > 1 and table not in WITH_REPEATS:
            raise Unmeasured(f"{told} are {len(rows)} rows, {_differences(rows)}; name one of them")
        if rows[column].isna().all():
            raise Unmeasured(f"not measured: {told} has no {column}")
        if table in WITH_REPEATS and rows["repeat"].duplicated().any():
            raise Unmeasured(f"{told} are several cells of one repeat, {_differences(rows)}; name one")
        self.used.append(Used(table, column, rows))
        if table in WITH_REPEATS:
            return Quantity.sampled(
                {int(row["repeat"]): self._cell(row, column) for _, row in rows.iterrows()}
            )
        ends = (rows.iloc[0].get(f"{column}{end}") for end in ("", "_low", "_high"))
        return Quantity(Interval(*(None if end is None or pd.isna(end) else float(end) for end in ends)))

    def _cell(self, row: pd.Series, column: str) -> float:
        if not self.unbounded or str(row.get("users_at_least")).lower() != "true":
            return float(row[column])
        return float(row[column]) * (1 / _FAR if column in _AT_MOST else _FAR if column in _AT_LEAST else 1.0)

    def _at_equal_speed(self, claim: AtEqualSpeed, *sides: Rows) -> Quantity:
        curves = []
        for where in sides:
            rows, told = self._rows(claim.table, where)
            rows = rows.dropna(subset=["tps_per_user", "rps_per_gpu"])
            if rows["scenario"].nunique() > 1:
                raise Unmeasured(f"{told} are several scenarios, {_differences(rows)}; name one")
            self.used.append(Used(claim.table, _EQUAL_SPEED, rows.drop(columns="load")))
            points = {repeat: own[["tps_per_user", "rps_per_gpu"]] for repeat, own in rows.groupby("repeat")}
            curves.append(
                {int(repeat): own.astype(float).to_numpy().tolist() for repeat, own in points.items()}
            )
        one, other = curves
        ratios = {repeat: iso_tps_ratio(one[repeat], other[repeat]) for repeat in one.keys() & other.keys()}
        found = {repeat: ratio for repeat, ratio in ratios.items() if ratio is not None}
        if not found:
            raise Unmeasured("the curves share no TPS/user in any repeat")
        return Quantity.sampled(found)

    def _rows(self, name: str, where: Rows) -> tuple[pd.DataFrame, str]:
        """The valid rows of the first preference that has any, and what they are in words. Raises Unmeasured."""
        table = self.tables.get(name)
        if table is None:
            raise Unmeasured(f"not measured: there is no table {name}")
        if table.empty:
            raise Unmeasured(f"not measured: table {name} has no rows")
        for column in where:
            if column not in table:
                raise Unmeasured(f"not measured: {name}.csv has no column {column}")
        meant = self._meant(where)
        words = (
            ", ".join(f"{column} {' or '.join(map(plain, meant[column]))}" for column in meant) or "any value"
        )
        rows = self._first(name, where)
        if rows.empty:
            raise Unmeasured(f"not measured: no row of {name} has {words}")
        self.repeats = max(self.repeats, _repeats(rows))
        return _valid(rows, f"{name} with {words}"), f"{name} with {words}"

    def _first(self, name: str, where: Rows) -> pd.DataFrame:
        """The rows of the first preference that has any; none without the table or one of the columns."""
        table = self.tables.get(name, pd.DataFrame())
        for choices in itertools.product(*self._meant(where).values()) if where.keys() <= set(table) else ():
            rows = _matching(table, dict(zip(where, choices, strict=True)))
            if len(rows):
                return rows
        return pd.DataFrame()

    def _meant(self, where: Rows) -> dict[str, list[Choice]]:
        return {
            column: [float(self.compared) if choice is Named.COMPARED else choice for choice in choices]
            for column, choices in where.items()
        }


def plain(value: object) -> str:
    """A value of a cell or a choice in words: 4.0 as 4."""
    if isinstance(value, float):
        return f"{value:.0f}" if value == int(value) else f"{value:g}"
    return str(value)


def _matching(rows: pd.DataFrame, chosen: Mapping[str, Choice]) -> pd.DataFrame:
    """The rows that have the values, then of these the highest or lowest of one column after the other."""
    extremes = {column: choice for column, choice in chosen.items() if isinstance(choice, Named)}
    for column, choice in chosen.items():
        if column not in extremes:
            rows = rows[_equal(rows[column], choice)]
    for column, extreme in extremes.items():
        numbers = pd.to_numeric(rows[column], errors="coerce")
        rows = rows[numbers == (numbers.max() if extreme is Named.HIGHEST else numbers.min())]
    return rows


def _valid(rows: pd.DataFrame, told: str) -> pd.DataFrame:
    """The rows that prove themselves. Raises Unmeasured with the others' reasons when none does."""
    if "valid" in rows:
        valid = rows[_equal(rows["valid"], True)]
        if valid.empty:
            reasons = "; ".join(dict.fromkeys(map(str, rows["reasons"].dropna()))) or "no reason given"
            raise Unmeasured(f"{told}: {len(rows)} measured, none valid: {reasons}")
        return valid
    if "cold" in rows and ((rows["operation"] == "get_cold") & ~_equal(rows["cold"], True)).any():
        raise Unmeasured(f"{told}: the page cache could not be dropped")
    return rows


def _repeats(rows: pd.DataFrame) -> int:
    """How many repeats rows are of: of their own column, or of the one that counts them."""
    if "repeat" in rows:
        return rows["repeat"].nunique()
    counted = pd.to_numeric(rows["repeats"], errors="coerce").max() if "repeats" in rows else 1
    return 1 if pd.isna(counted) else int(counted)


def _differences(rows: pd.DataFrame) -> str:
    """'scenario a or b, load 1 or 2': what tells rows apart."""
    found = [
        f"{key} {' or '.join(dict.fromkeys(map(plain, rows[key])))}"
        for key in _NAMING
        if key in rows and rows[key].nunique() > 1
    ]
    return ", ".join(found) or "alike in all that names them"


def _equal(column: pd.Series, value: float | str | bool) -> pd.Series:
    if isinstance(value, bool):
        return column.map(lambda cell: str(cell).lower()) == str(value).lower()
    if isinstance(value, str):
        return column.map(str) == value
    return pd.to_numeric(column, errors="coerce") == value
