"""A store's values read from its own files by bare reads: what a machine gives without a wire, a lookup or a proof."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import redis

from ...plugin.lmcache_striped.python_files import fill, place_of
from ...plugin.lmcache_striped.stripes import HEAD_BYTES, parts_of, stripe_key
from ...plugin.lmcache_striped.threads import started
from ..cells.point import on_each
from ..records.kinds.profile import Moved
from ..stores.server import ServerStore
from ..workloads.payload import ALIGNMENT, aligned_buffer, slots
from .moving import Values, timed

_KEYS_AT_ONCE = 256


@dataclass(frozen=True)
class Piece:
    """A stripe's bytes: where they lie, and where they go."""

    path: Path
    offset: int
    buffer: np.ndarray


def bare_reads(
    store: ServerStore, values: Values, keys: Sequence[bytes], stripe_bytes: int, past_the_cache: bool
) -> Moved:
    """The values of keys, stripes in files, read once by a thread for each connection; not measured, with the reason, where
    some are not in files or these cannot be read. past_the_cache: see `reader`."""
    try:
        with store.explaining():
            pieces, missing = pieces_of(store, keys, values.buffers, stripe_bytes)
    except redis.ResponseError as error:
        return Moved(notes=[f"store {store.name} does not say where values lie: {error}"])
    if missing:
        return Moved(notes=[f"{missing} of {missing + len(pieces)} stripes are not in the store's files"])
    try:
        with reader(pieces, values.connections, past_the_cache) as read:
            moved = timed(values, read, store.pid())
    except OSError as error:
        return Moved(notes=[f"the store's files could not be read: {error}"])
    if not past_the_cache:
        values.require_right(keys, [True] * len(keys), "the store's files")
    return moved


def pieces_of(
    store: ServerStore, keys: Sequence[bytes], buffers: Sequence[np.ndarray], stripe_bytes: int
) -> tuple[list[Piece], int]:
    """The stripes of chunks that lie in the store's files by its own word (LOCATE), and how many do not."""
    wanted = [
        (stripe_key(key, part.index), buffer[part.offset : part.end])
        for key, buffer in zip(keys, buffers, strict=True)
        for part in parts_of(buffer.size, stripe_bytes)
        if part.length
    ]
    found = []
    with store.client() as client:
        for start in range(0, len(wanted), _KEYS_AT_ONCE):
            batch = wanted[start : start + _KEYS_AT_ONCE]
            answers = client.execute_command("LOCATE", *[key for key, _ in batch])
            for (_, buffer), answer in zip(batch, answers, strict=True):
                place = place_of(answer or b"")
                if place is not None and place.length == HEAD_BYTES + buffer.size:
                    path = store.config.directory / os.fsdecode(place.path)
                    found.append(Piece(path, place.offset + HEAD_BYTES, buffer))
    return found, len(wanted) - len(found)


@contextmanager
def reader(pieces: Sequence[Piece], threads: int, past_the_cache: bool) -> Iterator[Callable[[], None]]:
    """A call that reads all pieces once, shared out to threads, from files that are open already.

    pieces: one at least. past_the_cache: with O_DIRECT, where the file system has it, into huge pages of its own and not to
    where the pieces go. Raises OSError, also for a file that is shorter than was said.
    """
    room = -(-max(piece.buffer.size for piece in pieces) // ALIGNMENT) * ALIGNMENT + ALIGNMENT
    with ExitStack() as stack:
        files = {path: _opened(path, past_the_cache) for path in {piece.path for piece in pieces}}
        for descriptor, _ in files.values():
            stack.callback(os.close, descriptor)
        rooms = slots(aligned_buffer(threads * room, huge_pages=True), room)

        def read(worker: int) -> None:
            for piece in pieces[worker::threads]:
                descriptor, aligned = files[piece.path]
                skipped = piece.offset % ALIGNMENT if aligned else 0
                size = skipped + piece.buffer.size
                into = rooms[worker][: -(-size // ALIGNMENT) * ALIGNMENT] if aligned else piece.buffer
                fill(descriptor, [into.data], piece.offset - skipped, size)

        with started(threads) as workers:
            yield lambda: on_each(workers, read, threads)


def _opened(path: Path, past_the_cache: bool) -> tuple[int, bool]:
    """A descriptor, and whether what is read by it must be aligned."""
    if past_the_cache:
        with suppress(OSError):
            return os.open(path, os.O_RDONLY | os.O_DIRECT), True
    return os.open(path, os.O_RDONLY), False
