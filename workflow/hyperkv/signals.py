"""A signal that ends a process, as an exception: context managers then end what they own."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def ends_on_sigterm() -> Iterator[None]:
    """Turn SIGTERM into KeyboardInterrupt inside the block, so that context managers end their servers."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
