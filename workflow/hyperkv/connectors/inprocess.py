"""Connector `inprocess`: the store lives in the engine's process; values are copied or read straight into place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..base.errors import UserError
from ..stores.base import LocalStore, Store
from .base import Connector, gather_flags, leading_true


class InprocessConnector(Connector):
    """For the stores dram and files."""

    def __init__(self, store: Store, connections: int):
        if not isinstance(store, LocalStore):
            raise UserError(f"connector inprocess cannot reach store {store.name}; use redis or resp")
        super().__init__(connections)
        self._store = store

    def count_present(self, keys: Sequence[bytes]) -> int:
        return leading_true(self._store.exists(keys))

    def get(self, keys: Sequence[bytes], buffers: Sequence[np.ndarray]) -> list[bool]:
        def load(_worker: int, indices: range) -> list[bool]:
            return [self._store.get_into(keys[i], buffers[i]) for i in indices]

        return gather_flags(self.spread(load, len(keys)), len(keys), self.connections)

    def put(self, keys: Sequence[bytes], values: Sequence[np.ndarray]) -> None:
        def save(_worker: int, indices: range) -> None:
            for i in indices:
                self._store.put(keys[i], values[i])

        self.spread(save, len(keys))
