"""The order in which chunks were used last, and the records from which it is found again.

Pure: no clock, no I/O. Every change has a number, one more than the last; the records of a change and of all before it, in
any number of logs of which each has lost its end or not, give back what was there and its order.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from .stripes import HEAD_BYTES, checksum, chunk_id

Key = TypeVar("Key", bytes, int)
_MAGIC = b"HKO1"
_BEGIN = struct.Struct("<4sQ")  # magic, number of the first record
_SAVED = struct.Struct(
    "<cQQIH"
)  # number of the last use, bytes of the chunk, stripes, bytes of the key that follows
_TOUCHED = struct.Struct("<c16s")
_SUM = struct.Struct("<Q")
_LOOKUPS = 256
_AROUND_STRIPE = 64  # what a server keeps beside a value and its key


@dataclass(frozen=True)
class Entry:
    """A chunk: its key, its bytes, how many stripes it has, and the number of its last use."""

    key: bytes
    chunk_bytes: int
    stripes: int
    used: int = 0

    @property
    def stored_bytes(self) -> int:
        """What it takes in a store, heads and keys of its stripes included."""
        return self.chunk_bytes + self.stripes * (HEAD_BYTES + len(self.key) + _AROUND_STRIPE)


class Order:
    """Chunks from the least to the most recently used. Not for several threads at once.

    used_bytes: stored bytes of all. records: of the changes since they were taken last.
    """

    def __init__(self, entries: Iterable[Entry] = ()):
        """entries: each chunk once, in any order."""
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self.used_bytes = 0
        self._number = 0
        self._records: list[bytes] = []
        for entry in sorted(entries, key=lambda one: one.used):
            self._put(entry)
            self._number = entry.used

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __contains__(self, key: bytes) -> bool:
        return chunk_id(key) in self._entries

    def find(self, key: bytes) -> Entry | None:
        """What is known of a chunk."""
        return self._entries.get(chunk_id(key))

    def save(self, key: bytes, chunk_bytes: int, stripes: int) -> None:
        """The chunk is there, whole or in part, and is the one used last."""
        entry = Entry(key, chunk_bytes, stripes, self._next())
        self._put(entry)
        self._records.append(_packed(b"S", entry))

    def use(self, key: bytes) -> None:
        """The chunk, where it is known, is the one used last."""
        name = chunk_id(key)
        if (entry := self._entries.get(name)) is not None:
            self._put(replace(entry, used=self._next()))
            self._records.append(_TOUCHED.pack(b"U", name))

    def delete(self, key: bytes) -> Entry | None:
        """The chunk is not there any more."""
        name = chunk_id(key)
        if (entry := self._entries.pop(name, None)) is not None:
            self.used_bytes -= entry.stored_bytes
            self._next()
            self._records.append(_TOUCHED.pack(b"D", name))
        return entry

    def oldest(self, size: int, but: frozenset[bytes] = frozenset()) -> list[Entry]:
        """The least recently used chunks of at least `size` stored bytes together, `but` those; all when there are fewer."""
        found: list[Entry] = []
        for entry in self._entries.values():
            if size <= 0:
                break
            if entry.key not in but:
                found.append(entry)
                size -= entry.stored_bytes
        return found

    @property
    def pending(self) -> int:
        """How many changes were not taken yet."""
        return len(self._records)

    def take(self) -> bytes:
        """The records of the changes since the last time, for a log."""
        text, self._records = _framed(self._number - len(self._records) + 1, self._records), []
        return text

    def snapshot(self, most_bytes: int) -> list[bytes]:
        """Records that say all of it, in parts of about `most_bytes`; those of changes until now need not be taken any more."""
        self._records = []
        parts: list[list[bytes]] = [[]]
        size = 0
        for entry in self._entries.values():
            if size >= most_bytes:
                parts.append([])
                size = 0
            parts[-1].append(_packed(b"E", entry))
            size += len(parts[-1][-1])
        return [_framed(self._number + 1, part) for part in parts]

    def continue_after(self, number: int) -> None:
        """Number changes on from there, at least."""
        self._number = max(self._number, number)

    @property
    def number(self) -> int:
        """The number of the last change."""
        return self._number

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _put(self, entry: Entry) -> None:
        name = chunk_id(entry.key)
        if (old := self._entries.pop(name, None)) is not None:
            self.used_bytes -= old.stored_bytes
        self._entries[name] = entry
        self.used_bytes += entry.stored_bytes


class Prompts(Generic[Key]):
    """What was looked for lately, so that what is saved of a prompt is a use of the chunks before it, without which it is of no use.

    Not for several threads at once. _LOOKUPS as long as the last one are remembered.
    """

    def __init__(self) -> None:
        self._wanted: OrderedDict[Key, tuple[Sequence[Key], int]] = OrderedDict()

    def looked_for(self, keys: Sequence[Key], found: int) -> None:
        """A lookup of a prompt's chunks has found the leading ones."""
        for index in range(found, len(keys)):
            self._wanted.pop(keys[index], None)
            self._wanted[keys[index]] = (keys, index)
        while len(self._wanted) > _LOOKUPS * max(1, len(keys)):
            self._wanted.popitem(last=False)

    def before(self, keys: Sequence[Key]) -> list[Key]:
        """Chunks that are used by the saving of others, in the order of that use: the first of a prompt last."""
        found: list[Key] = []
        done: set[int] = set()
        for key in keys:
            prompt, index = self._wanted.pop(key, ((), 0))
            if prompt and id(prompt) not in done:
                done.add(id(prompt))
                found += reversed(prompt[: index + 1])
        return found


