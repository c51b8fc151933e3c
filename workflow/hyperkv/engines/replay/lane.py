"""A modelled device that loads and saves share as the plugin has them share it: by the plugin's own rule (save_share.py), not by ours."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ....plugin.lmcache_striped.cache_settings import LOADS_OF_FILES
from ....plugin.lmcache_striped.save_share import Share

if TYPE_CHECKING:
    from ....plugin.lmcache_striped.save_share import Load

_ALL_BUT = 1.0  # bytes: what is left of what has ended, by rounding


@dataclass(eq=False)
class _Loading:
    size: float
    left: float
    begun: Callable[[], None]
    ended: Callable[[], None]
    told: Load | None = None


class Lane:
    """Loads and saves of one device, played up to the engine's time whenever it is asked.

    Loads go on in the order in which they came, at_once of them together, which get like parts of read_bps; saves go one after the other,
    by the rate that the share lets them have while loads come, else by write_bps. A device of which saves have a part of its
    write_bps leaves loads the rest of its read_bps. saved: is told of each save that has ended, and when. Where most_bytes wait to be saved the next save is dropped.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        read_bps: float,
        write_bps: float,
        most_bytes: float,
        saved: Callable[[bytes, float], None],
        at_once: int = LOADS_OF_FILES,
    ):
        self._clock, self._read_bps, self._write_bps = clock, read_bps, write_bps
        self._most_bytes, self._saved, self._at_once = most_bytes, saved, at_once
        self._share = Share()
        self._at_s = 0.0
        self._waiting: deque[_Loading] = deque()
        self._running: list[_Loading] = []
        self._saves: deque[tuple[bytes, float]] = deque()
        self._unsaved_bytes = self._of_first = 0.0

    def load(self, size: float, begun: Callable[[], None], ended: Callable[[], None]) -> None:
        """So many bytes are to be loaded; begun and ended are called when they are."""
        self.go_on()
        self._waiting.append(_Loading(size, size, begun, ended))
        self._begin()

    def save(self, key: bytes, size: float) -> bool:
        """So many bytes are to be saved; False where they are dropped."""
        self.go_on()
        if self._unsaved_bytes + size > self._most_bytes:
            return False
        self._saves.append((key, size))
        self._unsaved_bytes += size
        return True

    @property
    def next_s(self) -> float:
        """When, while something is loaded, something changes as things are now; infinity where nothing is."""
        return self._at_s + self._step_s(*self._rates()) if self._running else math.inf

    def go_on(self) -> None:
        """Play up to now."""
        now_s = self._clock()
        while self._at_s < now_s and (self._running or self._saves):
            read, write = self._rates()
            step_s = min(self._step_s(read, write), now_s - self._at_s)
            if write:
                self._share.saves(self._at_s)
            self._at_s += step_s
            for each in self._running:
                each.left -= read * step_s
            self._of_first += write * step_s
            self._end_loads()
            self._end_save()
        self._at_s = now_s

    def _rates(self) -> tuple[float, float]:
        """Bytes/s of each load and of the save under way."""
        share, write = self._share, 0.0
        if self._saves and share.held(self._at_s) <= self._at_s:
            write = self._write_bps
            if share.comes(self._at_s):
                write = min(write / 2 if self._running else write, share.rate or write)
        return self._read_bps * (1 - write / self._write_bps) / max(len(self._running), 1), write

    def _step_s(self, read: float, write: float) -> float:
        """Seconds until something ends or the rates change."""
        steps = [each.left / read for each in self._running]
        if write:
            steps.append((self._saves[0][1] - self._of_first) / write)
        changes = (self._share.held(self._at_s), self._share.quiet_s)
        return min([*steps, *(at - self._at_s for at in changes if at > self._at_s)], default=math.inf)

    def _begin(self) -> None:
        while self._waiting and len(self._running) < self._at_once:
            one = self._waiting.popleft()
            one.told = self._share.begin(self._at_s, int(one.size))
            self._running.append(one)
            one.begun()

    def _end_loads(self) -> None:
        for one in [each for each in self._running if each.left < _ALL_BUT]:
            self._running.remove(one)
            assert one.told is not None
            self._share.end(self._at_s, one.told, int(one.size))
            one.ended()
        self._begin()

    def _end_save(self) -> None:
        if self._saves and self._of_first > self._saves[0][1] - _ALL_BUT:
            key, size = self._saves.popleft()
            self._unsaved_bytes -= size
            self._of_first = 0.0
            self._saved(key, self._at_s)
