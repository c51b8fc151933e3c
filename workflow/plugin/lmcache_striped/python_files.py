"""Pieces of files read by Python, a thread for each connection, where there is no compiled code.

Past the page cache, where the file system allows it, unless `read` is cached: what is in the cache is not told apart here.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import stat
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from xxhash import xxh3_64_intdigest

from .base import ended
from .channels import Exchange
from .deadline import Deadline
from .errors import StoreError
from .pieces import BY_GET, MISSING, UNREAD, Share
from .stripes import HEAD, HEAD_BYTES, stripe_key
from .threads import started

_PAGE = mmap.PAGESIZE
_MOST_FILES, _MOST_ANSWER, _KEYS = 64, 1024, 128


class Locate(Exchange):
    """LOCATE of some keys. places: for each None, not there, or what the server said, b"" for what is no place or too long."""

    name = "LOCATE"
    head_bytes = _MOST_ANSWER

    def __init__(self, keys: Sequence[bytes]):
        self._keys = keys
        self.answers = len(keys)
        self.places: list[bytes | None] = []

    def request(self) -> Sequence[bytes | memoryview]:
        words = [b"LOCATE", *self._keys]
        return [b"*%d\r\n" % len(words), *(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)]

    @property
    def all_places(self) -> list[bytes | None]:
        """As many as keys, b"" for those that were not answered."""
        return self.places + [b""] * (self.answers - len(self.places))

    def line(self, line: bytes) -> bool:
        if line == b"$-1":
            self.places.append(None)
        return line == b"$-1"

    def place(self, length: int, head: memoryview) -> memoryview | None:
        self.places.append(bytes(head) if length == len(head) else b"")
        return None


class Place(NamedTuple):
    """`length` bytes at `offset` of a file whose path is relative to the server's folder."""

    offset: int
    length: int
    path: bytes


def place_of(answer: bytes) -> Place | None:
    """What LOCATE said of a key, `OFFSET LENGTH PATH`; None for what is no place, as locate.c has it."""
    words = answer.split(b" ", 2)
    if len(words) != 3 or not all(word.isdigit() and len(word) < 19 for word in words[:2]):
        return None
    return Place(int(words[0]), int(words[1]), words[2])


class PythonFiles:
    """See Files. connections: how many connections there are at most."""

    def __init__(self, read: str, connections: int):
        self._past_cache = read != "cached"
        self._workers = started(connections, "files")

    def ask(self, shares: Sequence[Share], pieces: np.ndarray, deadline: Deadline) -> None:
        ended(self._workers.submit(self._ask, share, pieces[share.pieces], deadline) for share in shares)

    def refusal(self) -> str | None:
        return None

    def close(self) -> None:
        self._workers.shutdown()

    def _ask(self, share: Share, pieces: np.ndarray, deadline: Deadline) -> None:
        wanted = [piece for piece in pieces if piece["index"]]
        keys = [ctypes.string_at(int(each["key"]), int(each["key_bytes"])) for each in wanted]
        names = [stripe_key(key, int(each["index"])) for key, each in zip(keys, wanted, strict=True)]
        asked = [Locate(names[start : start + _KEYS]) for start in range(0, len(names), _KEYS)]
        share.channel.open(deadline)
        begun = time.monotonic()
        try:
            share.channel.run(asked, deadline)
            share.waited_s = time.monotonic() - begun
        except StoreError as error:
            if share.channel.is_open:
                share.refused = str(error).removeprefix(f"{share.channel.peer} answered: ")
            else:
                share.broken = str(error)
        places = [place for exchange in asked for place in exchange.all_places]
        with _Opened(share.folder, self._past_cache) as files:
            for piece, place in zip(wanted, places, strict=True):
                if deadline.left_s() <= 0:
                    break
                piece["length"] = MISSING if place is None else _read(files, piece, place)
                deadline.moved(max(0, int(piece["length"])))
            share.unreadable = files.unreadable


def _read(files: _Opened, piece: np.ndarray, place: bytes) -> int:
    """Head, bytes and checksum of a piece; its length, else why there is none."""
    room, found = int(piece["room"]), place_of(place)
    if found is None or found.length != HEAD_BYTES + room:
        return BY_GET
    head = bytearray(HEAD_BYTES)
    body = memoryview((ctypes.c_char * room).from_address(int(piece["place"]))).cast("B")
    try:
        files.read(found.path, found.offset, memoryview(head), body)
    except OSError:
        return UNREAD
    piece["head"] = np.frombuffer(head, HEAD)[0]
    piece["checksum"] = xxh3_64_intdigest(body)
    return found.length


class _Opened:
    """Files below the descriptor `folder`, until it is closed. unreadable: see Share."""

    def __init__(self, folder: int, past_cache: bool):
        self._folder, self._past_cache = folder, past_cache
        self._files: dict[bytes, int] = {}
        self._buffer = mmap.mmap(-1, _PAGE)
        self.unreadable: str | None = None

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._files.values():
            os.close(descriptor)

    def read(self, path: bytes, offset: int, head: memoryview, body: memoryview) -> None:
        """Fill both from `offset` on. Raises OSError."""
        descriptor = self._descriptor(path)
        if not fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT:
            return fill(descriptor, [head, body], offset, len(head) + len(body))
        skip = offset % _PAGE
        least = skip + len(head) + len(body)
        if len(self._buffer) < least:
            self._buffer = mmap.mmap(-1, -(-least // _PAGE) * _PAGE)
        whole = memoryview(self._buffer)
        fill(descriptor, [whole[: -(-least // _PAGE) * _PAGE]], offset - skip, least)
        head[:] = whole[skip : skip + len(head)]
        body[:] = whole[skip + len(head) : least]

    def _descriptor(self, path: bytes) -> int:
        if (known := self._files.get(path)) is not None:
            return known
        try:
            opened = open_below(self._folder, path)
        except OSError as error:
            if error.errno != errno.ENOENT and self.unreadable is None:
                self.unreadable = f"{os.fsdecode(path)}: {error.strerror}"
            raise
        if len(self._files) == _MOST_FILES:
            os.close(self._files.pop(next(iter(self._files))))
        self._files[path] = opened
        if self._past_cache:
            with contextlib.suppress(OSError):
                fcntl.fcntl(opened, fcntl.F_SETFL, os.O_DIRECT)
        return opened


def open_below(folder: int, path: bytes) -> int:
    """A regular file for reading; no path leads out of `folder`, as files.c has it. Raises OSError."""
    *above, name = path.split(b"/")
    if any(part in (b"", b".", b"..") or b"\0" in part for part in (*above, name)):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    at = folder
    try:
        for part in above:
            inner = os.open(part, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            if at != folder:
                os.close(at)
            at = inner
        opened = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW, dir_fd=at)
    finally:
        if at != folder:
            os.close(at)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    fcntl.fcntl(opened, fcntl.F_SETFL, 0)
    return opened


def fill(descriptor: int, views: Sequence[memoryview], offset: int, least: int) -> None:
    """Fill views, at least so many bytes of them. Raises OSError."""
    done = 0
    while done < least:
        left, skipped = [], done
        for view in views:
            left.append(view[skipped:])
            skipped = max(0, skipped - len(view))
        count = os.preadv(descriptor, left, offset + done)
        if not count:
            raise OSError(errno.EIO, "the file ends before")
        done += count
