"""How a session reaches its store: without a connector, or through one of the product's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from workflow.hyperkv.connectors.registry import STRIPED_INSIDE, make_connector
from workflow.hyperkv.stores.base import Store

STRIPE_BYTES = 20_000


class Client(Protocol):
    """What a writer and a reader need of a store. Every failure is a StoreError."""

    def put(self, keys: Sequence[bytes], values: Sequence[np.ndarray]) -> None: ...

    def get(self, keys: Sequence[bytes], buffers: Sequence[np.ndarray]) -> list[bool]: ...

    def close(self) -> None: ...


Opened = Callable[[Store, float], Client]


class Alone:
    """The store `files` itself, without a connector."""

    def __init__(self, store: Store):
        self._store = store

    def put(self, keys: Sequence[bytes], values: Sequence[np.ndarray]) -> None:
        for key, value in zip(keys, values, strict=True):
            self._store.put(key, value)

    def get(self, keys: Sequence[bytes], buffers: Sequence[np.ndarray]) -> list[bool]:
        return [self._store.get_into(key, buffer) for key, buffer in zip(keys, buffers, strict=True)]

    def close(self) -> None:
        """Nothing is open."""


def opened_by(
    client: str, library: Path | None = None, bound_bytes: int | None = None, **options: Any
) -> Opened:
    """What opens a client: `alone` (files), or a connector's word, which `-native` gives `library`. bound_bytes: what it keeps in the
    store, for the one client that saves. options: see options_of of the connectors' registry.
    """
    if client == "alone":
        return lambda store, timeout_s: Alone(store)
    name, _, native = client.partition("-")
    if name in STRIPED_INSIDE:
        options |= {"stripe_bytes": STRIPE_BYTES}
    if native:
        options |= {"library": library}
    if bound_bytes is not None:
        options |= {"bound_bytes": bound_bytes}
    return lambda store, timeout_s: make_connector(name, store, 2, timeout_s, **options)
