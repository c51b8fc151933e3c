"""Rule write_columns: the data dictionary as a table, one row per column of every table.

python -m workflow.hyperkv.tables.columns --dictionary workflow/schemas/columns.yaml --out results/tables/columns.csv
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import yaml

from ..base.cli import run_stage
from ..records.frames import Out, write_table
from .methods.dictionary import COLUMNS_PATH


def main(*, dictionary: Path = COLUMNS_PATH, out: Out) -> None:
    """Write the table.

    Args:
        dictionary: YAML: tables and their columns.
    """
    write_table(columns_table(dictionary), out)


def columns_table(dictionary: Path = COLUMNS_PATH) -> pd.DataFrame:
    """One row per table and column: unit and description."""
    return pd.DataFrame(
        [
            {"table": table, "column": column, "unit": entry["unit"], "description": entry["description"]}
            for table, columns in yaml.safe_load(dictionary.read_text()).items()
            for column, entry in columns.items()
        ]
    )


if __name__ == "__main__":
    sys.exit(run_stage("columns", main))
