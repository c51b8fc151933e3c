"""Stage sweep: one job measures one scenario x repeat, all its loads.

    python -m workflow.hyperkv.sweep.measure_scenario --spec '{...}' --repeat 1 --out results/sweep/<scenario>/1.jsonl

Every finished cell is kept at once in `<out>.partial`; a run that was stopped takes up what is there, as long
as the spec and the code are the same, and `<out>` appears when all cells are there. The file's lines are cell
records (records/kinds); the per-request samples are columns of lists inside each. Engine `vllm` may put
records of single requests before them. The last line closes the file: how many lines there are, of what, and their checksum.
"""

from __future__ import annotations

import os
import sys
import time
from importlib import import_module
from pathlib import Path

from ..base.cli import run_stage
from ..cells.job import Job
from ..machine.node import data_dir_of
from ..machine.own_folder import alone_on
from .progress import Progress


def main(*, job: Job, repeat: int) -> None:
    """Measure the scenario.

    Args:
        repeat: number of the repetition, from 1.
    """
    started = time.time() - _process_age_s()
    spec, journal = job.spec, job.journal()
    progress = Progress(job.out.parents[1] / ".progress.json", spec["scenario"]["name"], repeat)
    engine = import_module(f"workflow.hyperkv.engines.{spec['engine']}.cells")
    points = engine.points(spec)
    if missing := [point for point in points if not journal.has(point)]:
        folder = data_dir_of(spec["scenario"].get("data_dir") or spec["data_dir"])
        with alone_on(folder), engine.Measurement(spec, repeat, job.logs) as measurement:
            for point in missing:
                progress.begin(point)
                record = measurement.measure(point)
                journal.append(point, record.dump() | {"measured_in_job": started})
                progress.end(record)
    journal.finish(points, {"job_started_at": started, "job_s": time.time() - started})


def _process_age_s() -> float:
    """Seconds since this process was started, the interpreter's start and imports included (proc(5), starttime)."""
    started_ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(run_stage("sweep", main, resumes=True))
