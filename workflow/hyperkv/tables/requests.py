"""Rule write_requests: one row per request of every cell, the raw samples.

python -m workflow.hyperkv.tables.requests --cells results/sweep/*/*.jsonl --out results/tables/requests.parquet
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import pandas as pd

from ..base.cli import run_stage
from ..records.frames import add_cells, add_out, read_cells, write_table


def main() -> None:
    """Parse the command line and write the table."""
    parser = argparse.ArgumentParser(prog="python -m workflow.hyperkv.tables.requests", description=__doc__)
    add_cells(parser)
    add_out(parser)
    arguments = parser.parse_args()
    write_table(requests_table(read_cells(arguments, "cell")), arguments.out)


def requests_table(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row per request, with the cell that it is of."""
    identity = ["scenario", "load", "repeat"]
    parts = [pd.DataFrame({key: record[key] for key in identity} | record["requests"]) for record in records]
    return pd.concat(parts, ignore_index=True)


if __name__ == "__main__":
    sys.exit(run_stage("requests", main))
