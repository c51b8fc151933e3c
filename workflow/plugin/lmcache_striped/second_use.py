"""Saving at the second use: a sketch of the chunks that have come to be saved, in memory that does not grow.

A chunk comes to be saved when a request has computed it. One that comes again was asked for since, and was not there.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence

from .stripes import chunk_id

SAVES = ("first_use", "second_use")
REMEMBERED = 1 << 20
_BITS_PER_CHUNK = 16
_HASHES = 8
_TOLD = re.compile(r"striped: (\d+) chunks came for the first time")


class SecondUse:
    """Tells chunks that come to be saved again from those that come for the first time. For several threads.

    Two Bloom filters of 16 bits for each of `remembered` chunks, 4 MiB together: when the newer one has so many chunks, the
    older one is forgotten and begins anew. So at least the last `remembered` different chunks are known, at most twice as many; one of
    them is never taken for new. A new one is taken for known, and so saved at its first use, with a probability of at most 2 (1 -
    exp(-8/16))^8 = 0.12 %, half of that on the average. Both go with the process.
    """

    def __init__(self, remembered: int = REMEMBERED):
        self._remembered = remembered
        self._bits = _BITS_PER_CHUNK * remembered
        self._newer, self._older = self._filter(), self._filter()
        self._chunks = self._first_uses = 0
        self._lock = threading.Lock()

    @property
    def first_uses(self) -> int:
        """Chunks that came for the first time."""
        return self._first_uses

    def again(self, keys: Sequence[bytes]) -> list[bool]:
        """Whether each chunk came before; they all have come now."""
        with self._lock:
            found = [self._came(key) for key in keys]
            self._first_uses += found.count(False)
        return found

    def _came(self, key: bytes) -> bool:
        name = chunk_id(key)
        start, step = int.from_bytes(name[:8], "little"), int.from_bytes(name[8:], "little") | 1
        places = [divmod((start + number * step) % self._bits, 8) for number in range(_HASHES)]
        if all(self._newer[byte] >> bit & 1 for byte, bit in places):
            return True
        known = all(self._older[byte] >> bit & 1 for byte, bit in places)
        if self._chunks == self._remembered:
            self._newer, self._older, self._chunks = self._filter(), self._newer, 0
        for byte, bit in places:
            self._newer[byte] |= 1 << bit
        self._chunks += 1
        return known

    def _filter(self) -> bytearray:
        return bytearray(-(-self._bits // 8))


def told(first_uses: int) -> str:
    """For a log, and `told_by`."""
    return f"{first_uses} chunks came for the first time, and are not saved"


def told_by(line: str) -> int:
    """The chunks that a log's line tells of; 0 for another line."""
    return int(found[1]) if (found := _TOLD.search(line)) else 0
