"""Store `files`: one file per value, past the page cache where the file system allows: SSD without RESP."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...plugin.lmcache_striped.order import Order, Prompts
from ..base.errors import StoreError, UserError
from ..machine.counters import supports_direct_io
from ..workloads.payload import ALIGNMENT, aligned_buffer
from .base import Look, StoreConfig, new_directory
from .held import Held
from .local import LocalStore

_FOLDERS = 64
_DIRECT_IO = ("auto", "yes", "no")


class FilesStore(LocalStore):
    """Values as files `directory/NN/KEY`, written under a temporary name and renamed, so never short.

    settings: direct_io ("auto", "yes", "no"; default auto: O_DIRECT when the file system has it).
    """

    name = "files"
    medium = "ssd"
    look = Look("#009E73", "s", "p")
    connectors = ("inprocess", "mp", "offloading")
    held_by_engine = "folder"

    def __init__(self, config: StoreConfig):
        super().__init__(config)
        self._open = False
        self.direct_io = False
        self._order = FileOrder(config.directory, config.bound_bytes) if config.bound_bytes else None

    @classmethod
    def check_settings(cls, settings: Mapping[str, Any], where: str) -> None:
        super().check_settings(settings, where)
        for key, value in settings.items():
            if key != "direct_io":
                raise UserError(f"{where}.{key}: store files has no such key; it has direct_io")
            if value not in _DIRECT_IO:
                raise UserError(f"{where}.{key}: {value!r} is wrong; allowed are {', '.join(_DIRECT_IO)}")

    @classmethod
    def has_setting(cls, key: str) -> bool:
        return key == "direct_io"

    @classmethod
    def keeps_once(cls, settings: Mapping[str, Any]) -> bool:
        return True

    @classmethod
    def l2_adapter(cls, held: Held) -> dict[str, Any]:
        return {"type": "fs", "base_path": str(held.folder), "use_odirect": True}

    @property
    def is_open(self) -> bool:
        return self._open

    def start(self) -> None:
        new_directory(self.config.directory)
        for number in range(_FOLDERS):
            (self.config.directory / f"{number:02x}").mkdir(0o700)
        wanted = self.config.settings.get("direct_io", "auto")
        self.direct_io = wanted != "no" and supports_direct_io(self.config.directory)
        if wanted == "yes" and not self.direct_io:
            raise StoreError(
                f"store files: the file system of {self.config.directory} refuses O_DIRECT; "
                f"set direct_io: auto or choose a data_dir on a local disk"
            )
        self._open = True

    def stop(self) -> None:
        self._open = False

    def restart(self) -> None:
        if self._order is not None:
            self._order.take_over()
        self._open = True

    def looked_for(self, keys: Sequence[bytes], found: int) -> None:
        if self._order is not None:
            self._order.looked_for(keys, found)

    def used(self, keys: Sequence[bytes]) -> None:
        if self._order is not None:
            self._order.used(keys)

    def _path(self, key: bytes) -> Path:
        return _path(self.config.directory, key)

    @property
    def used_bytes(self) -> int:
        """Bytes of what is kept, where there is a bound; else 0."""
        return 0 if self._order is None else self._order.used_bytes

    def notes(self) -> list[str]:
        return [] if self._order is None else [self._order.told]

    def put(self, key: bytes, value: np.ndarray) -> None:
        path = self._path(key)
        partial = path.with_suffix(f".{threading.get_ident()}")
        if self._order is not None:
            self._order.make_room(key, value.size)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | (os.O_DIRECT if self.direct_io else 0)
        try:
            descriptor = os.open(partial, flags, 0o600)
            try:
                _write_all(descriptor, value, self.direct_io)
            finally:
                os.close(descriptor)
            os.rename(partial, path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            free = shutil.disk_usage(self.config.directory).free if self.config.directory.exists() else 0
            raise StoreError(
                f"store files: cannot write in {self.config.directory}: {error.strerror} ({free / 1e9:.1f} GB "
                f"free); free space or choose another data_dir"
            ) from error
        with self.lock:
            self.taken_bytes += value.size

    def get_into(self, key: bytes, buffer: np.ndarray) -> bool:
        try:
            descriptor = os.open(self._path(key), os.O_RDONLY | (os.O_DIRECT if self.direct_io else 0))
        except FileNotFoundError:
            return self._count(False, 0)
        except OSError as error:
            raise StoreError(f"store files: cannot read {self._path(key)}: {error.strerror}") from error
        try:
            found = os.fstat(descriptor).st_size == buffer.size
            if found:
                _read_all(descriptor, buffer, self.direct_io)
        except OSError as error:
            raise StoreError(f"store files: cannot read {self._path(key)}: {error.strerror}") from error
        finally:
            os.close(descriptor)
        return self._count(found, buffer.size if found else 0)

    def _count(self, hit: bool, size: int) -> bool:
        with self.lock:
            self.hits += hit
            self.misses += not hit
            self.served_bytes += size
        return hit

    def exists(self, keys: Sequence[bytes]) -> list[bool]:
        return [os.path.exists(self._path(key)) for key in keys]


class FileOrder:
    """Files below `folder` of at most `most_bytes` together: the least recently used go. Safe for several threads.

    The order is in the files' times, so that it is there after any end of the process.
    """

    def __init__(self, folder: Path, most_bytes: int):
        self._folder, self._most_bytes = folder, most_bytes
        self._lock = threading.Lock()
        self._order = Order()
        self._prompts: Prompts[bytes] = Prompts()
        self._last_ns = 0
        self._gone = 0

    @property
    def used_bytes(self) -> int:
        """Bytes of all files."""
        return self._order.used_bytes

    @property
    def told(self) -> str:
        """For a record's notes."""
        with self._lock:
            kept = f"{self.used_bytes:,} of {self._most_bytes:,} bytes"
            return f"bound: {kept} in {len(self._order)} files, {self._gone} files went"

    def take_over(self) -> None:
        """Take in what is there; what was being written when the process ended is deleted."""
        found = []
        for path in self._folder.glob("*/*"):
            if path.suffix:
                path.unlink()
            else:
                found.append((path.stat().st_mtime_ns, bytes.fromhex(path.name), path.stat().st_size))
        with self._lock:
            self._order = Order()
            for self._last_ns, key, size in sorted(found):
                self._order.save(key, size, 0)
            self._let_go(0, b"")

    def make_room(self, key: bytes, size: int) -> None:
        """A file is about to be written. Raises OSError."""
        with self._lock:
            known = self._order.find(key)
            self._let_go(size - (0 if known is None else known.chunk_bytes), key)
            self._order.save(key, size, 0)

    def _let_go(self, new_bytes: int, key: bytes) -> None:
        for entry in self._order.oldest(
            self._order.used_bytes + new_bytes - self._most_bytes, frozenset([key])
        ):
            _path(self._folder, entry.key).unlink(missing_ok=True)
            self._order.delete(entry.key)
            self._gone += 1
        self._order.take()

    def looked_for(self, keys: Sequence[bytes], found: int) -> None:
        """See LocalStore."""
        with self._lock:
            self._prompts.looked_for(keys, found)

    def used(self, keys: Sequence[bytes]) -> None:
        """Keys of a prompt were loaded or saved: the last one first, so that the end of a prompt goes before its beginning."""
        with self._lock:
            for key in [*reversed(keys), *self._prompts.before(keys)]:
                if key in self._order:
                    self._order.use(key)
                    self._last_ns = max(self._last_ns + 1, time.time_ns())
                    with contextlib.suppress(FileNotFoundError):
                        os.utime(_path(self._folder, key), ns=(self._last_ns, self._last_ns))
            self._order.take()


def _path(folder: Path, key: bytes) -> Path:
    return folder / f"{key[0] % _FOLDERS:02x}" / key.hex()


def _is_aligned(buffer: np.ndarray) -> bool:
    return buffer.size % ALIGNMENT == 0 and buffer.ctypes.data % ALIGNMENT == 0


def _rounded_up(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _write_all(descriptor: int, value: np.ndarray, direct: bool) -> None:
    source = value
    if direct and not _is_aligned(value):
        source = aligned_buffer(_rounded_up(value.size))
        source[: value.size] = value
    written = 0
    while written < source.size:
        written += os.pwrite(descriptor, source[written:].data, written)
    if source.size != value.size:
        os.ftruncate(descriptor, value.size)


def _read_all(descriptor: int, buffer: np.ndarray, direct: bool) -> None:
    target = aligned_buffer(_rounded_up(buffer.size)) if direct and not _is_aligned(buffer) else buffer
    read = 0
    while read < buffer.size:
        count = os.preadv(descriptor, [target[read:].data], read)
        if count == 0:
            raise OSError(5, "the file is shorter than its size says")
        read += count
    if target is not buffer:
        buffer[:] = target[: buffer.size]
