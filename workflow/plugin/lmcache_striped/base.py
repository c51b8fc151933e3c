"""What every connector offers the engine: batched lookup, load and save of equal-sized values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from itertools import islice
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
    return leading_present_of_each([keys], ask)[0]


def leading_present_of_each(
    prompts: Sequence[Sequence[bytes]], ask: Callable[[Sequence[bytes]], list[bool]]
) -> list[int]:
    """leading_present of several prompts, which are asked for together."""
    found = [0] * len(prompts)
    going_on = [number for number, keys in enumerate(prompts) if keys]
    while going_on:
        pieces = {
            number: prompts[number][found[number] : found[number] + _EXISTS_BATCH] for number in going_on
        }
        flags = iter(ask([key for piece in pieces.values() for key in piece]))
        present = {number: leading_true([*islice(flags, len(piece))]) for number, piece in pieces.items()}
        for number, leading in present.items():
            found[number] += leading
        going_on = [
            number
            for number, piece in pieces.items()
            if present[number] == len(piece) and found[number] < len(prompts[number])
        ]
    return found


def leading_true(flags: Sequence[bool]) -> int:
    """How many flags are true before the first false one."""
    return next((index for index, flag in enumerate(flags) if not flag), len(flags))