@dataclass(frozen=True)
class Told:
    """What one log tells: the chunks at its end, and the number of its last change."""

    entries: dict[bytes, Entry]
    number: int


def told_by(texts: Iterable[bytes]) -> Told:
    """What a snapshot's parts and the records taken after it tell, in their order, up to the first that is damaged."""
    entries: dict[bytes, Entry] = {}
    number = 0
    for text in texts:
        if (begun := _begun(text)) is None:
            break
        number = _apply(text, begun, entries)
    return Told(entries, number)


def merged(logs: Sequence[Told]) -> Order:
    """The order that several logs of one sequence of changes tell: a chunk that any of them still has is there."""
    entries: dict[bytes, Entry] = {}
    for log in logs:
        for name, entry in log.entries.items():
            if name not in entries or entries[name].used < entry.used:
                entries[name] = entry
    order = Order(entries.values())
    order.continue_after(max((log.number for log in logs), default=0))
    return order


def _packed(kind: bytes, entry: Entry) -> bytes:
    fields = (entry.used, entry.chunk_bytes, entry.stripes, len(entry.key))
    return _SAVED.pack(kind, *fields) + entry.key


def _framed(number: int, records: Sequence[bytes]) -> bytes:
    text = b"".join([_BEGIN.pack(_MAGIC, number), *records])
    return text + _SUM.pack(checksum(text))


def _begun(text: bytes) -> int | None:
    """The number of a text's first record; None when it is damaged."""
    whole = len(text) >= _BEGIN.size + _SUM.size
    if not whole or text[-_SUM.size :] != _SUM.pack(checksum(text[: -_SUM.size])):
        return None
    magic, number = _BEGIN.unpack_from(text)
    return number if magic == _MAGIC else None


def _apply(text: bytes, number: int, entries: dict[bytes, Entry]) -> int:
    """Do what the records say; the number of the last change."""
    at, end = _BEGIN.size, len(text) - _SUM.size
    while at < end:
        kind = text[at : at + 1]
        if kind in (b"S", b"E"):
            _, used, chunk_bytes, stripes, length = _SAVED.unpack_from(text, at)
            at += _SAVED.size
            key = text[at : at + length]
            at += length
            entries[chunk_id(key)] = Entry(key, chunk_bytes, stripes, used)
        else:
            _, name = _TOUCHED.unpack_from(text, at)
            at += _TOUCHED.size
            old = entries.pop(name, None)
            if kind == b"U" and old is not None:
                entries[name] = replace(old, used=number)
        number += kind != b"E"
    return number - 1
