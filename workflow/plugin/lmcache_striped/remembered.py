"""Chunks of which something is remembered for a while. Times are the caller's."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence

_MOST, _KEPT_S = 1 << 16, 60.0


class Remembered:
    """Chunks for a minute each, and the last 65,536 of them. Not for several threads."""

    def __init__(self) -> None:
        self._since_s: OrderedDict[Hashable, float] = OrderedDict()

    def add(self, keys: Sequence[Hashable], now: float) -> None:
        """Remember these from now on."""
        self.forget(keys)
        self._since_s.update(dict.fromkeys(keys, now))
        while len(self._since_s) > _MOST:
            self._since_s.popitem(last=False)

    def has(self, key: Hashable, now: float) -> bool:
        """Whether it was added a moment ago, and not forgotten since."""
        since_s = self._since_s.get(key)
        return since_s is not None and now - since_s < _KEPT_S

    def forget(self, keys: Iterable[Hashable]) -> None:
        """Of these nothing is remembered any more."""
        if self._since_s:
            for key in keys:
                self._since_s.pop(key, None)
