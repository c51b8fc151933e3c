"""How each rung is measured: a station measures one or several of them, on real sockets, stores and files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np

from ...plugin.lmcache_striped.base import Connector
from ...plugin.lmcache_striped.threads import started
from ..cells.point import on_each
from ..connectors.registry import options_of
from ..machine.memory_dir import memory_folder
from ..records.kinds.profile import Moved, Rung
from ..stores.base import Store
from ..stores.local import LocalStore
from ..stores.registry import make_store, store_class
from ..stores.server import ServerStore
from . import engine_layers
from .loopback import Loopback
from .moving import Bench, Values, get, observed, put, timed
from .null import NullStore
from .own_files import bare_reads
from .rungs import CLIENT_OF, OPERATIONS, keys_of, memory_needed, rungs_of
from .sampling import Sampler

_REPEATED_S = 0.1
_COLD_SHARE = 0.8
_FILES = "files"  # what is read from a store's own files
_NOT_COLD = "not cold: the page cache could not be dropped and the store read from it"

Records = Iterator[tuple[str, str, Moved]]  # rung, operation, what it took
Station = Callable[[Bench], Records]


def measure_point(bench: Bench) -> list[Rung]:
    """Every rung of one point, a record per rung and operation in the order of `keys_of`.

    The order in which stations are measured moves on by one with every repeat. Raises UserError, StoreError.
    """
    values = bench.values
    made = partial(
        Rung,
        scenario=bench.scenario["name"],
        repeat=values.repeat,
        value_bytes=values.value_bytes,
        connections=values.connections,
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    names = list(rungs_of(bench.scenario))
    first = (values.repeat - 1) % len(names)
    found = {
        (rung, operation): moved
        for station in names[first:] + names[:first]
        for rung, operation, moved in _STATIONS[station](bench)
    }
    return [
        made(rung=rung, operation=operation, **found[rung, operation].dump())
        for rung, operation in keys_of(bench.scenario)
    ]


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
        moved = timed(values, move, None, _REPEATED_S)
    for operation in OPERATIONS:
        yield "memcpy", operation, moved


def _sockets(bench: Bench) -> Records:
    for rung, loopback in (("loopback", bench.tcp), ("loopback_unix", bench.unix)):
        assert loopback is not None
        with loopback.explaining():
            yield from _raw(bench.values, rung, loopback)


def _raw(values: Values, rung: str, loopback: Loopback) -> Records:
    keys, count = values.keys("point"), values.connections
    sources = values.bytes_of(keys)
    with loopback.movers(count, sources, values.buffers) as moves, started(count) as workers:
        for operation in OPERATIONS:
            every = partial(on_each, workers, moves[operation], count)
            every()
            yield rung, operation, timed(values, every, loopback.pid, _REPEATED_S)
    values.require_right(keys, [True] * len(keys), rung)


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
        moves: tuple[Callable[[], object], ...] = (
            partial(put, store, connector, values, keys),
            partial(get, store, connector, values, keys),
        )
        for operation, move in zip(OPERATIONS, moves, strict=True):
            move()
            yield "null", operation, timed(values, move, store.pid(), _REPEATED_S)


def _valkey(bench: Bench) -> Records:
    own = bench.scenario["store"] == "valkey"
    alone = {"settings": {}, "environment": {}, "port": 0, "ignored_settings": (), "password": None}
    changes = {} if own else alone
    with bench.folder() as folder, make_store("valkey", bench.config(folder, **changes)) as store:
        yield from _warm(bench, store, "resp", "valkey")
        if client := CLIENT_OF.get(bench.scenario["connector"]):
            yield from _warm(bench, store, client, f"client_{client}")
        values = bench.values
        yield from engine_layers.measure(
            store.endpoints[0], values.value_bytes, values.connections, len(values.buffers)
        )


def _warm(
    bench: Bench, store: Store, connector_name: str, rung: str, sampler: Callable[[], Sampler] | None = None
) -> Records:
    """SET of new keys after a warm-up of others, and GET of them after an untimed one."""
    values = bench.values
    keys = values.keys(rung)
    with bench.connect(store, connector_name) as connector:
        yield rung, "set", _first_set(bench, store, connector, rung, sampler)
        move = partial(get, store, connector, values, keys)
        found = move()
        yield rung, "get", observed(values, store, move, sampler, _REPEATED_S)
        values.require_right(keys, found, f"store {store.name}")


def _first_set(
    bench: Bench, store: Store, connector: Connector, rung: str, sampler: Callable[[], Sampler] | None
) -> Moved:
    _warm_up(bench, store, connector, rung)
    move = partial(put, store, connector, bench.values, bench.values.keys(rung))
    return observed(bench.values, store, move, sampler)


def _warm_up(bench: Bench, store: Store, connector: Connector, rung: str) -> None:
    values = bench.values
    if isinstance(store, LocalStore):
        return
    left = -(-bench.spec["warm_up_bytes"] // values.value_bytes)
    keys = values.keys(f"warm-up {rung}", left)
    for start in range(0, left, len(values.buffers)):
        put(store, connector, values, keys[start : start + len(values.buffers)])


def _where_there_is_memory(station: str, measure: Callable[[Bench, Path], Records], bench: Bench) -> Records:
    memory = memory_folder(
        Path(bench.spec["memory_dir"]), memory_needed(bench.spec, bench.values.total_bytes)
    )
    notes = [memory.note] if memory.note else []
    if memory.path is None:
        rungs = rungs_of(bench.scenario)[station]
        for rung, operation in keys_of(bench.scenario):
            if rung in rungs:
                yield rung, operation, Moved(notes=notes)
        return
    yield from _noted(notes, measure(bench, memory.path))


def _noted(notes: list[str], records: Records) -> Records:
    for rung, operation, moved in records:
        yield rung, operation, moved.model_copy(update={"notes": [*notes, *moved.notes]})


@contextmanager
def _store_in_memory(bench: Bench, memory: Path) -> Iterator[Store]:
    name = bench.scenario["store"]
    settings = store_class(name).settings_in_ram(bench.scenario["settings"])
    with bench.folder(memory) as folder, make_store(name, bench.config(folder, settings=settings)) as store:
        yield store


def _in_memory(bench: Bench, memory: Path) -> Records:
    with _store_in_memory(bench, memory) as store:
        yield from _warm(bench, store, "resp", "store_ram_warm")
        cold = _after_restart(bench, store, "resp", "store_ram_warm", store.restart)
        yield "store_ram_cold", "get", cold


def _files_in_memory(bench: Bench, memory: Path) -> Records:
    with _store_in_memory(bench, memory) as store:
        _put_for_files(bench, store)
        yield "files_ram", "get", _bare_reads(bench, store, store.restart, past_the_cache=False)
        for connector in ("direct", "striped"):
            yield f"{connector}_ram", "get", _after_restart(bench, store, connector, _FILES, store.restart)


def _files_disk(bench: Bench) -> Records:
    """As the whole is got, so that what it takes beyond the bare reads, and striped beyond it, are differences."""
    with bench.folder() as folder, make_store(bench.scenario["store"], bench.config(folder)) as store:
        _put_for_files(bench, store)
        make_cold = partial(_made_cold, store)
        yield "files_disk", "get", _bare_reads(bench, store, make_cold, past_the_cache=True)
        yield "striped_disk", "get", _after_restart(bench, store, "striped", _FILES, make_cold)


def _put_for_files(bench: Bench, store: Store) -> None:
    with bench.connect(store, "striped") as connector:
        _warm_up(bench, store, connector, _FILES)
        put(store, connector, bench.values, bench.values.keys(_FILES))


def _bare_reads(
    bench: Bench, store: Store, restart: Callable[[], bool | None], past_the_cache: bool
) -> Moved:
    assert isinstance(store, ServerStore)
    store.files_read_here = True
    values, dropped = bench.values, restart()
    stripe_bytes = options_of("striped", bench.scenario)["stripe_bytes"]
    before = store.counters().process.device_read_bytes
    moved = bare_reads(store, values, values.keys(_FILES), stripe_bytes, past_the_cache)
    return _only_cold(moved, dropped, before, store.counters().process.device_read_bytes, values)


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
        yield from _noted(notes, measure(bench, store, scenario["connector"], "whole", given))


def _cold(
    bench: Bench, store: Store, connector_name: str, rung: str, sampler: Callable[[], Sampler] | None = None
) -> Records:
    """SET of new keys after a warm-up of others, and GET of them after a restart and a drop of the page cache."""
    with bench.connect(store, connector_name) as connector:
        yield rung, "set", _first_set(bench, store, connector, rung, sampler)

    yield rung, "get", _after_restart(bench, store, connector_name, rung, partial(_made_cold, store), sampler)


def _made_cold(store: Store) -> bool:
    dropped = store.make_cold()
    store.evict_page_cache()
    return dropped


def _after_restart(
    bench: Bench,
    store: Store,
    connector_name: str,
    kept: str,
    restart: Callable[[], bool | None],
    sampler: Callable[[], Sampler] | None = None,
) -> Moved:
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
        moved = observed(values, store, lambda: found.extend(get(store, connector, values, keys)), sampler)
        read_after = store.counters().process.device_read_bytes
        values.require_right(keys, found, f"store {store.name}")
    return _only_cold(moved, dropped, read_before, read_after, values)


def _only_cold(
    moved: Moved, dropped: bool | None, before: int | None, after: int | None, values: Values
) -> Moved:
    """What was measured, unless it should have been cold and was not. dropped: as told by a restart; before, after: bytes that
    the device had delivered."""
    cold = None if dropped is None else dropped or _read_past(before, after, values)
    if cold is False:
        return Moved(cold=False, notes=[*moved.notes, _NOT_COLD])
    return moved.model_copy(update={"cold": cold})


def _read_past(before: int | None, after: int | None, values: Values) -> bool:
    """Whether the device delivered what was got, so that the page cache did not."""
    return before is not None and after is not None and after - before >= _COLD_SHARE * values.total_bytes


_STATIONS: dict[str, Station] = {
    "memcpy": _memcpy,
    "sockets": _sockets,
    "null": _null,
    "valkey": _valkey,
    "store_ram": partial(_where_there_is_memory, "store_ram", _in_memory),
    "store_disk": _store_disk,
    "files_ram": partial(_where_there_is_memory, "files_ram", _files_in_memory),
    "files_disk": _files_disk,
    "device": _device,
    "whole": _whole,
}
