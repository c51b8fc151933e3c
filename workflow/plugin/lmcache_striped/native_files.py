"""Pieces of files read by compiled code, locate.c and reader.c: one call for a load, outside Python's lock."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .deadline import COMMAND_BYTES, Deadline
from .errors import StoreError
from .native import SAID_BYTES, Time, failure, function_of
from .pieces import READS, REFUSED, Share
from .stripes import HEAD_BYTES

_CHANNEL = np.dtype(
    [
        ("fd", np.int32),
        ("folder", np.int32),
        ("first", np.uint64),
        ("count", np.uint64),
        ("status", np.int32),
        ("file_error", np.int32),
        ("said", f"S{SAID_BYTES}"),
        ("waited_s", np.float64),
    ]
)


class NativeFiles:
    """See Files. By `threads` threads, with `depth` reads under way in each, through the library at `path`.

    Raises UserError when there is none that fits.
    """

    def __init__(self, path: Path, read: str, threads: int, depth: int):
        names = ("direct", "reader", "reader_no_ring", "reader_close")
        self._load, make, self._refused, self._close = (
            function_of(path, f"striped_{name}") for name in names
        )
        counted = [ctypes.c_void_p, ctypes.c_uint64]
        self._load.argtypes = [ctypes.c_void_p, *counted, *counted, ctypes.c_uint64, ctypes.POINTER(Time)]
        make.argtypes, make.restype = [ctypes.c_uint, ctypes.c_uint, ctypes.c_int], ctypes.c_void_p
        self._refused.argtypes = self._close.argtypes = [ctypes.c_void_p]
        self._reader = make(threads, depth, READS.index(read))
        if self._reader is None:
            raise StoreError(f"cannot read by {threads} threads, {depth} reads in each")

    def ask(self, shares: Sequence[Share], pieces: np.ndarray, deadline: Deadline) -> None:
        if self._reader is None:
            raise StoreError("the reader of files is closed")
        places = np.zeros(len(shares), _CHANNEL)
        places["first"] = [share.pieces.start for share in shares]
        places["count"] = [share.pieces.stop - share.pieces.start for share in shares]
        places["folder"] = [share.folder for share in shares]
        moved = int(pieces["room"].sum()) + (HEAD_BYTES + COMMAND_BYTES) * len(pieces)
        with contextlib.ExitStack() as stack:
            places["fd"] = [stack.enter_context(share.channel.descriptor(deadline)) for share in shares]
            left = Time.left_of(deadline, moved)
            pointers = (places.ctypes.data, len(places), pieces.ctypes.data, len(pieces), HEAD_BYTES)
            if code := self._load(self._reader, *pointers, ctypes.byref(left)):
                raise StoreError(f"cannot read files: {os.strerror(code)}")
        came = pieces["length"] >= 0
        deadline.moved(int(pieces["length"][came].sum()) + COMMAND_BYTES * int(came.sum()))
        for share, place in zip(shares, places, strict=True):
            share.waited_s = float(place["waited_s"])
            status, words = int(place["status"]), place["said"].decode(errors="replace")
            if status == REFUSED:
                share.refused = words
            elif status:
                share.channel.close()
                share.broken = str(failure(share.channel, status, place["said"]))
            elif (error := int(place["file_error"])) not in (0, errno.ENOENT):
                share.unreadable = f"{words}: {os.strerror(error)}"

    def refusal(self) -> str | None:
        code = self._refused(self._reader)
        return f"io_uring is refused ({os.strerror(code)}); more threads read files instead" if code else None

    def close(self) -> None:
        if self._reader is not None:
            self._close(self._reader)
            self._reader = None
