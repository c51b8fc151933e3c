"""Stripes that are asked for together, as one array: what both readers of files fill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .channels import Channel
from .deadline import Deadline
from .stripes import HEAD

READS = ("cached", "direct", "auto")  # in the order of files.c
MISSING, REFUSED, BY_GET, UNREAD = range(
    -1, -5, -1
)  # lengths of what has not come, as native.c and reader.c have them

IN_MEMORY = -2  # the file of what the server does not have in one, as locate.c has it

PIECE = np.dtype(
    [
        ("key", np.uint64),
        ("key_bytes", np.uint64),
        ("place", np.uint64),
        ("room", np.uint64),
        ("index", np.uint32),
        ("server", np.uint32),
        ("checksum", np.uint64),
        ("length", np.int64),
        ("head", HEAD),
        ("", "V8"),
        ("offset", np.int64),
        ("file", np.int32),
        ("", "V4"),
    ]
)


@dataclass
class Share:
    """A connection, its pieces, and what became of them beside their lengths.

    folder: descriptor of its server's folder. refused: what the server answered LOCATE with instead of places. broken: why the
    connection is closed. waited_s: for the answer that took longest, None when nobody knows. unreadable: the first file that could not be opened, and why; not of those that are gone.
    """

    channel: Channel
    pieces: slice
    folder: int
    refused: str | None = None
    broken: str | None = None
    waited_s: float | None = None
    unreadable: str | None = None


class Files(Protocol):
    """A reader of files."""

    def ask(self, shares: Sequence[Share], pieces: np.ndarray, deadline: Deadline) -> None:
        """Ask each connection where its pieces lie and read them: head, checksum, length, and bytes in place. Those that were not read
        are MISSING, UNREAD, where they lie in a file, or BY_GET. Raises StoreError when a server cannot be reached.
        """

    def refusal(self) -> str | None:
        """Why it reads in another way than it was to."""

    def close(self) -> None:
        """Give back what it holds; twice is once."""
