"""Keys and values as bytes in one RocksDB directory, and how it goes on when RocksDB has stopped writing.

After an error of its files (no space, no descriptor, a file that grew too large) RocksDB refuses every write, most often
for good; the wheel has no Resume. So a store that has been refused looks once a second, when it is asked for
something, whether there are room and descriptors again, and then opens the database anew. What was acknowledged stays: it is in
the log, or without one it is taken from memory. What was refused is not there: a write that the log has all the same
is deleted.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import rocksdict

from ...base.errors import StoreError
from ...machine.accepting import memory_is_limited, require_memory
from . import options as rocksdb_options
from .blob_files import Place
from .database import LENGTH_BYTES, Database, one_line
from .gate import Gate
from .keys import MIB, Settings

LOCK_STRIPES = 256
RECOVERY_PERIOD_S = 1.0
_PROBED_DESCRIPTORS = 32
_FILES_OF_A_COPY = 16
_WRITE_BYTES = 32 * MIB  # what RocksDB may take for a write, beside copies of the value
TICKERS = (
    "stall.micros", "bytes.written", "bytes.read", "wal.bytes", "flush.write.bytes",
    "compact.write.bytes",
)  # fmt: skip
BLOB_TICKERS = ("blobdb.blob.file.bytes.written", "blobdb.blob.file.bytes.read")
PROPERTIES = (
    "estimate-num-keys", "cur-size-all-mem-tables", "block-cache-usage", "block-cache-capacity",
    "total-sst-files-size", "live-blob-file-size", "total-blob-file-size", "num-running-flushes",
    "num-running-compactions", "is-write-stopped", "actual-delayed-write-rate", "background-errors",
)  # fmt: skip

Pairs = Mapping[bytes, "bytes | None"]  # None: the key is deleted


class Keyspace:
    """One RocksDB directory with an exact key count. Safe for many threads.

    Methods raise `rocksdict`'s plain Exception with RocksDB's own text, and StoreError. recoveries: how often the
    database was opened anew.
    """

    def __init__(self, path: Path, settings: Settings) -> None:
        """Open, or create, the database at `path` with complete settings. Raises UserError."""
        self.settings = settings
        self.recoveries = 0
        self._path = path
        cache = rocksdb_options.new_block_cache(settings)
        self._options = rocksdb_options.build_options(settings, cache)
        self._index_options = rocksdb_options.build_options(settings, cache, values=False)
        self._logged = not settings["rocksdb.write_options.disable_wal"]
        self._gate = Gate()
        self._locks = [threading.Lock() for _ in range(LOCK_STRIPES)]
        self._count_lock = threading.Lock()
        self._stamps = itertools.count(time.time_ns())
        self._fault: str | None = None
        self._retry_at = 0.0
        self._refused: dict[bytes, int] = {}
        self._owed: Pairs = {}
        self._opened: Database | None = self._open()
        self._count = self._opened.count()

    def _open(self) -> Database:
        database = Database(self._path, self.settings, self._options, self._index_options)
        database.blob_files.begin()
        return database

    @property
    def _database(self) -> Database:
        """The open database. Raises StoreError while there is none."""
        if self._opened is None:
            raise StoreError(self._fault or "the database is closed")
        return self._opened

    @property
    def writes_stopped(self) -> bool:
        """Whether writes are refused since RocksDB has stopped writing."""
        return self._fault is not None

    def get(self, key: bytes) -> bytes | None:
        """The value, or None."""
        if memory_is_limited() and (length := self.length(key) or 0) > MIB:
            require_memory(2 * length + MIB)
        self._recover_when_due()
        with self._gate:
            return self._database.value(key)

    def locate(self, keys: Sequence[bytes]) -> list[Place | bool]:
        """Of each key: the place of its value in a file below the directory, else whether there is one, for `get` to tell."""
        self._recover_when_due()
        with self._gate:
            return self._database.locate(keys)

    def length(self, key: bytes) -> int | None:
        """The value's length in bytes, or None, without reading the value."""
        self._recover_when_due()
        with self._gate:
            packed = self._database.index.get(key)
        return None if packed is None else int.from_bytes(packed[:LENGTH_BYTES], "little")

    def put(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Store all pairs atomically; of a key given twice the last value stays."""
        require_memory(2 * sum(len(value) for _, value in pairs) + _WRITE_BYTES)
        stamp = next(self._stamps)
        keys = {key for key, _ in pairs}
        with self._writing() as database, self._locked(keys):
            entries = database.entries([*keys])
            batch = database.batch_of(dict(pairs), stamp, entries)
            new = len(keys) - len(entries)
            with self._watched(dict.fromkeys(keys, stamp)):
                database.write(batch)
            self._add(new)

    def delete(self, keys: Sequence[bytes]) -> int:
        """Delete keys atomically; returns how many there were."""
        with self._writing() as database, self._locked(set(keys)):
            present = database.entries([*set(keys)])
            if present:
                with self._watched({}):
                    database.write(database.batch_of(dict.fromkeys(present), 0, present))
            self._add(-len(present))
        return len(present)

    def clear(self) -> None:
        """Delete every key and give the disk space back."""
        with self._writing() as database, self._locked(None):
            if (batch := database.batch_of_everything()) is None:
                return
            with self._watched({}):
                database.write(batch)
            self._add(-self._count)
            for family in (database.values, database.index):
                family.compact_range(None, None)

    def count(self) -> int:
        """How many keys there are, exactly."""
        return self._count

    def all_keys(self) -> list[bytes]:
        """Every key; reads all of the index."""
        self._recover_when_due()
        with self._gate:
            return cast("list[bytes]", [*self._database.index.keys()])

    def properties(self) -> dict[str, int]:
        """RocksDB's integer properties and statistics tickers, by name with `.` and `-` as `_`."""
        with self._gate:
            values = None if self._opened is None else self._opened.values
            found = {
                name: None if values is None else values.property_int_value(f"rocksdb.{name}")
                for name in PROPERTIES
            }
        statistics = self._options.get_statistics() or ""
        for name in TICKERS + BLOB_TICKERS:
            match = re.search(rf"^rocksdb\.{re.escape(name)} COUNT : (\d+)$", statistics, re.MULTILINE)
            found[name] = int(match[1]) if match else None
        return {
            name.replace(".", "_").replace("-", "_"): value
            for name, value in found.items()
            if value is not None
        }

    def close(self) -> None:
        """Flush the memtables, with or without a WAL, and close. Raises StoreError when the flush fails."""
        self._retry_at = 0.0
        self._recover_when_due()
        with self._gate.alone():
            database, self._opened = self._opened, None
            if database is None:
                raise StoreError(self._fault or "the database is closed")
            try:
                database.values.flush()
                database.index.flush()
            except Exception as error:  # rocksdict raises nothing narrower
                where = "they are in its log alone" if self._logged else "they are lost"
                raise StoreError(
                    f"the last writes could not be flushed, {where}: {one_line(error)}: free disk space"
                ) from None
            finally:
                database.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Database]:
        """The database to write to. Raises StoreError while RocksDB does not write."""
        self._recover_when_due()
        with self._gate:
            if self._fault is not None:
                raise StoreError(self._fault)
            yield self._database

    @contextlib.contextmanager
    def _watched(self, stamps: Mapping[bytes, int]) -> Iterator[None]:
        """A write that meets an error of RocksDB's files stops the writes. stamps: by key, of what is then refused."""
        try:
            yield
        except Exception as error:  # rocksdict raises nothing narrower
            if str(error).startswith("IO error"):
                with self._count_lock:
                    self._refused.update(stamps)
                    self._stop(error)
            raise

    def _stop(self, error: Exception) -> None:
        self._fault = (
            f"writes have stopped and are tried again every {RECOVERY_PERIOD_S:g} s: {one_line(error)}"
        )
        self._retry_at = time.monotonic() + RECOVERY_PERIOD_S

    def _recover_when_due(self) -> None:
        if self._fault is None or time.monotonic() < self._retry_at:
            return
        with self._gate.alone():
            if self._fault is None or time.monotonic() < self._retry_at:
                return
            try:
                self._recover()
            except Exception as error:  # rocksdict raises nothing narrower
                if self._opened is None:
                    self._stop(error)
                self._retry_at = time.monotonic() + RECOVERY_PERIOD_S

    def _recover(self) -> None:
        """Open the database anew. Raises what stands against it; what is acknowledged stays then, here or on disk."""
        if self._opened is not None:
            self._require_room(self._opened)
            if not self._logged:
                self._owed = self._unsaved(self._opened)
            self._opened.close()
            self._opened = None
        database = self._open()
        try:
            refused = [
                key for key, stamp in self._refused.items() if _stamp(database.index.get(key)) == stamp
            ]
            if owed := {**dict.fromkeys(refused), **self._owed}:
                database.write(database.batch_of(owed, next(self._stamps), database.entries([*owed])))
            count = database.count()
        except BaseException:
            database.close()
            raise
        self._owed, self._refused, self._fault = {}, {}, None
        self._opened, self._count = database, count
        self.recoveries += 1

    def _require_room(self, database: Database) -> None:
        """Raises OSError unless there are descriptors and disk space for opening the database anew."""
        written = sum(path.stat().st_size for path in self._path.glob("*.log"))
        in_memory = database.values.property_int_value("rocksdb.cur-size-all-mem-tables") or 0
        needed, probe = max(written, in_memory) + 4 * MIB, self._path / ".room"
        disk = os.statvfs(self._path)
        if disk.f_bavail * disk.f_frsize < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        with contextlib.ExitStack() as opened:
            for _ in range(_PROBED_DESCRIPTORS):
                opened.callback(os.close, os.open(os.devnull, os.O_RDONLY))
            opened.callback(probe.unlink, missing_ok=True)
            descriptor = os.open(probe, os.O_RDWR | os.O_CREAT, 0o600)
            opened.callback(os.close, descriptor)
            try:
                os.posix_fallocate(descriptor, 0, needed)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                    raise

    def _unsaved(self, database: Database) -> dict[bytes, bytes | None]:
        """What memory has and the files have not: values, and None for a deletion. By the stamps of the index."""
        options = rocksdb_options.build_options(self.settings, rocksdict.Cache(MIB))
        index_options = rocksdb_options.build_options(self.settings, rocksdict.Cache(MIB), values=False)
        options.set_max_open_files(_FILES_OF_A_COPY)
        read_only = rocksdict.AccessType.read_only(False)
        copy = Database(self._path, self.settings, options, index_options, read_only)
        try:
            saved = cast("dict[bytes, bytes]", dict(copy.index.items()))
        finally:
            copy.close()
        found: dict[bytes, bytes | None] = {}
        for key, entry in cast("Iterator[tuple[bytes, bytes]]", database.index.items()):
            if saved.pop(key, None) != entry:
                found[key] = database.value(key)
        return found | dict.fromkeys(saved)

    def _add(self, number: int) -> None:
        with self._count_lock:
            self._count += number

    @contextlib.contextmanager
    def _locked(self, keys: set[bytes] | None) -> Iterator[None]:
        stripes = range(LOCK_STRIPES) if keys is None else sorted({hash(key) % LOCK_STRIPES for key in keys})
        with contextlib.ExitStack() as held:
            for stripe in stripes:
                held.enter_context(self._locks[stripe])
            yield


def _stamp(entry: bytes | None) -> int | None:
    return None if entry is None else int.from_bytes(entry[LENGTH_BYTES:], "little")
