"""A cluster that is there already: which of its nodes has which slot, and which of them do not answer.

What a node that does not answer has is missing at once, without waiting for it, until a thread that looks for it twice a second
finds the cluster well again: the node is back, or another has its slots. What the nodes say of themselves is believed:
a stripe in the wrong place is one that is not found.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .channels import name_of
from .deadline import Deadline, Endpoint
from .errors import StoreError
from .questions import Questions, Refused
from .slots import SLOTS

WATCH_S = 0.5  # between two looks at a cluster that is not well
_LOOK_S = 1.0  # how long a node may take to answer one
_NOT_NOW = ("CLUSTERDOWN", "LOADING", "TRYAGAIN", "MASTERDOWN")


class PartlyLost(StoreError):
    """A part of a cluster did not serve its part of a call. found: what the call returns of the others."""

    found: Any = None


@dataclass(frozen=True)
class Move:
    """A slot is at another node: for good, or, where one `asks`, for a key that is no longer where the slot still is."""

    slot: int
    node: Endpoint
    asks: bool


class Cluster:
    """The map of the cluster that `seeds` belong to, for all connectors of a client; or that they belong to none. Safe for several
    threads.

    seeds: some of its nodes, not necessarily all or any with slots. refusal: what one of them said that is in none. report: is told in a line, once each time, what does not answer or is
    not served, and when everything is again.
    """

    def __init__(self, seeds: Sequence[Endpoint], report: Callable[[str], None] = lambda _: None):
        self._seeds, self._report = tuple(seeds), report
        self._lock = threading.Lock()
        self._is_one: bool | None = None
        self.refusal = ""
        self._owners: dict[int, Endpoint] = {}
        self._lost: dict[Endpoint, str] = {}
        self._troubles: set[str] = set()
        self._watch: threading.Thread | None = None
        self._closing = threading.Event()

    def is_one(self, timeout_s: float) -> bool:
        """Whether the servers are a cluster, which is asked once. Raises StoreError when none of them says so in time."""
        failure: StoreError | None = None
        for seed in self._seeds if self._is_one is None else ():
            try:
                self._take(_slots_by(seed, Deadline(timeout_s / len(self._seeds))))
                self._is_one = True
            except Refused as error:
                if str(error).startswith(_NOT_NOW):
                    failure = StoreError(f"{name_of(seed)} answered: {error}")
                    continue
                self._is_one, self.refusal = False, str(error)
            except StoreError as error:
                failure = error
                continue
            break
        if self._is_one is None:
            raise failure or StoreError("there is no server to ask")
        return self._is_one

    @property
    def owners(self) -> dict[int, Endpoint]:
        """The node of each slot that has one."""
        with self._lock:
            return dict(self._owners)

    @property
    def nodes(self) -> list[Endpoint]:
        """Those that have slots."""
        return list(dict.fromkeys(self.owners.values()))

    @property
    def uncovered(self) -> int:
        """Slots that no node has."""
        return SLOTS - len(self.owners)

    def complaint(self, timeout_s: float) -> str | None:
        """What a cluster says against itself, None for nothing. Raises StoreError when none of the nodes that were named says anything."""
        failure: StoreError | None = None
        for seed in self._seeds:
            try:
                state = _asked(seed, (b"CLUSTER", b"INFO"), Deadline(timeout_s))
            except StoreError as error:
                failure = error
                continue
            if b"cluster_state:ok" not in state:
                return f"{name_of(seed)} says that its cluster is down (cluster_state of CLUSTER INFO), with {self.uncovered} slots of no node"
            return (
                f"{self.uncovered} slots of the cluster of {name_of(seed)} have no node"
                if self.uncovered
                else None
            )
        raise failure or StoreError("there is no server to ask")

    def node_of(self, slot: int) -> Endpoint:
        """The node that has a slot. Raises PartlyLost when it does not answer, or there is none."""
        with self._lock:
            node = self._owners.get(slot)
            why = f"slot {slot} of the cluster has no node" if node is None else self._lost.get(node)
        if node is None:
            self._trouble(
                "slots of the cluster have no node: what belongs there is missing until one has them"
            )
        if node is None or why is not None:
            raise PartlyLost(why)
        return node

    def failed(self, node: Endpoint, error: StoreError) -> PartlyLost:
        """A node has failed a call, and is not asked again before it answers. Calls that failed beside the first are not reported."""
        line = f"a node of the cluster does not answer: {error}"
        with self._lock:
            known = node in self._lost
            self._lost.setdefault(node, line)
        if not known:
            self._trouble(f"{line}; what it has is missing until it answers, or another node has its slots")
        return PartlyLost(line)

    def not_now(self, node: Endpoint, said: str) -> PartlyLost:
        """A node has refused what it or another one is to serve."""
        line = f"{name_of(node)} answered: {said}"
        self._trouble(f"{line}; what belongs there is missing until it is served")
        return PartlyLost(line)

    def redirected(self, node: Endpoint, said: str) -> Move:
        """Where to go with what `node` refused. Raises StoreError when it is refused everywhere, PartlyLost when it cannot be served
        now.
        """
        word, _, rest = said.partition(" ")
        if word in _NOT_NOW:
            raise self.not_now(node, said)
        slot, _, place = rest.partition(" ")
        host, _, port = place.partition(" ")[0].rpartition(":")
        if word not in ("MOVED", "ASK") or not (slot.isdigit() and port.isdigit()):
            raise StoreError(f"{name_of(node)} answered: {said}")
        move = Move(int(slot), _at(node, host, int(port)), word == "ASK")
        with self._lock:
            why = self._lost.get(move.node)
        if why is not None:
            raise PartlyLost(why)
        return move

    def learn(self, moved: dict[int, Endpoint]) -> None:
        """Slots have moved to nodes, the first of which may know of more."""
        found: dict[int, Endpoint] = {}
        with contextlib.suppress(StoreError):
            found = _slots_by(next(iter(moved.values())), Deadline(_LOOK_S))
        with self._lock:
            self._owners = (found or self._owners) | moved

    def close(self) -> None:
        """Look for nothing any more."""
        self._closing.set()

    def _take(self, owners: dict[int, Endpoint]) -> None:
        with self._lock:
            self._owners = owners

    def _trouble(self, line: str) -> None:
        """Report what was not known, and look until it is over."""
        with self._lock:
            if line in self._troubles or self._closing.is_set():
                return
            self._troubles.add(line)
            if self._watch is None:
                self._watch = threading.Thread(target=self._look, name="striped-cluster", daemon=True)
                self._watch.start()
        self._report(line)

    def _look(self) -> None:
        while not self._closing.wait(WATCH_S):
            if self._is_well():
                with self._lock:
                    self._lost, self._watch = {}, None
                    self._troubles.clear()
                self._report("every slot of the cluster is served again")
                return

    def _is_well(self) -> bool:
        """Ask all nodes, which must agree. Those that answer are not lost any more, and what they say of the slots counts."""
        well: dict[Endpoint, dict[int, Endpoint]] = {}
        asked: set[Endpoint] = set()
        while left := [node for node in (*self.nodes, *self._seeds) if node not in asked]:
            asked.add(left[0])
            with contextlib.suppress(StoreError):
                deadline = Deadline(_LOOK_S)
                state = _asked(left[0], (b"CLUSTER", b"INFO"), deadline)
                owners = _slots_by(left[0], deadline)
                if b"cluster_state:ok" in state:
                    self._take(owners)
                    well[left[0]] = owners
                    with self._lock:
                        self._lost.pop(left[0], None)
            if self._closing.is_set():
                return False
        with self._lock:
            agreed = all(owners == self._owners for owners in well.values())
        return agreed and not self.uncovered and well.keys() >= set(self.nodes)


def _slots_by(node: Endpoint, deadline: Deadline) -> dict[int, Endpoint]:
    """The node of every slot as `node` tells it. Raises StoreError, Refused where it knows of none."""
    found: dict[int, Endpoint] = {}
    try:
        for first, last, (host, port, *_), *_ in _asked(node, (b"CLUSTER", b"SLOTS"), deadline):
            there = _at(node, (host or b"").decode(), int(port))
            found.update(dict.fromkeys(range(int(first), int(last) + 1), there))
    except (TypeError, ValueError) as error:
        raise StoreError(f"{name_of(node)} answered CLUSTER SLOTS with something else") from error
    return {slot: there for slot, there in found.items() if slot < SLOTS}


def _asked(node: Endpoint, words: Sequence[bytes], deadline: Deadline) -> Any:
    channel = Questions(node, deadline.timeout_s)
    try:
        return channel.ask(words, deadline)
    finally:
        channel.close()


def _at(node: Endpoint, host: str, port: int) -> Endpoint:
    """Another node at an address that `node` tells, which may leave out or not know its own host."""
    return replace(node, host=node.host if host in ("", "?") else host, port=port, path=None, folder=None)
