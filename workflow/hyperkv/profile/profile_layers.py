"""Stage layers: where the time of one scenario goes, by moving the same values through one layer more each time.

    python -m workflow.hyperkv.profile.profile_layers --spec '{...}' --out results/profile/layers/<scenario>.jsonl

One line per repeat x value size x connections x rung x operation (rungs.py says what a rung is). All rungs of one
point are measured right after each other, so that their differences pair.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

from ..base.cli import run_stage
from ..cells.point import common_fields, values_per_connection
from ..machine.memory_dir import memory_folder
from ..machine.node import data_dir_of, node_name
from ..machine.own_folder import alone_on
from ..machine.require_array import require_array
from ..records.identity import add_code, identity_of
from ..records.journal import Journal
from ..workloads.payload import Payload
from .loopback import Loopback
from .moving import Bench, Values
from .profile_limits import largest_point
from .rungs import keys_of, memory_needed, rungs_of
from .stations import measure_point


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(
        prog="python -m workflow.hyperkv.profile.profile_layers", description=__doc__
    )
    parser.add_argument("--spec", required=True, help="JSON: this scenario's slice of the config")
    parser.add_argument("--out", required=True, type=Path, help="JSONL file of rung records")
    parser.add_argument(
        "--logs", type=Path, default=Path("results/logs/servers"), help="folder for servers' output"
    )
    add_code(parser)
    arguments = parser.parse_args()
    spec: dict[str, Any] = json.loads(arguments.spec)
    scenario = spec["scenario"]
    require_array(spec)
    journal = Journal(arguments.out, identity_of(spec, arguments.code), node_name())
    started = time.perf_counter()
    keys: list[str] = []
    largest = largest_point(spec)
    stations = rungs_of(scenario)
    if "store_ram" in stations:
        memory = memory_folder(Path(spec["memory_dir"]), memory_needed(spec, largest))
        if memory.note:
            lost = "" if memory.path else "; its layers in memory are left out"
            print(f"hyperkv layers: {scenario['name']}: {memory.note}{lost}", flush=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(alone_on(data_dir_of(spec["data_dir"])))
        tcp = unix = None
        if "sockets" in stations:
            tcp = stack.enter_context(Loopback(largest, arguments.logs / "layers.log"))
            unix = stack.enter_context(Loopback(largest, arguments.logs / "layers.log", unix=True))
        payloads = {size: Payload(size) for size in spec["value_bytes"]}
        repeats = range(1, spec["repeats"] + 1)
        for repeat, size, connections in itertools.product(repeats, spec["value_bytes"], spec["connections"]):
            wanted = [
                f"{repeat}/{size}/{connections}/{rung}/{operation}" for rung, operation in keys_of(scenario)
            ]
            keys += wanted
            if all(journal.has(key) for key in wanted):
                continue
            each = values_per_connection(spec["point_bytes"], size, connections)
            values = Values.of(payloads[size], connections, each, repeat)
            records = measure_point(Bench(spec, values, arguments.logs, tcp, unix))
            for key, record in zip(wanted, records, strict=True):
                journal.append(key, record.dump())
    journal.finish(keys, common_fields(spec, data_dir_of(spec["data_dir"])))
    print(f"hyperkv layers: {scenario['name']}: {len(keys)} records, {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    sys.exit(run_stage("layers", main, resumes=True))
