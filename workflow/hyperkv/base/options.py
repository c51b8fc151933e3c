"""Options that stages share, as the types of their mains' parameters."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter


def read_by(read: Callable[[str], Any]) -> Parameter:
    """An option of one word, of which `read` makes the value; it may raise ValueError."""
    return Parameter(converter=lambda _, words: read(words[0].value), n_tokens=1, accepts_keys=False)


def as_object(text: str) -> dict[str, Any]:
    """The object that a JSON text is. Raises ValueError."""
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(f"a JSON object is expected, not {text[:40]}")
    return found


def _above_zero(_: object, value: float | tuple[int, ...] | None) -> None:
    values = value if isinstance(value, tuple) else () if value is None else (value,)
    if not all(0 < each < math.inf for each in values):
        raise ValueError("it must be more than 0, and finite")


_ABOVE_ZERO = Parameter(validator=_above_zero)
Positive = Annotated[float, _ABOVE_ZERO]
PositiveOrNone = Annotated[float | None, _ABOVE_ZERO]
Count = Annotated[int, _ABOVE_ZERO]
CountOrNone = Annotated[int | None, _ABOVE_ZERO]
Counts = Annotated[tuple[int, ...], Parameter(consume_multiple=1, validator=_above_zero)]
Spec = Annotated[dict[str, Any], read_by(as_object)]
Files = Annotated[tuple[Path, ...], Parameter(consume_multiple=True)]
Words = Annotated[tuple[str, ...], Parameter(consume_multiple=True)]
LOGS = Path("results/logs/servers")
