"""The commands on stripes: EXISTS of one, GET of one into its part of a buffer, SET of one from its part of a chunk."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .channels import Exchange, command
from .stripes import HEAD_BYTES, ChunkProof, Head, Part, checksum, chunk_id, parts_of, root_of

_CRLF = memoryview(b"\r\n")


class Lookup(Exchange):
    """EXISTS of a key."""

    name = "EXISTS"

    def __init__(self, key: bytes):
        self._key = key
        self.present = False

    def request(self) -> Sequence[bytes | memoryview]:
        return [command(b"EXISTS", self._key)]

    def line(self, line: bytes) -> bool:
        self.present = line == b":1"
        return line in (b":0", b":1")


class Load(Exchange):
    """GET of one stripe, by its key in the store, into `view` of the buffer. address: where that lies, for native.py."""

    name = "GET"
    head_bytes = HEAD_BYTES

    def __init__(self, key: bytes, part: Part, proof: ChunkProof, view: memoryview, address: int):
        self.key, self.part, self.proof, self._view, self.address = key, part, proof, view, address
        self._head: Head | None = None

    def request(self) -> Sequence[bytes | memoryview]:
        return [command(b"GET", self.key)]

    def line(self, line: bytes) -> bool:
        return line == b"$-1"

    def place(self, length: int, head: memoryview) -> memoryview | None:
        if length != HEAD_BYTES + self.part.length:
            return None
        self.proof.found += 1
        self._head = self.proof.expects(self.part, head)
        return None if self._head is None else self._view

    def placed(self) -> None:
        assert self._head is not None
        self.proof.take(self.part, self._head, checksum(self._view))


class Save(Exchange):
    """SET of one stripe under its key in the store. siblings: the chunk's other saves, for stripe 0. turn: waits until so many
    bytes may be sent.
    """

    name = "SET"
    checksum: int
    turn: Callable[[int], None] | None = None

    def __init__(self, key: bytes, part: Part, head: tuple[int, int, bytes], view: memoryview):
        self.key, self.part, self._view = key, part, view
        count, chunk_bytes, chunk = head
        self._head = (part.index, count, part.length, chunk_bytes, chunk)
        self.siblings: Sequence[Save] = ()

    def request(self) -> Sequence[bytes | memoryview]:
        if self.turn is not None:
            self.turn(self.part.length)
        self.checksum = checksum(self._view)
        root = root_of([save.checksum for save in (self, *self.siblings)]) if self.part.index == 0 else 0
        head = Head(*self._head, self.checksum, root)
        words = (len(self.key), self.key, HEAD_BYTES + self.part.length, head.packed())
        return [b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b" % words, self._view, _CRLF]

    def line(self, line: bytes) -> bool:
        return line == b"+OK"


def saves_of(key: bytes, value: np.ndarray, stripe_bytes: int, names: Sequence[bytes]) -> list[Save]:
    """The saves of the stripes of the chunk `key`, in order. names: their keys in the store."""
    parts, view = parts_of(value.size, stripe_bytes), value.data
    head = (len(parts), value.size, chunk_id(key))
    saves = [
        Save(name, part, head, view[part.offset : part.end]) for name, part in zip(names, parts, strict=True)
    ]
    saves[0].siblings = saves[1:]
    return saves


class Asking(Exchange):
    """Leave for the next command, where a cluster's slot is moving to: ASKING."""

    name = "ASKING"

    def request(self) -> Sequence[bytes | memoryview]:
        return [b"*1\r\n$6\r\nASKING\r\n"]

    def line(self, line: bytes) -> bool:
        return line == b"+OK"
