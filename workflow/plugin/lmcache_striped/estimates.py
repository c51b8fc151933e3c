"""What the gate knows of a store's speed and of a prompt's compute time: fits that are kept up to date by what is observed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .errors import UserError

_LEAST_S = 1e-9
_MOST = 1e12  # tokens or seconds
_KEPT = 0.9  # of an observation's weight, with every further one
_SURPRISE = 1.3  # how far from what was predicted an observation may be before it moves all that was learned
_BELIEVED = 0.7  # how much of such a surprise, as a power
_LONGER = 1.1  # times the shortest prompt's seconds
_TELLING = 0.02  # relative variance of x from which on it tells what is fixed


class Line:
    """Seconds = fixed + per_unit * x, both at least 0, fitted to observations of which older ones count less and less.

    An observation that is far from what was predicted moves all that was learned before, so that one is enough to see
    that everything has become slower or faster, unless `follows` says no. Errors count relative to their size.
    """

    def __init__(self, follows: bool = True) -> None:
        self._follows = follows
        self.fixed = self.per_unit = 0.0
        self.seen = 0
        self._sums: tuple[float, ...] = (0.0,) * 5

    def seconds(self, x: Any) -> Any:
        """What is predicted for x, a number or an array of them."""
        return self.fixed + self.per_unit * x

    def observe(self, x: float, seconds: float) -> None:
        """So many units, at least one, have taken so many seconds."""
        if x < 1 or seconds <= _LEAST_S:
            return
        count, units, squares, took, products = self._sums
        expected = self.seconds(x)
        if self._follows and expected > 0 and not 1 / _SURPRISE < (ratio := seconds / expected) < _SURPRISE:
            took, products = took * ratio**_BELIEVED, products * ratio**_BELIEVED
            self.fixed *= ratio**_BELIEVED
        weight = 1 / seconds
        added = (weight, weight * x, weight * x * x, weight * seconds, weight * x * seconds)
        older = (count, units, squares, took, products)
        self._sums = tuple(_KEPT * old + new for old, new in zip(older, added, strict=True))
        self.seen += 1
        self._solve()

    def _solve(self) -> None:
        count, units, squares, took, products = self._sums
        spread, risen = count * squares - units * units, count * products - units * took
        if spread > _TELLING * units * units and risen > 0:
            self.fixed = (took - risen / spread * units) / count
        self.fixed = min(max(self.fixed, 0.0), 0.99 * took / count)
        self.per_unit = (took - self.fixed * count) / units


class Curve:
    """Seconds that the engine takes to compute the rest of a prompt: c(new) + c2 * new * context.

    points: (tokens, seconds) of whole prompts. Between them c is interpolated, before and behind them it is
    c0 + c1 * new + c2 * new^2 / 2, fitted to them with relative errors and no negative part. Where several take as long as the shortest,
    as a step takes some seconds however few tokens it has, these tell nothing of a token and are left out of the fit. Raises UserError
    when there is no point, or one that is no pair of numbers above 0 and below _MOST.
    """

    def __init__(self, points: Sequence[Sequence[float]]):
        try:
            pairs = sorted({float(tokens): float(seconds) for tokens, seconds in points}.items())
        except (TypeError, ValueError, OverflowError) as error:
            raise UserError(f"a curve is a list of pairs, tokens and seconds: {error}") from error
        if not pairs or not all(0 < value < _MOST for pair in pairs for value in pair):
            raise UserError(
                "a curve has at least one pair, of tokens and seconds, all of them above 0 and below 10^12"
            )
        tokens, seconds = (np.array(column) for column in zip(*pairs, strict=True))
        telling = seconds > _LONGER * seconds.min()
        if telling.sum() in (0, len(seconds) - 1):
            telling[:] = True
        parts = np.stack([np.ones_like(tokens), tokens, tokens**2 / 2], 1)
        parts = _not_negative(parts[telling], seconds[telling])
        self.fixed, self.per_token, self.per_pair = (float(part) for part in parts)
        self._tokens, self._more = tokens, seconds - self._fitted(tokens)

    def seconds(self, new: Any, context: Any = 0, beside: Any = 0) -> Any:
        """Of `new` tokens behind `context` ones; numbers or arrays. beside: tokens of other prompts that are computed in the same
        step, to whose seconds these add."""
        together = self._alone(new + beside)
        if np.any(beside):
            others = np.where(np.asarray(beside) > 0, self._alone(beside), 0.0)
            together = np.maximum(together - others - self.per_pair * beside * new, 0.0)
        return together + self.per_pair * new * context

    def _alone(self, new: Any) -> Any:
        return np.maximum(self._fitted(new) + np.interp(new, self._tokens, self._more), 0.0)

    def _fitted(self, new: Any) -> Any:
        return self.fixed + self.per_token * new + self.per_pair * new * new / 2


def _not_negative(parts: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Least squares of relative errors over the columns, none with a negative factor: those that would have one are left out."""
    rows, found = parts / seconds[:, None], np.zeros(parts.shape[1])
    kept = list(range(min(parts.shape))) if len(seconds) > 1 else [1]
    factors = np.zeros(0)
    while not len(factors) or factors.min() < 0:
        if len(factors):
            kept.pop(int(factors.argmin()))
        factors = np.linalg.lstsq(rows[:, kept], np.ones(len(seconds)), rcond=None)[0]
    found[kept] = factors
    return found
