"""From JSONL records to tables: reading them, medians over repeats as columns, writing CSV and Parquet."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ..base.errors import UserError
from .record_file import Identity, read_records
from .stats import Interval
from .upgrade import current


def add_asked(parser: argparse.ArgumentParser) -> None:
    """The option of every stage that reads records: what each file must have been measured with."""
    told = "JSON: file of records, or its folder -> spec/code that it must have been measured with; not given: any"
    parser.add_argument("--asked", type=asked_of, help=told)


def asked_of(text: str) -> dict[str, Identity]:
    """What option --asked says."""
    return {path: Identity.of_text(made) for path, made in json.loads(text).items()}


def read_jsonl(paths: Iterable[Path], asked: Mapping[str, Identity] | None = None) -> list[dict[str, Any]]:
    """All records of JSONL files, in order, as the newest version has them (records/kinds).

    asked: what each file, named itself or by its folder, must have been measured with; None: whatever it was. Raises
    UserError naming a file that is not whole or not what is asked for, and a line that is no record.
    """
    records = []
    for path in paths:
        made = None
        if asked is not None and (made := asked.get(str(path)) or asked.get(str(path.parent))) is None:
            raise UserError(f"{path}: --asked has neither the file nor its folder; name one of them there")
        records += [
            current(record, f"{path}:{number}") for number, record in enumerate(read_records(path, made), 1)
        ]
    return records


def read_csv(path: Path, **options: Any) -> pd.DataFrame:
    """A result table, as pandas reads it with the options. Raises UserError naming a file that is none."""
    try:
        return pd.read_csv(path, **options)
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: not a table ({' '.join(str(error).split())}); delete the file to make it again"
        ) from None


def read_json(path: Path) -> Any:
    """What a stage wrote as one JSON document. Raises UserError naming a file that is none."""
    try:
        return json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error}); delete the file to make it again") from None


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
