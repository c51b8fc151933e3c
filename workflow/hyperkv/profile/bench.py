"""Our connectors beside other programs' clients, against one Valkey server: GB/s, CPU seconds per GB, ratios.

    python -m workflow.hyperkv.profile.bench [--value-bytes 4096 1048576] [--connections 2] [--point-bytes 268435456]

redis-benchmark (or valkey-benchmark) with -d, and `lmcache bench l2` where LMCache can be imported. A program that is not
there is said to be not installed. Rounds alternate between the programs; medians. redis-benchmark is a C client that
keeps one request under way on each connection and reuses one value; connector resp is the one to hold it against.
Connector redis is redis-py with two keys per value: another class of client. striped cuts a value into stripes and
proves them.
"""

from __future__ import annotations

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
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from tabulate import tabulate

from ...plugin.lmcache_striped.deadline import Endpoint
from ..base.cli import run_stage
from ..base.errors import UserError
from ..base.options import Count, Counts
from ..cells.point import point_keys, values_per_connection
from ..connectors.registry import make_connector
from ..stores.base import StoreConfig
from ..stores.valkey import ValkeyStore
from ..workloads.payload import Payload, aligned_buffer, slots

CONNECTORS = ("resp", "striped", "redis")
_MOST_VALUES = 4096  # of a connection, in a round
_TIMEOUT_S = 300
_APART = (
    "* further than 15 % apart. redis-py copies in Python; redis-benchmark sends one value again and again, from a hot\n"
    "  cache and in part to keys that are there, and assembles each reply in a buffer that grows, which large values pay for."
)
_ALIKE = 0.15
_OPERATIONS = ("set", "get")


@dataclass(frozen=True)
class Speed:
    """One operation's round. cpu_s_per_gb: user and system time of the client; None where it is another program."""

    gbps: float
    cpu_s_per_gb: float | None = None


Round = dict[str, Speed]  # by operation, set and get


def main(
    *,
    value_bytes: Counts = (4 << 10, 64 << 10, 1 << 20, 4 << 20),
    connections: Count = 2,
    point_bytes: Count = 256 << 20,
    rounds: Count = 5,
) -> None:
    """Measure and print.

    Args:
        point_bytes: bytes of one operation's round.
    """
    with tempfile.TemporaryDirectory(prefix="hyperkv-") as folder:
        for size in value_bytes:
            count = connections * min(_MOST_VALUES, values_per_connection(point_bytes, size, connections))
            config = StoreConfig(Path(folder) / "valkey", size, Path(folder) / "valkey.log")
            with ValkeyStore(config) as store:
                print(compare(store, size, connections, count, rounds), flush=True)


def compare(store: ValkeyStore, value_bytes: int, connections: int, count: int, rounds: int) -> str:
    """The table of one value size: every client's medians, and the ratio of connector resp to it."""
    clients: dict[str, Callable[[], Round]] = {
        f"connector {name}": partial(ours, store, name, value_bytes, connections, count)
        for name in CONNECTORS
    }
    lines = []
    if (program := benchmark_program()) is None:
        lines.append("redis-benchmark: not installed")
    else:
        clients[Path(program).name] = partial(
            benchmark, program, store.endpoint, value_bytes, connections, count
        )
    found: dict[str, list[Round]] = {name: [] for name in clients}
    for _ in range(rounds):
        for name, measure in clients.items():
            found[name].append(measure())
    own = found["connector resp"]
    table = [[name, *_figures(rows), *_ratios(own, rows)] for name, rows in found.items()]
    head = f"{value_bytes / 2**20:g} MiB, {connections} connections, {count} values, one Valkey server, median of {rounds}"
    headers = [
        "client",
        "SET GB/s",
        "GET GB/s",
        "SET CPU s/GB",
        "GET CPU s/GB",
        "resp / it, SET",
        "resp / it, GET",
    ]
    parts = [head, tabulate(table, headers=headers, disable_numparse=True, colalign=("left", *["right"] * 6))]
    if any("*" in cell for row in table for cell in row):
        lines = [_APART, *lines]
    return "\n".join([*parts, *lines, *lmcache_lines(store.endpoint, value_bytes, connections)]) + "\n"


