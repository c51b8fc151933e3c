"""Stores inside the measuring process."""

from __future__ import annotations

import os
import threading
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from ..base.errors import StoreDied
from ..machine.counters import process_counters
from .base import Counters, Store, StoreConfig


class LocalStore(Store):
    """A store without a server: values copied straight to and from buffers.

    served_bytes, taken_bytes, hits, misses: what its subclass counts, under `lock`.
    """

    connectors: ClassVar[tuple[str, ...]] = ("inprocess",)

    def __init__(self, config: StoreConfig):
        super().__init__(config)
        self.lock = threading.Lock()
        self.served_bytes = self.taken_bytes = self.hits = self.misses = 0

    def pid(self) -> int:
        return os.getpid()

    def check_alive(self, grace_s: float = 0.0) -> None:
        if not self.is_open:
            raise StoreDied(f"store {self.name} is closed")

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """Whether the store was started and not stopped."""

    @abstractmethod
    def put(self, key: bytes, value: np.ndarray) -> None:
        """Keep a copy of `value` (uint8). Raises StoreError."""

    @abstractmethod
    def get_into(self, key: bytes, buffer: np.ndarray) -> bool:
        """Fill `buffer` with the key's value, False when it is missing or of another length."""

    @abstractmethod
    def exists(self, keys: Sequence[bytes]) -> list[bool]:
        """Whether each key is present."""

    def looked_for(self, keys: Sequence[bytes], found: int) -> None:
        """A lookup of a prompt's keys has found the leading ones. For a store that has a bound; the others need not know."""

    def used(self, keys: Sequence[bytes]) -> None:
        """Some keys of a prompt were loaded or saved together."""

    def counters(self) -> Counters:
        return Counters(
            self.served_bytes, self.taken_bytes, self.hits, self.misses, process_counters(os.getpid())
        )
