"""Connectors `striped` and `direct`: a chunk is several values, and all stripes of all chunks of a request are in flight at once.

Stripes go round the servers and round the connections to each (stripes.py says what a stripe is, channels.py how it
moves). A save sends stripe 0 of its chunks only when all the others are in the store, and a lookup asks for stripe 0
only: what it finds was saved whole, and has lost nothing unless the store lost it since. A load proves every byte.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from .base import leading_present_of_each
from .channels import Channel, ChannelConnector, Exchange
from .cluster import Cluster, PartlyLost
from .deadline import Deadline, Endpoint
from .direct import FileReads, FileSettings, Loading
from .errors import StoreError
from .exchanges import Asking, Load, Lookup, Save, saves_of
from .file_counts import FileCounts
from .late import Late
from .lookups import Lookups, Refusals
from .native import NativeLoads
from .shape import Shape
from .slots import slot_of, spread_key
from .stripes import HEAD_BYTES, STRIPE_BYTES, ChunkProof, Part, parts_of, shard_of, stripe_key
from .threads import started

_MOST_MOVES = 5  # of one command, from node to node

E = TypeVar("E", bound=Exchange)
T = TypeVar("T")


class StripedConnector(ChannelConnector):
    """`connections` connections to each of `endpoints`, which must be given in the same order every time.

    stripe_bytes: size of a stripe, without its head. in_flight: stripes asked for and not answered on each connection
    at most, None for all. connect: whether the servers must be there now. library: what loads, see native.py; None
    for Python. files: read what lies in the servers' files there (direct.py), for connector `direct`; report, or else notes, is told why
    that is not done. Every connection has a thread. A closed
    connection is opened again by the next call that needs it. Calls from several threads wait for each other.
    timeout_s: of every call, once it is its turn; deadline.py says how it bounds a large one. Connecting is part of it.
    cluster: says whether the endpoints are nodes of one; then stripes are where it has them, `connections` go to each of its nodes, and
    a call whose part is lost raises PartlyLost when the rest has ended. None when they are none.
    turn: waits until a save of so many bytes may begin and says how long, see save_share.py. shape: of all connectors of a client.
    damaged_chunks: loads that found stripes, all of the right length, that were together not the chunk.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        connections: int,
        timeout_s: float,
        stripe_bytes: int = STRIPE_BYTES,
        in_flight: int | None = None,
        connect: bool = True,
        library: Path | None = None,
        files: FileSettings | None = None,
        report: Callable[[str], None] | None = None,
        turn: Callable[[int], float] | None = None,
        shape: Shape | None = None,
        cluster: Cluster | None = None,
    ):
        self._threads = connections * len(endpoints)
        super().__init__(self._threads)
        self.connections = connections
        self.stripe_bytes = stripe_bytes
        self.damaged_chunks = 0
        self.notes: list[str] = []
        self._timeout_s = timeout_s
        self._turn = turn
        self.shape = shape or self.shape
        self._lock = threading.Lock()
        self._native = None if library is None else NativeLoads(library)
        self._in_flight = in_flight
        self._late = Late()
        self._lookups = Lookups(library, self._late)
        count = connections * len(endpoints)
        self._report = report or self.notes.append
        self._files = None if files is None else FileReads(files, library, count, self._report, self._late)
        self._servers = [self._connections_to(endpoint) for endpoint in endpoints]
        self._channels = [channel for server in self._servers for channel in server]
        self._cluster = cluster
        self._nodes: dict[Endpoint, list[Channel]] | None = None  # of a cluster
        self._lost: PartlyLost | None = None
        if connect:
            self.open()

    def open(self) -> None:
        try:
            with self._calling():
                for node in () if self._cluster is None else self._cluster.nodes:
                    self._to(node)
        except BaseException:
            self.close()
            raise
        super().open()

    def count_present(self, keys: Sequence[bytes]) -> int:
        return self.count_present_of_each([keys])[0]

    def count_present_of_each(self, prompts: Sequence[Sequence[bytes]]) -> list[int]:
        """count_present of several prompts, which are asked for together."""
        with self._calling():
            deadline = Deadline(self._timeout_s, commands=sum(map(len, prompts)))
            return self._served(
                leading_present_of_each(prompts, lambda batch: self._present(batch, deadline))
            )

    def present(self, keys: Sequence[bytes]) -> list[bool]:
        """Whether each chunk is there, leading or not."""
        with self._calling():
            return self._served(self._present(keys, Deadline(self._timeout_s, commands=len(keys))))

    def _present(self, keys: Sequence[bytes], deadline: Deadline) -> list[bool]:
        routes = [self._routed(key, 0) for key in keys]
        lookups = [(channels, Lookup(name)) for channels, name in routes]
        by_threads = partial(self._sent, self._lookups.of_one)
        ask = by_threads if self._nodes is not None else partial(self._lookups.of_all, by_threads)
        self._run(lookups, ask, deadline)
        return [lookup.present for _, lookup in lookups]

    def get(self, keys: Sequence[bytes], buffers: Sequence[np.ndarray]) -> list[bool]:
        proofs = [
            ChunkProof(key, buffer.size, self.stripe_bytes) for key, buffer in zip(keys, buffers, strict=True)
        ]
        chunks = [Loading(*chunk) for chunk in zip(keys, buffers, proofs, strict=True)]
        size, commands = _moved([proof.parts for proof in proofs])
        with self._calling():
            with self.shape.moving("read", self._under_way(loads=True)) as moved:
                deadline = Deadline(self._timeout_s, size, commands)
                if self._files is None or self._nodes is not None:
                    left = [(chunk, part) for chunk in chunks for part in chunk.proof.parts]
                else:
                    left = self._files.load(self._servers, chunks, deadline)
                run = Channel.answered if self._native is None else self._native.run
                self._run([self._load(*stripe) for stripe in left], partial(self._sent, run), deadline)
                complete = [proof.complete for proof in proofs]
                moved += _sizes([proof.parts for proof, whole in zip(proofs, complete, strict=True) if whole])
            self.damaged_chunks += sum(
                proof.found == len(proof.parts) and not whole
                for proof, whole in zip(proofs, complete, strict=True)
            )
            return self._served(complete)

    def put(self, keys: Sequence[bytes], values: Sequence[np.ndarray]) -> None:
        parts = [parts_of(value.size, self.stripe_bytes) for value in values]
        size, commands = _moved(parts)
        waits: list[float] = []
        with self._calling(), self.shape.moving("write", self._under_way(), waits) as moved:
            saves = [self._saves(key, value) for key, value in zip(keys, values, strict=True)]
            deadline = Deadline(self._timeout_s, size, commands)
            if self._turn is not None:
                for _, save in (save for chunk in saves for save in chunk):
                    save.turn = partial(_take_turn, self._turn, deadline, waits)
            for some in ([save for chunk in saves for save in chunk[1:]], [chunk[0] for chunk in saves]):
                self._run(some, partial(self._sent, Channel.answered), deadline)
                self._served(None)
            moved += _sizes(parts)

    def _load(self, chunk: Loading, part: Part) -> tuple[list[Channel], Load]:
        channels, name = self._routed(chunk.key, part.index)
        view = chunk.buffer.data[part.offset : part.end]
        return channels, Load(name, part, chunk.proof, view, chunk.buffer.ctypes.data + part.offset)

    def _saves(self, key: bytes, value: np.ndarray) -> list[tuple[list[Channel], Save]]:
        routes = [self._routed(key, part.index) for part in parts_of(value.size, self.stripe_bytes)]
        saves = saves_of(key, value, self.stripe_bytes, [name for _, name in routes])
        return [(channels, save) for (channels, _), save in zip(routes, saves, strict=True)]

    @property
    def file_counts(self) -> FileCounts | None:
        """What was read from files, and what was not; None of a connector that reads none."""
        return None if self._files is None else self._files.counts

    def close(self) -> None:
        """End the workers and close every connection, when the call under way has ended: its thread may be reading files."""
        if self._cluster is not None:
            self._cluster.close()
        with self._lock:
            super().close()
            if self._files is not None:
                self._files.close()

    # Where stripes are

    @contextlib.contextmanager
    def _calling(self) -> Iterator[None]:
        """One call at a time, which knows whether the servers are a cluster. Raises StoreError."""
        with self._lock:
            self._lost = None
            if self._cluster is not None and self._nodes is None and self._cluster.is_one(self._timeout_s):
                self._servers, self._channels, self._nodes = [], [], {}
                if self._files is not None:
                    self._report("the servers are a cluster, whose files are not read")
            yield

    def _served(self, found: T) -> T:
        """What a call has found. Raises PartlyLost, which has it too, when a part of it was lost."""
        if self._lost is None:
            return found
        self._lost.found = found
        raise self._lost

    def _routed(self, key: bytes, index: int) -> tuple[list[Channel], bytes]:
        """The connections to where a stripe belongs, none where that is lost, and its key there."""
        if self._nodes is None:
            return self._servers[shard_of(key, index, len(self._servers))], stripe_key(key, index)
        assert self._cluster is not None
        name = spread_key(key, index)
        try:
            return self._to(self._cluster.node_of(slot_of(name))), name
        except PartlyLost as lost:
            self._lost = lost
            return [], name

    def _to(self, node: Endpoint) -> list[Channel]:
        """The connections to a node of the cluster; what has no slots any more is left."""
        assert self._cluster is not None
        assert self._nodes is not None
        if node not in self._nodes:
            for gone in self._nodes.keys() - self._cluster.nodes:
                for channel in self._nodes.pop(gone):
                    channel.close()
            self._nodes[node] = self._connections_to(node)
            self._channels = [channel for channels in self._nodes.values() for channel in channels]
            if len(self._channels) > self._threads:
                self._workers.shutdown()
                self._threads = len(self._channels)
                self._workers = started(self._threads, "connection")
        return self._nodes[node]

    def _connections_to(self, endpoint: Endpoint) -> list[Channel]:
        return [Channel(endpoint, self._timeout_s, self._in_flight) for _ in range(self.connections)]

    def _under_way(self, loads: bool = False) -> int | None:
        """Stripes that are under way at once, None for all."""
        if loads and self._files is not None and self._nodes is None:
            return self._files.under_way
        return None if self._in_flight is None else self._in_flight * max(1, len(self._channels))

    # How they get there

    def _run(
        self,
        items: Sequence[tuple[list[Channel], E]],
        send: Callable[[Mapping[Channel, list[E]], Deadline], Refusals],
        deadline: Deadline,
    ) -> None:
        """Spread commands over the connections to where they belong and see all of them to their end, wherever that is.

        items: the connections to its server, none when it is lost, and the command for it. send: does each connection's share of them by
        the deadline, and returns what was refused, and why. Raises StoreError.
        """
        work: dict[Channel, list[E]] = {}
        turns: Counter[int] = Counter()
        for channels, item in items:
            if channels:
                work.setdefault(channels[turns[id(channels)] % len(channels)], []).append(item)
                turns[id(channels)] += 1
        refused = send(work, deadline)
        for _ in range(_MOST_MOVES if self._nodes is not None else 0):
            refused = self._sent(Channel.answered, self._redirected(refused), deadline)
        for channel, _, said in refused[:1]:
            if self._cluster is not None and self._nodes is not None:
                self._lost = self._cluster.not_now(channel.endpoint, said)
                return
            if self._cluster is not None and said.startswith("MOVED "):
                said += f", and to CLUSTER SLOTS: {self._cluster.refusal}"
            raise StoreError(f"{channel.peer} answered: {said}")

    def _sent(
        self,
        run: Callable[[Channel, list[Any], Deadline], list[tuple[Any, str]]],
        work: Mapping[Channel, list[Any]],
        deadline: Deadline,
    ) -> Refusals:
        """What was refused of each connection's share, which a thread has `run`, when all have ended. A failure is one of a node in a cluster, else it is raised."""
        shares = [
            (channel, self._workers.submit(run, channel, share, deadline)) for channel, share in work.items()
        ]
        wait([future for _, future in shares])
        refused: Refusals = []
        for channel, future in shares:
            try:
                refused += [(channel, item, said) for item, said in future.result()]
            except StoreError as error:
                if self._cluster is None or self._nodes is None:
                    raise
                self._lost = self._cluster.failed(channel.endpoint, error)
        return refused

    def _redirected(self, refused: Refusals) -> dict[Channel, list[Exchange]]:
        """The same commands where the nodes said that they belong. Raises StoreError for what is refused for another reason."""
        assert self._cluster is not None
        work: dict[Channel, list[Exchange]] = {}
        moved: dict[int, Endpoint] = {}
        for channel, item, said in refused:
            if isinstance(item, Asking):  # what it was asked for is refused as well
                continue
            try:
                move = self._cluster.redirected(channel.endpoint, said)
            except PartlyLost as lost:
                self._lost = lost
                continue
            share = work.setdefault(self._to(move.node)[0], [])
            if move.asks:
                share.append(Asking())
            else:
                moved[move.slot] = move.node
            share.append(item)
        if moved:
            self._cluster.learn(moved)
        return work


def _take_turn(turn: Callable[[int], float], deadline: Deadline, waits: list[float], size: int) -> None:
    """Wait for a save's turn, which is not the server's time."""
    waits.append(turn(size))
    deadline.waited(waits[-1])


def _moved(chunks: Sequence[Sequence[Part]]) -> tuple[int, int]:
    """Bytes of all stripes, heads included, and how many there are."""
    parts = [part for chunk in chunks for part in chunk]
    return sum(HEAD_BYTES + part.length for part in parts), len(parts)


def _sizes(chunks: Sequence[Sequence[Part]]) -> list[int]:
    """Bytes of all stripes that have some."""
    return [part.length for parts in chunks for part in parts if part.length]
