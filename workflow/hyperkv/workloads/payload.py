"""Buffers and the bytes that stand for KV: random, reproducible from a key, checkable after a load."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Sequence

import numpy as np

ALIGNMENT = mmap.PAGESIZE
_POOL_BYTES = 64 << 20


def aligned_buffer(size: int, huge_pages: bool = False) -> np.ndarray:
    """A page-aligned, already faulted-in uint8 array of `size` bytes, fit for O_DIRECT. huge_pages: of these where the kernel has them."""
    kind = mmap.MAP_PRIVATE if huge_pages else mmap.MAP_SHARED
    memory = mmap.mmap(-1, max(size, 1), kind | mmap.MAP_ANONYMOUS)
    if huge_pages:
        with contextlib.suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)
    buffer = np.frombuffer(memory, dtype=np.uint8)[:size]
    buffer.fill(0)
    return buffer


class Payload:
    """The value that belongs to a key: a window of one random pool, at an offset taken from the key.

    value_bytes: length of every value. The pool holds random bytes, so compression gains nothing, and each
    key has one of 16,384 page-aligned windows, so a value served under the wrong key is noticed.
    """

    def __init__(self, value_bytes: int, seed: int = 0):
        self.value_bytes = value_bytes
        self._pool = aligned_buffer(_POOL_BYTES + value_bytes)
        words = self._pool[: self._pool.size // 8 * 8].view(np.uint64)
        words[:] = np.random.default_rng(seed).integers(0, 2**64, words.size, dtype=np.uint64)

    def value(self, key: bytes) -> np.ndarray:
        """The key's value: uint8, shape (value_bytes,), a page-aligned view of the pool."""
        offset = int.from_bytes(key[:4], "big") % (_POOL_BYTES // ALIGNMENT) * ALIGNMENT
        return self._pool[offset : offset + self.value_bytes]

    def matches(self, key: bytes, received: np.ndarray) -> bool:
        """Whether `received` is exactly the key's value."""
        expected = self.value(key)
        if received.size != expected.size:
            return False
        whole = received.size // 8 * 8
        return np.array_equal(
            received[:whole].view(np.uint64), expected[:whole].view(np.uint64)
        ) and np.array_equal(received[whole:], expected[whole:])

    def wrong(self, keys: Sequence[bytes], found: Sequence[bool], buffers: Sequence[np.ndarray]) -> int:
        """How many of the keys were not found, or came with other bytes in their buffers."""
        got = zip(keys, found, buffers, strict=True)
        return sum(not (hit and self.matches(key, buffer)) for key, hit, buffer in got)


def slots(buffer: np.ndarray, slot_bytes: int) -> list[np.ndarray]:
    """Cut a buffer into consecutive slots of `slot_bytes`; a remainder is left out."""
    return [buffer[i : i + slot_bytes] for i in range(0, buffer.size - slot_bytes + 1, slot_bytes)]
