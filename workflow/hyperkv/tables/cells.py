"""Rule write_cells: one row per cell of the sweep.

python -m workflow.hyperkv.tables.cells --cells results/sweep/*/*.jsonl --out results/tables/cells.csv results/tables/cells.parquet
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ..base.cli import run_stage
from ..records import hardware
from ..records.effective import facts_of
from ..records.frames import Asked, Cells, Out, read_cells, write_table
from ..records.parity import comparable_digest, require_one_configuration
from ..records.repeats import loop_of
from ..records.scenario import gate_of, place_of
from ..records.subtitles import workload_words
from .methods.dictionary import table_of


def main(*, cells: Cells, asked: Asked = None, out: Out) -> None:
    """Write the table."""
    table = cells_table(read_cells(cells, asked, "cell"))
    require_one_configuration(table, "cells")
    write_table(table, out)


def cells_table(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row per cell: identity, values, evidence, validity."""
    return table_of("cells", map(cell_row, records))


def cell_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """All that a row may say of a cell: what its record, its scenario and its figures say, and what follows from these."""
    return {
        **record["spec"]["scenario"],
        **record,
        **record["values"],
        **record["evidence"],
        **hardware.gpu_of(record),
        **facts_of(record),
        **hardware.columns_of([record]),
        "place": place_of(record["spec"]["scenario"]),
        "gate": gate_of(record["spec"]["scenario"]),
        "loop": loop_of(record),
        "workload": workload_words(record["spec"]["workload"]),
        "comparable_digest": comparable_digest(record),
        "reasons": "; ".join(record["reasons"]),
        "notes": "; ".join(record["notes"]),
    }


if __name__ == "__main__":
    sys.exit(run_stage("cells", main))
