"""Rule write_sweep_time: the jobs' wall time against the cells' own.

python -m workflow.hyperkv.tables.sweep_time --cells results/sweep/*/*.jsonl --out results/tables/sweep_time.csv
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from typing import Any

import pandas as pd

from ..base.cli import run_stage
from ..records.frames import Asked, Cells, Out, read_cells, write_table

_ONE_RUN_S = 60  # the longest gap between two jobs of one run


def main(*, cells: Cells, asked: Asked = None, out: Out) -> None:
    """Write the table."""
    write_table(sweep_time_table(read_cells(cells, asked, "cell")), out)


def sweep_time_table(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row: the jobs' wall time against the cells' measured time plus server starts.

    Cells kept from a job that was stopped count in neither, nor do records from before there were a job's times. stage_s
    spans all jobs, Snakemake's own time between them included; it is empty when the records come from several runs.
    """
    timed = [record for record in records if "job_started_at" in record]
    jobs = {(r["scenario"], r["repeat"]): (r["job_started_at"], r["job_s"]) for r in timed}
    own = [record for record in timed if record["measured_in_job"] == record["job_started_at"]]
    cells_s = sum(record["cell_s"] for record in own)
    jobs_s = sum(seconds for _, seconds in jobs.values())
    spans = sorted((start, start + seconds) for start, seconds in jobs.values())
    gaps = [later[0] - earlier[1] for earlier, later in itertools.pairwise(spans)]
    one_run = max(gaps, default=0.0) < _ONE_RUN_S
    stage_s = spans[-1][1] - spans[0][0] if one_run and spans else None
    row = {
        "cells": len(records),
        "jobs": len(jobs),
        "cells_s": cells_s,
        "server_starts_s": sum(record["start_s"] for record in own),
        "jobs_s": jobs_s,
        "stage_s": stage_s,
        "jobs_over_cells": jobs_s / cells_s if cells_s else None,
        "stage_over_cells": stage_s / cells_s if stage_s and cells_s else None,
    }
    return pd.DataFrame([row])


if __name__ == "__main__":
    sys.exit(run_stage("sweep_time", main))
