"""Stage profile: GB/s of one store against value size: SET, GET warm and GET cold, no engine.

    python -m workflow.hyperkv.profile --spec '{...}' --out results/profile/<scenario>.jsonl

One line per repeat x value size x operation. `get_cold` follows a restart of the store and a drop of the page
cache; where the system does not allow the drop and the store does not read past the cache, `cold` is false.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from .cli import run_stage
from .connectors.base import Connector
from .connectors.registry import make_connector
from .errors import StoreError, UserError
from .journal import Journal, canonical_digest
from .machine import environment
from .payload import Payload, aligned_buffer, slots
from .sources import code_digest, profile_sources
from .stores.base import Store, StoreConfig
from .stores.registry import make_store

SCHEMA_VERSION = 1


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(prog="python -m workflow.hyperkv.profile", description=__doc__)
    parser.add_argument("--spec", required=True, help="JSON: this store's slice of the config")
    parser.add_argument("--out", required=True, type=Path, help="JSONL file of point records")
    parser.add_argument(
        "--logs", type=Path, default=Path("results/logs/servers"), help="folder for servers' output"
    )
    arguments = parser.parse_args()
    spec: dict[str, Any] = json.loads(arguments.spec)
    scenario = spec["scenario"]
    journal = Journal(arguments.out, {"spec": spec, "code": code_digest(profile_sources(scenario))})
    keys: list[str] = []
    started = time.perf_counter()
    for repeat in range(1, spec["repeats"] + 1):
        for size in spec["value_bytes"]:
            wanted = [f"{repeat}/{size}/{operation}" for operation in operations(scenario)]
            keys += wanted
            if not all(journal.has(key) for key in wanted):
                for key, record in zip(wanted, measure_size(spec, size, repeat, arguments.logs), strict=True):
                    journal.append(key, record)
    common = {
        "schema_version": SCHEMA_VERSION,
        "record": "point",
        "spec": spec,
        "spec_digest": canonical_digest(spec),
        "environment": environment(Path(spec["data_dir"])),
    }
    journal.finish(keys, common)
    print(f"hyperkv profile: {scenario['name']}: {len(keys)} points, {time.perf_counter() - started:.0f} s")


def operations(scenario: dict[str, Any]) -> tuple[str, ...]:
    """What is measured: RAM stores keep nothing over a restart, so they have no cold GET."""
    return ("set", "get_warm", "get_cold") if scenario["tier"] == "ssd" else ("set", "get_warm")


def measure_size(spec: dict[str, Any], value_bytes: int, repeat: int, logs: Path) -> list[dict[str, Any]]:
    """Set point_bytes of one value size on a fresh store, get them, and get them cold; a record each."""
    scenario = spec["scenario"]
    count = max(1, spec["point_bytes"] // value_bytes)
    directory = Path(spec["data_dir"]) / f"profile-{scenario['name']}"
    config = StoreConfig(
        directory=directory,
        value_bytes=value_bytes,
        log=logs / f"profile-{scenario['name']}.log",
        capacity_bytes=count * value_bytes if scenario["store"] == "dram" else None,
        port=scenario["port"],
        settings=scenario["settings"],
    )
    payload = Payload(value_bytes, seed=repeat)
    keys = [hashlib.blake2b(b"%d/%d" % (repeat, i), digest_size=16).digest() for i in range(count)]
    buffers = slots(aligned_buffer(count * value_bytes), value_bytes)
    records = []
    try:
        with make_store(scenario["store"], config) as store:
            for operation in operations(scenario):
                cold = store.make_cold() if operation == "get_cold" else False
                with make_connector(
                    scenario["connector"], store, scenario["connections"], scenario["timeout_s"]
                ) as connector:
                    point = _measure(operation, store, connector, keys, payload, buffers)
                identity = {"scenario": scenario["name"], "repeat": repeat, "value_bytes": value_bytes}
                records.append(identity | {"operation": operation, "cold": cold} | point)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return records


def _measure(
    operation: str,
    store: Store,
    connector: Connector,
    keys: list[bytes],
    payload: Payload,
    buffers: list[np.ndarray],
) -> dict[str, Any]:
    values = [payload.value(key) for key in keys]
    before = store.counters()
    started = time.perf_counter()
    try:
        if operation == "set":
            connector.put(keys, values)
        else:
            found = connector.get(keys, buffers)
        elapsed_s = time.perf_counter() - started
    except StoreError as error:
        raise store.explain(error) from error
    counted = store.counters().minus(before)
    if operation != "set":
        wrong = sum(
            not (hit and payload.matches(key, buffers[i]))
            for i, (key, hit) in enumerate(zip(keys, found, strict=True))
        )
        if wrong:
            raise UserError(f"store {store.name}: {wrong} of {len(keys)} values were missing or wrong")
    moved = sum(value.size for value in values)
    return {
        "moved_bytes": moved,
        "elapsed_s": elapsed_s,
        "gbps": moved / elapsed_s / 1e9,
        "store_cpu_s": counted["cpu_s"],
        "device_read_bytes": counted["device_read_bytes"],
        "device_write_bytes": counted["device_write_bytes"],
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


if __name__ == "__main__":
    sys.exit(run_stage("profile", main, resumes=True))
