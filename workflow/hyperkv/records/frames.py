"""From JSONL records to tables: reading them, and writing CSV and Parquet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from cyclopts import Parameter

from ..base.errors import UserError
from ..base.options import read_by
from .record_file import Identity, read_records
from .upgrade import current


def asked_of(text: str) -> dict[str, Identity]:
    """What option --asked says."""
    return {path: Identity.of_text(made) for path, made in json.loads(text).items()}


_ASKED = (
    "JSON: file of records, or its folder -> spec/code that it must have been measured with; without: any"
)
_OUT = "file of the table; more than one: the same in each, as CSV or by its suffix as Parquet"
Asked = Annotated[dict[str, Identity] | None, read_by(asked_of), Parameter(help=_ASKED)]
Cells = Annotated[list[Path], Parameter(consume_multiple=1, help="JSONL files of the sweep")]
Out = Annotated[list[Path], Parameter(consume_multiple=1, help=_OUT)]


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


def read_cells(cells: Iterable[Path], asked: Asked = None, kind: str | None = None) -> list[dict[str, Any]]:
    """The records of the sweep's files: those of one kind, cell or single; None: all. Raises UserError as read_jsonl."""
    return [record for record in read_jsonl(cells, asked) if kind in (None, record["record"])]


def read_csv(path: Path, **options: Any) -> pd.DataFrame:
    """A result table, as pandas reads it with the options. Raises UserError naming a file that is none."""
    return _table(pd.read_csv, path, **options)


def read_parquet(path: Path) -> pd.DataFrame:
    """A result table as it was written, with its types. Raises UserError naming a file that is none."""
    return _table(pd.read_parquet, path)


def _table(read: Callable[..., pd.DataFrame], path: Path, **options: Any) -> pd.DataFrame:
    try:
        return read(path, **options)
    except ValueError as error:  # what pandas raises for what is no table is one
        told = " ".join(str(error).split())
        raise UserError(f"{path}: not a table ({told}); delete the file to make it again") from None


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


def read_named(paths: Sequence[Path], needed: Sequence[str]) -> dict[str, Any]:
    """Tables and JSON files by name. Raises UserError naming one that is needed and missing among them."""
    found = {
        path.stem: read_json(path)
        if path.suffix == ".json"
        else read_csv(path, keep_default_na=False, na_values=[""])
        for path in paths
    }
    if missing := [name for name in needed if name not in found]:
        raise UserError(f"{', '.join(missing)} is not among the files; give its path with --tables")
    return found
