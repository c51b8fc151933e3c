"""Where the order of use is kept: small values in every server, a snapshot and what has changed since, and who writes them.

A server may lose the end of what it was told, and nothing before that: so a log is read up to its first gap, a new snapshot
is written before the head names it, and what it replaces is deleted afterwards.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .errors import StoreError
from .ledger import Ledger
from .order import Told, told_by

_PREFIX = b"lmcache_striped:bound:"
_MAGIC = b"HKB1"
_LEAST_LOG_BYTES = 1 << 20
_ENTRY_BYTES = 256  # more than a chunk takes in a snapshot
_MOST_TEXTS = 4096
_TOGETHER = 256


class Taken(StoreError):
    """Another instance writes the log."""


@dataclass(frozen=True)
class Log:
    """A snapshot and the texts after it: their name, how many parts it has, how many texts there are at most."""

    name: bytes = b""
    parts: int = 0
    texts: int = 0


@dataclass(frozen=True)
class Head:
    """Who writes, and where the log is. epoch: grows with every writer. owner: empty when it has let go. old: a log that may still be
    there.
    """

    owner: bytes = b""
    epoch: int = 0
    log: Log = Log()
    old: Log = Log()

    def packed(self) -> bytes:
        """As one line."""
        logs = (b"%b|%d|%d" % (each.name, each.parts, each.texts) for each in (self.log, self.old))
        return b"|".join([_MAGIC, self.owner, b"%d" % self.epoch, *logs])

    @classmethod
    def read(cls, text: bytes | None) -> Head:
        """From such a line; from anything else one without an owner and a log."""
        try:
            magic, owner, epoch, *words = (text or b"").split(b"|")
            log, old = (Log(words[at], int(words[at + 1]), int(words[at + 2])) for at in (0, 3))
            return cls(owner, int(epoch), log, old) if magic == _MAGIC else cls()
        except (ValueError, IndexError):
            return cls()


class OrderLog:
    """The log of one name, of which there is one writer at a time. Not for several threads at once. Raises StoreError."""

    def __init__(self, ledger: Ledger, name: str):
        self._ledger = ledger
        self._prefix = b"%b%b%b:" % (ledger.prefix, _PREFIX, name.encode())
        self._me = os.urandom(8).hex().encode()
        self._head, self._texts, self._bytes = Head(), 0, 0
        self._whole = False
        self._beats = itertools.count()

    def sign(self) -> None:
        """Tell the other instances that this one lives."""
        self._ledger.tell(0, (b"SET", self._key(b"alive"), b"%b %d" % (self._me, next(self._beats))))

    def other(self) -> tuple[bool, bytes | None]:
        """Whether another instance is said to write, and its last sign of life."""
        replies = self._ledger.ask((b"GET", self._key(b"head")), (b"GET", self._key(b"alive")))
        owners = [Head.read(reply[0]).owner for reply in replies]
        return any(owner not in (b"", self._me) for owner in owners), replies[0][1]

    def claim(self) -> list[Told]:
        """Become the writer, whoever was it; what every server tells. `write` must come next."""
        heads = self._heads()
        epoch = max(head.epoch for head in heads) + 1
        mine = [replace(head, owner=self._me, epoch=epoch) for head in heads]
        for server, head in enumerate(mine):
            self._ledger.tell(server, (b"SET", self._key(b"head"), head.packed()))
        self._head, self._texts, self._whole = replace(mine[0], log=Log(), old=Log()), 0, False
        return [self._told(server, head.log) for server, head in enumerate(heads)]

    def told(self) -> list[Told]:
        """What every server tells now, which may be less than it was told, and so what was deleted since."""
        return [self._told(server, head.log) for server, head in enumerate(self._heads())]

    @property
    def whole(self) -> bool:
        """Whether every server has all that it was told; else `told` and `write` must come."""
        return self._whole

    def is_long(self, chunks: int) -> bool:
        """Whether the log is too long for an order of so many chunks, so that `write` should come."""
        return self._texts >= _MOST_TEXTS or self._bytes >= max(_LEAST_LOG_BYTES, _ENTRY_BYTES * chunks)

    def append(self, text: bytes) -> bool:
        """Add to the log; False when it is not whole any more. Raises Taken."""
        self._whole = False  # until all servers have it
        log, number = self._head.log, self._texts
        key = self._key(b"text", log.name, b"%d" % number)
        before = (b"text", number - 1) if number else (b"part", log.parts - 1)
        replies = self._ledger.ask(
            (b"SET", key, text),
            (b"GET", self._key(b"head")),
            (b"EXISTS", self._key(before[0], log.name, b"%d" % before[1])),
        )
        heads = [Head.read(reply[1]) for reply in replies]
        self._require_own(heads)
        self._texts, self._bytes = number + 1, self._bytes + len(text)
        self._whole = all(
            head == self._head and reply[2] == b"1" for head, reply in zip(heads, replies, strict=True)
        )
        return self._whole

    def write(self, parts: Sequence[bytes]) -> None:
        """A snapshot in the place of all that was there. Raises Taken."""
        self._whole = False
        heads = self._heads()
        self._require_own(heads)
        log = Log(b"%d-%b" % (self._head.epoch, os.urandom(4).hex().encode()), len(parts))
        for number, part in enumerate(parts):
            self._ledger.ask((b"SET", self._key(b"part", log.name, b"%d" % number), part))
        old = replace(self._head.log, texts=self._texts + 1)
        others = {each for head in heads for each in (head.log, head.old)} - {self._head.log, self._head.old}
        self._write_head(Head(self._me, self._head.epoch, log, old))
        self._texts, self._bytes, self._whole = 0, 0, True
        for each in (old, *(replace(other, texts=_MOST_TEXTS + 1) for other in others)):
            if each.name:
                self._drop(each)

    def let_go(self) -> None:
        """Write no more, so that another instance may at once."""
        self._write_head(replace(self._head, owner=b""))

    def _heads(self) -> list[Head]:
        return [Head.read(reply[0]) for reply in self._ledger.ask((b"GET", self._key(b"head")))]

    def _require_own(self, heads: Sequence[Head]) -> None:
        """A head that was lost, or is of before, is none of another writer."""
        if any(head.owner != self._me and head.epoch >= self._head.epoch for head in heads):
            raise Taken("another instance keeps the store's bound now, so this one saves and deletes nothing")

    def _write_head(self, head: Head) -> None:
        self._ledger.ask((b"SET", self._key(b"head"), head.packed()))
        self._head = head

    def _told(self, server: int, log: Log) -> Told:
        """What a server's snapshot and log tell; without all of the snapshot nothing."""
        if not log.name:
            return told_by([])
        parts = self._ledger.read(server, self._keys(replace(log, texts=0)))
        texts = self._keys(Log(log.name, 0, _MOST_TEXTS + 1)) if len(parts) == log.parts else []
        return told_by(parts + self._ledger.read(server, texts))

    def _drop(self, log: Log) -> None:
        keys = self._keys(log)
        for start in range(0, len(keys), _TOGETHER):
            self._ledger.ask((b"UNLINK", *keys[start : start + _TOGETHER]))

    def _keys(self, log: Log) -> list[bytes]:
        counted = ((b"part", log.parts), (b"text", log.texts))
        return [
            self._key(kind, log.name, b"%d" % number) for kind, count in counted for number in range(count)
        ]

    def _key(self, *words: bytes) -> bytes:
        return self._prefix + b":".join(words)
