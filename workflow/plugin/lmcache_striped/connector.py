"""Connectors `striped` and `direct`: a chunk is several values, and all stripes of all chunks of a request are in flight at once.

Stripes go round the servers and round the connections to each (stripes.py says what a stripe is, channels.py how it
moves). A save sends stripe 0 of its chunks only when all the others are in the store, and a lookup asks for stripe 0
only: what it finds was saved whole, and has lost nothing unless the store lost it since. A load proves every byte.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from .base import ended, leading_present
from .channels import Channel, ChannelConnector, Exchange, Lookup, command
from .deadline import Deadline, Endpoint
from .direct import FileReads, FileSettings, Loading
from .file_counts import FileCounts
from .native import NativeLoads, Wanted
from .shape import Shape
from .stripes import (
    HEAD_BYTES,
    STRIPE_BYTES,
    ChunkProof,
    Head,
    Part,
    checksum,
    chunk_id,
    parts_of,
    root_of,
    shard_of,
    stripe_key,
)

_CRLF = memoryview(b"\r\n")

T = TypeVar("T")


class StripedConnector(ChannelConnector):
    """`connections` connections to each of `endpoints`, which must be given in the same order every time.

    stripe_bytes: size of a stripe, without its head. in_flight: commands sent and not answered on each connection
    at most, None for all. connect: whether the servers must be there now. library: what loads, see native.py; None
    for Python. files: read what lies in the servers' files there (direct.py), for connector `direct`; report, or else notes, is told why
    that is not done. Every connection has a thread. A closed
    connection is opened again by the next call that needs it. Calls from several threads wait for each other.
    timeout_s: of every call, once it is its turn; deadline.py says how it bounds a large one. Connecting is part of it.
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
    ):
        super().__init__(connections * len(endpoints))
        self.connections = connections
        self.stripe_bytes = stripe_bytes
        self.damaged_chunks = 0
        self.notes: list[str] = []
        self._timeout_s = timeout_s
        self._turn = turn
        self.shape = shape or self.shape
        self._lock = threading.Lock()
        self._native = None if library is None else NativeLoads(library)
        count = connections * len(endpoints)
        self._files = None if files is None else FileReads(files, library, count, report or self.notes.append)
        self._saving = None if in_flight is None else in_flight * count
        self._loading = self._saving if self._files is None else self._files.under_way
        self._servers = [
            [Channel(endpoint, timeout_s, in_flight) for _ in range(connections)] for endpoint in endpoints
        ]
        self._channels = [channel for server in self._servers for channel in server]
        if connect:
            self.open()

    def count_present(self, keys: Sequence[bytes]) -> int:
        with self._lock:
            deadline = Deadline(self._timeout_s, commands=len(keys))
            return leading_present(keys, lambda batch: self._present(batch, deadline))

    def present(self, keys: Sequence[bytes]) -> list[bool]:
        """Whether each chunk is there, leading or not."""
        with self._lock:
            return self._present(keys, Deadline(self._timeout_s, commands=len(keys)))

    def _present(self, keys: Sequence[bytes], deadline: Deadline) -> list[bool]:
        lookups = [Lookup(stripe_key(key, 0)) for key in keys]
        servers = [self._server_of(key, 0) for key in keys]
        self._run(list(zip(servers, lookups, strict=True)), Channel.run, deadline)
        return [lookup.present for lookup in lookups]

    def get(self, keys: Sequence[bytes], buffers: Sequence[np.ndarray]) -> list[bool]:
        proofs = [
            ChunkProof(key, buffer.size, self.stripe_bytes) for key, buffer in zip(keys, buffers, strict=True)
        ]
        chunks = [Loading(*chunk) for chunk in zip(keys, buffers, proofs, strict=True)]
        size, commands = _moved([proof.parts for proof in proofs])
        with self._lock, self.shape.moving("read", self._loading) as moved:
            deadline = Deadline(self._timeout_s, size, commands)
            if self._files is None:
                left = [(chunk, part) for chunk in chunks for part in chunk.proof.parts]
            else:
                left = self._files.load(self._servers, chunks, deadline)
            if self._native is None:
                self._run([self._load(*stripe) for stripe in left], Channel.run, deadline)
            else:
                self._run([self._wanted(*stripe) for stripe in left], self._native.run, deadline)
            complete = [proof.complete for proof in proofs]
            moved += _sizes([proof.parts for proof, whole in zip(proofs, complete, strict=True) if whole])
        self.damaged_chunks += sum(
            proof.found == len(proof.parts) and not whole
            for proof, whole in zip(proofs, complete, strict=True)
        )
        return complete

    def put(self, keys: Sequence[bytes], values: Sequence[np.ndarray]) -> None:
        saves = [_save_chunk(key, value, self.stripe_bytes) for key, value in zip(keys, values, strict=True)]
        routed = [[(self._server_of(save.key, save.part.index), save) for save in chunk] for chunk in saves]
        parts = [[save.part for save in chunk] for chunk in saves]
        size, commands = _moved(parts)
        waits: list[float] = []
        with self._lock, self.shape.moving("write", self._saving, waits) as moved:
            deadline = Deadline(self._timeout_s, size, commands)
            if self._turn is not None:
                for save in (save for chunk in saves for save in chunk):
                    save.turn = partial(_take_turn, self._turn, deadline, waits)
            self._run([item for chunk in routed for item in chunk[1:]], Channel.run, deadline)
            self._run([chunk[0] for chunk in routed], Channel.run, deadline)
            moved += _sizes(parts)

    def _load(self, chunk: Loading, part: Part) -> tuple[int, Exchange]:
        view = chunk.buffer.data[part.offset : part.end]
        return self._server_of(chunk.key, part.index), _Load(chunk.key, part, chunk.proof, view)

    def _wanted(self, chunk: Loading, part: Part) -> tuple[int, Wanted]:
        address = chunk.buffer.ctypes.data + part.offset
        wanted = Wanted(_get_of(chunk.key, part), address, part, chunk.proof)
        return self._server_of(chunk.key, part.index), wanted

    @property
    def file_counts(self) -> FileCounts | None:
        """What was read from files, and what was not; None of a connector that reads none."""
        return None if self._files is None else self._files.counts

    def close(self) -> None:
        """End the workers and close every connection, when the call under way has ended: its thread may be reading files."""
        with self._lock:
            super().close()
            if self._files is not None:
                self._files.close()

    def _server_of(self, key: bytes, index: int) -> int:
        return shard_of(key, index, len(self._servers))

    def _run(
        self,
        items: Sequence[tuple[int, T]],
        run: Callable[[Channel, list[T], Deadline], None],
        deadline: Deadline,
    ) -> None:
        """Spread commands over the connections of their servers and see all of them to their end.

        items: the server's number, and the command for it. run: does a connection's share of them by the deadline.
        """
        if not items:
            return
        work: dict[Channel, list[T]] = {}
        turns = [0] * len(self._servers)
        for server, item in items:
            channels = self._servers[server]
            work.setdefault(channels[turns[server] % len(channels)], []).append(item)
            turns[server] += 1
        ended(self._workers.submit(run, channel, share, deadline) for channel, share in work.items())


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


