"""Stripes below an LMCache server: what its L2 adapter `native_plugin` asks of a native connector.

    lmcache server --l2-adapter '{"type": "native_plugin",
      "module_path": "lmcache_striped.l2", "class_name": "StripedL2Client",
      "adapter_params": {"endpoints": "127.0.0.1:6666,127.0.0.1:6667"}}'

Further parameters are those of settings_from (cache_settings.py), without a prefix. Every submit_ returns the number of its task at once; drain_completions tells of it when it has ended. Interface:
lmcache/v1/distributed/l2_adapters/native_connector_l2_adapter.py (LMCache 0.5).
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from .cache import StripedCache
from .cache_settings import settings_from
from .chunk_names import Columns, row_and_chunk
from .gate_feed import GateFeed
from .lmcache_pool import LMCachePool, follow_lmcache
from .save_queue import Saving
from .threads import started

_PREFIX = "adapter_params"

# number of the task, whether it was done, why not, and of lookups and loads what was found, one per key
Completion = tuple[int, bool, str, "list[bool] | None"]


class StripedL2:
    """A StripedCache under LMCache's interface. Closes it in the end. Safe to use from several threads.

    warn: is told in a line when saves are dropped; note, what the gate decided; the cache's own `report`, when a lookup or a load
    failed in a way that the cache does not know. Lookups have a thread of their own, deletions have, and every load that goes on at once; a
    lookup finds leading chunks only, which is what a prefix cache asks for, and of these what the gate finds worth loading (gate.py), besides
    those that LMCache's own pool has. Raises UserError.
    """

    def __init__(
        self,
        cache: StripedCache,
        warn: Callable[[str], None] = lambda _: None,
        note: Callable[[str], None] = lambda _: None,
    ):
        self.cache = cache
        self._warn = warn
        self._feed = GateFeed.of(cache.settings, note, warn)
        self.pool = LMCachePool()
        self._left: dict[str, tuple[str, ...]] = {}
        self._sizes: dict[str, int] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._completed: list[Completion] = []
        self._asked: list[tuple[int, Columns]] | None = None  # lookups that wait for their turn
        self._going: Counter[str] = Counter()  # keys that are being deleted
        self._lookups = started(1, "striped-lookups")
        self._deletions = started(1, "striped-deletions")
        self._loads = started(cache.settings.loads_at_once, "striped-loads")
        self._descriptor: int | None = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def event_fd(self) -> int:
        """What becomes readable when something has completed. Raises ValueError when closed."""
        if self._descriptor is None:
            raise ValueError("closed")
        return self._descriptor

    def submit_batch_exists(self, keys: Sequence[str]) -> int:
        """Look for chunks; found are the leading ones, as far as it is worth loading them."""
        number, columns = next(self._numbers), Columns.of(keys)
        with self._lock:
            if self._asked is None:
                self._asked = []
                self._lookups.submit(self._look, self._asked)
            self._asked.append((number, columns))
        return number

    def _look(self, asked: list[tuple[int, Columns]]) -> None:
        """Answer the lookups that came since the last were asked, all by one question to the store.

        Who waits for a reply gives up Python's lock, and in LMCache's busy server it takes milliseconds to come back.
        """
        with self._lock:
            if self._asked is asked:
                self._asked = None
            is_kept = set(self._going).isdisjoint
        kept = (itertools.takewhile(is_kept, columns.names) for _, columns in asked)
        names = [[name.encode() for column in leading for name in column] for leading in kept]
        counts = functools.cache(lambda: tuple(self.cache.count_present_of_each(names)))
        for place, (number, columns) in enumerate(asked):
            self._end(number, functools.partial(self._worth, columns, counts, place))

    def _worth(self, columns: Columns, counts: Callable[[], Sequence[int]], place: int) -> list[bool]:
        """Of each key of a lookup whether it is found. counts: leading keys that are there, of every lookup that was asked with it."""
        present = counts()[place] // columns.rows
        return columns.found(present if self._feed is None else self._found(self._feed, columns, present))

    def _found(self, feed: GateFeed, columns: Columns, present: int) -> int:
        """How many leading chunks are found: those in LMCache's pool, which costs no load, and behind them what the gate finds."""
        feed.looked_up()
        held = self.pool.leading(columns.names)
        chunks, there = columns.chunks[held:], max(present - held, 0)
        found = feed.gate.decide(chunks, there, context_tokens=held * feed.gate.chunk_tokens).found
        if found < there:
            names = columns.names[held + found : present]
            self._left = dict(zip(chunks[found:there], names, strict=True))
        if probed := feed.gate.to_probe():
            self._loads.submit(self._probe, feed, [self._left[key] for key in probed if key in self._left])
        return min(held, present) + found

    def _probe(self, feed: GateFeed, columns: list[tuple[str, ...]]) -> None:
        """Load chunks that were left into a buffer of our own, so that the gate learns how fast the store is now."""
        names = [name for column in columns for name in column]
        sizes = [self._sizes.get(row_and_chunk(name)[0], 0) for name in names]
        if names and all(sizes):
            self._load_of(feed, names, [np.empty(size, np.uint8) for size in sizes])()

    def submit_batch_get(self, keys: Sequence[str], buffers: Sequence[memoryview]) -> int:
        """Load chunks into buffers of their size, which must stay until the task has ended."""
        arrays = [np.frombuffer(buffer, np.uint8) for buffer in buffers]
        if self._feed is None:
            return self._submit(self._loads, lambda: self.cache.load(_names(keys), arrays))
        return self._submit(self._loads, self._load_of(self._feed, keys, arrays))

    def _load_of(
        self, feed: GateFeed, keys: Sequence[str], arrays: Sequence[np.ndarray]
    ) -> Callable[[], list[bool]]:
        """What loads, when its turn comes, and tells the gate."""
        self.pool.went(keys)
        chunks = list(dict.fromkeys(row_and_chunk(key)[1] for key in keys))
        waiting = feed.gate.load_waits(chunks, sum(array.size for array in arrays))

        return lambda: feed.loaded(waiting, functools.partial(self.cache.load, _names(keys), arrays))

    def submit_batch_set(self, keys: Sequence[str], buffers: Sequence[memoryview]) -> int:
        """Save chunks, which must not change until the task has ended; done when all of them are saved.

        Those for which the queue has no room are dropped at once; those that a lookup left are there; those that are not worth it
        are as good as saved.
        """
        left = self._were_left(keys, buffers)
        number = next(self._numbers)
        task = Saving(
            len(keys) + 1, lambda saved: self._complete(number, saved, "" if saved else "not saved")
        )
        dropped = 0
        chunks = zip(_names(keys), buffers, left, strict=True)
        wanted = self.cache.worth_saving([(name, buffer) for name, buffer, there in chunks if not there])
        for _ in range(len(keys) - len(wanted)):
            task.ended(True)
        for name, buffer in wanted:
            if not self.cache.offer([name], [np.frombuffer(buffer, np.uint8)], task.ended):
                dropped += 1
                task.ended(False)
        if dropped:
            self._warn(f"dropped {dropped} chunks, saves are behind")
        task.ended(True)
        return number

    def submit_batch_delete(self, keys: Sequence[str]) -> int:
        """Delete chunks; found are those that were there. Lookups that come later find none of them, and do not wait for it: with a bound
        a deletion has its turn when the save under way has ended."""
        number = next(self._numbers)
        with self._lock:
            self._asked = None
        self._lookups.submit(self._begin_deleting, number, keys)
        return number

    def _begin_deleting(self, number: int, keys: Sequence[str]) -> None:
        """When the lookups that came before have been answered."""
        with self._lock:
            self._going.update(keys)
        self._deletions.submit(self._end, number, functools.partial(self._delete, keys))

    def _delete(self, keys: Sequence[str]) -> list[bool]:
        try:
            return self.cache.delete(_names(keys))
        finally:
            with self._lock:
                self._going -= Counter(keys)

    def _were_left(self, keys: Sequence[str], buffers: Sequence[memoryview]) -> list[bool]:
        """Of each key whether a lookup left its chunk, so that it is there already."""
        if self._feed is None:
            return [False] * len(keys)
        named = [row_and_chunk(key) for key in keys]
        self._sizes.update((row, buffer.nbytes) for (row, _), buffer in zip(named, buffers, strict=True))
        chunks = list(dict.fromkeys(chunk for _, chunk in named))
        size = sum(self._sizes.values()) * len(chunks)
        there = dict(zip(chunks, self._feed.gate.saves(chunks, size), strict=True))
        return [there[chunk] for _, chunk in named]

    def drain_completions(self) -> list[Completion]:
        """What has ended since the last call, every task once."""
        with self._lock:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self.event_fd())
            completed, self._completed = self._completed, []
        return completed

    def close(self) -> None:
        """End the lookups, loads and saves under way and close every connection; twice is once."""
        for threads in (self._lookups, self._deletions, self._loads):
            threads.shutdown(cancel_futures=True)
        if self._feed is not None:
            self._feed.close()
        self.cache.close()
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _submit(self, threads: ThreadPoolExecutor, work: Callable[[], list[bool]]) -> int:
        number = next(self._numbers)
        threads.submit(self._end, number, work)
        return number

    def _end(self, number: int, work: Callable[[], list[bool]]) -> None:
        """Do a task, and say that it has ended."""
        try:
            found = work()
        except Exception as error:  # a task that never ends would hold its request for ever
            why = f"{type(error).__name__}: {error}"
            self.cache.report(f"a lookup or load failed: {why}")
            self._complete(number, False, why)
        else:
            self._complete(number, True, "", found)

    def _complete(self, number: int, done: bool, why: str, found: list[bool] | None = None) -> None:
        with self._lock:
            if self._descriptor is None:
                return
            self._completed.append((number, done, why, found))
            os.eventfd_write(self._descriptor, 1)


class StripedL2Client(StripedL2):
    """What `class_name` names, imported by LMCache 0.5 only. Raises UserError."""

    def __init__(self, **parameters: Any):
        from lmcache.logging import init_logger

        self._logger = init_logger(__name__)
        settings = settings_from({f"{_PREFIX}.{key}": value for key, value in parameters.items()}, _PREFIX)
        self._logger.info("striped: %s", settings.loads_by)
        logs = (self._logger.error, self._logger.warning, self._logger.info)
        report, warn, note = (functools.partial(log, "striped: %s") for log in logs)
        super().__init__(StripedCache(settings, report, warn, note), warn, note)
        if self._feed is not None:
            follow_lmcache(self.pool, warn)

    def close(self) -> None:
        super().close()
        if self._feed is not None:
            self._logger.info("striped: %s", self._feed.gate.told)
        self._logger.info("striped: %s", self.cache.counts)


def _names(keys: Sequence[str]) -> list[bytes]:
    return [key.encode() for key in keys]
