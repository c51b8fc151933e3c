"""Our connectors beside other programs' clients, against one Valkey server, in GB/s with ratios.

    python -m workflow.hyperkv.bench.bench_peers [--value-bytes 1048576 16777216] [--connections 2] [--point-bytes 268435456]

redis-benchmark (or valkey-benchmark) with -d, and `lmcache bench l2` where LMCache can be imported. A program that is not
there is said to be not installed. Rounds alternate between the programs; medians. redis-benchmark is a C client that
keeps one request under way on each connection and reuses one value; connector resp is the one to hold it against.
Connector redis is redis-py with two keys per value: another class of client.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tabulate import tabulate

from ..base.cli import run_stage
from ..base.errors import UserError
from ..cells.point import point_keys, values_per_connection
from ..config.scenarios import with_preset
from ..connectors.registry import make_connector
from ..stores.base import Endpoint, Store, StoreConfig
from ..stores.valkey import ValkeyStore
from ..workloads.payload import Payload, aligned_buffer, slots

_TIMEOUT_S = 300
_APART = (
    "* further than 15 % apart. redis-py copies in Python; redis-benchmark sends one value again and again, from a hot\n"
    "  cache and in part to keys that are there, and assembles each reply in a buffer that grows, which large values pay for."
)
_ALIKE = 0.15

Speeds = dict[str, float]  # GB/s by operation, set and get


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(prog="python -m workflow.hyperkv.bench.bench_peers", description=__doc__)
    parser.add_argument("--value-bytes", nargs="+", type=int, default=[1 << 20, 16 << 20])
    parser.add_argument("--connections", type=int, default=2)
    parser.add_argument("--point-bytes", type=int, default=256 << 20, help="bytes of one operation's round")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hyperkv-") as folder:
        for size in arguments.value_bytes:
            count = arguments.connections * values_per_connection(
                arguments.point_bytes, size, arguments.connections
            )
            config = StoreConfig(Path(folder) / "valkey", size, Path(folder) / "valkey.log")
            with ValkeyStore(config) as store:
                print(compare(store, size, arguments.connections, count, arguments.rounds), flush=True)


def preset_config(store: str, preset: str | None, directory: Path, value_bytes: int) -> StoreConfig:
    """A store with a preset's settings, its log beside its files. Raises UserError when there is no such preset."""
    scenario = {"family": "bench", "preset": preset, "store": store, "port": 0}
    scenario |= {"settings": {}, "environment": {}, "ignored_settings": []}
    log = directory.with_suffix(".log")
    return StoreConfig.of(with_preset(scenario), directory, value_bytes, log, capacity_bytes=None)


def compare(store: ValkeyStore, value_bytes: int, connections: int, count: int, rounds: int) -> str:
    """The table of one value size: GB/s of every client, and the ratio of connector resp to it."""
    clients: dict[str, Callable[[], Speeds]] = {
        f"connector {name}": lambda name=name: ours(store, name, value_bytes, connections, count)
        for name in ("resp", "redis")
    }
    lines = []
    if (program := benchmark_program()) is None:
        lines.append("redis-benchmark: not installed")
    else:
        clients[Path(program).name] = lambda: benchmark(
            program, store.endpoint, value_bytes, connections, count
        )
    rows: dict[str, list[Speeds]] = {name: [] for name in clients}
    for _ in range(rounds):
        for name, measure in clients.items():
            rows[name].append(measure())
    medians = {
        name: {
            operation: statistics.median(speeds[operation] for speeds in found)
            for operation in ("set", "get")
        }
        for name, found in rows.items()
    }
    own = medians["connector resp"]
    table = [
        [
            name,
            *(f"{speeds[o]:.3g}" for o in ("set", "get")),
            *(ratio(own[o], speeds[o]) for o in ("set", "get")),
        ]
        for name, speeds in medians.items()
    ]
    head = f"{value_bytes / 2**20:g} MiB, {connections} connections, {count} values, one Valkey server, median of {rounds}"
    headers = ("client", "SET GB/s", "GET GB/s", "resp / it, SET", "resp / it, GET")
    parts = [head, tabulate(table, headers=headers, disable_numparse=True, colalign=("left", *["right"] * 4))]
    if any("*" in cell for row in table for cell in row):
        lines = [_APART, *lines]
    return "\n".join([*parts, *lines, *lmcache_lines(store.endpoint, value_bytes, connections)]) + "\n"


def ratio(own: float, other: float) -> str:
    """'1.07', with '*' where it is further than 15 % from 1."""
    value = own / other
    return f"{value:.2f}{'' if abs(value - 1) <= _ALIKE else ' *'}"


def ours(
    store: Store, connector: str, value_bytes: int, connections: int, count: int, **options: Any
) -> Speeds:
    """GB/s of one of our connectors: every value set, over what was there, and got. options: the connector's."""
    payload = Payload(value_bytes)
    keys = point_keys(f"{connector} {options}", 1, count)
    buffers = slots(aligned_buffer(count * value_bytes), value_bytes)
    with make_connector(connector, store, connections, **options) as client:
        started = time.perf_counter()
        client.put(keys, [payload.value(key) for key in keys])
        middle = time.perf_counter()
        if not all(client.get(keys, buffers)):
            raise UserError(f"bench_peers: connector {connector} did not get back what it set")
        ended = time.perf_counter()
    total = count * value_bytes
    return {"set": total / (middle - started) / 1e9, "get": total / (ended - middle) / 1e9}


def benchmark_program() -> str | None:
    """Path of redis-benchmark, else of valkey-benchmark; None without either."""
    return shutil.which("redis-benchmark") or shutil.which("valkey-benchmark")


def benchmark(program: str, endpoint: Endpoint, value_bytes: int, connections: int, count: int) -> Speeds:
    """GB/s of redis-benchmark. Raises UserError when it fails."""
    command = [program, "-h", endpoint.host, "-p", str(endpoint.port), "-d", str(value_bytes)]
    command += ["-t", "set,get", "-n", str(count), "-c", str(connections), "-r", str(count), "--csv"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
    rates = requests_per_s(done.stdout)
    if done.returncode or set(rates) != {"set", "get"}:
        raise UserError(f"bench_peers: {program} failed: {(done.stderr or done.stdout).strip()[-200:]}")
    return {operation: rate * value_bytes / 1e9 for operation, rate in rates.items()}


def requests_per_s(output: str) -> Speeds:
    """Requests per second by operation, from redis-benchmark's --csv output."""
    rows = [row for row in csv.reader(io.StringIO(output)) if len(row) > 1]
    return {row[0].lower(): float(row[1]) for row in rows if row[0] in ("SET", "GET")}


def lmcache_lines(endpoint: Endpoint, value_bytes: int, connections: int) -> list[str]:
    """What `lmcache bench l2` prints with its resp adapter; it has not been run beside ours yet."""
    if find_spec("lmcache") is None or shutil.which("lmcache") is None:
        return ["lmcache bench l2: not installed"]
    adapter = {"type": "resp", "host": endpoint.host, "port": endpoint.port, "num_workers": connections}
    command = ["lmcache", "bench", "l2", "--l2-adapter", json.dumps(adapter), "--num-keys", "64"]
    command += ["--data-size-kb", str(value_bytes >> 10), "--rounds", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
    return [f"lmcache bench l2 (status {done.returncode}):", *(done.stdout or done.stderr).splitlines()[-12:]]


if __name__ == "__main__":
    sys.exit(run_stage("bench_peers", main))
