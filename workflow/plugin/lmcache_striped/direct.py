"""Stripes read from the servers' own files: LOCATE says where a value lies, and no byte of it crosses a socket.

What a server says is never trusted: files are opened below its folder alone, and bytes that do not prove themselves, as
all that does not lie in a file, are left to be asked for by GET.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .channels import Channel
from .deadline import Deadline
from .file_counts import FileCounts
from .late import Late
from .native_files import NativeFiles
from .pieces import BY_GET, IN_MEMORY, MISSING, PIECE, UNREAD, Files, Share
from .python_files import PythonFiles
from .stripes import HEAD_BYTES, MAGIC, ChunkProof, Part, chunk_id, shard_of

MOST_THREADS = 16
DEPTH, MOST_DEPTH = 4, 64
LEFT_ALONE_S = 10.0  # a folder of which nothing proved itself

_ENOUGH = 8  # stripes that tell what a folder is
_MOST_SAID = 100


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
class Loading:
    """One chunk to load: its key, its buffer (uint8, the chunk's size), what proves it."""

    key: bytes
    buffer: np.ndarray
    proof: ChunkProof


class FileReads:
    """Loads of stripes from files. Not for several threads at once.

    library: what reads, see native.py; None for Python. connections: to all servers together. report: is told in a line, once, why
    files are not read. late: is told when LOCATE was answered. under_way: stripes that are read at once. Raises UserError when there is no library that fits.
    """

    def __init__(
        self,
        settings: FileSettings,
        library: Path | None,
        connections: int,
        report: Callable[[str], None] = lambda _: None,
        late: Late | None = None,
    ):
        self.counts = FileCounts()
        self._folders, self._report, self._late = settings.folders, report, late or Late()
        self._said: set[str] = set()
        self._alone_until = [0.0] * len(settings.folders)
        self._without_locate: set[int] = set()
        threads = settings.threads or min(len(os.sched_getaffinity(0)), MOST_THREADS)
        self.under_way = connections if library is None else threads * settings.depth
        self._files: Files = (
            PythonFiles(settings.read, connections)
            if library is None
            else NativeFiles(library, settings.read, threads, settings.depth)
        )
        self._say(None, self._files.refusal())

    def close(self) -> None:
        """Give back threads, buffers and rings."""
        self._files.close()

    def load(
        self, servers: Sequence[Sequence[Channel]], chunks: Sequence[Loading], deadline: Deadline
    ) -> list[tuple[Loading, Part]]:
        """Load what lies in files, tell its proofs, and return what is to be asked for by GET. Raises StoreError.

        Of a chunk of which a stripe is missing nothing more is asked for.
        """
        stripes = _Stripes.of(chunks, len(servers))
        with self._opened_folders(servers) as folders:
            order, counts = stripes.shared_out([len(channels) for channels in servers], folders >= 0)
            asked, ends = stripes.pieces[order], np.cumsum(counts)
            shares = {
                (server, channel): Share(channel, slice(end - count, end), int(folders[server]))
                for (server, channel), end, count in zip(
                    ((number, channel) for number, channels in enumerate(servers) for channel in channels),
                    ends.tolist(),
                    counts.tolist(),
                    strict=True,
                )
                if count
            }
            if shares:
                self._files.ask(list(shares.values()), asked, deadline)
                stripes.pieces[order] = asked
        for (server, _), share in shares.items():
            self._hear(server, share)
        good = stripes.proved(chunks)
        self._judge(servers, stripes, good)
        self._say(None, self._files.refusal())
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

    def _hear(self, server: int, share: Share) -> None:
        """What a connection's share came to, beside its pieces."""
        if share.refused is not None and "unknown command" in share.refused.lower():
            self._without_locate.add(server)
        if share.refused is not None:
            self._say(share.channel, f"it answered LOCATE with {share.refused}")
        if share.broken is not None:
            self._say(share.channel, share.broken)
        if share.broken is None and share.waited_s is not None:
            self._late.answered(share.channel, share.waited_s)
        if share.unreadable is not None:
            self._say(share.channel, f"cannot read {self._folders[server]}/{share.unreadable}")

    def _judge(self, servers: Sequence[Sequence[Channel]], stripes: _Stripes, good: np.ndarray) -> None:
        """Leave a folder alone of which much was said and nothing was right."""
        lengths = stripes.pieces["length"]
        by_file = (stripes.pieces["index"] > 0) & (stripes.pieces["file"] != IN_MEMORY)
        located = by_file & ((lengths >= 0) | (lengths == UNREAD))
        for number, folder in enumerate(self._folders):
            mine = located & (stripes.pieces["server"] == number)
            if mine.sum() >= _ENOUGH and not good[mine].any():
                self._alone_until[number] = time.monotonic() + LEFT_ALONE_S
                self._say(servers[number][0], f"what it says is not what lies in {folder}")

    def _left(
        self, chunks: Sequence[Loading], stripes: _Stripes, good: np.ndarray
    ) -> list[tuple[Loading, Part]]:
        left: list[tuple[Loading, Part]] = []
        retried = 0
        for chunk, rows in zip(chunks, stripes.rows, strict=True):
            pieces, proof = stripes.pieces[rows], chunk.proof
            if (pieces["length"] == MISSING).any():
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
            retried += int(((pieces["index"][again] > 0) & ((lengths >= 0) | (lengths == UNREAD))).sum())
            left += [(chunk, proof.parts[number]) for number in again.tolist()]
        came, now = good & (stripes.pieces["index"] > 0), self.counts
        read = came & (stripes.pieces["file"] != IN_MEMORY)
        by_get = int((came & ~read).sum()) + sum(part.index > 0 for _, part in left)
        self.counts = FileCounts(
            now.from_files + int(read.sum()),
            now.by_get + by_get,
            now.retried + retried,
            now.file_bytes + int(stripes.pieces["room"][read].sum()),
        )
        return left

    def _say(self, channel: Channel | None, why: str | None) -> None:
        if why is None:
            return
        by_get = "" if channel is None else "; what is not read from files is asked for by GET"
        line = f"{'' if channel is None else f'{channel.peer}: '}{why}{by_get}"
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
        pieces = np.zeros(sum(counts), PIECE)
        pieces["length"] = BY_GET
        text = ctypes.create_string_buffer(b"".join(chunk.key for chunk in chunks))
        at = ctypes.addressof(text)
        for chunk, mine in zip(chunks, rows, strict=True):
            part = pieces[mine]
            index, parts = np.arange(len(part)), chunk.proof.parts
            part["key"], part["key_bytes"], part["index"] = at, len(chunk.key), index
            part["place"] = chunk.buffer.ctypes.data + np.array([item.offset for item in parts])
            part["room"] = [item.length for item in parts]
            part["server"] = shard_of(chunk.key, index, servers)
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
            (head["magic"] == np.void(MAGIC))
            & (head["index"] == pieces["index"])
            & (head["length"] == pieces["room"])
        )
        good &= (head["checksum"] == pieces["checksum"]) & ((pieces["index"] == 0) | (head["root"] == 0))
        for chunk, rows in zip(chunks, self.rows, strict=True):
            mine = head[rows]
            good[rows] &= (mine["count"] == len(mine)) & (mine["chunk_bytes"] == chunk.buffer.size)
            good[rows] &= mine["chunk"] == np.void(chunk_id(chunk.key))
        return good
