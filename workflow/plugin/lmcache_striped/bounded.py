"""Connector `striped` or `direct` to a store with a bound: what it finds, loads and saves is told to the bound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .bound import GONE_S, Bound
from .connector import StripedConnector
from .deadline import Endpoint
from .errors import StoreError
from .ledger import Ledger


class BoundedConnector(StripedConnector):
    """A StripedConnector that keeps to `bound`, which others may keep to as well. A save that the bound does not let be raises StoreError."""

    def __init__(self, bound: Bound, endpoints: Sequence[Endpoint], *arguments: Any, **options: Any):
        self.bound = bound
        super().__init__(endpoints, *arguments, **options)

    def count_present_of_each(self, prompts: Sequence[Sequence[bytes]]) -> list[int]:
        found = super().count_present_of_each(prompts)
        for keys, present in zip(prompts, found, strict=True):
            self.bound.looked_for(keys, present)
        return found

    def present(self, keys: Sequence[bytes]) -> list[bool]:
        found = super().present(keys)
        self.bound.looked_for([key for key, there in zip(keys, found, strict=True) if there], sum(found))
        return found

    def get(self, keys: Sequence[bytes], buffers: Sequence[np.ndarray]) -> list[bool]:
        found = super().get(keys, buffers)
        self.bound.loaded(keys, [buffer.size for buffer in buffers], found)
        return found

    def put(self, keys: Sequence[bytes], values: Sequence[np.ndarray]) -> None:
        for some in self.bound.batches([value.size for value in values]):
            with self.bound.saving(keys[some], [value.size for value in values[some]]):
                super().put(keys[some], values[some])


class OwnBoundConnector(BoundedConnector):
    """One with a bound of its own, of `bound_bytes`, which it has taken over when it is made. Raises StoreError when it cannot."""

    def __init__(self, endpoints: Sequence[Endpoint], *arguments: Any, bound_bytes: int, **options: Any):
        StripedConnector.__init__(self, endpoints, *arguments, **options)
        self._lines: list[str] = []
        ledger = Ledger(endpoints, 1, self._timeout_s, connect=False, cluster=self._cluster)
        try:
            self.bound = Bound(bound_bytes, ledger, self.stripe_bytes, report=self._lines.append)
        except BaseException:
            super().close()
            raise
        if not self.bound.wait(self._timeout_s + 2 * GONE_S):
            self.close()
            raise StoreError(self._lines[-1] if self._lines else "the store's bound cannot be kept")

    @property
    def bound_notes(self) -> list[str]:
        """What became of the bound, and what was said of it, a line each."""
        return [self.bound.counts.told, *self._lines]

    def close(self) -> None:
        self.bound.close()
        super().close()
