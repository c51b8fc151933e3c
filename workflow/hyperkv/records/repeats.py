"""What rows of tables say of repeats: medians as columns, how many are valid, what was said, per byte."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from . import hardware
from .stats import median, median_interval, spread

CLOSED, OPEN, TRACE = "closed", "open", "trace"
_LOAD_UNITS = {CLOSED: "clients", OPEN: "conversations/s", TRACE: "load"}


def cell_anchor(scenario: str, load: float) -> str:
    """The name of a scenario's cells at one load as a place of a page: 'cell-files-64-4'."""
    return f"cell-{scenario}-{load:g}"


def single_anchor(scenario: str, prompt_tokens: float) -> str:
    """The same of its single requests of one length: 'single-files-64-8200'."""
    return f"single-{scenario}-{prompt_tokens:g}"


def pass_of(record: Mapping[str, Any], sample: Mapping[str, Any]) -> str:
    """What a single request was: computed (no tier), saved (computed, and saved to the tier), loaded (the same prompt from it)."""
    if record["spec"]["scenario"]["tier"] == "none":
        return "computed"
    return "saved" if sample["pass"] == "first" else "loaded"


def at_common_load(rows: pd.DataFrame) -> pd.DataFrame:
    """Scenarios beside each other: the rows at the highest load that all have; where they share none, each at its own highest."""
    loads = [set(own["load"]) for _, own in rows.groupby("scenario")]
    common = set.intersection(*loads) if loads else ()
    return rows[rows["load"] == max(common)] if common else at_own_load(rows)


def at_own_load(rows: pd.DataFrame) -> pd.DataFrame:
    """Scenarios one by one, each beside its baseline alone: the rows of each at its own highest load."""
    return rows[rows["load"] == rows.groupby("scenario")["load"].transform("max")]


def loop_of(record: Mapping[str, Any]) -> str:
    """loop_as of a cell's record."""
    spec = record["spec"]
    return loop_as(record["engine"], spec["workload"]["kind"], spec.get("loop", CLOSED))


def loop_as(engine: str, kind: str, loop: str) -> str:
    """How requests come: closed, from clients who wait for their answers; open, conversations by the clock; trace, at the trace's times.

    kind: of the workload. loop: of the configuration.
    """
    return TRACE if engine == "vllm" and kind == "trace" else loop


def load_unit(rows: pd.DataFrame) -> str:
    """What the loads of rows count, the head of their column: clients, of open loops conversations/s."""
    return _LOAD_UNITS[_loop(rows)]


def load_words(rows: pd.DataFrame) -> str:
    """'4 clients' of rows at that load, '2, 4 clients' of rows at several, '0.4 conversations/s' of an open loop."""
    return words_of_loads(sorted(rows["load"].unique()), _loop(rows))


def words_of_loads(loads: Sequence[float], loop: str | None) -> str:
    """load_words of numbers."""
    if loop == TRACE:
        return "its trace's times"
    unit = _LOAD_UNITS[loop or CLOSED]
    return f"{', '.join(f'{load:g}' for load in loads)} {unit if [*loads] != [1] else unit.replace('clients', 'client')}"


def is_closed(rows: pd.DataFrame) -> bool:
    """Whether their requests/s are the engine's and not the clock's."""
    return _loop(rows) == CLOSED


def _loop(rows: pd.DataFrame) -> str:
    """Of rows that have one; closed where they do not tell."""
    told = [*rows["loop"].dropna()] if "loop" in rows else []
    return str(told[0]) if told else CLOSED


def known(column: Iterable[Any]) -> list[float | None]:
    """A column's values as numbers, None where there is none."""
    return [None if pd.isna(value) else float(value) for value in column]


def said_once(texts: Iterable[str], between: str = "; ") -> str:
    """Different texts joined, empty ones left out."""
    return between.join(dict.fromkeys(filter(None, texts)))


def counted(repeats: pd.DataFrame) -> dict[str, Any]:
    """The columns that say how many repeats there are, how many of them are valid, and why the others are not."""
    valid = len(repeats[repeats["valid"]])
    count = {"repeats": len(repeats), "valid_repeats": valid, "valid": valid == len(repeats)}
    return count | {"reasons": said_once(repeats["reasons"])}


def used(repeats: pd.DataFrame) -> pd.DataFrame:
    """The repeats that medians are over: the valid ones when there are any, else all."""
    valid = repeats[repeats["valid"]]
    return valid if len(valid) else repeats


def spreads(rows: pd.DataFrame, names: Iterable[str]) -> dict[str, float | None]:
    """The columns of several medians over rows, each as `spread` has them; nothing is known of a column that is not there."""
    found = [(name, known(rows[name]) if name in rows else []) for name in names]
    return {
        column: value
        for name, values in found
        for column, value in spread(name, median_interval(values)).items()
    }


def groups_of(records: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[pd.DataFrame]:
    """The repeats of each point, in the records' order; keys: those that name a point."""
    return [group for _, group in pd.DataFrame(records).groupby(list(keys), sort=False)] if records else []


def point_columns(repeats: pd.DataFrame, keys: Sequence[str]) -> dict[str, Any]:
    """The columns that every point of the profile has: those that name it, its GB/s, and what it was measured on."""
    return {
        **{key: repeats.iloc[0][key] for key in keys},
        **spread("gbps", median_interval(known(repeats["gbps"]))),
        "repeats": len(repeats),
        **hardware.columns_of(repeats.to_dict("records")),
    }


def median_per_byte(
    repeats: pd.DataFrame, column: str, unit_bytes: float = 1.0, moved: str = "moved_bytes"
) -> float | None:
    """Median over repeats of a column per `unit_bytes` of the column `moved`; None where no repeat knows it.

    CPU time of 0 is not known: records from before the process's own clock was read have it for less than a tick of 10 ms.
    """
    unknown = (None, 0) if column.endswith("cpu_s") else (None,)
    shares = [
        None if value in unknown else value / size * unit_bytes
        for value, size in zip(known(repeats[column]), repeats[moved], strict=True)
    ]
    return median(shares)
