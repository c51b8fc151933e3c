"""Connector `inprocess`: the store lives in the engine's process; values are copied or read straight into place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...plugin.lmcache_striped.base import leading_true
from ..base.errors import UserError
from ..stores.base import Store
from ..stores.local import LocalStore
from .base import Items, SpreadConnector


class InprocessConnector(SpreadConnector):
    """For the stores dram and files."""

    def __init__(self, store: Store, connections: int):
        if not isinstance(store, LocalStore):
            raise UserError(f"connector inprocess cannot reach store {store.name}; use redis or resp")
        super().__init__(connections)
        self._store = store

    def count_present(self, keys: Sequence[bytes]) -> int:
        found = leading_true(self._store.exists(keys))
        self._store.looked_for(keys, found)
        return found

    def get(self, keys: Sequence[bytes], buffers: Sequence[np.ndarray]) -> list[bool]:
        found = super().get(keys, buffers)
        self._store.used([key for key, hit in zip(keys, found, strict=True) if hit])
        return found

    def put(self, keys: Sequence[bytes], values: Sequence[np.ndarray]) -> None:
        super().put(keys, values)
        self._store.used(keys)

    def load(self, worker: int, items: Items) -> list[bool]:
        return [self._store.get_into(key, buffer) for key, buffer in items]

    def save(self, worker: int, items: Items) -> None:
        for key, value in items:
            self._store.put(key, value)
