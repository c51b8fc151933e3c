"""Saves behind the requests: a bounded queue that drops what does not fit, and one thread that empties it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .errors import StoreError
from .threads import refused

TOGETHER_BYTES = 256 << 20

Save = Callable[[Sequence[bytes], Sequence[np.ndarray]], None]


@dataclass(frozen=True)
class SaveCounts:
    """Chunks since the start: saved, dropped because the queue was full or closed, failed in the store."""

    saved: int = 0
    dropped: int = 0
    failed: int = 0


@dataclass(frozen=True)
class _Batch:
    keys: Sequence[bytes]
    values: Sequence[np.ndarray]
    done: Callable[[bool], None]

    @property
    def size(self) -> int:
        return sum(value.size for value in self.values)


class SaveQueue:
    """Batches of at most `most_bytes` together wait or are being saved; `offer` never waits.

    save: moves what waited, several batches at once; its StoreError counts them as failed. A batch's `done` is called exactly once, by the
    queue's thread, when its values are not read any more, with whether they were saved; for a batch that was not taken
    it is never called.
    """

    def __init__(self, save: Save, most_bytes: int, together: Callable[[], int] = lambda: TOGETHER_BYTES):
        self._save, self._together = save, together
        self._most_bytes = most_bytes
        self._pending_bytes = 0
        self._batches: deque[_Batch] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._counts = SaveCounts()
        self._thread = threading.Thread(target=self._work, name="saves", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            raise refused(1, error) from error

    @property
    def counts(self) -> SaveCounts:
        """What has become of the chunks so far."""
        with self._changed:
            return self._counts

    def offer(
        self, keys: Sequence[bytes], values: Sequence[np.ndarray], done: Callable[[bool], None]
    ) -> bool:
        """Take the batch, or drop it and return False: when it does not fit, or the queue is closed."""
        batch = _Batch(keys, values, done)
        with self._changed:
            if self._closed or self._pending_bytes + batch.size > self._most_bytes:
                self._count(dropped=len(keys))
                return False
            self._pending_bytes += batch.size
            self._batches.append(batch)
            self._changed.notify_all()
        return True

    def wait_empty(self, timeout_s: float) -> bool:
        """Wait until nothing waits or is being saved; False when that takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._pending_bytes and not self._batches, timeout_s)

    def close(self) -> None:
        """Drop what waits and return when the batch under way has ended."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _work(self) -> None:
        while batches := self._next():
            keys = [key for batch in batches for key in batch.keys]
            outcome = "failed"
            try:
                if self._closed:
                    outcome = "dropped"
                else:
                    self._save(keys, [value for batch in batches for value in batch.values])
                    outcome = "saved"
            except StoreError:
                pass
            finally:
                with self._changed:
                    self._count(**{outcome: len(keys)})
                    self._pending_bytes -= sum(batch.size for batch in batches)
                    self._changed.notify_all()
                for batch in batches:
                    batch.done(outcome == "saved")

    def _next(self) -> list[_Batch]:
        """What waits, up to about `together` bytes, so that its stripes are in flight together; nothing at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._batches or self._closed)
            found, size, together = [], 0, self._together()
            while self._batches and size < together:
                found.append(self._batches.popleft())
                size += found[-1].size
            return found

    def _count(self, saved: int = 0, dropped: int = 0, failed: int = 0) -> None:
        now = self._counts
        self._counts = SaveCounts(now.saved + saved, now.dropped + dropped, now.failed + failed)


class Saving:
    """Counts the parts of a task that have ended, its chunks and the offering of them; tells `done` whether all did well."""

    def __init__(self, parts: int, done: Callable[[bool], None]):
        self._left, self._done, self._saved = parts, done, True
        self._lock = threading.Lock()

    def ended(self, saved: bool) -> None:
        """One more part has ended."""
        with self._lock:
            self._left -= 1
            self._saved = self._saved and saved
            last = self._left == 0
        if last:
            self._done(self._saved)