def _figures(rows: list[Round]) -> list[str]:
    speeds = [statistics.median(row[name].gbps for row in rows) for name in _OPERATIONS]
    return [*(f"{speed:.3g}" for speed in speeds), *(_cpu(rows, name) for name in _OPERATIONS)]


def _cpu(rows: list[Round], operation: str) -> str:
    known = [spent for row in rows if (spent := row[operation].cpu_s_per_gb) is not None]
    return f"{statistics.median(known):.3g}" if known else ""


def _ratios(own: list[Round], rows: list[Round]) -> list[str]:
    """Medians of what resp did over what a client did in the same round."""
    return [
        ratio(statistics.median(a[name].gbps / b[name].gbps for a, b in zip(own, rows, strict=True)))
        for name in _OPERATIONS
    ]


def ratio(value: float) -> str:
    """'1.07', with '*' where it is further than 15 % from 1."""
    return f"{value:.2f}{'' if abs(value - 1) <= _ALIKE else ' *'}"


def ours(store: ValkeyStore, connector: str, value_bytes: int, connections: int, count: int) -> Round:
    """A round of one of our connectors: every value set, over what was there, and got. Raises UserError for a miss."""
    payload = Payload(value_bytes)
    keys = point_keys(connector, 1, count)
    values = [payload.value(key) for key in keys]
    buffers = slots(aligned_buffer(count * value_bytes), value_bytes)
    with make_connector(connector, store, connections) as client:
        moves = {"set": lambda: client.put(keys, values), "get": lambda: client.get(keys, buffers)}
        speeds = {}
        for operation, move in moves.items():
            cpu, started = time.process_time(), time.perf_counter()
            answer = move()
            elapsed_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
            gigabytes = count * value_bytes / 1e9
            speeds[operation] = Speed(gigabytes / elapsed_s, cpu_s / gigabytes)
            if answer is not None and not all(answer):
                raise UserError(f"bench: connector {connector} did not get back what it set")
    return speeds


def benchmark_program() -> str | None:
    """Path of redis-benchmark, else of valkey-benchmark; None without either."""
    return shutil.which("redis-benchmark") or shutil.which("valkey-benchmark")


def benchmark(program: str, endpoint: Endpoint, value_bytes: int, connections: int, count: int) -> Round:
    """A round of redis-benchmark. Raises UserError when it fails."""
    command = [program, "-h", endpoint.host, "-p", str(endpoint.port), "-d", str(value_bytes)]
    command += ["-t", "set,get", "-n", str(count), "-c", str(connections), "-r", str(count), "--csv"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
    rates = requests_per_s(done.stdout)
    if done.returncode or set(rates) != set(_OPERATIONS):
        raise UserError(f"bench: {program} failed: {(done.stderr or done.stdout).strip()[-200:]}")
    return {operation: Speed(rate * value_bytes / 1e9) for operation, rate in rates.items()}


def requests_per_s(output: str) -> dict[str, float]:
    """Requests per second by operation, from redis-benchmark's --csv output."""
    rows = [row for row in csv.reader(io.StringIO(output)) if len(row) > 1]
    return {row[0].lower(): float(row[1]) for row in rows if row[0] in ("SET", "GET")}


def lmcache_lines(endpoint: Endpoint, value_bytes: int, connections: int) -> list[str]:
    """What `lmcache bench l2` prints with its resp adapter."""
    if find_spec("lmcache") is None or shutil.which("lmcache") is None:
        return ["lmcache bench l2: not installed"]
    adapter = {"type": "resp", "host": endpoint.host, "port": endpoint.port, "num_workers": connections}
    command = ["lmcache", "bench", "l2", "--l2-adapter", json.dumps(adapter), "--num-keys", "64"]
    command += ["--data-size-kb", str(value_bytes >> 10), "--rounds", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
    return [f"lmcache bench l2 (status {done.returncode}):", *(done.stdout or done.stderr).splitlines()[-12:]]


if __name__ == "__main__":
    sys.exit(run_stage("bench", main))
