"""What every connector offers the engine: batched lookup, load and save of equal-sized values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import TypeVar

import numpy as np

from .shape import Shape
from .threads import started

T = TypeVar("T")
_EXISTS_BATCH = 512


class Connector(ABC):
    """Moves values between the engine's buffers and a store over `connections` parallel workers.

    Every call returns when all of its bytes have moved, and ends by its deadline (deadline.py). Errors and time-outs raise
    StoreError; a missing or
    wrongly sized value is not an error. shape: the device that it is held to be, and what it counts of every call.
    """

    def __init__(self, connections: int):
        self.connections = connections
        self.shape = Shape()
        self._workers = started(connections, "connection")

    def __enter__(self) -> Connector:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers and close every connection."""
        self._workers.shutdown(wait=True)

    @abstractmethod
    def count_present(self, keys: Sequence[bytes]) -> int:
        """How many leading keys are in the store: the length of the longest cached prefix, in chunks."""

    @abstractmethod
    def get(self, keys: Sequence[bytes], buffers: Sequence[np.ndarray]) -> list[bool]:
        """Fill buffers[i] (uint8, the value's size) with the value of keys[i]; False where it is missing."""

    @abstractmethod
    def put(self, keys: Sequence[bytes], values: Sequence[np.ndarray]) -> None:
        """Save values[i] (uint8) under keys[i]."""


def ended(futures: Iterable[Future[T]]) -> list[T]:
    """What workers return. Waits for all of them before it raises the first error: no buffer is still being written."""
    begun = list(futures)
    errors = [error for future in begun if (error := future.exception()) is not None]
    if errors:
        raise errors[0]
    return [future.result() for future in begun]


def leading_present(keys: Sequence[bytes], ask: Callable[[Sequence[bytes]], list[bool]]) -> int:
    """How many leading keys are there. ask: whether each of some keys is; further ones are not asked for when one is not."""
    for start in range(0, len(keys), _EXISTS_BATCH):
        batch = keys[start : start + _EXISTS_BATCH]
        if (present := leading_true(ask(batch))) < len(batch):
            return start + present
    return len(keys)


def leading_true(flags: Sequence[bool]) -> int:
    """How many flags are true before the first false one."""
    return next((index for index, flag in enumerate(flags) if not flag), len(flags))
