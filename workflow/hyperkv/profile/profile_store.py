"""Stage profile: GB/s of one store against value size and connections: SET, GET warm and GET cold, no engine.

    python -m workflow.hyperkv.profile.profile_store --spec '{...}' --out results/profile/<scenario>.jsonl

One line per repeat x value size x connections x operation. `get_warm` follows an untimed pass of the same GETs.
`get_cold` follows a restart of the store and a drop
of the page cache; where the system does not allow the drop and the store does not read past the cache, `cold` is
false. Every point moves point_bytes, and at least one value per connection. A server first takes warm_up_bytes of
other values, untimed.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...plugin.lmcache_striped.base import Connector
from ..base.cli import run_stage
from ..base.errors import UserError
from ..cells.job import Job
from ..cells.point import point_keys, throughput, values_per_connection
from ..connectors.registry import make_connector, options_of
from ..machine.node import data_dir_of
from ..machine.own_folder import own_folder
from ..records.kinds.profile import Point, PointOperation
from ..stores.base import Counters, Store, StoreConfig
from ..stores.local import LocalStore
from ..stores.registry import make_store, store_class
from ..workloads.payload import Payload, aligned_buffer, slots
from .points import points_of


def main(*, job: Job) -> None:
    """Measure the store's points."""
    spec = job.spec
    scenario = spec["scenario"]
    with points_of(job, f"profile: {scenario['name']}") as measure:
        measure(
            operations(scenario),
            lambda repeat, size, connections: measure_size(spec, size, connections, repeat, job.logs),
        )


def operations(scenario: Mapping[str, Any]) -> tuple[PointOperation, ...]:
    """What is measured: RAM stores keep nothing over a restart, so they have no cold GET."""
    return ("set", "get_warm", "get_cold") if scenario["tier"] == "ssd" else ("set", "get_warm")


def measure_size(
    spec: Mapping[str, Any], value_bytes: int, connections: int, repeat: int, logs: Path
) -> list[Point]:
    """Set point_bytes of one value size on a fresh store, get them, and get them cold; a record each."""
    scenario = spec["scenario"]
    count = connections * values_per_connection(spec["point_bytes"], value_bytes, connections)
    room = count * value_bytes if store_class(scenario["store"]).held_by_engine == "pool" else None
    log = logs / f"profile-{scenario['name']}.log"
    payload = Payload(value_bytes, seed=repeat)
    keys = point_keys("point", repeat, count)
    buffers = slots(aligned_buffer(count * value_bytes), value_bytes)
    named = partial(
        Point, scenario=scenario["name"], repeat=repeat, value_bytes=value_bytes, connections=connections
    )
    records: list[Point] = []
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(
            own_folder(data_dir_of(spec["data_dir"]), f"profile of {scenario['name']}")
        )
        config = StoreConfig.of(scenario, folder / scenario["store"], value_bytes, log, room)
        store = stack.enter_context(make_store(scenario["store"], config))

        def connected() -> Connector:
            name, options = scenario["connector"], options_of(scenario["connector"], scenario)
            return make_connector(name, store, connections, scenario["timeout_s"], **options)

        notes = store.notes()
        start = store.counters()
        with connected() as connector:
            warmed_bytes = _warm_up(store, connector, payload, repeat, spec["warm_up_bytes"])
        for operation in operations(scenario):
            cold = False
            if operation == "get_cold":
                cold = store.make_cold()
                settled = {
                    "settled_write_bytes": _written_until_its_end(store, start),
                    "settled_set_bytes": warmed_bytes + count * value_bytes,
                }
                records[0] = records[0].model_copy(update=settled)
            with connected() as connector:
                if operation == "get_warm":
                    with store.explaining():
                        connector.get(keys, buffers)
                made = partial(named, operation=operation, cold=cold, notes=notes)
                records.append(_measure(made, operation, store, connector, keys, payload, buffers))
    return records


def _warm_up(store: Store, connector: Connector, payload: Payload, repeat: int, size: int) -> int:
    """Set at least `size` bytes of other values on a server; how many bytes that were, 0 in process."""
    if isinstance(store, LocalStore):
        return 0
    keys = point_keys("warm-up", repeat, -(-size // payload.value_bytes))
    with store.explaining():
        connector.put(keys, [payload.value(key) for key in keys])
    return len(keys) * payload.value_bytes


def _written_until_its_end(store: Store, start: Counters) -> int | None:
    """Device bytes from `start` until the process that took the SETs had ended; in process, until now."""
    ended = store.final_counters() or store.counters().process
    if ended.device_write_bytes is None or start.process.device_write_bytes is None:
        return None
    return ended.device_write_bytes - start.process.device_write_bytes


def _measure(
    made: Callable[..., Point],
    operation: PointOperation,
    store: Store,
    connector: Connector,
    keys: list[bytes],
    payload: Payload,
    buffers: list[np.ndarray],
) -> Point:
    values = [payload.value(key) for key in keys]
    before = store.counters()
    started = time.perf_counter()
    with store.explaining():
        found = connector.put(keys, values) if operation == "set" else connector.get(keys, buffers)
    elapsed_s = time.perf_counter() - started
    after = store.counters()
    counted = after.minus(before)
    if found is not None and (wrong := payload.wrong(keys, found, buffers)):
        raise UserError(f"store {store.name}: {wrong} of {len(keys)} values were missing or wrong")
    return made(
        **throughput(sum(value.size for value in values), elapsed_s),
        **{f"store_{name}": counted[name] for name in ("cpu_s", "page_faults", "rss_bytes")},
        **{name: counted[name] for name in ("device_read_bytes", "device_write_bytes")},
        store_before=before.details,
        store_after=after.details,
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


if __name__ == "__main__":
    sys.exit(run_stage("profile", main, resumes=True))
