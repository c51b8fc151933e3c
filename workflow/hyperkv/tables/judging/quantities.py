"""Measured quantities and what is made of them: paired by repeat where they can be, else by the ends of their intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ...records.stats import Interval, median_interval

OPERATIONS: dict[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "largest": max,
    "smallest": min,
}


class Unmeasured(Exception):
    """A value that cannot be had from what was measured; the message says why."""


@dataclass(frozen=True)
class Quantity:
    """A median with its 95 % interval; samples: its values by repeat, where it has any; exact: a number as written."""

    interval: Interval
    samples: Mapping[int, float] | None = None
    exact: bool = False

    @classmethod
    def number(cls, value: float) -> Quantity:
        """A number as it is written."""
        return cls(Interval(value, value, value), exact=True)

    @classmethod
    def sampled(cls, samples: Mapping[int, float]) -> Quantity:
        """The median over repeats. Raises Unmeasured without any, or when one is not a finite number."""
        if not samples:
            raise Unmeasured("no repeat has a value")
        if not all(math.isfinite(value) for value in samples.values()):
            raise Unmeasured("a repeat's value is not a finite number")
        return cls(median_interval([samples[repeat] for repeat in sorted(samples)]), dict(samples))


def combine(symbol: str, one: Quantity, other: Quantity) -> Quantity:
    """one symbol other.

    Both by repeat: the repeats that both have, each on its own, then the median. Else the ends of both intervals, the
    widest that they allow; without an interval when either has none. Raises Unmeasured.
    """
    apply = OPERATIONS[symbol]
    if one.samples is not None and other.samples is not None:
        shared = sorted(one.samples.keys() & other.samples.keys())
        if not shared:
            raise Unmeasured("no repeat has both values")
        pairs = {repeat: (one.samples[repeat], other.samples[repeat]) for repeat in shared}
        return _paired(symbol, apply, pairs)
    if one.samples is not None and other.exact:
        number = other.interval.median
        return _paired(symbol, apply, {repeat: (value, number) for repeat, value in one.samples.items()})
    if other.samples is not None and one.exact:
        number = one.interval.median
        return _paired(symbol, apply, {repeat: (number, value) for repeat, value in other.samples.items()})
    median = _finite(symbol, apply, one.interval.median, other.interval.median)
    exact = one.exact and other.exact
    if None in (one.interval.low, other.interval.low):
        return Quantity(Interval(median, None, None), exact=exact)
    if symbol == "/" and other.interval.low <= 0 <= other.interval.high:
        raise Unmeasured("it divides by a value whose interval spans 0")
    ends = [
        _finite(symbol, apply, a, b)
        for a in (one.interval.low, one.interval.high)
        for b in (other.interval.low, other.interval.high)
    ]
    return Quantity(Interval(median, min(ends), max(ends)), exact=exact)


def reduce_all(symbol: str, parts: Sequence[Quantity]) -> Quantity:
    """The first combined with the second, that with the third, and so on."""
    result = parts[0]
    for part in parts[1:]:
        result = combine(symbol, result, part)
    return result


def _paired(
    symbol: str, apply: Callable[[float, float], float], pairs: Mapping[int, tuple[float, float]]
) -> Quantity:
    return Quantity.sampled({repeat: _finite(symbol, apply, *pair) for repeat, pair in pairs.items()})


def _finite(symbol: str, apply: Callable[[float, float], float], one: float, other: float) -> float:
    if symbol == "/" and other == 0:
        raise Unmeasured("it divides by a value of 0")
    value = apply(one, other)
    if not math.isfinite(value):
        raise Unmeasured("the value is not a finite number")
    return value
