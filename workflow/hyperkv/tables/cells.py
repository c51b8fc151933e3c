"""Rule write_cells: one row per cell of the sweep.

python -m workflow.hyperkv.tables.cells --cells results/sweep/*/*.jsonl --out results/tables/cells.csv results/tables/cells.parquet
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pandas as pd

from ..base.cli import run_stage
from ..records import hardware
from ..records.effective import facts_of
from ..records.frames import Asked, Cells, Out, read_cells, write_table
from ..records.parity import comparable_digest, require_one_configuration
from ..records.subtitles import workload_words

SCENARIO_KEYS = (
    "tier",
    "store",
    "connector",
    "chunk_tokens",
    "connections",
    "stripe_bytes",
    "processes",
    "dram_pool_bytes",
)
_IDENTITY = ("engine", "scenario", "load", "repeat", "seed", "spec_digest", "model")
_TIMES = ("start_s", "measured_s", "cell_s", "started_at")


def main(*, cells: Cells, asked: Asked = None, out: Out) -> None:
    """Write the table."""
    table = cells_table(read_cells(cells, asked, "cell"))
    require_one_configuration(table, "cells")
    write_table(table, out)


def cells_table(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row per cell: identity, values, evidence, validity."""
    rows = []
    for record in records:
        scenario = record["spec"]["scenario"]
        rows.append(
            {
                **{key: record[key] for key in _IDENTITY},
                **hardware.gpu_of(record),
                "gpus": hardware.gpus_in(record),
                **{key: scenario.get(key) for key in SCENARIO_KEYS},
                **facts_of(record),
                "workload": workload_words(record["spec"]["workload"]),
                "chunk_bytes": record["chunk_bytes"],
                "comparable_digest": comparable_digest(record),
                "valid": record["valid"],
                "reasons": "; ".join(record["reasons"]),
                "served_from": record["served_from"],
                **record["values"],
                **record["evidence"],
                "notes": "; ".join(record.get("notes", [])),
                **{key: record[key] for key in _TIMES},
                **hardware.columns_of([record]),
            }
        )
    return pd.DataFrame(rows)


if __name__ == "__main__":
    sys.exit(run_stage("cells", main))
