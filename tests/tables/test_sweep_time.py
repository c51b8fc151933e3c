"""The sweep's time: jobs against cells."""

import pandas as pd

from tests.record_factory import varied
from workflow.hyperkv.tables.sweep_time import sweep_time_table


def jobs(record: dict, starts: list[float], cells: int = 2) -> list[dict]:
    """Jobs of 10 s with `cells` cells of 4 s each, of which 1 s starts the store."""
    own = {"cell_s": 4.0, "start_s": 1.0, "job_s": 10.0}
    return [
        varied(record, repeat=repeat, load=load, job_started_at=start, measured_in_job=start, **own)
        for repeat, start in enumerate(starts, 1)
        for load in range(1, cells + 1)
    ]


def test_sweep_time_is_jobs_over_cells(real):
    row = sweep_time_table(jobs(real["dram"], [100.0, 112.0])).iloc[0]
    assert (row["cells"], row["jobs"], row["cells_s"], row["server_starts_s"]) == (4, 2, 16.0, 4.0)
    assert (row["jobs_s"], row["stage_s"]) == (20.0, 22.0)
    assert (row["jobs_over_cells"], row["stage_over_cells"]) == (20 / 16, 22 / 16)


def test_cells_kept_from_a_stopped_job_count_in_no_job(real):
    kept, measured = jobs(real["dram"], [100.0])
    kept["measured_in_job"] = 50.0
    row = sweep_time_table([kept, measured]).iloc[0]
    assert (row["cells"], row["cells_s"], row["jobs_over_cells"]) == (2, 4.0, 2.5)


def test_the_stage_has_no_span_over_several_runs(real):
    row = sweep_time_table(jobs(real["dram"], [100.0, 5000.0])).iloc[0]
    assert pd.isna(row["stage_s"])
    assert pd.isna(row["stage_over_cells"])
    assert row["jobs_over_cells"] == 20 / 16
