"""A connector whose workers move whole values."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from ...plugin.lmcache_striped.base import Connector, ended

T = TypeVar("T")
Items = Sequence[tuple[bytes, np.ndarray]]  # keys, each with its buffer or its value


class SpreadConnector(Connector):
    """One whose workers move whole values by themselves, item i of a call on worker i modulo `connections`."""

    @abstractmethod
    def load(self, worker: int, items: Items) -> list[bool]:
        """A worker's part of get: whether each buffer was filled."""

    @abstractmethod
    def save(self, worker: int, items: Items) -> None:
        """A worker's part of put."""

    def get(self, keys: Sequence[bytes], buffers: Sequence[np.ndarray]) -> list[bool]:
        found = [False] * len(keys)
        with self.shape.moving("read", self.connections) as moved:
            for worker, part in enumerate(self.spread(self.load, list(zip(keys, buffers, strict=True)))):
                found[worker :: self.connections] = part
            moved += [buffer.size for buffer, hit in zip(buffers, found, strict=True) if hit]
        return found

    def put(self, keys: Sequence[bytes], values: Sequence[np.ndarray]) -> None:
        with self.shape.moving("write", self.connections) as moved:
            self.spread(self.save, list(zip(keys, values, strict=True)))
            moved += [value.size for value in values]

    def spread(self, work: Callable[[int, Items], T], items: Items) -> list[T]:
        """Run work(worker, its items) on every worker that has some, and wait for all of them."""
        return ended(
            self._workers.submit(work, worker, items[worker :: self.connections])
            for worker in range(min(self.connections, len(items)))
        )
