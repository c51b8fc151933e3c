"""What every connector offers the engine: batched lookup, load and save of equal-sized values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

import numpy as np

from ..base.threads import started

T = TypeVar("T")


class Connector(ABC):
    """Moves values between the engine's buffers and a store over `connections` parallel workers.

    Every call returns when all of its bytes have moved, and ends by its deadline (deadline.py). Errors and time-outs raise
    StoreError; a missing or
    wrongly sized value is not an error.
    """

    def __init__(self, connections: int):
        self.connections = connections
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

    def spread(self, work: Callable[[int, range], T], items: int) -> list[T]:
        """Run work(worker, indices) on every worker, item i going to worker i modulo `connections`.

        Waits for all of them before raising the first error, so that no buffer is still being written.
        """
        futures: list[Future[T]] = [
            self._workers.submit(work, worker, range(worker, items, self.connections))
            for worker in range(min(self.connections, items))
        ]
        errors = [error for future in futures if (error := future.exception()) is not None]
        if errors:
            raise errors[0]
        return [future.result() for future in futures]


def leading_true(flags: Sequence[bool]) -> int:
    """How many flags are true before the first false one."""
    return next((index for index, flag in enumerate(flags) if not flag), len(flags))


def gather_flags(parts: Sequence[Sequence[bool]], items: int, connections: int) -> list[bool]:
    """Put the workers' answers (worker w holds items w, w + connections, ...) back in the items' order."""
    flags = [False] * items
    for worker, part in enumerate(parts):
        flags[worker::connections] = part
    return flags
