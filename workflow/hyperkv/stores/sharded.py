"""One store as several server processes, each with its own folder and port; the connector says what goes where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

from ...plugin.lmcache_striped.deadline import Endpoint
from ..base.errors import StoreError
from ..base.threads import each
from ..machine.counters import ProcessCounters
from .base import Counters, Store, StoreConfig, new_directory
from .placed.place import Network
from .server import ServerStore


class ShardedStore(Store):
    """config.processes servers of one kind, started one after the other and ended together.

    Server i lies in directory/i and listens at port + i, when a port is given; a capacity is shared evenly.
    Counters are sums over the servers, details too. At a place server i is that of address i.
    """

    def __init__(self, config: StoreConfig, make: Callable[[StoreConfig], ServerStore]):
        self.stores: list[Any] = [make(_part(config, index)) for index in range(config.processes)]
        self.name, self.medium = self.stores[0].name, self.stores[0].medium
        super().__init__(config)

    @property
    def servers(self) -> Sequence[ServerStore]:
        return self.stores

    @property
    def endpoints(self) -> list[Endpoint]:
        return [store.endpoint for store in self.stores]

    def start(self) -> None:
        new_directory(self.config.directory)
        for store in self.stores:
            store.start()

    def stop(self) -> None:
        each(self.stores, lambda store: store.stop())

    def restart(self) -> None:
        self.stop()
        for store in self.stores:
            store.restart()

    def check_alive(self, grace_s: float = 0.0) -> None:
        for store in self.stores:
            store.check_alive(grace_s / len(self.stores))

    def counters(self) -> Counters:
        found = [store.counters() for store in self.stores]
        return Counters(
            served_bytes=_sum([item.served_bytes for item in found]),
            taken_bytes=_sum([item.taken_bytes for item in found]),
            hits=_sum([item.hits for item in found]),
            misses=_sum([item.misses for item in found]),
            process=_sum_of_processes([item.process for item in found]),
            details={name: sum(item.details.get(name, 0) for item in found) for name in found[0].details},
        )

    @property
    def network(self) -> Network | None:
        """The slowest server's."""
        found = [each for store in self.stores if (each := store.network) is not None]
        if not found:
            return None
        return Network(max(each.round_trip_s for each in found), min(each.gbps for each in found))

    def require_room(self, saved_bytes: int) -> None:
        for store in self.stores:
            store.require_room(-(-saved_bytes // len(self.stores)))

    def final_counters(self) -> ProcessCounters | None:
        ended = [counters for store in self.stores if (counters := store.final_counters()) is not None]
        return _sum_of_processes(ended) if len(ended) == len(self.stores) else None

    def pid(self) -> int:
        raise StoreError(f"store {self.name} is {len(self.stores)} processes")

    def notes(self) -> list[str]:
        lines = [line for store in self.stores for line in store.notes()]
        return [*dict.fromkeys(lines), f"{len(self.stores)} processes"]

    def evict_page_cache(self) -> None:
        for store in self.stores:
            store.evict_page_cache()

    def push_out_writes(self) -> None:
        for store in self.stores:
            store.push_out_writes()


def _part(config: StoreConfig, index: int) -> StoreConfig:
    return replace(
        config,
        directory=config.directory / str(index),
        log=config.log.with_stem(f"{config.log.stem}-{index}"),
        capacity_bytes=None if config.capacity_bytes is None else config.capacity_bytes // config.processes,
        value_bytes=config.value_bytes
        if config.bound_bytes is None
        else -(-config.value_bytes // config.processes),
        bound_bytes=None if config.bound_bytes is None else config.bound_bytes // config.processes,
        port=config.port + index if config.port else 0,
        processes=1,
        place=None if config.place is None else config.place.part(index),
    )


def _sum(values: Sequence[Any]) -> Any:
    """None where one of them is not known."""
    return None if None in values else sum(values)


def _sum_of_processes(found: Sequence[ProcessCounters]) -> ProcessCounters:
    names = [field.name for field in fields(ProcessCounters)]
    return ProcessCounters(*(_sum([getattr(item, name) for item in found]) for name in names))
