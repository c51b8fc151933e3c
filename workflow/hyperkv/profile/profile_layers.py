"""Stage layers: where the time of one scenario goes, by moving the same values through one layer more each time.

    python -m workflow.hyperkv.profile.profile_layers --spec '{...}' --out results/profile/layers/<scenario>.jsonl

One line per repeat x value size x connections x rung x operation (rungs.py says what a rung is). All rungs of one
point are measured right after each other, so that their differences pair.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from ..base.cli import run_stage
from ..cells.job import Job
from ..cells.point import values_per_connection
from ..machine.memory_dir import memory_folder
from ..records.kinds.profile import Rung
from ..workloads.payload import Payload
from .loopback import Loopback
from .moving import Bench, Values
from .points import points_of
from .profile_limits import largest_point
from .rungs import keys_of, memory_needed, rungs_of
from .stations import measure_point


def main(*, job: Job) -> None:
    """Measure the layers' points."""
    spec = job.spec
    scenario, largest = spec["scenario"], largest_point(spec)
    stations = rungs_of(scenario)
    with contextlib.ExitStack() as stack:
        measure = stack.enter_context(points_of(job, f"layers: {scenario['name']}"))
        if "store_ram" in stations:
            memory = memory_folder(Path(spec["memory_dir"]), memory_needed(spec, largest))
            if memory.note:
                lost = "" if memory.path else "; its layers in memory are left out"
                print(f"hyperkv layers: {scenario['name']}: {memory.note}{lost}", flush=True)
        tcp = unix = None
        if "sockets" in stations:
            tcp = stack.enter_context(Loopback(largest, job.logs / "layers.log"))
            unix = stack.enter_context(Loopback(largest, job.logs / "layers.log", unix=True))
        payloads = {size: Payload(size) for size in spec["value_bytes"]}

        def measured(repeat: int, size: int, connections: int) -> list[Rung]:
            each = values_per_connection(spec["point_bytes"], size, connections)
            values = Values.of(payloads[size], connections, each, repeat)
            return measure_point(Bench(spec, values, job.logs, tcp, unix))

        measure(["/".join(key) for key in keys_of(scenario)], measured)


if __name__ == "__main__":
    sys.exit(run_stage("layers", main, resumes=True))
