"""A shaped device: whatever holds the stripes, they come no earlier than a device of stated GB/s, latency and queue depth has them.

The device does one thing at a time with its bytes, reads and writes alike: n bytes take n / read_gbps or n / write_gbps of its
time. Before that each stripe waits for latency_us, as many at once as are under way: at most queue_depth, and of one call no
more than its client has under way. A call begins when its client asks, its bytes really move meanwhile, and it ends when
the device would have ended it. Lookups move no stripes and are not held back.
"""

from __future__ import annotations

import contextlib
import heapq
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any

from .errors import above_zero

HELD = 0.03  # how far what was achieved may be from what is stated
_AHEAD_S = 1e-3  # a stripe has its turn at the device so long before it is under way at most
_SPIN_S = 2e-4  # what a sleep is late by at most, mostly
_TOLD = re.compile(r"striped: shape (read|write): (\d+) bytes, stated (\S+) s, took (\S+) s, store (\S+) s")


@dataclass(frozen=True)
class Device:
    """What a device is to be. read_gbps, write_gbps: 10^9 bytes per second, None for no bound. latency_us: of every stripe.
    queue_depth: stripes that it has under way at most, None for no bound.
    """

    read_gbps: float | None = None
    write_gbps: float | None = None
    latency_us: float | None = None
    queue_depth: int | None = None

    @property
    def is_stated(self) -> bool:
        """Whether it holds back anything."""
        return any(value is not None for value in (self.read_gbps, self.write_gbps, self.latency_us))


KEYS = tuple(f"shape_{field.name}" for field in fields(Device))  # of the plugin's settings


def device_from(values: Mapping[str, Any], prefix: str) -> Device:
    """The device of keys `<prefix>shape_read_gbps` and so on. Raises UserError naming the key."""
    found: dict[str, Any] = {}
    for field in fields(Device):
        key = f"{prefix}shape_{field.name}"
        if (value := values.get(key)) is not None:
            found[field.name] = above_zero(key, value, int if field.name == "queue_depth" else float)
    return Device(**found)


@dataclass(frozen=True)
class Moved:
    """Calls of one way since the start. bytes: of the stripes that were moved. stated_s: seconds that the device has them take;
    took_s: that they took; store_s: that the store itself took in these calls, before it was waited for the device. The seconds
    of calls that went on at once are added up.
    """

    bytes: int = 0
    stated_s: float = 0.0
    took_s: float = 0.0
    store_s: float = 0.0

    def plus(self, other: Moved) -> Moved:
        """Both together."""
        return Moved(*(one + more for one, more in zip(astuple(self), astuple(other), strict=True)))

    @property
    def gbps(self) -> float | None:
        """10^9 bytes per second of what they took; None where nothing was moved."""
        return self.bytes / self.took_s / 1e9 if self.took_s else None

    @property
    def store_gbps(self) -> float | None:
        """The same of what the store itself took."""
        return self.bytes / self.store_s / 1e9 if self.store_s else None

    @property
    def share(self) -> float | None:
        """GB/s that were achieved over those that the device was to give; None where nothing was moved or held back."""
        return self.stated_s / self.took_s if self.stated_s and self.took_s else None


Counts = dict[str, Moved]  # by way, read or write


def told_by(lines: Iterable[str]) -> Counts | None:
    """The sum of what a log's lines tell; None when none of them does."""
    found: Counts = {}
    for way, size, *seconds in (match.groups() for line in lines if (match := _TOLD.search(line))):
        moved = Moved(int(size), *map(float, seconds))
        found[way] = found.get(way, Moved()).plus(moved)
    return found or None


def wait_until(due_s: float) -> None:
    """Return when time.perf_counter is there, and not much later."""
    while (left_s := due_s - time.perf_counter()) > 0:
        time.sleep(max(0.0, left_s - _SPIN_S))


class Shape:
    """The device that all calls of one client share. Safe for several threads.

    clock, until: seconds now, and waiting until then. note: is told of every call in a line, see `told_by`.
    """

    def __init__(
        self,
        device: Device = Device(),
        note: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.perf_counter,
        until: Callable[[float], None] = wait_until,
    ):
        self.device = device
        self._note, self._clock, self._until = note, clock, until
        self._s_per_byte = {
            "read": 1e-9 / device.read_gbps if device.read_gbps else 0.0,
            "write": 1e-9 / device.write_gbps if device.write_gbps else 0.0,
        }
        self._latency_s = (device.latency_us or 0.0) / 1e6
        self._lock = threading.Lock()
        self._free_s = 0.0
        self._places_s = [0.0] * (device.queue_depth or 0)  # a heap: when each place in the queue is free
        self._counts: Counts = {"read": Moved(), "write": Moved()}

    @property
    def counts(self) -> Counts:
        """What was moved so far, by way."""
        with self._lock:
            return dict(self._counts)

    @contextlib.contextmanager
    def moving(self, way: str, under_way: int | None, waits: Sequence[float] = ()) -> Iterator[list[int]]:
        """Within it a call moves stripes, and gives the list the bytes of each that it moved; it ends when the device has them moved.

        under_way: stripes that the client has under way at once, None for all. waits: seconds that the client itself let stripes
        wait, of which the device proves nothing: such a call is held back and not counted. An exception is not held back.
        """
        sizes: list[int] = []
        begun_s = self._clock()
        yield sizes
        served_s = ended_s = self._clock()
        due_s = begun_s
        if self.device.is_stated:
            due_s = self._due_s(way, sizes, under_way, begun_s)
            self._until(due_s)
            ended_s = self._clock()
        if not sizes or sum(waits) > _AHEAD_S:
            return
        moved = Moved(sum(sizes), due_s - begun_s, ended_s - begun_s, served_s - begun_s)
        with self._lock:
            self._counts[way] = self._counts[way].plus(moved)
        if self.device.is_stated:
            self._note(
                f"shape {way}: {moved.bytes} bytes, stated {moved.stated_s:.6f} s, took {moved.took_s:.6f} s, store {moved.store_s:.6f} s"
            )

    def _due_s(self, way: str, sizes: Sequence[int], under_way: int | None, begun_s: float) -> float:
        """When the last stripe is moved. A stripe gets its turn when it is under way, so that calls share the device by stripes."""
        ends: deque[float] = deque()
        end_s = begun_s
        for size in sizes:
            asked_s = ends.popleft() if under_way is not None and len(ends) >= under_way else begun_s
            if asked_s > self._clock() + _AHEAD_S:
                self._until(asked_s)
            end_s = self._take(asked_s, size * self._s_per_byte[way])
            ends.append(end_s)
        return end_s

    def _take(self, asked_s: float, moving_s: float) -> float:
        """When a stripe that is asked for at `asked_s` is moved."""
        with self._lock:
            begun_s = max(asked_s, heapq.heappop(self._places_s)) if self._places_s else asked_s
            end_s = max(begun_s + self._latency_s, self._free_s) + moving_s
            self._free_s = end_s
            if self.device.queue_depth is not None:
                heapq.heappush(self._places_s, end_s)
        return end_s
