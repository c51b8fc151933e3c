"""A bound on loads: of what is there a lookup finds only as much as can be loaded without a long wait; the rest is computed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

_REMEMBERED = 1 << 16


class LoadBound:
    """At most `most_bytes` are being loaded or wait for it; None for no bound. Safe to use from several threads.

    Lookups that come together, before the loads that follow them, each find all of the room. The size of a chunk is
    known from the first load or save; until then everything is found.
    """

    def __init__(self, most_bytes: int | None):
        self._most_bytes = most_bytes
        self._loading_bytes = 0
        self._chunk_bytes = 0
        self._left: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def saw(self, buffers: Sequence[memoryview]) -> None:
        """Learn the size of a chunk."""
        if buffers:
            with self._lock:
                self._chunk_bytes = buffers[0].nbytes

    def begin(self, size: int) -> None:
        """So many bytes wait to be loaded, until `end` is told of as many."""
        with self._lock:
            self._loading_bytes += size

    def end(self, size: int) -> None:
        """So many bytes do not wait any more."""
        with self._lock:
            self._loading_bytes -= size

    def fitting(self, present: Sequence[str]) -> int:
        """For how many leading ones of the chunks that are there is room; the others are remembered as left."""
        if self._most_bytes is None:
            return len(present)
        with self._lock:
            if not self._chunk_bytes:
                return len(present)
            room = max(0, self._most_bytes - self._loading_bytes)
            fitting = min(len(present), room // self._chunk_bytes)
            for key in present[fitting:]:
                self._left[key] = None
                self._left.move_to_end(key)
            while len(self._left) > _REMEMBERED:
                self._left.popitem(last=False)
        return fitting

    def was_left(self, key: str) -> bool:
        """Whether the chunk was left, and so is there already when it comes to be saved; true once."""
        with self._lock:
            return self._left.pop(key, self) is None
