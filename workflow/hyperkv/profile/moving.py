"""What every rung is measured with: values to move, a bench to move them on, and what that took."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...plugin.lmcache_striped.base import Connector
from ..base.errors import UserError
from ..cells.point import point_keys
from ..connectors.registry import make_connector, options_of
from ..machine.counters import process_counters
from ..machine.memory_dir import KEY
from ..machine.meters import thread_cpu_s, threads_since
from ..machine.node import data_dir_of
from ..machine.own_folder import own_folder
from ..records.kinds.profile import Moved
from ..stores.base import Store, StoreConfig
from ..stores.local import LocalStore
from ..stores.registry import store_class
from ..workloads.payload import Payload, aligned_buffer, slots
from .loopback import Loopback
from .sampling import Sampler


@dataclass(frozen=True)
class Values:
    """What one point moves: `each` values of one size per connection, their keys and bytes, and room to get them."""

    value_bytes: int
    connections: int
    each: int
    repeat: int
    payload: Payload
    buffers: list[np.ndarray]

    @classmethod
    def of(cls, payload: Payload, connections: int, each: int, repeat: int) -> Values:
        """Buffers are made here, and every page of them is touched."""
        size = payload.value_bytes
        buffers = slots(aligned_buffer(connections * each * size), size)
        return cls(size, connections, each, repeat, payload, buffers)

    @property
    def total_bytes(self) -> int:
        """Bytes of one pass."""
        return self.value_bytes * len(self.buffers)

    def keys(self, purpose: str, count: int | None = None) -> list[bytes]:
        """Keys of a purpose, as many as there are buffers unless `count` says otherwise."""
        return point_keys(purpose, self.repeat, len(self.buffers) if count is None else count)

    def bytes_of(self, keys: Sequence[bytes]) -> list[np.ndarray]:
        """The values that belong to keys."""
        return [self.payload.value(key) for key in keys]

    def require_right(self, keys: Sequence[bytes], found: Sequence[bool], what: str) -> None:
        """Raises UserError unless every buffer holds its key's value."""
        if wrong := self.payload.wrong(keys, found, self.buffers):
            raise UserError(f"{what}: {wrong} of {len(keys)} values were missing or wrong")


@dataclass(frozen=True)
class Bench:
    """Everything the rungs of one point need. spec: the scenario's slice of the config."""

    spec: dict[str, Any]
    values: Values
    logs: Path
    tcp: Loopback | None
    unix: Loopback | None

    @property
    def scenario(self) -> dict[str, Any]:
        return self.spec["scenario"]

    @contextlib.contextmanager
    def folder(self, memory: Path | None = None) -> Iterator[Path]:
        """A folder of its own for one store, on data_dir unless in memory; removed after the block."""
        above, key = (memory, KEY) if memory else (data_dir_of(self.spec["data_dir"]), "data_dir")
        with own_folder(above, f"layers of {self.scenario['name']}", key) as folder:
            yield folder

    def config(self, folder: Path, **changes: Any) -> StoreConfig:
        """The scenario's store with its files in `folder`."""
        scenario = self.scenario
        name = f"layers-{scenario['name']}"
        room = self.room_bytes if store_class(scenario["store"]).held_by_engine == "pool" else None
        config = StoreConfig.of(
            scenario, folder / name, self.values.value_bytes, self.logs / f"{name}.log", room
        )
        return replace(config, **changes)

    @property
    def room_bytes(self) -> int:
        """Room for the warm-up and three passes."""
        return self.spec["warm_up_bytes"] + 3 * self.values.total_bytes

    def connect(self, store: Store, connector: str) -> Connector:
        """A connector of the point's connections to a started store."""
        options, timeout_s = options_of(connector, self.scenario), self.scenario["timeout_s"]
        with store.explaining():
            return make_connector(connector, store, self.values.connections, timeout_s, **options)


def timed(values: Values, move: Callable[[], object], server: int | None, at_least_s: float = 0.0) -> Moved:
    """Run `move` once, or again until `at_least_s` have passed: the passes in sum, CPU and faults of both sides."""
    pids = (server, os.getpid())
    before = [process_counters(pid) for pid in pids]
    started = time.perf_counter()
    passes, elapsed_s = 0, 0.0
    while not passes or elapsed_s < at_least_s:
        move()
        passes += 1
        elapsed_s = time.perf_counter() - started
    of_server, of_client = (process_counters(pid).minus(then) for pid, then in zip(pids, before, strict=True))
    moved_bytes = passes * values.total_bytes
    return Moved(
        elapsed_s=elapsed_s,
        moved_bytes=moved_bytes,
        passes=passes,
        s_per_gb=elapsed_s / moved_bytes * 1e9,
        server_cpu_s=of_server.cpu_s,
        client_cpu_s=of_client.cpu_s,
        server_page_faults=of_server.page_faults,
        client_page_faults=of_client.page_faults,
    )


def observed(
    values: Values,
    store: Store,
    move: Callable[[], object],
    sampler: Callable[[], Sampler] | None,
    at_least_s: float = 0.0,
) -> Moved:
    """`timed` of a store's server, with its threads' CPU; with a sampler its stacks as well."""
    server = None if isinstance(store, LocalStore) else store.pid()
    if sampler is None or server is None:
        return timed(values, move, server, at_least_s)
    perf = sampler()
    try:
        perf.start()
        before = thread_cpu_s(server)
        moved = timed(values, move, server, at_least_s)
        threads = threads_since(server, before)
        perf.stop()
    finally:
        perf.close()
    notes = [] if perf.reason is None else [f"not sampled: {perf.reason}"]
    of_server = {"threads": threads, "sampled": perf.shares, "samples": perf.samples, "notes": notes}
    return moved.model_copy(update=of_server)


def get(store: Store, connector: Connector, values: Values, keys: Sequence[bytes]) -> list[bool]:
    with store.explaining():
        found = connector.get(keys, values.buffers)
    if not all(found):
        raise UserError(f"store {store.name}: {found.count(False)} of {len(keys)} values are missing")
    return found


def put(store: Store, connector: Connector, values: Values, keys: Sequence[bytes]) -> None:
    with store.explaining():
        connector.put(keys, values.bytes_of(keys))
