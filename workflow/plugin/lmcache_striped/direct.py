"""Stripes read from the servers' own files, by compiled code: LOCATE says where a value lies (locate.c), and no byte of it
crosses a socket.

What a server says is never trusted: files are opened below its folder alone, and bytes that do not prove themselves, as
all that does not lie in a file, are left to be asked for by GET.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .channels import Channel
from .deadline import COMMAND_BYTES, Deadline
from .errors import StoreError
from .native import Time, failure, function_of
from .stripes import HEAD_BYTES, MAGIC, ChunkProof, Part, chunk_id

READS = ("cached", "direct", "auto")
MOST_THREADS = 8
DEPTH, MOST_DEPTH = 4, 64
LEFT_ALONE_S = 60.0  # a folder of which nothing proved itself

_MISSING, _REFUSED, _BY_GET, _UNREAD = range(-1, -5, -1)
_ENOUGH = 8  # stripes that tell what a folder is
_MOST_SAID = 100
_HEAD = np.dtype(
    [
        ("magic", "S4"),
        ("index", "<u4"),
        ("count", "<u4"),
        ("length", "<u4"),
        ("chunk_bytes", "<u8"),
        ("chunk", "<u8", 2),
        ("checksum", "<u8"),
        ("root", "<u8"),
        ("", "V8"),
    ]
)
_PIECE = np.dtype(
    [
        ("key", np.uint64),
        ("key_bytes", np.uint64),
        ("place", np.uint64),
        ("room", np.uint64),
        ("index", np.uint32),
        ("server", np.uint32),
        ("checksum", np.uint64),
        ("length", np.int64),
        ("head", _HEAD),
        ("offset", np.int64),
        ("file", np.int32),
        ("", "V4"),
    ]
)
_CHANNEL = np.dtype(
    [
        ("fd", np.int32),
        ("folder", np.int32),
        ("first", np.uint64),
        ("count", np.uint64),
        ("status", np.int32),
        ("file_error", np.int32),
        ("said", "S256"),
    ]
)


@dataclass(frozen=True)
class FileSettings:
    """How files are read. folders: the servers' data folders, in their order.

    read: `cached`, by the page cache; `direct`, past it where the file system allows it; `auto`, past it what is not in it.
    threads: None for as many as there are cores, at most MOST_THREADS. depth: reads under way in each of them.
    """

    folders: tuple[Path, ...]
    read: str = "auto"
    threads: int | None = None
    depth: int = DEPTH


@dataclass(frozen=True)
class FileCounts:
    """Stripes since the start, those without bytes apart: read from files; asked for by GET; of these, those that were said
    to lie in a file and were not read there, or did not prove themselves."""

    from_files: int = 0
    by_get: int = 0
    retried: int = 0


@dataclass(frozen=True)
class Loading:
    """One chunk to load: its key, its buffer (uint8, the chunk's size), what proves it."""

    key: bytes
    buffer: np.ndarray
    proof: ChunkProof


class FileReads:
    """Loads of stripes from files, through the library at `path`. Not for several threads at once.

    report: is told in a line, once, why files are not read. Raises UserError when there is no library that fits.
    """

    def __init__(self, path: Path, settings: FileSettings, report: Callable[[str], None] = lambda _: None):
        self.counts = FileCounts()
        self._folders, self._report = settings.folders, report
        self._said: set[str] = set()
        self._alone_until = [0.0] * len(settings.folders)
        self._without_locate: set[int] = set()
        self._load, make, self._refusal, self._close = (
            function_of(path, f"striped_{name}")
            for name in ("direct", "reader", "reader_no_ring", "reader_close")
        )
        self._load.argtypes = [
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_uint64,
            ctypes.c_void_p,
            *[ctypes.c_uint64] * 2,
            ctypes.POINTER(Time),
        ]
        make.argtypes, make.restype = [ctypes.c_uint, ctypes.c_uint, ctypes.c_int], ctypes.c_void_p
        self._refusal.argtypes = self._close.argtypes = [ctypes.c_void_p]
        threads = settings.threads or min(len(os.sched_getaffinity(0)), MOST_THREADS)
        self._reader = make(threads, settings.depth, READS.index(settings.read))
        if self._reader is None:
            raise StoreError(f"cannot read by {threads} threads, {settings.depth} reads in each")
        self._say_refusal()

    def close(self) -> None:
        """Give back buffers and rings; twice is once."""
        if self._reader is not None:
            self._close(self._reader)
            self._reader = None

    def load(
        self, servers: Sequence[Sequence[Channel]], chunks: Sequence[Loading], deadline: Deadline
    ) -> list[tuple[Loading, Part]]:
        """Load what lies in files, tell its proofs, and return what is to be asked for by GET. Raises StoreError.

        Of a chunk of which a stripe is missing nothing more is asked for.
        """
        stripes = _Stripes.of(chunks, len(servers))
        with self._opened_folders(servers) as folders:
            stripes.pieces["length"] = _BY_GET
            order, shares = stripes.shared_out([len(channels) for channels in servers], folders >= 0)
            if len(order):
                asked = stripes.pieces[order]
                self._ask(
                    [channel for channels in servers for channel in channels],
                    shares,
                    folders,
                    asked,
                    deadline,
                )
                stripes.pieces[order] = asked
        good = stripes.proved(chunks)
        self._judge(servers, stripes, good)
        return self._left(chunks, stripes, good)

    @contextlib.contextmanager
    def _opened_folders(self, servers: Sequence[Sequence[Channel]]) -> Iterator[np.ndarray]:
        """A descriptor of each server's folder, -1 where its files are not to be read."""
        folders = np.full(len(servers), -1, np.int32)
        try:
            for number, (folder, channels) in enumerate(zip(self._folders, servers, strict=True)):
                if number in self._without_locate or time.monotonic() < self._alone_until[number]:
                    continue
                try:
                    folders[number] = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                except OSError as error:
                    self._say(channels[0], f"cannot open {folder}: {error.strerror}")
            yield folders
        finally:
            for folder in folders[folders >= 0].tolist():
                os.close(folder)

    def _ask(
        self,
        channels: Sequence[Channel],
        shares: np.ndarray,
        folders: np.ndarray,
        asked: np.ndarray,
        deadline: Deadline,
    ) -> None:
        """One call of the library. shares: how many of `asked` each channel has, in their order."""
        used = np.flatnonzero(shares)
        asking = [channels[number] for number in used.tolist()]
        places = np.zeros(len(used), _CHANNEL)
        places["count"] = shares[used]
        places["first"] = np.cumsum(shares[used]) - shares[used]
        places["folder"] = folders[asked["server"][places["first"]]]
        moved = int(asked["room"].sum()) + (HEAD_BYTES + COMMAND_BYTES) * len(asked)
        with contextlib.ExitStack() as stack:
            places["fd"] = [stack.enter_context(channel.descriptor(deadline)) for channel in asking]
            left = Time.left_of(deadline, moved)
            pointers = (places.ctypes.data, len(places), asked.ctypes.data, len(asked), HEAD_BYTES)
            if code := self._load(self._reader, *pointers, ctypes.byref(left)):
                raise StoreError(f"cannot read files: {os.strerror(code)}")
        came = asked["length"] >= 0
        deadline.moved(int(asked["length"][came].sum()) + COMMAND_BYTES * int(came.sum()))
        for channel, place, server in zip(
            asking, places, asked["server"][places["first"]].tolist(), strict=True
        ):
            self._hear(channel, server, int(place["status"]), int(place["file_error"]), bytes(place["said"]))

    def _hear(self, channel: Channel, server: int, status: int, file_error: int, said: bytes) -> None:
        """What a channel's share came to, beside its stripes."""
        words = said.decode(errors="replace")
        if status == _REFUSED:
            if "unknown command" in words.lower():
                self._without_locate.add(server)
            self._say(channel, f"it answered LOCATE with {words}")
        elif status:
            channel.close()
            self._say(channel, str(failure(channel, status, said)))
        elif file_error not in (0, errno.ENOENT):
            self._say(channel, f"cannot read {self._folders[server] / words}: {os.strerror(file_error)}")

    def _judge(self, servers: Sequence[Sequence[Channel]], stripes: _Stripes, good: np.ndarray) -> None:
        """Leave a folder alone of which much was said and nothing was right, and tell that io_uring is refused."""
        lengths, by_file = stripes.pieces["length"], stripes.pieces["index"] > 0
        located = by_file & ((lengths >= 0) | (lengths == _UNREAD))
        for number, folder in enumerate(self._folders):
            mine = located & (stripes.pieces["server"] == number)
            if mine.sum() >= _ENOUGH and not good[mine].any():
                self._alone_until[number] = time.monotonic() + LEFT_ALONE_S
                self._say(servers[number][0], f"what it says is not what lies in {folder}")
        self._say_refusal()

    def _say_refusal(self) -> None:
        if refusal := self._refusal(self._reader):
            self._say(None, f"io_uring is refused ({os.strerror(refusal)}); more threads read files instead")

    def _left(
        self, chunks: Sequence[Loading], stripes: _Stripes, good: np.ndarray
    ) -> list[tuple[Loading, Part]]:
        left: list[tuple[Loading, Part]] = []
        retried = 0
        for chunk, rows in zip(chunks, stripes.rows, strict=True):
            pieces, proof = stripes.pieces[rows], chunk.proof
            if (pieces["length"] == _MISSING).any():
                continue
            known = np.flatnonzero(good[rows])
            root = int(pieces["head"]["root"][0]) if good[rows][0] else None
            proof.proved(known.tolist(), pieces["checksum"][known].tolist(), root)
            if proof.complete:
                continue
            again = np.flatnonzero(~good[rows])
            if not len(again):
                proof.forget()
                again = np.arange(len(pieces))
            lengths = pieces["length"][again]
            retried += int(((pieces["index"][again] > 0) & ((lengths >= 0) | (lengths == _UNREAD))).sum())
            left += [(chunk, proof.parts[number]) for number in again.tolist()]
        by_get, now = sum(part.index > 0 for _, part in left), self.counts
        from_files = int((good & (stripes.pieces["index"] > 0)).sum())
        self.counts = FileCounts(now.from_files + from_files, now.by_get + by_get, now.retried + retried)
        return left

    def _say(self, channel: Channel | None, why: str) -> None:
        line = (
            why
            if channel is None
            else f"{channel.peer}: {why}; what is not read from files is asked for by GET"
        )
        if line not in self._said and len(self._said) < _MOST_SAID:
            self._said.add(line)
            self._report(line)


@dataclass(frozen=True)
class _Stripes:
    """All stripes of some chunks. rows: of each chunk's. text: the chunks' keys, which the pieces point to."""

    pieces: np.ndarray
    rows: list[slice]
    text: Any

    @classmethod
    def of(cls, chunks: Sequence[Loading], servers: int) -> _Stripes:
        counts = [len(chunk.proof.parts) for chunk in chunks]
        ends = np.cumsum(counts).tolist()
        rows = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
        pieces = np.zeros(sum(counts), _PIECE)
        text = ctypes.create_string_buffer(b"".join(chunk.key for chunk in chunks))
        at = ctypes.addressof(text)
        for chunk, mine in zip(chunks, rows, strict=True):
            part = pieces[mine]
            index, parts = np.arange(len(part)), chunk.proof.parts
            part["key"], part["key_bytes"], part["index"] = at, len(chunk.key), index
            part["place"] = chunk.buffer.ctypes.data + np.array([item.offset for item in parts])
            part["room"] = [item.length for item in parts]
            part["server"] = (zlib.crc32(chunk.key) + index) % servers
            at += len(chunk.key)
        return cls(pieces, rows, text)

    def shared_out(self, connections: Sequence[int], readable: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The stripes of readable servers in the order of the channels that ask for them, and how many each channel has.

        Each has a run of its server's stripes, so that files are read about in their order; its stripes 0 come first.
        """
        server, index = self.pieces["server"], self.pieces["index"]
        channel = np.full(len(server), -1)
        first = 0
        for number, count in enumerate(connections):
            if readable[number]:
                mine = np.flatnonzero(server == number)
                channel[mine] = first + np.arange(len(mine)) * count // max(len(mine), 1)
            first += count
        asked = np.flatnonzero(channel >= 0)
        order = asked[np.lexsort((index[asked] > 0, channel[asked]))]
        return order, np.bincount(channel[order], minlength=first)

    def proved(self, chunks: Sequence[Loading]) -> np.ndarray:
        """Which stripes have come with the head that is expected and bytes that have its checksum."""
        pieces, head = self.pieces, self.pieces["head"]
        good = (pieces["length"] >= 0) & (pieces["length"] == HEAD_BYTES + pieces["room"].astype(np.int64))
        good &= (
            (head["magic"] == MAGIC) & (head["index"] == pieces["index"]) & (head["length"] == pieces["room"])
        )
        good &= (head["checksum"] == pieces["checksum"]) & ((pieces["index"] == 0) | (head["root"] == 0))
        for chunk, rows in zip(chunks, self.rows, strict=True):
            mine = head[rows]
            name = np.frombuffer(chunk_id(chunk.key), "<u8")
            good[rows] &= (mine["count"] == len(mine)) & (mine["chunk_bytes"] == chunk.buffer.size)
            good[rows] &= (mine["chunk"] == name).all(axis=1)
        return good
