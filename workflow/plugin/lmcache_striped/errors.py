"""What ends an operation with one line instead of a traceback."""

from __future__ import annotations

from math import inf
from typing import Any


def printable(text: str) -> str:
    """A text on one line, with escapes for what a terminal would act on or not show."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class UserError(Exception):
    """Something the user can mend. The message is one line: what is wrong, and what to do about it.

    It may repeat a value of the configuration or what a server said, so what cannot be printed in it is escaped.
    exit_status: what the stage that it ends exits with.
    """

    exit_status = 2

    def __str__(self) -> str:
        return "\n".join(map(printable, super().__str__().split("\n")))


class StoreError(UserError):
    """A store refused or lost an operation (put, get, start); the message names the store and the cause."""


def above_zero(key: str, value: Any, kind: type[int] | type[float] = float, what: str = "a number") -> float:
    """A setting's value as a finite number of that kind. Raises UserError naming the key."""
    try:
        found = kind(value)
    except (TypeError, ValueError, OverflowError):
        found = 0
    if not 0 < found < inf:
        raise UserError(f"{key}: {value!r} is wrong; it must be {what} above 0")
    return found
