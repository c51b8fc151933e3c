"""A cluster on loopback, of our own servers: Valkey, which keeps itself, or Kvrocks, which is told by whoever keeps it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from ....plugin.lmcache_striped.deadline import Endpoint
from ....plugin.lmcache_striped.slots import SLOTS
from ...base.errors import StoreError
from ...base.threads import each
from ...machine.processes import free_port
from ...stores.base import Lifetime, StoreConfig
from ...stores.kvrocks.store import KvrocksStore
from ...stores.server import ServerStore
from ...stores.valkey import ValkeyStore

_MADE_WITHIN_S = 60.0
_VALUE_BYTES = 1 << 20


class ValkeyNode(ValkeyStore):
    """A server that is part of a cluster, whose settings are of this module alone."""

    @classmethod
    def check_settings(cls, settings: Mapping[str, Any], where: str) -> None:
        """They are right."""


class KvrocksNode(KvrocksStore):
    """The same."""

    @classmethod
    def check_settings(cls, settings: Mapping[str, Any], where: str) -> None:
        """They are right."""


_NODES: dict[str, type[ServerStore]] = {"valkey": ValkeyNode, "kvrocks": KvrocksNode}


class MadeCluster(Lifetime):
    """`masters` servers with as many slots each, and of Valkey `replicas` of each.

    folder: theirs. announce: of each master the port that it says it is at, given its own; None for that. node_timeout_ms: after so long
    without an answer the others call a node failed.
    """

    def __init__(
        self,
        kind: str,
        folder: Path,
        masters: int = 3,
        replicas: int = 0,
        program: Path | None = None,
        announce: Callable[[int], int] | None = None,
        node_timeout_ms: int = 15_000,
    ):
        self.kind = kind
        self._announce, self._node_timeout_ms = announce, node_timeout_ms
        self.stores = [self._store(folder, number, program) for number in range(masters * (1 + replicas))]
        self.masters, self.replicas = self.stores[:masters], self.stores[masters:]
        self.ids: list[str] = []
        self._version = 0

    def start(self) -> None:
        for store in self.stores:  # one by one: a server ends with the thread that started it
            store.start()
        (self._meet if self.kind == "valkey" else self._tell)()

    def stop(self) -> None:
        each(self.stores, lambda store: store.stop())

    @property
    def endpoints(self) -> list[Endpoint]:
        """Where the masters listen that there were at first."""
        return [store.endpoint for store in self.masters]

    def ask(self, store: ServerStore, *words: Any) -> Any:
        """What one server answers."""
        with store.client(timeout_s=5) as client:
            return client.execute_command(*words)

    def ranges(self) -> list[tuple[int, int]]:
        """The first and last slot of each master, as they were made."""
        count = len(self.masters)
        bounds = [number * SLOTS // count for number in range(count + 1)]
        return [(first, last - 1) for first, last in pairwise(bounds)]

    def masters_by(self, store: ServerStore) -> list[str]:
        """host:port of the nodes that have slots, as one server tells them."""
        slots = self.ask(store, "CLUSTER", "SLOTS")
        return [f"{_text(host)}:{port}" for _, _, (host, port, *_), *_ in slots]

    def wait_well(self, stores: Sequence[ServerStore]) -> None:
        """Wait until each of some servers calls the cluster well. Raises StoreError."""
        self._wait(lambda: all(self.calls_well(store) for store in stores), "well")

    def tell_owners(self, owner_of: Callable[[int], int]) -> None:
        """Have all of Kvrocks's nodes that live know which has which slot, each by its number."""
        self._version += 1
        lines = []
        for number, store in enumerate(self.masters):
            mine = [str(slot) for slot in range(SLOTS) if owner_of(slot) == number]
            lines.append(
                f"{self.ids[number]} 127.0.0.1 {store.endpoint.port} master - {' '.join(_joined(mine))}"
            )
        for store in self.masters:
            self.ask(store, "CLUSTERX", "SETNODES", "\n".join(lines), self._version)

    def _store(self, folder: Path, number: int, program: Path | None) -> ServerStore:
        port = free_port()
        settings: dict[str, Any] = {"cluster-enabled": "yes"}
        if self.kind == "valkey":
            settings |= {"cluster-node-timeout": self._node_timeout_ms, "cluster-port": free_port()}
            if self._announce is not None:
                settings |= {"cluster-announce-port": self._announce(port)}
        name = f"{self.kind}-{number}"
        config = StoreConfig(
            folder / name, _VALUE_BYTES, folder / f"{name}.log", settings=settings, port=port, program=program
        )
        return _NODES[self.kind](config)

    def _meet(self) -> None:
        first, *others = self.stores
        for number, (store, (start, end)) in enumerate(zip(self.masters, self.ranges(), strict=True)):
            self.ask(store, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            self.ask(store, "CLUSTER", "ADDSLOTSRANGE", start, end)
        for store in others:
            bus = store.config.settings["cluster-port"]
            self.ask(first, "CLUSTER", "MEET", "127.0.0.1", store.endpoint.port, bus)
        self._wait(lambda: all(self._known(store) == len(self.stores) for store in self.stores), "together")
        self.ids = [_text(self.ask(store, "CLUSTER", "MYID")) for store in self.stores]
        for number, store in enumerate(self.replicas):
            self.ask(store, "CLUSTER", "REPLICATE", self.ids[number % len(self.masters)])
        self._wait(lambda: all(_is_linked(store) for store in self.replicas), "copied")
        self.wait_well(self.stores)

    def _tell(self) -> None:
        self.ids = [f"{number:040x}" for number in range(len(self.masters))]
        for store, name in zip(self.masters, self.ids, strict=True):
            self.ask(store, "CLUSTERX", "SETNODEID", name)
        ranges = self.ranges()
        self.tell_owners(
            lambda slot: next(n for n, (first, last) in enumerate(ranges) if first <= slot <= last)
        )

    def _known(self, store: ServerStore) -> int:
        return int(self._info(store).get("cluster_known_nodes", 0))

    def calls_well(self, store: ServerStore) -> bool:
        """Whether one server does."""
        return self._info(store).get("cluster_state") == "ok"

    def _info(self, store: ServerStore) -> dict[str, str]:
        text = self.ask(store, "CLUSTER", "INFO")
        return text if isinstance(text, dict) else dict(line.split(":") for line in _text(text).split())

    def _wait(self, there: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + _MADE_WITHIN_S
        while not there():
            if time.monotonic() > end:
                raise StoreError(f"the cluster was not {what} within {_MADE_WITHIN_S:g} s")
            time.sleep(0.02)


def _is_linked(store: ServerStore) -> bool:
    return store.info().get("master_link_status") == "up"


def _text(answer: Any) -> str:
    return answer.decode() if isinstance(answer, bytes) else str(answer)


def _joined(slots: Sequence[str]) -> list[str]:
    """Ranges of slots that follow each other, as words."""
    found: list[list[int]] = []
    for slot in map(int, slots):
        if found and slot == found[-1][1] + 1:
            found[-1][1] = slot
        else:
            found.append([slot, slot])
    return [f"{first}-{last}" if first < last else str(first) for first, last in found]
