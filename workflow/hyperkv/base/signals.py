"""A signal that ends a process, as an exception: context managers then end what they own."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator

_NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_PATIENCE_S = 20.0


@contextlib.contextmanager
def ends_on_sigterm(patience_s: float = _PATIENCE_S, is_all: bool = False) -> Iterator[None]:
    """Turn SIGTERM, SIGINT, SIGHUP and SIGQUIT into KeyboardInterrupt inside the block, so that context managers end their
    servers.

    The first one does; a terminal, Snakemake and a scheduler may each send one, and those that follow within `patience_s`
    seconds do not disturb the end. What whoever started the process had it ignore (nohup: SIGHUP) stays ignored, but for
    SIGTERM. is_all: the process does nothing after the block; once that has ended well, its results are written, and a
    signal while the interpreter ends does not make a failure of them.
    """
    first: list[float] = []

    def interrupt(*_: object) -> None:
        if not first or time.monotonic() > first[-1] + patience_s:
            first.append(time.monotonic())
            raise KeyboardInterrupt

    previous = {number: signal.getsignal(number) for number in _NUMBERS}
    taken = [number for number in _NUMBERS if number == signal.SIGTERM or previous[number] != signal.SIG_IGN]
    try:
        for number in taken:
            signal.signal(number, interrupt)
        yield
    except BaseException:
        is_all = False
        raise
    finally:
        for number in taken:
            signal.signal(number, _ended_well if is_all else previous[number] or signal.SIG_DFL)


def _ended_well(*_: object) -> None:
    """Nothing is left to end."""
