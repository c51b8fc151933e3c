"""Stripes for a serving engine: a store that fails is a cache that misses, and nothing ever waits for a save.

Lookups, loads and saves have connections of their own, so that none queues behind another kind.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np

from .bound import Bound, BoundCounts
from .bounded import BoundedConnector
from .cache_settings import CacheSettings
from .cluster import Cluster, PartlyLost
from .connector import StripedConnector
from .direct import FileSettings
from .errors import StoreError
from .file_counts import FileCounts
from .ledger import Ledger
from .save_queue import SaveCounts, SaveQueue
from .save_share import SaveShare
from .savers import Savers
from .second_use import SecondUse, told
from .shape import Shape

T = TypeVar("T")


@dataclass(frozen=True)
class CacheCounts:
    """Since the start. loaded, missed: chunks asked for; damaged: of the missed, those that were there and not whole.

    failures: calls that the store failed; skipped: calls made while it was left alone. saves: see SaveCounts. files: see
    FileCounts. first_uses: chunks that were not saved for want of a second use. bound: see
    BoundCounts.
    """

    loaded: int
    missed: int
    damaged: int
    failures: int
    skipped: int
    saves: SaveCounts
    files: FileCounts | None
    first_uses: int
    bound: BoundCounts | None = None


class StripedCache:
    """Lookups, loads, saves and deletions that never raise StoreError. Safe to use from several threads.

    report: is told in a line when the store fails and when chunks are damaged; warn, why files are not read; note, of each load
    how much of it came from files, and of every call how a shaped device held it back. rank: which of those that share the store, each with a bound of its own. share: what
    saves take while loads come.
    """

    def __init__(
        self,
        settings: CacheSettings,
        report: Callable[[str], None] = lambda _: None,
        warn: Callable[[str], None] = lambda _: None,
        note: Callable[[str], None] = lambda _: None,
        *,
        rank: str = "0",
        share: SaveShare | None = None,
    ):
        self.settings = settings
        self.report, self._warn, self._note = report, warn, note
        self._prefix = settings.endpoints[0].prefix.encode()
        self.shape = Shape(settings.device, note)
        self._cluster = Cluster(settings.endpoints, report)
        self._ledger = Ledger(settings.endpoints, 1, settings.timeout_s, connect=False, cluster=self._cluster)
        self.bound = None
        if settings.bound_bytes is not None:
            self.bound = Bound(settings.bound_bytes, self._ledger, settings.stripe_bytes, rank, warn)
        self._lookups = self._connector(1)
        self._loads = [
            self._connector(settings.connections, settings.files) for _ in range(settings.loads_at_once)
        ]
        self._free: queue.SimpleQueue[StripedConnector] = queue.SimpleQueue()
        for connector in self._loads:
            self._free.put(connector)
        self._share = share or SaveShare()
        self._stores = self._connector(
            settings.save_connections or settings.connections, turn=self._share.wait
        )
        self._saves = SaveQueue(self._save, settings.save_queue_bytes, self._share.together)
        self._uses = SecondUse() if settings.save == "second_use" else None
        self._savers = Savers(note) if settings.engines > 1 else None
        self._lock = threading.Lock()
        self._alone_until = 0.0
        self._loaded = self._missed = self._failures = self._skipped = 0

    def _connector(
        self,
        connections: int,
        files: FileSettings | None = None,
        turn: Callable[[int], float] | None = None,
    ) -> StripedConnector:
        chosen = self.settings
        make = StripedConnector if self.bound is None else partial(BoundedConnector, self.bound)
        return make(
            chosen.endpoints,
            connections,
            chosen.timeout_s,
            chosen.stripe_bytes,
            chosen.stripes_in_flight,
            connect=False,
            library=chosen.library,
            files=files,
            report=self._warn,
            turn=turn,
            shape=self.shape,
            cluster=self._cluster,
        )

    def close(self) -> None:
        """Drop the saves that wait, end the one under way and close every connection."""
        self._share.close()
        self._saves.close()
        if self.bound is not None:
            self.bound.close()
        self._ledger.close()
        for connector in (self._lookups, *self._loads, self._stores):
            connector.close()

    @property
    def counts(self) -> CacheCounts:
        """What has happened so far."""
        with self._lock:
            return CacheCounts(
                self._loaded,
                self._missed,
                sum(connector.damaged_chunks for connector in self._loads),
                self._failures,
                self._skipped,
                self._saves.counts,
                FileCounts.sum_of([connector.file_counts for connector in self._loads]),
                0 if self._uses is None else self._uses.first_uses,
                None if self.bound is None else self.bound.counts,
            )

    def _own(self, keys: Sequence[bytes]) -> Sequence[bytes]:
        """The keys as they are in the servers."""
        return [self._prefix + key for key in keys] if self._prefix else keys

    def count_present(self, keys: Sequence[bytes]) -> int:
        """How many leading chunks are there; 0 when the store fails."""
        return self.count_present_of_each([keys])[0]

    def count_present_of_each(self, prompts: Sequence[Sequence[bytes]]) -> list[int]:
        """count_present of several prompts, which are asked for together."""
        return self._tried(
            lambda: self._lookups.count_present_of_each([self._own(keys) for keys in prompts]),
            [0] * len(prompts),
        )

    def present(self, keys: Sequence[bytes]) -> list[bool]:
        """Whether each chunk is there; none is when the store fails."""
        return self._tried(lambda: self._lookups.present(self._own(keys)), [False] * len(keys))

    def load(
        self,
        keys: Sequence[bytes],
        buffers: Sequence[np.ndarray],
        begun: Callable[[], None] = lambda: None,
    ) -> list[bool]:
        """Fill buffers[i] (uint8, the chunk's size); False where the chunk is missing, damaged or the store fails.

        A buffer of which False is said holds anything. begun: is called when it is this load's turn.
        """
        connector = self._free.get()
        try:
            begun()
            return self._load(connector, keys, buffers)
        finally:
            self._free.put(connector)

    def _load(
        self, connector: StripedConnector, keys: Sequence[bytes], buffers: Sequence[np.ndarray]
    ) -> list[bool]:
        damaged, read, begun = connector.damaged_chunks, connector.file_counts, time.monotonic()
        with self._share.load(sum(buffer.size for buffer in buffers)) as loaded:
            found = self._tried(lambda: connector.get(self._own(keys), buffers), [False] * len(keys))
            loaded(sum(buffer.size for buffer, hit in zip(buffers, found, strict=True) if hit))
        with self._lock:
            self._loaded += found.count(True)
            self._missed += found.count(False)
        if self._savers is not None:
            self._savers.loaded(keys, found)
        if connector.damaged_chunks > damaged:
            self.report(f"{connector.damaged_chunks - damaged} of {len(keys)} chunks are damaged")
        if read is not None and (now := connector.file_counts) is not None:
            self._note(f"{now.since(read).told}, in {(time.monotonic() - begun) * 1e3:.1f} ms")
        return found

    def delete(self, keys: Sequence[bytes]) -> list[bool]:
        """Delete chunks, and whether each was there; none when the store fails or the bound is another instance's to keep."""
        remove = self._ledger.delete if self.bound is None else self.bound.delete
        return self._tried(lambda: remove(self._own(keys)), [False] * len(keys))

    def worth_saving(self, chunks: Sequence[tuple[bytes, T]]) -> list[tuple[bytes, T]]:
        """Which chunks to offer, by key: all, or those that come for the second time. To be asked once for each chunk that comes."""
        if self._uses is None:
            return [*chunks]
        again = self._uses.again([key for key, _ in chunks])
        if first := again.count(False):
            self._note(told(first))
        return [chunk for chunk, is_known in zip(chunks, again, strict=True) if is_known]

    def offer(
        self, keys: Sequence[bytes], values: Sequence[np.ndarray], done: Callable[[bool], None]
    ) -> bool:
        """Save the chunks later, and call `done` then, with whether they were saved; False, and nothing more, when they are dropped."""
        return self._saves.offer(self._own(keys), values, done)

    def wait_saved(self, timeout_s: float) -> bool:
        """Wait until no save is waiting or under way; False when that takes longer."""
        return self._saves.wait_empty(timeout_s)

    def _save(self, keys: Sequence[bytes], values: Sequence[np.ndarray]) -> None:
        def save() -> bool:
            self._stores.put(keys, values)
            return True

        if self.bound is not None:
            self.bound.require_mine()
        try:
            saved = self._tried(save, False)
        except Exception as error:  # the thread of saves must go on: whose memory they hold waits for it
            self.report(f"a save failed: {type(error).__name__}: {error}")
            raise StoreError(str(error)) from error
        if not saved:
            raise StoreError("the store failed, or is left alone")
        if self._savers is not None:
            self._savers.saved(keys)

    def _tried(self, work: Callable[[], T], otherwise: T) -> T:
        with self._lock:
            if time.monotonic() < self._alone_until:
                self._skipped += 1
                return otherwise
        try:
            return work()
        except PartlyLost as lost:
            with self._lock:
                self._failures += 1
            return otherwise if lost.found is None else lost.found
        except StoreError as error:
            with self._lock:
                self._failures += 1
                self._alone_until = time.monotonic() + self.settings.retry_s
            self.report(f"the store failed and is left alone for {self.settings.retry_s:g} s: {error}")
            return otherwise
