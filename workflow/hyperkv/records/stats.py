"""Medians with bootstrap confidence intervals, and ratios of paired repeats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_RESAMPLES = 2000
# Of so few values a lowest or highest one is the median of more than 2.5 % of all resamples.
_RANGE = 5


@dataclass(frozen=True)
class Interval:
    """A median with its 95 % confidence interval over repeats, or range (`interval_word`); low and high are None for one repeat."""

    median: float | None
    low: float | None
    high: float | None


def median(values: Sequence[float | None]) -> float | None:
    """Median of what is known. None values are left out; all None gives None."""
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def median_interval(values: Sequence[float | None]) -> Interval:
    """Median and percentile-bootstrap 95 % interval. None values are left out; all None gives None.

    Of few values it is their range (`interval_word`). Source: Efron, Tibshirani, "An Introduction to the Bootstrap", chapter 13.
    """
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return Interval(median(known), None, None)
    from scipy.stats import bootstrap  # takes longer to import than most tables to make

    found = bootstrap(
        (known,), np.median, n_resamples=_RESAMPLES, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    middle = float(np.median(known))  # of equal values an end may lie a rounding beyond
    return Interval(middle, min(middle, float(found.low)), max(middle, float(found.high)))


def interval_word(values: int) -> str:
    """What `median_interval` of so many values, one at least, is to be called: of up to five it is their range, and no more is known."""
    return "range" if values <= _RANGE else "95 % interval"


def spread(name: str, interval: Interval) -> dict[str, float | None]:
    """The columns of a median: its name, and the ends of its interval as `_low` and `_high`."""
    return {name: interval.median, f"{name}_low": interval.low, f"{name}_high": interval.high}


def iso_tps_ratio(
    baseline: Sequence[tuple[float, float]], other: Sequence[tuple[float, float]]
) -> float | None:
    """RPS/GPU of the baseline over that of the other at equal TPS/user; None when the curves share no TPS/user
    or the other's RPS/GPU there is 0.

    Both are (TPS/user, RPS/GPU) points of one repeat, joined by straight lines; the ratio is taken in the
    middle of the TPS/user range that both cover.
    """
    if len(baseline) < 2 or len(other) < 2:
        return None
    low = max(min(x for x, _ in baseline), min(x for x, _ in other))
    high = min(max(x for x, _ in baseline), max(x for x, _ in other))
    if low >= high:
        return None
    middle = (low + high) / 2
    denominator = _at(other, middle)
    return _at(baseline, middle) / denominator if denominator else None


def _at(curve: Sequence[tuple[float, float]], x: float) -> float:
    xs, ys = zip(*sorted(curve), strict=True)
    return float(np.interp(x, xs, ys))
