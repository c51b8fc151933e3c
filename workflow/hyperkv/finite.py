"""Numbers of files that a user writes are finite: NaN and infinity pass every comparison or none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .errors import UserError


def check_finite(value: Any, where: str = "config") -> None:
    """Raise UserError, beginning with `where` and naming the key, for a number that is none or infinite, at any depth."""
    for path, number in _numbers(value, ""):
        if not math.isfinite(number):
            word = ".nan" if math.isnan(number) else str(number).replace("inf", ".inf")
            raise UserError(f"{where}: {path}: {word} is wrong; it must be a finite number")


def _numbers(value: Any, path: str) -> Iterator[tuple[str, float]]:
    """Every number that is no integer, with the path of its key."""
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, float):
        yield path, value
    elif isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, item in items:
        yield from _numbers(item, f"{path}.{key}" if path else str(key))
