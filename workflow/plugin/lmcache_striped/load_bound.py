"""A bound on loads: of what is there a lookup finds only what can be loaded without a long wait; the rest is computed."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence


class LoadBound:
    """A lookup finds as much as fits in `most_bytes` beside the loads under way; None for no bound. For several threads.

    Lookups that come together, before the loads that follow them, each find all of the room. The size of a chunk is
    known from the first load or save; until then everything is found. remembered: how many chunks that were left are
    known, for remembered_s.
    """

    def __init__(self, most_bytes: int | None, remembered: int = 1 << 16, remembered_s: float = 60.0):
        self._most_bytes = most_bytes
        self._remembered, self._remembered_s = remembered, remembered_s
        self._loading_bytes = 0
        self._chunk_bytes = 0
        self._left: OrderedDict[str, float] = OrderedDict()
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

    def fitting(self, keys: Sequence[str], present: int) -> int:
        """Of the leading chunks that are there how many have room; what is behind them is remembered as left.

        keys: those that were looked for; the first `present` are there. What is found or not there is not left any more.
        """
        if self._most_bytes is None:
            return present
        with self._lock:
            fitting = present
            if self._chunk_bytes:
                room = max(0, self._most_bytes - self._loading_bytes)
                fitting = min(present, room // self._chunk_bytes)
            now = time.monotonic()
            for number, key in enumerate(keys):
                self._left.pop(key, None)
                if fitting <= number < present:
                    self._left[key] = now
            while len(self._left) > self._remembered:
                self._left.popitem(last=False)
        return fitting

    def was_left(self, key: str) -> bool:
        """Whether the chunk was left a moment ago, and so is there already when it comes to be saved; true once."""
        with self._lock:
            since = self._left.pop(key, None)
        return since is not None and time.monotonic() - since < self._remembered_s
