"""How long a step of vLLM's scheduler waits for the answers of lookups."""

from __future__ import annotations

import time
from collections.abc import Callable


class StepWait:
    """Of at most so many seconds in one step, all requests together, and for one request from its lookup on, however many steps that takes.

    So requests that come together wait at the same time, and a store that does not answer holds up one step for each of them and no
    further one. Raises ValueError for seconds below 0.
    """

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic):
        if not seconds >= 0:
            raise ValueError(f"step_wait_ms: {seconds * 1e3:g} is below 0")
        self._seconds, self._now = seconds, now
        self._step_ends: float | None = None
        self._ends: dict[str, float] = {}

    def goes_on(self, request: str) -> bool:
        """Whether a request whose lookup has not been answered is waited for now."""
        now = self._now()
        ends = self._ends.setdefault(request, now + self._seconds)
        if self._step_ends is None and now < ends:
            self._step_ends = now + self._seconds
        return now < ends and now < (self._step_ends or now)

    def step_ended(self) -> None:
        """The scheduler has chosen what its next step computes."""
        self._step_ends = None

    def forget(self, request: str) -> None:
        """A request whose lookup was answered, or that ended."""
        self._ends.pop(request, None)
