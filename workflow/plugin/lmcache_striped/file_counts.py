"""How much of what was loaded came from the servers' files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass

_TOLD = re.compile(r"striped: (\d+) stripes from files, (\d+) bytes; (\d+) by GET, (\d+) of them again")


@dataclass(frozen=True)
class FileCounts:
    """Stripes since the start, those without bytes apart: read from files; asked for by GET; of these, those that were said
    to lie in a file and were not read there, or did not prove themselves. file_bytes: of the first."""

    from_files: int = 0
    by_get: int = 0
    retried: int = 0
    file_bytes: int = 0

    @property
    def told(self) -> str:
        """For a log, and `told_by`."""
        read = f"{self.from_files} stripes from files, {self.file_bytes} bytes"
        return f"{read}; {self.by_get} by GET, {self.retried} of them again"

    @classmethod
    def sum_of(cls, counts: Sequence[FileCounts | None]) -> FileCounts | None:
        """Of several; None when one of them is not known."""
        known = [astuple(each) for each in counts if each is not None]
        return cls(*map(sum, zip(*known, strict=True))) if len(known) == len(counts) else None

    def since(self, earlier: FileCounts) -> FileCounts:
        """What has been counted after an earlier state."""
        return FileCounts(*(now - then for now, then in zip(astuple(self), astuple(earlier), strict=True)))


def told_by(lines: Iterable[str]) -> FileCounts | None:
    """The sum of what a log's lines tell; None when none of them does."""
    found = [match for line in lines if (match := _TOLD.search(line))]
    if not found:
        return None
    told = [tuple(map(int, match.groups())) for match in found]
    return FileCounts.sum_of(
        [FileCounts(stripes, by_get, again, size) for stripes, size, by_get, again in told]
    )
