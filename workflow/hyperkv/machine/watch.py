"""A process that is run to its end while everything it depends on is watched."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from ...plugin.lmcache_striped.threads import refused
from ..base.errors import StoreError, UserError
from .processes import OwnedProcess, describe_exit

_PERIOD_S = 0.5


class ProcessFailed(UserError):
    """The process ended with another status than 0; the message has its last line and names its log."""


class ProcessLate(UserError):
    """The process did not end in time; the message names its log."""


def run_watched(
    process: OwnedProcess, checks: Sequence[Callable[[], None]], timeout_s: float, period_s: float = _PERIOD_S
) -> None:
    """Start `process` and return when it has ended with status 0; its group is gone in every case.

    checks: raise when something it needs is dead or hangs; called in turn, `period_s` seconds apart, and the
    first error ends the process and is raised. Raises ProcessFailed for another status, ProcessLate past `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    with process:
        while (code := process.exit_code()) is None:
            for check in checks:
                check()
            if time.monotonic() > deadline:
                raise ProcessLate(f"{process.label} did not end within {timeout_s:.0f} s; see {process.log}")
            with contextlib.suppress(StoreError):
                process.check_alive(period_s)
        if code != 0:
            raise ProcessFailed(
                f"{process.label} ended with {describe_exit(code)}: {process.last_line()}; see {process.log}"
            )


@contextlib.contextmanager
def every(seconds: float, action: Callable[[], None]) -> Iterator[None]:
    """Call `action` in a thread of its own every so often while the block runs; its first error ends the calls."""
    stopped = threading.Event()

    def run() -> None:
        while not stopped.wait(seconds):
            action()

    thread = threading.Thread(target=run, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise refused(1, error) from error
    try:
        yield
    finally:
        stopped.set()
        thread.join()
