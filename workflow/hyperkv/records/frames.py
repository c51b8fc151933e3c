"""From JSONL records to tables: reading them, medians over repeats as columns, writing CSV and Parquet."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..base.errors import UserError
from . import hardware
from .record_file import Identity, read_records
from .stats import Interval, median_interval


def add_asked(parser: argparse.ArgumentParser) -> None:
    """The option of every stage that reads records: what each file must have been measured with."""
    told = "JSON: file of records, or its folder -> spec/code that it must have been measured with; not given: any"
    parser.add_argument("--asked", type=asked_of, help=told)


def add_cells(parser: argparse.ArgumentParser) -> None:
    """The options of every table that is made of the sweep's records: --cells, and --asked."""
    parser.add_argument("--cells", required=True, nargs="+", type=Path, help="JSONL files of the sweep")
    add_asked(parser)


def add_out(parser: argparse.ArgumentParser) -> None:
    """The option that says where a table goes (write_table)."""
    told = "file of the table; more than one: the same in each, as CSV or by its suffix as Parquet"
    parser.add_argument("--out", required=True, nargs="+", type=Path, help=told)


def asked_of(text: str) -> dict[str, Identity]:
    """What option --asked says."""
    return {path: Identity.of_text(made) for path, made in json.loads(text).items()}


def read_jsonl(paths: Iterable[Path], asked: Mapping[str, Identity] | None = None) -> list[dict[str, Any]]:
    """All records of JSONL files, in order.

    asked: what each file, named itself or by its folder, must have been measured with; None: whatever it was. Raises
    UserError naming a file that is not whole or not what is asked for.
    """
    records = []
    for path in paths:
        made = None
        if asked is not None and (made := asked.get(str(path)) or asked.get(str(path.parent))) is None:
            raise UserError(f"{path}: --asked has neither the file nor its folder; name one of them there")
        records += read_records(path, made)
    return records


def read_cells(arguments: argparse.Namespace, kind: str | None = None) -> list[dict[str, Any]]:
    """The records that the options of add_cells name: those of one kind, cell or single; None: all."""
    found = read_jsonl(arguments.cells, arguments.asked)
    return [record for record in found if kind in (None, record["record"])]


def read_csv(path: Path, **options: Any) -> pd.DataFrame:
    """A result table, as pandas reads it with the options. Raises UserError naming a file that is none."""
    try:
        return pd.read_csv(path, **options)
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: not a table ({' '.join(str(error).split())}); delete the file to make it again"
        ) from None


def read_parquet(path: Path) -> pd.DataFrame:
    """A result table as it was written, with its types. Raises UserError naming a file that is none."""
    try:
        return pd.read_parquet(path)
    except ValueError as error:
        raise UserError(
            f"{path}: not a table ({' '.join(str(error).split())}); delete the file to make it again"
        ) from None


def read_json(path: Path) -> Any:
    """What a stage wrote as one JSON document. Raises UserError naming a file that is none."""
    try:
        return json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error}); delete the file to make it again") from None


def write_table(table: pd.DataFrame, paths: Iterable[Path]) -> None:
    """Write a table to each file: as Parquet where its suffix says so, else as CSV."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        write = table.to_parquet if path.suffix == ".parquet" else table.to_csv
        write(path, index=False)


def spreads(rows: pd.DataFrame, names: Iterable[str]) -> dict[str, float | None]:
    """The columns of several medians over rows, each as `spread` has them; nothing is known of a column that is not there."""
    found = [(name, known(rows[name]) if name in rows else []) for name in names]
    return {
        column: value
        for name, values in found
        for column, value in spread(name, median_interval(values)).items()
    }


def counted(repeats: pd.DataFrame) -> dict[str, Any]:
    """The columns that say how many repeats there are, how many of them are valid, and why the others are not."""
    valid = len(repeats[repeats["valid"]])
    count = {"repeats": len(repeats), "valid_repeats": valid, "valid": valid == len(repeats)}
    return count | {"reasons": said_once(repeats["reasons"])}


def used(repeats: pd.DataFrame) -> pd.DataFrame:
    """The repeats that medians are over: the valid ones when there are any, else all."""
    valid = repeats[repeats["valid"]]
    return valid if len(valid) else repeats


def said_once(texts: Iterable[str], between: str = "; ") -> str:
    """Different texts joined, empty ones left out."""
    return between.join(dict.fromkeys(filter(None, texts)))


def groups_of(records: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[pd.DataFrame]:
    """The repeats of each point, in the records' order; keys: those that name a point."""
    return [group for _, group in pd.DataFrame(records).groupby(list(keys), sort=False)] if records else []


def spread(name: str, interval: Interval) -> dict[str, float | None]:
    """The columns of a median: its name, and the ends of its interval as `_low` and `_high`."""
    return {name: interval.median, f"{name}_low": interval.low, f"{name}_high": interval.high}


def known(column: Iterable[Any]) -> list[float | None]:
    """A column's values as numbers, None where there is none."""
    return [None if pd.isna(value) else float(value) for value in column]


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
    return median_interval(shares).median
