"""The keys that an LMCache server gives an adapter: a chunk has one for each GPU's rank and each group of layers.

Lookups name them rank by rank, `<model>@<rank>@<group>@<hash>[@<salt>]`; what can be loaded are chunks of which every rank's
value is there (lmcache/v1/distributed/storage_controllers/prefetch_policy.py, LMCache 0.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


def row_and_chunk(key: str) -> tuple[str, str]:
    """What says whose part of a chunk a key names, and what names the chunk, of a key of another form the key itself."""
    parts = key.split("@")
    if len(parts) < 4:
        return "", key
    return "@".join(parts[1:3]), "@".join((parts[0], *parts[3:]))


@dataclass(frozen=True)
class Columns:
    """The keys of a lookup by chunk. names: of each chunk, its keys. places: of each key that was given, its chunk's number."""

    names: list[tuple[str, ...]]
    places: list[int]

    @classmethod
    def of(cls, keys: Sequence[str]) -> Columns:
        """Keys of one rank, or of several with as many each; otherwise every key is a chunk of its own."""
        if not keys or row_and_chunk(keys[0])[0] == row_and_chunk(keys[-1])[0]:
            return cls([(key,) for key in keys], list(range(len(keys))))
        rows: dict[str, list[str]] = {}
        places = []
        for key in keys:
            row = rows.setdefault(row_and_chunk(key)[0], [])
            places.append(len(row))
            row.append(key)
        if len({len(row) for row in rows.values()}) > 1:
            return cls([(key,) for key in keys], list(range(len(keys))))
        return cls(list(zip(*rows.values(), strict=True)), places)

    @property
    def rows(self) -> int:
        """Keys of a chunk."""
        return len(self.names[0]) if self.names else 1

    @property
    def chunks(self) -> list[str]:
        """What names each chunk."""
        return [row_and_chunk(names[0])[1] for names in self.names]

    def found(self, count: int) -> list[bool]:
        """Of each key that was given whether it is of the first `count` chunks."""
        return [place < count for place in self.places]
