"""Rule write_requests: one row per request of every cell, the raw samples.

python -m workflow.hyperkv.tables.requests --cells results/sweep/*/*.jsonl --out results/tables/requests.parquet
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pandas as pd

from ..base.cli import run_stage
from ..records.frames import Asked, Cells, Out, read_cells, write_table
from ..records.kinds.cell import RequestColumns


def main(*, cells: Cells, asked: Asked = None, out: Out) -> None:
    """Write the table."""
    write_table(requests_table(read_cells(cells, asked, "cell")), out)


def requests_table(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row per request, with the cell that it is of; none where single requests alone were measured."""
    identity = ["scenario", "load", "repeat"]
    parts = [pd.DataFrame({key: record[key] for key in identity} | record["requests"]) for record in records]
    columns = [*identity, *RequestColumns.model_fields]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


if __name__ == "__main__":
    sys.exit(run_stage("requests", main))
