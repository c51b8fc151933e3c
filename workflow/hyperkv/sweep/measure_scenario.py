"""Stage sweep: one job measures one scenario x repeat, all its loads.

    python -m workflow.hyperkv.sweep.measure_scenario --spec '{...}' --repeat 1 --out results/sweep/<scenario>/1.jsonl

Every finished cell is kept at once in `<out>.partial`; a run that was stopped takes up what is there, as long
as the spec and the code are the same, and `<out>` appears when all cells are there. The file's lines are cell
records (records/kinds); the per-request samples are columns of lists inside each. Engine `vllm` may put
records of single requests before them. The last line closes the file: how many lines there are, of what, and their checksum.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from ..base.cli import run_stage
from ..machine.node import data_dir_of
from ..machine.own_folder import alone_on
from ..machine.require_array import require_array
from ..records.identity import add_code, identity_of
from ..records.journal import Journal
from .progress import Progress


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(
        prog="python -m workflow.hyperkv.sweep.measure_scenario", description=__doc__
    )
    parser.add_argument("--spec", required=True, help="JSON: this scenario's slice of the config")
    parser.add_argument("--repeat", required=True, type=int, help="number of the repetition, from 1")
    parser.add_argument("--out", required=True, type=Path, help="JSONL file of cell records")
    parser.add_argument(
        "--logs", type=Path, default=Path("results/logs/servers"), help="folder for servers' output"
    )
    add_code(parser)
    arguments = parser.parse_args()
    started = time.time() - _process_age_s()
    spec: dict[str, Any] = json.loads(arguments.spec)
    require_array(spec)
    journal = Journal(arguments.out, identity_of(spec, arguments.code))
    progress = Progress(
        arguments.out.parents[1] / ".progress.json", spec["scenario"]["name"], arguments.repeat
    )
    engine = import_module(f"workflow.hyperkv.engines.{spec['engine']}.cells")
    points = engine.points(spec)
    if missing := [point for point in points if not journal.has(point)]:
        folder = data_dir_of(spec["scenario"].get("data_dir") or spec["data_dir"])
        with alone_on(folder), engine.Measurement(spec, arguments.repeat, arguments.logs) as measurement:
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
