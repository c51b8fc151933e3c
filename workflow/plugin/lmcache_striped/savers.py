"""Which of the chunks that an instance loads another has saved: for several engines before one store."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .stripes import chunk_id

_TOLD = re.compile(r"striped: loaded (\d+) chunks, (\d+) of them saved by another")


@dataclass(frozen=True)
class SaverCounts:
    """Chunks that were loaded, and those of them that another instance had saved and the one that loaded them had not."""

    loaded: int = 0
    others: int = 0


class Savers:
    """The names of all chunks that this instance has saved, which go with it. note: is told of every load."""

    def __init__(self, note: Callable[[str], None]):
        self._note, self._saved = note, set[bytes]()

    def saved(self, keys: Sequence[bytes]) -> None:
        """Chunks are in the store."""
        self._saved.update(map(chunk_id, keys))

    def loaded(self, keys: Sequence[bytes], found: Sequence[bool]) -> None:
        """Chunks were asked for, and some of them loaded."""
        names = [chunk_id(key) for key, hit in zip(keys, found, strict=True) if hit]
        if names:
            others = sum(name not in self._saved for name in names)
            self._note(f"loaded {len(names)} chunks, {others} of them saved by another")


def told_by(lines: Iterable[str]) -> SaverCounts | None:
    """The sum of what a log's lines tell; None when none of them does."""
    found = [(int(match[1]), int(match[2])) for line in lines if (match := _TOLD.search(line))]
    return SaverCounts(*map(sum, zip(*found, strict=True))) if found else None
