"""The rungs of the layers: the same values moved through one layer more each time, for the differences between them.

A rung is one SET and one GET of point_bytes at one value size and number of connections. Every SET meets a server that
runs and is warmed up, as a cache's server is; a store on SSD is got from cold:

memcpy            a copy in memory, a thread per connection
loopback          to and from another process's memory over TCP (loopback.py); loopback_unix: over a unix socket
null              a RESP server that stores nothing, through connector resp
valkey            a server that keeps values in memory; client_redis, client_striped: the same server through that connector
store_ram_warm    the scenario's store with its files on a tmpfs, through connector resp, after a warm-up
store_ram_cold    GET from the same after a restart
store_disk        the same store on data_dir: SET after a warm-up, GET after a restart and a drop of the page cache
device            the same bytes as files with O_DIRECT, no server
whole             the scenario as it is, through its own connector, on another fresh store; sampled with perf
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..base.errors import StoreError, UserError
from ..base.threads import started
from ..cells.point import on_each, point_keys
from ..connectors.base import Connector
from ..connectors.registry import make_connector, options_of
from ..machine.memory_dir import KEY, memory_folder
from ..machine.meters import Usage, own_usage, thread_cpu_s, threads_since, usage
from ..machine.node import data_dir_of
from ..machine.own_folder import own_folder
from ..stores.base import LocalStore, Store, StoreConfig
from ..stores.registry import make_store, store_class
from ..workloads.payload import Payload, aligned_buffer, slots
from . import engine_layers
from .loopback import Loopback, RawConnection
from .null import NullStore
from .sampling import Sampler

OPERATIONS = ("set", "get")
CLIENTS = ("redis", "striped")
_GET_ONLY = ("store_ram_cold",)
_REPEATED_S = 0.1
_COLD_SHARE = 0.8
_NOT_COLD = "not cold: the page cache could not be dropped and the store read from it"
_MEASURED = (
    "elapsed_s",
    "moved_bytes",
    "passes",
    "s_per_gb",
    "server_cpu_s",
    "client_cpu_s",
    "server_page_faults",
    "client_page_faults",
)


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
        wrong = sum(
            not (hit and self.payload.matches(key, buffer))
            for key, hit, buffer in zip(keys, found, self.buffers, strict=True)
        )
        if wrong:
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
        try:
            return make_connector(
                connector,
                store,
                self.values.connections,
                self.scenario["timeout_s"],
                **options_of(connector, self.scenario),
            )
        except StoreError as error:
            raise store.explain(error) from error


Records = Iterator[dict[str, Any]]
Rung = Callable[[Bench], Records]


def rungs_of(scenario: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """The names of the rungs of a scenario, by the station that measures them, in their order."""
    if scenario["connector"] == "inprocess":
        device = {"device": ("device",)} if scenario["tier"] == "ssd" else {}
        return {"memcpy": ("memcpy",), **device, "whole": ("whole",)}
    client = (f"client_{scenario['connector']}",) if scenario["connector"] in CLIENTS else ()
    found = {
        "memcpy": ("memcpy",),
        "sockets": ("loopback", "loopback_unix"),
        "null": ("null",),
        "valkey": ("valkey", *client, *engine_layers.RUNGS),
    }
    if scenario["tier"] == "ssd":
        found |= {
            "store_ram": ("store_ram_warm", "store_ram_cold"),
            "store_disk": ("store_disk",),
            "device": ("device",),
        }
    return found | {"whole": ("whole",)}


def measure_point(bench: Bench) -> list[dict[str, Any]]:
    """Every rung of one point, a record per rung and operation in the order of `keys_of`.

    The order in which stations are measured moves on by one with every repeat. Raises UserError, StoreError.
    """
    names = list(rungs_of(bench.scenario))
    first = (bench.values.repeat - 1) % len(names)
    records = {
        (record["rung"], record["operation"]): record
        for station in names[first:] + names[:first]
        for record in _STATIONS[station](bench)
    }
    return [_complete(records[key]) for key in keys_of(bench.scenario)]


def keys_of(scenario: dict[str, Any]) -> list[tuple[str, str]]:
    """(rung, operation) of every record of a point, in order."""
    return [
        (rung, operation)
        for rungs in rungs_of(scenario).values()
        for rung in rungs
        for operation in (OPERATIONS[1:] if rung in _GET_ONLY else OPERATIONS)
    ]


def memory_needed(spec: dict[str, Any], largest_point: int) -> int:
    """Bytes that the memory folder must have free: what a store keeps, twice, since it also logs and compacts."""
    return 2 * (spec["warm_up_bytes"] + 3 * largest_point)


def _complete(record: dict[str, Any]) -> dict[str, Any]:
    """With every field there: null for what was not measured."""
    empty = {"cold": None, "threads": None, "sampled": None, "samples": 0, "notes": []}
    full = dict.fromkeys(_MEASURED) | empty | record
    if full["elapsed_s"] is not None:
        full["s_per_gb"] = full["elapsed_s"] / full["moved_bytes"] * 1e9
    return full


def _timed(
    values: Values, move: Callable[[], object], server: int | None, at_least_s: float = 0.0
) -> dict[str, Any]:
    """Run `move` once, or again until `at_least_s` have passed: the passes in sum, CPU and faults of both sides."""
    before, before_own = _usage(server), own_usage()
    started = time.perf_counter()
    passes, elapsed_s = 0, 0.0
    while not passes or elapsed_s < at_least_s:
        move()
        passes += 1
        elapsed_s = time.perf_counter() - started
    (server_cpu_s, server_faults) = _usage(server).minus(before)
    (client_cpu_s, client_faults) = own_usage().minus(before_own)
    return {
        "elapsed_s": elapsed_s,
        "moved_bytes": passes * values.total_bytes,
        "passes": passes,
        "server_cpu_s": server_cpu_s,
        "client_cpu_s": client_cpu_s,
        "server_page_faults": server_faults,
        "client_page_faults": client_faults,
    }


def _usage(pid: int | None) -> Usage:
    return Usage(None, None) if pid is None else usage(pid)


def _memcpy(bench: Bench) -> Records:
    values = bench.values
    sources = values.bytes_of(values.keys("point"))

    def copy(worker: int) -> None:
        for index in range(worker, len(sources), values.connections):
            np.copyto(values.buffers[index], sources[index])

    with started(values.connections) as workers:

        def move() -> None:
            list(workers.map(copy, range(values.connections)))

        move()
        record = _timed(values, move, None, _REPEATED_S)
    for operation in OPERATIONS:
        yield {"rung": "memcpy", "operation": operation, **record}


def _sockets(bench: Bench) -> Records:
    for rung, loopback in (("loopback", bench.tcp), ("loopback_unix", bench.unix)):
        assert loopback is not None
        try:
            yield from _raw(bench.values, rung, loopback)
        except StoreError as error:
            raise loopback.explain(error) from error


def _raw(values: Values, rung: str, loopback: Loopback) -> Records:
    keys = values.keys("point")
    sources = values.bytes_of(keys)
    connections: list[RawConnection] = []
    try:
        for _ in range(values.connections):
            connections.append(loopback.connect())

        def share(worker: int) -> slice:
            return slice(worker * values.each, (worker + 1) * values.each)

        def write(worker: int) -> None:
            mine = share(worker)
            connections[worker].write(mine.start * values.value_bytes, sources[mine])

        def read(worker: int) -> None:
            mine = share(worker)
            connections[worker].read(mine.start * values.value_bytes, values.buffers[mine])

        with started(values.connections) as workers:
            for operation, move in zip(OPERATIONS, (write, read), strict=True):
                on_each(workers, move, values.connections)
                record = _timed(
                    values,
                    partial(on_each, workers, move, values.connections),
                    loopback.pid,
                    _REPEATED_S,
                )
                yield {"rung": rung, "operation": operation, **record}
        values.require_right(keys, [True] * len(keys), rung)
    finally:
        for connection in connections:
            connection.close()


def _null(bench: Bench) -> Records:
    values = bench.values
    changes = {
        "port": 0,
        "environment": {},
        "settings": {"memory_bytes": values.total_bytes},
        "password": None,
    }
    with (
        bench.folder() as folder,
        NullStore(bench.config(folder, **changes)) as store,
        bench.connect(store, "resp") as connector,
    ):
        keys = values.keys("point")
        moves = (
            partial(_put, store, connector, values, keys),
            partial(_get, store, connector, values, keys),
        )
        for operation, move in zip(OPERATIONS, moves, strict=True):
            move()
            yield {
                "rung": "null",
                "operation": operation,
                **_timed(values, move, store.pid(), _REPEATED_S),
            }


def _valkey(bench: Bench) -> Records:
    own = bench.scenario["store"] == "valkey"
    alone = {"settings": {}, "environment": {}, "port": 0, "ignored_settings": (), "password": None}
    changes = {} if own else alone
    with bench.folder() as folder, make_store("valkey", bench.config(folder, **changes)) as store:
        yield from _warm(bench, store, "resp", "valkey")
        if (client := bench.scenario["connector"]) in CLIENTS:
            yield from _warm(bench, store, client, f"client_{client}")
        values = bench.values
        yield from engine_layers.measure(
            store.endpoint, values.value_bytes, values.connections, len(values.buffers)
        )


def _warm(
    bench: Bench, store: Store, connector_name: str, rung: str, sampler: Callable[[], Sampler] | None = None
) -> Records:
    """SET of new keys after a warm-up of others, and GET of them after an untimed one."""
    values = bench.values
    keys = values.keys(rung)
    with bench.connect(store, connector_name) as connector:
        yield _first_set(bench, store, connector, rung, sampler)
        get = partial(_get, store, connector, values, keys)
        found = get()
        yield {"rung": rung, "operation": "get", **_observed(values, store, get, sampler, _REPEATED_S)}
        values.require_right(keys, found, f"store {store.name}")


def _first_set(
    bench: Bench, store: Store, connector: Connector, rung: str, sampler: Callable[[], Sampler] | None
) -> dict[str, Any]:
    _warm_up(bench, store, connector, rung)
    move = partial(_put, store, connector, bench.values, bench.values.keys(rung))
    return {"rung": rung, "operation": "set", **_observed(bench.values, store, move, sampler)}


def _warm_up(bench: Bench, store: Store, connector: Connector, rung: str) -> None:
    values = bench.values
    if isinstance(store, LocalStore):
        return
    left = -(-bench.spec["warm_up_bytes"] // values.value_bytes)
    keys = values.keys(f"warm-up {rung}", left)
    for start in range(0, left, len(values.buffers)):
        _put(store, connector, values, keys[start : start + len(values.buffers)])


def _store_ram(bench: Bench) -> Records:
    memory = memory_folder(
        Path(bench.spec["memory_dir"]), memory_needed(bench.spec, bench.values.total_bytes)
    )
    notes = [memory.note] if memory.note else []
    if memory.path is None:
        rungs = rungs_of(bench.scenario)["store_ram"]
        for rung, operation in keys_of(bench.scenario):
            if rung in rungs:
                yield {"rung": rung, "operation": operation, "notes": notes}
        return
    for record in _in_memory(bench, memory.path):
        yield record | {"notes": [*notes, *record.get("notes", [])]}


def _in_memory(bench: Bench, memory: Path) -> Records:
    settings = store_class(bench.scenario["store"]).settings_in_ram(bench.scenario["settings"])
    with (
        bench.folder(memory) as folder,
        make_store(bench.scenario["store"], bench.config(folder, settings=settings)) as store,
    ):
        yield from _warm(bench, store, "resp", "store_ram_warm")
        yield _after_restart(bench, store, "resp", "store_ram_cold", "store_ram_warm", store.restart)


def _store_disk(bench: Bench) -> Records:
    with bench.folder() as folder, make_store(bench.scenario["store"], bench.config(folder)) as store:
        yield from _cold(bench, store, "resp", "store_disk")


def _device(bench: Bench) -> Records:
    changes = {"settings": {"direct_io": "auto"}, "environment": {}, "password": None}
    with bench.folder() as folder, make_store("files", bench.config(folder, **changes)) as store:
        yield from _cold(bench, store, "inprocess", "device")


def _whole(bench: Bench) -> Records:
    scenario = bench.scenario
    with bench.folder() as folder, make_store(scenario["store"], bench.config(folder)) as store:

        def sampler() -> Sampler:
            return Sampler(store.pid())

        given = None if isinstance(store, LocalStore) else sampler
        notes = store.notes()
        measure = _cold if scenario["tier"] == "ssd" else _warm
        for record in measure(bench, store, scenario["connector"], "whole", given):
            yield record | {"notes": [*notes, *record.get("notes", [])]}


def _cold(
    bench: Bench, store: Store, connector_name: str, rung: str, sampler: Callable[[], Sampler] | None = None
) -> Records:
    """SET of new keys after a warm-up of others, and GET of them after a restart and a drop of the page cache."""
    with bench.connect(store, connector_name) as connector:
        yield _first_set(bench, store, connector, rung, sampler)

    def make_cold() -> bool:
        dropped = store.make_cold()
        store.evict_page_cache()
        return dropped

    yield _after_restart(bench, store, connector_name, rung, rung, make_cold, sampler)


def _after_restart(
    bench: Bench,
    store: Store,
    connector_name: str,
    rung: str,
    kept: str,
    restart: Callable[[], bool | None],
    sampler: Callable[[], Sampler] | None = None,
) -> dict[str, Any]:
    """GET of the keys of rung `kept` after a restart.

    restart: tells whether the page cache was dropped, None where that does not matter.
    """
    values = bench.values
    keys = values.keys(kept)
    dropped = restart()
    with bench.connect(store, connector_name) as connector:
        for buffer in values.buffers:
            buffer[:: values.value_bytes] = 0
        found: list[bool] = []
        read_before = store.counters().process.device_read_bytes
        record = _observed(values, store, lambda: found.extend(_get(store, connector, values, keys)), sampler)
        read_after = store.counters().process.device_read_bytes
        values.require_right(keys, found, f"store {store.name}")
    record["cold"] = None if dropped is None else dropped or _read_past(read_before, read_after, values)
    if record["cold"] is False:
        record |= dict.fromkeys(_MEASURED) | {"sampled": None, "notes": [*record.get("notes", []), _NOT_COLD]}
    return {"rung": rung, "operation": "get", **record}


def _read_past(before: int | None, after: int | None, values: Values) -> bool:
    """Whether the device delivered what was got, so that the page cache did not."""
    return None not in (before, after) and after - before >= _COLD_SHARE * values.total_bytes


def _observed(
    values: Values,
    store: Store,
    move: Callable[[], object],
    sampler: Callable[[], Sampler] | None,
    at_least_s: float = 0.0,
) -> dict[str, Any]:
    """`_timed` of a store's server, with its threads' CPU; with a sampler its stacks as well."""
    server = None if isinstance(store, LocalStore) else store.pid()
    if sampler is None or server is None:
        return _timed(values, move, server, at_least_s)
    perf = sampler()
    try:
        perf.start()
        threads = thread_cpu_s(server)
        record = _timed(values, move, server, at_least_s)
        record["threads"] = threads_since(server, threads)
        perf.stop()
    finally:
        perf.close()
    notes = [] if perf.reason is None else [f"not sampled: {perf.reason}"]
    return record | {"sampled": perf.shares, "samples": perf.samples, "notes": notes}


def _get(store: Store, connector: Connector, values: Values, keys: Sequence[bytes]) -> list[bool]:
    try:
        found = connector.get(keys, values.buffers)
    except StoreError as error:
        raise store.explain(error) from error
    if not all(found):
        raise UserError(f"store {store.name}: {found.count(False)} of {len(keys)} values are missing")
    return found


def _put(store: Store, connector: Connector, values: Values, keys: Sequence[bytes]) -> None:
    try:
        connector.put(keys, values.bytes_of(keys))
    except StoreError as error:
        raise store.explain(error) from error


_STATIONS: dict[str, Rung] = {
    "memcpy": _memcpy,
    "sockets": _sockets,
    "null": _null,
    "valkey": _valkey,
    "store_ram": _store_ram,
    "store_disk": _store_disk,
    "device": _device,
    "whole": _whole,
}
