"""Rule write_columns: the data dictionary as a table, one row per column of every table.

python -m workflow.hyperkv.tables.columns --dictionary workflow/schemas/columns.yaml --out results/tables/columns.csv
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd
import yaml

from ..base.cli import run_stage
from ..records.frames import add_out, write_table
from .methods.dictionary import COLUMNS_PATH


def main() -> None:
    """Parse the command line and write the table."""
    parser = argparse.ArgumentParser(prog="python -m workflow.hyperkv.tables.columns", description=__doc__)
    parser.add_argument(
        "--dictionary", default=COLUMNS_PATH, type=Path, help="YAML: tables and their columns"
    )
    add_out(parser)
    arguments = parser.parse_args()
    write_table(columns_table(arguments.dictionary), arguments.out)


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
