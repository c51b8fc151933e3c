"""The data dictionary: the columns of every table in their order, each with its unit and what it says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

COLUMNS_PATH = Path("workflow/schemas/columns.yaml")


@cache
def columns_dictionary() -> dict[str, dict[str, dict[str, str]]]:
    """Unit and description of every column by table."""
    return yaml.load(COLUMNS_PATH.read_text(), yaml.CSafeLoader)


def table_of(name: str, rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows as a table: the columns that the dictionary lists, in its order, empty where a row has none; also without rows."""
    columns = list(columns_dictionary()[name])
    return pd.DataFrame([{column: row.get(column) for column in columns} for row in rows], columns=columns)
