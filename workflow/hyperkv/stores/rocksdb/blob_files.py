"""Where values lie in RocksDB's blob files, told from the files themselves: the binding has no word for it.

A blob file is a header, records and a footer; a record is a header, a key and a value as it was put, when the file is not
compressed. A file with its footer is never written again. Source: db/blob/blob_log_format.h of RocksDB (version 1).
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

_HEADER = struct.Struct("<IIIBBQQ")  # magic, version, column family, flags, compression, expiration range
_RECORD = struct.Struct("<QQQII")  # bytes of key, bytes of value, expiration, checksums of header and of blob
_FOOTER = struct.Struct("<IQQQI")  # magic, records, expiration range, checksum
_MAGIC, _VERSION, _NO_COMPRESSION, _DEFAULT_FAMILY = 2395959, 1, 0, 0
_LONGEST_KEY = 1 << 16
_READ_BYTES = 512
_READERS = 8
_SETTLED_S = 0.1  # within this a folder may change without another time stamp
_NAME = re.compile(r"(\d+)\.blob")

Records = list[tuple[bytes, int, int]]
T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """Bytes of a file: `size` of them at `offset`."""

    file: str
    offset: int
    size: int


class BlobFiles:
    """The records of a folder's finished blob files, by key. Safe for many threads.

    A key must be put once at most, so that all its records are alike: which of them is live does not matter then, and a
    file that a compaction removes takes its places with it. And the folder must stay open in one opening of the database,
    which gives no file number twice; the next one may.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._keys: dict[str, list[bytes]] = {}
        self._places: dict[bytes, dict[str, Place]] = {}
        self._unfinished = False
        self._seen: int | None = None

    def begin(self) -> None:
        """Take in what is there already, meanwhile: a `refresh` waits for it."""
        with contextlib.suppress(RuntimeError):  # no more threads
            threading.Thread(target=self._refresh_if_possible, daemon=True).start()

    def _refresh_if_possible(self) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            self.refresh()

    def refresh(self) -> None:
        """Take in what has come and gone in the folder since the last time. Raises OSError."""
        with self._lock:
            changed = self._folder.stat().st_mtime_ns
            if self._unfinished or changed != self._seen:
                settled = time.time_ns() - changed > _SETTLED_S * 1e9
                self._seen = changed if settled else None
                self._take(sorted(filter(_NAME.fullmatch, os.listdir(self._folder))))

    def place(self, key: bytes) -> Place | None:
        """Where the value of a key is, as of the last `refresh`; None where no finished file has it."""
        with self._lock:
            places = self._places.get(key)
            return None if not places else next(reversed(places.values()))

    def _take(self, files: list[str]) -> None:
        for gone in self._keys.keys() - set(files):
            for key in self._keys.pop(gone):
                places = self._places[key]
                del places[gone]
                if not places:
                    del self._places[key]
        new = [file for file in files if file not in self._keys]
        self._unfinished = False
        for file, records in _in_threads(new, lambda file: records_of(self._folder / file)):
            if records is None:
                self._unfinished = True
                continue
            self._keys[file] = [key for key, _, _ in records]
            for key, offset, size in records:
                self._places.setdefault(key, {})[file] = Place(file, offset, size)


def records_of(path: Path) -> Records | None:
    """Key, offset and size of every value in a blob file of the default family; none of one that is compressed or damaged.

    None for a file that is not finished, or cannot be read. Reads the heads of its records, no value.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        return _records(descriptor, os.fstat(descriptor).st_size)
    except OSError:
        return None
    except struct.error:
        return []
    finally:
        os.close(descriptor)


def _records(descriptor: int, size: int) -> Records | None:
    """Raises OSError, and struct.error for records that are damaged."""
    end = size - _FOOTER.size
    if end < _HEADER.size:
        return None
    magic, count, *_ = _FOOTER.unpack(os.pread(descriptor, _FOOTER.size, end))
    head = os.pread(descriptor, _READ_BYTES, 0)
    first, version, family, _, compression, *_ = _HEADER.unpack_from(head)
    if (magic, first, version) != (_MAGIC, _MAGIC, _VERSION):
        return None
    found: Records = []
    at = _HEADER.size
    while at < end:
        head = os.pread(descriptor, _READ_BYTES, at)
        key_size, value_size, *_ = _RECORD.unpack_from(head)
        if key_size > _LONGEST_KEY:
            return []
        value_at = at + _RECORD.size + key_size
        key = head[_RECORD.size : _RECORD.size + key_size]
        if len(key) < key_size:
            key = os.pread(descriptor, key_size, at + _RECORD.size)
        found.append((key, value_at, value_size))
        at = value_at + value_size
    whole = (at, len(found), family, compression) == (end, count, _DEFAULT_FAMILY, _NO_COMPRESSION)
    return found if whole else []


def _in_threads(items: list[str], call: Callable[[str], T]) -> list[tuple[str, T]]:
    if len(items) < 2:
        return [(item, call(item)) for item in items]
    with ThreadPoolExecutor(min(_READERS, len(items))) as pool:
        return list(zip(items, pool.map(call, items), strict=True))
