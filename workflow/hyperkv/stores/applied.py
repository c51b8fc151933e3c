"""What a running server did not take over of its settings, by its answer to CONFIG GET *."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import redis

BINARY_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
SECRET_KEYS = ("requirepass", "masterauth")


def differences(
    server: str,
    wanted: Mapping[str, str],
    applied: Mapping[str, str],
    ignorable: Sequence[str] = (),
    units: Mapping[str, int] = BINARY_UNITS,
) -> tuple[list[str], list[str]]:
    """Faults, and the keys of `ignorable` that the server does not know.

    server: its name, for messages. units: what a letter after a number stands for there.
    """
    faults, ignored = [], []
    for key, value in wanted.items():
        if key not in applied and key in ignorable:
            ignored.append(key)
        elif key not in applied:
            faults.append(f"{key} is not a key of this {server}")
        elif not _same(value, applied[key], units):
            faults.append(
                f"{key} is another" if key in SECRET_KEYS else f"{key} is {applied[key]!r}, not {value!r}"
            )
    return faults, ignored


def told_by(client: redis.Redis) -> dict[str, str]:
    """The answer of a running server to CONFIG GET *. Raises redis.RedisError."""
    return {_word(key): _word(value) for key, value in client.config_get("*").items()}


def _word(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def number(text: str, units: Mapping[str, int] = BINARY_UNITS) -> int | None:
    """A whole number with or without a unit; None for anything else."""
    text = text.lower()
    digits = text.rstrip("".join(units))
    factor = units.get(text[len(digits) :], 1 if text == digits else None)
    return None if factor is None or not digits.removeprefix("-").isdecimal() else int(digits) * factor


def _same(wanted: str, applied: str, units: Mapping[str, int]) -> bool:
    known = number(wanted, units)
    return wanted.lower() == applied.lower() or (known is not None and known == number(applied, units))
