"""Stage limits: what the machine allows a store, a plain copy in memory, a raw loopback socket and the device.

    python -m workflow.hyperkv.profile.profile_limits --spec '{...}' --out results/profile/limits/limits.jsonl

One line per repeat x value size x connections x limit: memcpy (a thread per connection copies values from one
buffer to another), loopback_set and loopback_get (values over TCP to and from another process's memory, with the
socket options of connector `resp`). Every pass moves point_bytes. One pass is not timed, so that all pages are
touched; then passes are timed one by one for 0.3 s and the fastest counts, as in STREAM (McCalpin): where the
scheduler puts sender and receiver makes a factor of two. device_set and device_get (values as files with O_DIRECT on
data_dir, where its file system has that) are one timed pass each, since a device that writes for long slows down.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...plugin.lmcache_striped.threads import started
from ..base.cli import run_stage
from ..base.errors import UserError
from ..cells.job import Job
from ..cells.point import on_each, point_keys, throughput, values_per_connection
from ..machine.counters import process_counters, supports_direct_io
from ..machine.node import data_dir_of
from ..machine.own_folder import own_folder
from ..records.kinds.profile import Limit
from ..stores.base import StoreConfig
from ..stores.files import FilesStore
from ..workloads.payload import aligned_buffer, slots
from .loopback import Loopback
from .points import points_of

LIMITS = ("memcpy", "loopback_set", "loopback_get")
DEVICE = ("device_set", "device_get")
_MINIMUM_S = 0.3


def main(*, job: Job) -> None:
    """Measure the limits."""
    spec = job.spec
    with (
        points_of(job, "limits") as measure,
        Loopback(largest_point(spec), job.logs / "limits.log") as loopback,
    ):
        data_dir = data_dir_of(spec["data_dir"])
        limits = limits_of(data_dir)

        def measured(repeat: int, size: int, connections: int) -> list[Limit]:
            each = values_per_connection(spec["point_bytes"], size, connections)
            records = measure_limits(loopback, size, connections, each, repeat)
            if len(limits) > len(LIMITS):
                records += measure_device(data_dir, size, connections, each, repeat)
            return records

        measure(limits, measured)


def limits_of(data_dir: Path) -> tuple[str, ...]:
    """The limits that are measured: the device only where the file system of that folder has O_DIRECT."""
    return LIMITS + (DEVICE if supports_direct_io(data_dir) else ())


def largest_point(spec: Mapping[str, Any]) -> int:
    """Bytes of a spec's largest point, each value size and number of connections being one."""
    return max(
        size * connections * values_per_connection(spec["point_bytes"], size, connections)
        for size, connections in itertools.product(spec["value_bytes"], spec["connections"])
    )


def measure_limits(
    loopback: Loopback, value_bytes: int, connections: int, each: int, repeat: int = 1
) -> list[Limit]:
    """A record per limit: `connections` workers move `each` values of `value_bytes`.

    Raises UserError when a byte comes back wrong, StoreError when the other process fails.
    """
    pass_bytes = connections * each * value_bytes
    source, target = _random(pass_bytes), aligned_buffer(pass_bytes)
    values, buffers = slots(source, value_bytes), slots(target, value_bytes)
    made = partial(Limit, repeat=repeat, value_bytes=value_bytes, connections=connections)

    def copy(worker: int) -> None:
        for index in range(worker * each, (worker + 1) * each):
            np.copyto(buffers[index], values[index])

    records = []
    with started(connections) as workers, loopback.movers(connections, values, buffers) as raw:
        moves = {"memcpy": copy, "loopback_set": raw["set"], "loopback_get": raw["get"]}
        for limit in LIMITS:
            target.fill(0)
            processes = [os.getpid()] if limit == "memcpy" else [os.getpid(), loopback.pid]
            with loopback.explaining():
                on_each(workers, moves[limit], connections)
                named = partial(made, limit=limit)
                record = _passes(named, workers, moves[limit], connections, pass_bytes, processes, _MINIMUM_S)
            if limit != "loopback_set" and not np.array_equal(source, target):
                raise UserError(f"{limit}: bytes arrived wrong; this machine cannot be measured")
            records.append(record)
    return records


def measure_device(
    data_dir: Path, value_bytes: int, connections: int, each: int, repeat: int = 1
) -> list[Limit]:
    """A record of writing and one of reading `connections` x `each` values as files with O_DIRECT, which are removed.

    Raises UserError when a byte comes back wrong, StoreError when the file system refuses.
    """
    pass_bytes = connections * each * value_bytes
    source, target = _random(pass_bytes), aligned_buffer(pass_bytes)
    target.fill(0)
    values, buffers = slots(source, value_bytes), slots(target, value_bytes)
    keys = point_keys("limit", 1, len(values))
    settings = {"direct_io": "yes"}
    made = partial(Limit, repeat=repeat, value_bytes=value_bytes, connections=connections)

    def put(worker: int) -> None:
        for index in range(worker, len(values), connections):
            store.put(keys[index], values[index])

    def get(worker: int) -> None:
        for index in range(worker, len(values), connections):
            store.get_into(keys[index], buffers[index])

    records = []
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(own_folder(data_dir, "what the device can do"))
        config = StoreConfig(folder / "files", value_bytes=value_bytes, log=folder / "log", settings=settings)
        store = stack.enter_context(FilesStore(config))
        workers = stack.enter_context(started(connections))
        for limit, move in zip(DEVICE, (put, get), strict=True):
            on_each(workers, lambda _: None, connections)
            named = partial(made, limit=limit)
            records.append(_passes(named, workers, move, connections, pass_bytes, [os.getpid()], 0.0))
    if not np.array_equal(source, target):
        raise UserError("device_get: bytes arrived wrong; this machine cannot be measured")
    return records


def _random(size: int) -> np.ndarray:
    buffer = aligned_buffer(size)
    buffer[:] = np.frombuffer(np.random.default_rng(0).bytes(size), dtype=np.uint8)
    return buffer


def _passes(
    made: Callable[..., Limit],
    workers: Executor,
    move: Callable[[int], None],
    connections: int,
    pass_bytes: int,
    processes: list[int],
    at_least_s: float,
) -> Limit:
    """move(worker) on every worker, again for a while: the fastest pass, the mean pass's CPU."""
    before = [process_counters(pid).cpu_s for pid in processes]
    passes_s: list[float] = []
    while not passes_s or sum(passes_s) < at_least_s:
        started = time.perf_counter()
        on_each(workers, move, connections)
        passes_s.append(time.perf_counter() - started)
    after = [process_counters(pid).cpu_s for pid in processes]
    spent_s = [
        end - begin for begin, end in zip(before, after, strict=True) if begin is not None and end is not None
    ]
    return made(
        **throughput(pass_bytes, min(passes_s)),
        passes=len(passes_s),
        cpu_s=sum(spent_s) / len(passes_s) if len(spent_s) == len(processes) else None,
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


if __name__ == "__main__":
    sys.exit(run_stage("limits", main, resumes=True))