def _get_of(key: bytes, part: Part) -> bytes:
    return command(b"GET", stripe_key(key, part.index))


class _Load(Exchange):
    """GET of one stripe into its part of the buffer."""

    name = "GET"
    head_bytes = HEAD_BYTES

    def __init__(self, key: bytes, part: Part, proof: ChunkProof, view: memoryview):
        self._key, self._part, self._proof, self._view = key, part, proof, view
        self._head: Head | None = None

    def request(self) -> Sequence[bytes | memoryview]:
        return [_get_of(self._key, self._part)]

    def line(self, line: bytes) -> bool:
        return line == b"$-1"

    def place(self, length: int, head: memoryview) -> memoryview | None:
        if length != HEAD_BYTES + self._part.length:
            return None
        self._proof.found += 1
        self._head = self._proof.expects(self._part, head)
        return None if self._head is None else self._view

    def placed(self) -> None:
        assert self._head is not None
        self._proof.take(self._part, self._head, checksum(self._view))


class _Save(Exchange):
    """SET of one stripe. siblings: the chunk's other saves, for stripe 0. turn: waits until so many bytes may be sent."""

    name = "SET"
    checksum: int
    turn: Callable[[int], None] | None = None

    def __init__(self, key: bytes, part: Part, head: tuple[int, int, bytes], view: memoryview):
        self.key, self.part, self._view = key, part, view
        count, chunk_bytes, chunk = head
        self._head = (part.index, count, part.length, chunk_bytes, chunk)
        self.siblings: Sequence[_Save] = ()

    def request(self) -> Sequence[bytes | memoryview]:
        if self.turn is not None:
            self.turn(self.part.length)
        self.checksum = checksum(self._view)
        root = root_of([save.checksum for save in (self, *self.siblings)]) if self.part.index == 0 else 0
        key, head = stripe_key(self.key, self.part.index), Head(*self._head, self.checksum, root)
        words = (len(key), key, HEAD_BYTES + self.part.length, head.packed())
        return [b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b" % words, self._view, _CRLF]

    def line(self, line: bytes) -> bool:
        return line == b"+OK"


def _save_chunk(key: bytes, value: np.ndarray, stripe_bytes: int) -> list[_Save]:
    """The saves of a chunk's stripes, in order."""
    parts, view = parts_of(value.size, stripe_bytes), value.data
    head = (len(parts), value.size, chunk_id(key))
    saves = [_Save(key, part, head, view[part.offset : part.end]) for part in parts]
    saves[0].siblings = saves[1:]
    return saves
