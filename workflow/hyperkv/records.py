"""From JSONL records to tables: reading them, medians over repeats as columns, writing CSV and Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from .errors import UserError
from .stats import Interval


def read_jsonl(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """All records of JSONL files, in order. Raises UserError naming file and line."""
    records = []
    for path in paths:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise UserError(
                    f"{path}:{number}: not JSON ({error.msg}); delete the file to measure it again"
                ) from error
    return records


def write_table(table: pd.DataFrame, stem: Path) -> None:
    """Write a table as CSV and Parquet."""
    table.to_csv(stem.with_suffix(".csv"), index=False)
    table.to_parquet(stem.with_suffix(".parquet"), index=False)


def spread(name: str, interval: Interval) -> dict[str, float | None]:
    """The columns of a median: its name, and the ends of its interval as `_low` and `_high`."""
    return {name: interval.median, f"{name}_low": interval.low, f"{name}_high": interval.high}


def known(column: Iterable[Any]) -> list[float | None]:
    """A column's values as numbers, None where there is none."""
    return [None if pd.isna(value) else float(value) for value in column]
