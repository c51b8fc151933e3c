"""A chunk as stripes: how it is cut, what each stripe says of itself, and when all of them together are the chunk.

Every stripe is one value under `<key>#<index>`: a head of HEAD_BYTES, then its part of the chunk. The head names the
chunk (a digest of its key), the chunk's length and number of stripes, the stripe's index, the XXH3 of its part, and in
stripe 0 the root: the XXH3 of all the stripes' checksums. Every field is known beforehand or is checked, so that a
stripe that is missing, short, damaged or of another chunk is noticed by itself, and one of an earlier save by the root.

Stripe 0 has no part of the chunk. It is what a lookup asks for, and Kvrocks reads a whole value to answer EXISTS.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import TypeVar

import numpy as np
from xxhash import xxh3_64_intdigest

Index = TypeVar("Index", int, np.ndarray)
_FIELDS = {
    "magic": "4s",
    "index": "I",
    "count": "I",
    "length": "I",
    "chunk_bytes": "Q",
    "chunk": "16s",
    "checksum": "Q",
    "root": "Q",
}
_HEAD = struct.Struct("<" + "".join(_FIELDS.values()))
HEAD = np.dtype(
    [(name, f"V{code[:-1]}" if code[-1] == "s" else f"<{code}") for name, code in _FIELDS.items()]
)
MAGIC = b"HKS2"
_CHECKSUM = struct.Struct("<Q")
_ID_BYTES = 16
HEAD_BYTES = _HEAD.size
STRIPE_BYTES = 1 << 20
STRIPES_IN_FLIGHT = 4
LEAST_STRIPE_BYTES = 4096


@dataclass(frozen=True)
class Part:
    """The bytes of one stripe within its chunk."""

    index: int
    offset: int
    length: int

    @property
    def end(self) -> int:
        """The offset of the byte after it."""
        return self.offset + self.length


@lru_cache(64)
def parts_of(chunk_bytes: int, stripe_bytes: int) -> Sequence[Part]:
    """A chunk's stripes in order: the empty stripe 0, then stripe_bytes each but the last. ValueError below 1."""
    if stripe_bytes < 1:
        raise ValueError(f"stripe_bytes is {stripe_bytes}; it must be at least 1")
    offsets = range(0, chunk_bytes, stripe_bytes)
    return (
        Part(0, 0, 0),
        *(Part(i, offset, min(stripe_bytes, chunk_bytes - offset)) for i, offset in enumerate(offsets, 1)),
    )


def stripe_key(key: bytes, index: int) -> bytes:
    """The key of one stripe of the chunk `key`."""
    return b"%b#%d" % (key, index)


def shard_of(key: bytes, index: Index, shards: int) -> Index:
    """Which of `shards` servers holds a stripe: the chunk's hash says where it begins, its stripes go round. Of one index or of many."""
    return (zlib.crc32(key) + index) % shards


def chunk_id(key: bytes) -> bytes:
    """16 bytes that name a chunk in the heads of its stripes."""
    return blake2b(key, digest_size=_ID_BYTES).digest()


def checksum(part: memoryview | bytes) -> int:
    """XXH3, 64 bits, of a stripe's part of the chunk."""
    return xxh3_64_intdigest(part)


def root_of(checksums: Sequence[int]) -> int:
    """XXH3, 64 bits, of a chunk's stripes' checksums in order."""
    return xxh3_64_intdigest(b"".join(map(_CHECKSUM.pack, checksums)))


@dataclass(frozen=True)
class Head:
    """What a stripe says of itself. root: of stripe 0, else 0."""

    index: int
    count: int
    length: int
    chunk_bytes: int
    chunk: bytes
    checksum: int
    root: int = 0

    def packed(self) -> bytes:
        """HEAD_BYTES bytes, little-endian."""
        return _HEAD.pack(MAGIC, *vars(self).values())


def read_head(data: bytes | memoryview) -> Head | None:
    """The head that `data` (HEAD_BYTES bytes) holds; None when it is of another format."""
    magic, *fields = _HEAD.unpack(data)
    return Head(*fields) if magic == MAGIC else None


class ChunkProof:
    """Collects a chunk's stripes while they arrive in any order, from several threads; `complete` at the end.

    A stripe is taken when its head is the expected one and its bytes have its checksum; the chunk is complete
    when all were taken and the root of stripe 0 is that of their checksums.
    """

    def __init__(self, key: bytes, chunk_bytes: int, stripe_bytes: int):
        self.parts = parts_of(chunk_bytes, stripe_bytes)
        self._id = chunk_id(key)
        self._chunk_bytes = chunk_bytes
        self._checksums: list[int | None] = [None] * len(self.parts)
        self._root: int | None = None
        self.found = 0

    def expects(self, part: Part, data: bytes | memoryview) -> Head | None:
        """The stripe's head, None unless it is exactly that of this part but for checksum and root."""
        head = read_head(data)
        if head is None:
            return None
        mine = (part.index, len(self.parts), part.length, self._chunk_bytes, self._id)
        same = mine == (head.index, head.count, head.length, head.chunk_bytes, head.chunk)
        return head if same and (part.index == 0 or head.root == 0) else None

    def take(self, part: Part, head: Head, found: int) -> None:
        """A stripe's bytes have arrived, with the head that `expects` returned; `found` is their checksum."""
        if found == head.checksum:
            self._checksums[part.index] = head.checksum
            if part.index == 0:
                self._root = head.root

    def proved(self, indexes: Sequence[int], checksums: Sequence[int], root: int | None) -> None:
        """Stripes have arrived whose heads are the expected ones and whose bytes have these checksums. root: of stripe 0."""
        self.found += len(indexes)
        for index, value in zip(indexes, checksums, strict=True):
            self._checksums[index] = value
        if root is not None:
            self._root = root

    def forget(self) -> None:
        """Nothing has arrived."""
        self.found, self._root = 0, None
        self._checksums = [None] * len(self.parts)

    def arrived(self, part: Part, data: bytes | memoryview, found: int) -> None:
        """A stripe of the right length has arrived: its head `data`, and the checksum that was found of its bytes."""
        self.found += 1
        if (head := self.expects(part, data)) is not None:
            self.take(part, head, found)

    @property
    def complete(self) -> bool:
        """Whether every byte of the chunk is proven."""
        known = [value for value in self._checksums if value is not None]
        return len(known) == len(self.parts) and self._root == root_of(known)
