"""A connector to servers that others use as well: every key begins with the run's prefix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...plugin.lmcache_striped.base import Connector


class PrefixedConnector(Connector):
    """`inner` with other keys; all else is its own."""

    def __init__(self, inner: Connector, prefix: str):
        self._inner, self._prefix = inner, prefix.encode()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def close(self) -> None:
        self._inner.close()

    def count_present(self, keys: Sequence[bytes]) -> int:
        return self._inner.count_present(self._own(keys))

    def get(self, keys: Sequence[bytes], buffers: Sequence[np.ndarray]) -> list[bool]:
        return self._inner.get(self._own(keys), buffers)

    def put(self, keys: Sequence[bytes], values: Sequence[np.ndarray]) -> None:
        self._inner.put(self._own(keys), values)

    def _own(self, keys: Sequence[bytes]) -> list[bytes]:
        return [self._prefix + key for key in keys]
