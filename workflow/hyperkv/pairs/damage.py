"""A store made wrong on purpose between saving and loading: answers from it must be found wrong, or a connector must refuse it.

swapped: values of one length change places. They are well formed KV, of other tokens. inverted: in every 64 KiB of a value the second
half has all bits the other way round, as a disk or a wire that damages what it holds.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..records.kinds.pairs import Damage
from ..stores.base import Store
from ..stores.server import ServerStore

_BLOCK = 64 << 10


def damage(kind: Damage, store: Store | None, folder: Path | None) -> bool:
    """Damage all values of a store's servers, or all files of an engine's own in `folder`; False where there was nothing to."""
    if store is not None:
        changed = [_on_server(kind, server) for server in store.servers]
        return any(changed)
    files = [] if folder is None else sorted(path for path in folder.rglob("*") if path.is_file())
    return _changed(kind, {path: path.stat().st_size for path in files}, Path.read_bytes, _write)


def _on_server(kind: Damage, server: ServerStore) -> bool:
    with server.client() as client:
        lengths = {key: client.strlen(key) for key in sorted(client.scan_iter(count=1000))}
        return _changed(kind, lengths, client.get, client.set)


def _changed(kind: Damage, lengths: Mapping, read: Callable, write: Callable) -> bool:
    """Change values by key, those of one length at a time."""
    alike, change, changed = defaultdict(list), _CHANGES[kind], False
    for key, length in lengths.items():
        alike[length].append(key)
    for keys in alike.values():
        values = [read(key) for key in keys]
        for key, old, new in zip(keys, values, change(values), strict=True):
            if old != new:
                write(key, new)
                changed = True
    return changed


def _swapped(values: Sequence[bytes]) -> list[bytes]:
    return [*values[1:], *values[:1]]


def _inverted(values: Iterable[bytes]) -> list[bytes]:
    found = []
    for value in values:
        bits = np.frombuffer(value, dtype=np.uint8).copy()
        for start in range(0, len(bits), _BLOCK):
            part = bits[start : start + _BLOCK]
            part[len(part) // 2 :] ^= 0xFF
        found.append(bits.tobytes())
    return found


def _write(path: Path, value: bytes) -> None:
    """In place: an engine may hold the file open."""
    with path.open("r+b") as file:
        file.write(value)
        file.flush()
        os.fsync(file.fileno())


_CHANGES: dict[Damage, Callable[[list[bytes]], list[bytes]]] = {"swapped": _swapped, "inverted": _inverted}
