"""A bound on what a store keeps: past it the least recently used chunks go, and the order of use is kept in the store itself.

What is about to be saved is in the log before it is in the store, and what was deleted is in it afterwards, so that no end of
a client or a server leaves anything that nobody counts. Every server has the log, and each may lose its end: what any of
them tells is counted, and what is not whole is deleted. One instance keeps the bound of a store: the others, as long as it
lives, find and load, and save nothing.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .errors import StoreError
from .ledger import Ledger
from .order import Entry, Order, Prompts, merged
from .order_log import OrderLog, Taken
from .stripes import STRIPE_BYTES, parts_of

WATCH_S = 0.5  # between two signs of life
GONE_S = 3.0  # without one the instance that keeps the bound has gone
_PART_BYTES = 1 << 20
_TOGETHER = 256  # chunks that are deleted or looked for together


@dataclass(frozen=True)
class BoundCounts:
    """Stored bytes and chunks that are there, what went since the start for the bound, and what was deleted by call."""

    bound_bytes: int
    used_bytes: int = 0
    chunks: int = 0
    evicted_chunks: int = 0
    evicted_bytes: int = 0
    deleted_chunks: int = 0

    @property
    def told(self) -> str:
        """For a log."""
        return (
            f"bound: {self.used_bytes:,} of {self.bound_bytes:,} bytes in {self.chunks} chunks, {self.evicted_chunks} chunks "
            f"({self.evicted_bytes:,} bytes) went, {self.deleted_chunks} were deleted"
        )


class Bound:
    """At most `most_bytes` stored bytes, of what this instance and those before it saved. Safe for several threads.

    ledger: to the servers, closed in the end. stripe_bytes: of what is saved. name: of this instance's part of the store, which has an
    order of its own, such as a rank's. report: is told in a line when another instance keeps the bound, and what cannot be
    done. A thread takes over what is there, gives signs of life, and logs uses.
    """

    def __init__(
        self,
        most_bytes: int,
        ledger: Ledger,
        stripe_bytes: int = STRIPE_BYTES,
        name: str = "0",
        report: Callable[[str], None] = lambda _: None,
    ):
        self.most_bytes = most_bytes
        self._ledger, self._stripe_bytes, self._report = ledger, stripe_bytes, report
        self._log = OrderLog(ledger, name)
        self._lock = threading.Lock()  # of the order
        self._work = threading.RLock()  # of what changes the store
        self._order = Order()
        self._prompts: Prompts[bytes] = Prompts()
        self._evicted = self._evicted_bytes = self._deleted = 0
        self._mine = threading.Event()
        self._closing = threading.Event()
        self._unsure = False
        self._broken: dict[bytes, int] = {}
        self._seen: tuple[bytes | None, float] | None = None
        self._said: set[str] = set()
        self._thread = threading.Thread(target=self._keep, name="striped-bound", daemon=True)
        self._thread.start()

    @property
    def mine(self) -> bool:
        """Whether this instance keeps the bound, and so may save."""
        return self._mine.is_set()

    def wait(self, timeout_s: float) -> bool:
        """Wait until this instance keeps the bound; False when that takes longer."""
        return self._mine.wait(timeout_s)

    @property
    def counts(self) -> BoundCounts:
        """What has happened so far."""
        with self._lock:
            told = (
                self._order.used_bytes,
                len(self._order),
                self._evicted,
                self._evicted_bytes,
                self._deleted,
            )
        return BoundCounts(self.most_bytes, *told)

    def keys(self) -> list[bytes]:
        """Chunks that are there, from the least to the most recently used."""
        with self._lock:
            return [entry.key for entry in self._order]

    def close(self) -> None:
        """Log what was used, let go of the bound and close the connections; twice is once."""
        self._closing.set()
        self._thread.join()
        if self._mine.is_set():
            with contextlib.suppress(StoreError):
                self._append()
                self._log.let_go()
        self._mine.clear()
        self._ledger.close()

    # Uses

    def looked_for(self, keys: Sequence[bytes], found: int) -> None:
        """A lookup of a prompt's chunks has found the leading ones. What is saved of the others later is a use of all before it. Where
        another instance keeps the bound nobody would log a use."""
        with self._lock:
            for key in reversed(keys[:found]) if self.mine else ():
                self._order.use(key)
            self._prompts.looked_for(keys, found)

    def loaded(self, keys: Sequence[bytes], sizes: Sequence[int], found: Sequence[bool]) -> None:
        """Chunks were loaded, or not: a chunk that is there and was not counted is."""
        if not self.mine:
            return
        with self._lock:
            for key, size, there in reversed(list(zip(keys, sizes, found, strict=True))):
                if there and key not in self._order:
                    self._order.save(key, size, self._stripes(size))
                elif there:
                    self._order.use(key)
                elif (entry := self._order.find(key)) is not None:
                    self._broken[key] = entry.used

    # Changes

    def batches(self, sizes: Sequence[int]) -> Iterator[slice]:
        """What is saved together, so that it never takes more than an eighth of the bound, or is one chunk."""
        start = total = 0
        for number, size in enumerate(sizes):
            if number > start and total + size > self.most_bytes // 8:
                yield slice(start, number)
                start, total = number, 0
            total += size
        if start < len(sizes):
            yield slice(start, len(sizes))

    @contextlib.contextmanager
    def saving(self, keys: Sequence[bytes], sizes: Sequence[int]) -> Iterator[None]:
        """Make room for the chunks and log them, before the block saves them. Raises StoreError, and then they must not be."""
        with self._work:
            self.require_mine()
            entries = {
                key: Entry(key, size, self._stripes(size)) for key, size in zip(keys, sizes, strict=True)
            }
            largest = max((entry.stored_bytes for entry in entries.values()), default=0)
            if largest > self.most_bytes:
                raise StoreError(
                    f"bound_bytes: {self.most_bytes:,} bytes do not hold a chunk, which takes {largest:,}; raise it"
                )
            with self._lock:
                before = self._prompts.before(keys)
                known = [entry for key in entries if (entry := self._order.find(key)) is not None]
                new = sum(each.stored_bytes for each in entries.values()) - sum(
                    each.stored_bytes for each in known
                )
                gone = self._order.oldest(self._order.used_bytes + new - self.most_bytes, frozenset(entries))
            self._remove(gone)
            if not {entry.key for entry in gone}.isdisjoint(before):
                self._say(
                    f"bound_bytes: {self.most_bytes:,} bytes do not hold the prompts that come at once: the beginning of one went while "
                    "its end was saved; raise it"
                )
            with self._lock:
                self._evicted += len(gone)
                self._evicted_bytes += sum(entry.stored_bytes for entry in gone)
                for key in reversed(entries):
                    self._order.save(key, entries[key].chunk_bytes, entries[key].stripes)
                for key in before:
                    self._order.use(key)
            try:
                self._append()
                yield
            except BaseException:
                self._unsure = True
                raise

    def delete(self, keys: Sequence[bytes]) -> list[bool]:
        """Delete chunks that a caller does not want any more; whether each was there. Raises StoreError."""
        with self._work:
            self.require_mine()
            with self._lock:
                known = [self._order.find(key) for key in keys]
            counts = self._ledger.stripe_counts(keys)
            found = [
                Entry(key, 0, count) if entry is None else entry
                for key, entry, count in zip(keys, known, counts, strict=True)
                if entry is not None or count
            ]
            self._remove(found)
            with self._lock:
                self._deleted += len(found)
            self._append()
        return [entry is not None or count > 0 for entry, count in zip(known, counts, strict=True)]

    def _stripes(self, size: int) -> int:
        return len(parts_of(size, self._stripe_bytes))

    def require_mine(self) -> None:
        """Raises StoreError while another instance keeps the bound, or this one has not taken it over yet."""
        if not self._mine.is_set():
            raise StoreError("this instance does not keep the store's bound, so it saves and deletes nothing")

    def _remove(self, gone: Sequence[Entry]) -> None:
        for start in range(0, len(gone), _TOGETHER):
            some = gone[start : start + _TOGETHER]
            self._ledger.unlink([(entry.key, entry.stripes) for entry in some])
            with self._lock:
                for entry in some:
                    self._order.delete(entry.key)

    def _append(self) -> None:
        """Log what has changed. Raises StoreError; when another instance has taken the bound over, this one lets go of it."""
        with self._lock:
            whole, long = self._log.whole, self._log.is_long(len(self._order))
            text = self._order.take() if whole and not long and self._order.pending else b""
        try:
            if text:
                whole = self._log.append(text)
            if not whole:
                self._delete_what_came_back()
            if long or not whole:
                self._write()
        except Taken as error:
            self._mine.clear()
            self._seen = None
            self._say(str(error))
            raise

    def _write(self) -> None:
        with self._lock:
            parts = self._order.snapshot(_PART_BYTES)
        self._log.write(parts)

    # Its thread

    def _keep(self) -> None:
        while not self._closing.is_set():
            try:
                if self._mine.is_set():
                    self._go_on()
                else:
                    self._take_over()
            except StoreError as error:
                self._say(f"the order of use cannot be kept: {error}")
            self._closing.wait(WATCH_S)

    def _go_on(self) -> None:
        self._log.sign()
        if self._work.acquire(timeout=WATCH_S):  # whoever holds it longer logs as well
            try:
                self._append()
                if self._unsure:
                    self._delete_what_is_not_whole()
                    self._unsure = False
                self._delete_what_did_not_load()
            finally:
                self._work.release()

    def _take_over(self) -> None:
        """Become the one that keeps the bound, when no other lives."""
        with self._work:
            other, sign = self._log.other()
            now = time.monotonic()
            if other:
                if self._seen is None or self._seen[0] != sign:
                    if self._seen is not None:
                        self._say(
                            "another instance keeps the store's bound: this one finds and loads, and saves nothing until "
                            "that one has gone"
                        )
                    self._seen = (sign, now)
                    return
                if now - self._seen[1] < GONE_S:
                    return
            order = merged(self._log.claim())
            self._log.sign()
            with self._lock:
                self._order = order
            self._delete_what_is_not_whole()
            with self._lock:
                gone = self._order.oldest(self._order.used_bytes - self.most_bytes)
            self._remove(gone)
            self._write()
            self._said.clear()
            self._mine.set()

    def _delete_what_did_not_load(self) -> None:
        """Chunks that were there and whose stripes did not prove them, so that they are saved again."""
        with self._lock:
            found = [self._order.find(key) for key in self._broken]
            gone = [each for each in found if each is not None and each.used == self._broken[each.key]]
            self._broken = {}
        self._remove(gone)

    def _delete_what_came_back(self) -> None:
        """Chunks that a server tells of, and that were deleted: it has lost its end, and with it the deletion."""
        self._unsure = True
        entries = [entry for told in self._log.told() for entry in told.entries.values()]
        with self._lock:
            gone = [entry for entry in entries if entry.key not in self._order]
        self._remove(gone)

    def _delete_what_is_not_whole(self) -> None:
        """Chunks whose stripe 0 is not there: a save that did not end, a deletion, what a server has lost."""
        with self._lock:
            entries = list(self._order)
        for start in range(0, len(entries), _TOGETHER):
            some = entries[start : start + _TOGETHER]
            there = self._ledger.present([entry.key for entry in some])
            self._remove([entry for entry, present in zip(some, there, strict=True) if not present])

    def _say(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self._report(line)
