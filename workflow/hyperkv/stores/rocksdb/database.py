"""One RocksDB directory, opened: values, and an index of each one's length and stamp.

A value's key in RocksDB is the user's key and the stamp, so that no key of RocksDB is put twice: what has that key, in
whatever file, is that value (blob_files.py).
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import rocksdict

from ...base.errors import UserError
from . import options as rocksdb_options
from .blob_files import BlobFiles, Place
from .keys import Settings

INDEX_FAMILY = "stamped index"
LENGTH_BYTES = 8
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class Database:
    """One opening of a directory: the default column family has the values, INDEX_FAMILY length and stamp of each.

    Raises UserError, and then `rocksdict`'s plain Exception with RocksDB's own text.
    """

    def __init__(
        self,
        path: Path,
        settings: Settings,
        options: rocksdict.Options,
        index_options: rocksdict.Options,
        access: rocksdict.AccessType | None = None,
    ) -> None:
        self.values = open_database(path, options, {INDEX_FAMILY: index_options}, access)
        self.index = self.values.get_column_family(INDEX_FAMILY)
        self.index_handle = self.values.get_column_family_handle(INDEX_FAMILY)
        self.blob_files = BlobFiles(path)
        self.write_options = rocksdb_options.build_write_options(settings)
        for family in (self.values, self.index):
            family.set_read_options(rocksdb_options.build_read_options(settings))
            family.set_write_options(self.write_options)

    def entries(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The index's word on those of the keys that are there: length and stamp of the value. The list form releases the GIL."""
        found = cast("list[bytes | None]", self.index.get(list(keys)))
        return {key: entry for key, entry in zip(keys, found, strict=True) if entry is not None}

    def value(self, key: bytes) -> bytes | None:
        """A key's value, or None: that of the index's entry, or of a later one where that has been written meanwhile."""
        entry = self.entries([key]).get(key)
        while entry is not None:
            value = cast("list[bytes | None]", self.values.get([_own_key(key, entry)]))[0]
            if value is not None or (later := self.entries([key]).get(key)) == entry:
                return value
            entry = later
        return None

    def locate(self, keys: Sequence[bytes]) -> list[Place | bool]:
        """Of each key: the place of its value in a finished blob file, else whether there is one. Raises OSError."""
        entries = self.entries(keys)
        self.blob_files.refresh()
        return [
            key in entries and (self.blob_files.place(_own_key(key, entries[key])) or True) for key in keys
        ]

    def batch_of(
        self, pairs: Mapping[bytes, bytes | None], stamp: int, entries: Mapping[bytes, bytes]
    ) -> rocksdict.WriteBatch:
        """Writes and deletions (None) of values and index together. stamp: what tells this write from all others. entries: of
        the pairs' keys, as they are now.
        """
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in pairs.items():
            if (old := entries.get(key)) is not None:
                batch.delete(_own_key(key, old))
            if value is None:
                batch.delete(key, self.index_handle)
            else:
                entry = len(value).to_bytes(LENGTH_BYTES, "little") + stamp.to_bytes(8, "little")
                batch.put(_own_key(key, entry), value)
                batch.put(key, entry, self.index_handle)
        return batch

    def batch_of_everything(self) -> rocksdict.WriteBatch | None:
        """The deletion of all values and of the index; None when there is nothing."""
        batch = rocksdict.WriteBatch(raw_mode=True)
        for family, handle in ((self.values, None), (self.index, self.index_handle)):
            last = family.iter()
            last.seek_to_last()
            if last.valid():
                batch.delete_range(b"", cast(bytes, last.key()) + b"\x00", handle)
        return None if batch.is_empty() else batch

    def write(self, batch: rocksdict.WriteBatch) -> None:
        """Do a batch's writes, all or none."""
        self.values.write(batch, self.write_options)

    def count(self) -> int:
        """How many keys there are; reads all of the index."""
        return sum(1 for _ in iter(self.index.keys()))

    def close(self) -> None:
        """Let go of the directory, whatever RocksDB says to it."""
        for family in (self.index, self.values):
            with contextlib.suppress(Exception):
                family.close()
        del self.index_handle, self.index, self.values


def _own_key(key: bytes, entry: bytes) -> bytes:
    return key + entry[LENGTH_BYTES:]


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def open_database(
    path: Path,
    options: rocksdict.Options,
    families: dict[str, rocksdict.Options],
    access: rocksdict.AccessType | None = None,
) -> rocksdict.Rdict:
    """Open or create a database. access: None to read and write. Raises UserError with the cause and the mend."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with open(path / ".writable", "wb"):
            pass
        (path / ".writable").unlink()
    except OSError as error:
        raise UserError(
            f"cannot write to {path} ({error.strerror}): give --dir a writable directory"
        ) from None
    try:
        how = {} if access is None else {"access_type": access}
        return rocksdict.Rdict(str(path), options, column_families=families, **how)
    except Exception as error:  # rocksdict raises nothing narrower
        text = one_line(error)
        if "While lock file" in text or "lock hold" in text:
            mend = "another process has it open; stop that one or give another --dir"
        elif any(os.strerror(number) in text for number in _FULL):
            mend = "free disk space or descriptors"
        else:
            mend = "give --dir an empty directory or one this server wrote"
        raise UserError(f"cannot open RocksDB in {path}: {text}: {mend}") from None


def check_direct_io(path: Path) -> None:
    """Raise UserError unless files in `path` can be opened with O_DIRECT."""
    probe = path / ".direct"
    try:
        path.mkdir(parents=True, exist_ok=True)
        os.close(os.open(probe, os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o600))
    except OSError as error:
        raise UserError(
            f"cannot open a file with O_DIRECT in {path} ({error.strerror}): "
            "use --direct-io no or a directory on ext4 or xfs"
        ) from None
    finally:
        probe.unlink(missing_ok=True)
