"""What compactions cost a cache in Kvrocks: bytes read from the device for every byte set, as the store grows.

    python -m workflow.hyperkv.bench.bench_compactions --program PATH --dir DIR --gib 16

Nothing is got: all that is read is read by the server for itself. Kvrocks asks its compaction filter whether a value has
expired, which is written in the value, so that a compaction reads every value of the keys it merges. Preset tuned with
compactions and without; the files are taken out of the page cache all the time, as if the store were larger than RAM.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tabulate import tabulate

from ..base.cli import run_stage
from ..connectors.registry import make_connector
from ..machine.watch import every
from ..stores.base import Store
from ..stores.registry import make_store
from .bench_peers import preset_config

_GIB = 1 << 30
_EVICT_EVERY_S = 0.5
_SETTLED_S = 1.0
_COMPACTIONS = {"with compactions": "no", "without": "yes"}


@dataclass(frozen=True)
class Interval:
    """Growth of the store to `size` bytes. read_per_byte: bytes read from the device per byte set meanwhile."""

    size: int
    set_gbps: float
    read_per_byte: float


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m workflow.hyperkv.bench.bench_compactions", description=__doc__
    )
    parser.add_argument("--program", type=Path, help="Kvrocks (the one that was built)")
    parser.add_argument("--dir", type=Path, help="parent of the folder for the server's files, on the device")
    parser.add_argument("--gib", type=int, default=16, help="size to which the store grows, doubling")
    parser.add_argument("--value-bytes", type=int, default=2 << 20)
    parser.add_argument("--connections", type=int, default=4)
    arguments = parser.parse_args()
    found = {name: measured(arguments, setting) for name, setting in _COMPACTIONS.items()}
    rows = [
        [
            intervals[0].size / _GIB,
            *(f"{figure:.2f}" for item in intervals for figure in (item.set_gbps, item.read_per_byte)),
        ]
        for intervals in zip(*found.values(), strict=True)
    ]
    headers = ["GiB", *(f"{name}: {what}" for name in found for what in ("SET GB/s", "read per byte set"))]
    print(tabulate(rows, headers=headers, disable_numparse=True, stralign="right"))


def measured(arguments: argparse.Namespace, disabled: str) -> list[Interval]:
    """The store's growth, doubling. disabled: of rocksdb.disable_auto_compactions. Raises StoreError."""
    with tempfile.TemporaryDirectory(prefix="hyperkv-", dir=arguments.dir) as folder:
        tuned = preset_config("kvrocks", "tuned", Path(folder, "kvrocks"), arguments.value_bytes)
        config = replace(
            tuned,
            settings={**tuned.settings, "rocksdb.disable_auto_compactions": disabled},
            program=None if arguments.program is None else arguments.program.absolute(),
        )
        with make_store("kvrocks", config) as store, every(_EVICT_EVERY_S, store.evict_page_cache):
            sizes = [_GIB << doubling for doubling in range(arguments.gib.bit_length())]
            return grown(store, sizes, arguments.value_bytes, arguments.connections)


def grown(store: Store, sizes: Sequence[int], value_bytes: int, connections: int) -> list[Interval]:
    """Set values under new keys until the store holds sizes[0] bytes, then sizes[1], and so on. Raises StoreError."""
    intervals: list[Interval] = []
    done = 0
    value = np.random.default_rng(1).integers(0, 256, value_bytes, dtype=np.uint8)
    with make_connector("resp", store, connections) as connector:
        for size in sizes:
            before, started, first = _read_bytes(store), time.perf_counter(), done
            while done * value_bytes < size:
                keys = [b"%d" % number for number in range(done, done + connections)]
                connector.put(keys, [value] * connections)
                done += connections
            seconds = time.perf_counter() - started
            written = (done - first) * value_bytes
            read = _settled(store) - before
            intervals.append(Interval(size, written / seconds / 1e9, read / written))
    return intervals


def _settled(store: Store) -> int:
    """Bytes read from the device in all, once the server reads no more."""
    last, since = _read_bytes(store), time.monotonic()
    while time.monotonic() < since + _SETTLED_S:
        time.sleep(0.05)
        if (now := _read_bytes(store)) > last:
            last, since = now, time.monotonic()
    return last


def _read_bytes(store: Store) -> int:
    return store.counters().process.device_read_bytes or 0


if __name__ == "__main__":
    sys.exit(run_stage("bench_compactions", main))
