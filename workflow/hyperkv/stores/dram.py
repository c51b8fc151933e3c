"""Store `dram`: a bounded LRU pool of real memory inside the engine's process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..base.errors import StoreError, UserError
from ..workloads.payload import aligned_buffer, slots
from .base import Look, StoreConfig
from .local import LocalStore


class DramStore(LocalStore):
    """Slots of `value_bytes` in one faulted-in buffer of `capacity_bytes`; the least recently used goes first."""

    name = "dram"
    medium = "ram"
    look = Look("#0072B2", "o", "8")
    connectors = ("inprocess", "mp", "offloading")
    held_by_engine = "pool"
    bound_key = "dram_pool_bytes"

    def __init__(self, config: StoreConfig):
        super().__init__(config)
        if not config.capacity_bytes or config.capacity_bytes < config.value_bytes:
            raise UserError(
                f"store dram: its capacity of {config.capacity_bytes or 0:,} bytes holds no value of "
                f"{config.value_bytes:,} bytes; raise dram_pool_bytes or lower chunk_tokens"
            )
        self._free: list[np.ndarray] | None = None
        self._held: OrderedDict[bytes, tuple[np.ndarray, int]] = OrderedDict()
        self.evictions = 0

    @classmethod
    def check_settings(cls, settings: Mapping[str, Any], where: str) -> None:
        for key in settings:
            raise UserError(f"{where}.{key}: store dram has no keys of its own; leave it out")

    @property
    def is_open(self) -> bool:
        return self._free is not None

    def start(self) -> None:
        self._held.clear()
        self._free = slots(aligned_buffer(self.config.capacity_bytes or 0), self.config.value_bytes)

    def stop(self) -> None:
        self._held.clear()
        self._free = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def put(self, key: bytes, value: np.ndarray) -> None:
        if value.size > self.config.value_bytes:
            raise StoreError(f"store dram: a value of {value.size:,} bytes exceeds its slots")
        with self.lock:
            slot = self._slot_for(key)
            slot[: value.size] = value
            self._held[key] = (slot, value.size)
            self.taken_bytes += value.size

    def _slot_for(self, key: bytes) -> np.ndarray:
        if self._free is None:
            raise StoreError("store dram is closed")
        if key in self._held:
            return self._held.pop(key)[0]
        if self._free:
            return self._free.pop()
        self.evictions += 1
        return self._held.popitem(last=False)[1][0]

    def get_into(self, key: bytes, buffer: np.ndarray) -> bool:
        with self.lock:
            slot, size = self._held.get(key, (None, None))
            if slot is None or size != buffer.size:
                self.misses += 1
                return False
            self._held.move_to_end(key)
            buffer[:] = slot[:size]
            self.hits += 1
            self.served_bytes += size
            return True

    def exists(self, keys: Sequence[bytes]) -> list[bool]:
        return [key in self._held for key in keys]
