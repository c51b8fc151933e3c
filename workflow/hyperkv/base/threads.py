"""Work in threads of its own, where the system gives them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import TypeVar

from ...plugin.lmcache_striped.deadline import Deadline
from ...plugin.lmcache_striped.threads import refused

S = TypeVar("S")
T = TypeVar("T")


def each(items: Sequence[S], work: Callable[[S], None]) -> None:
    """work(item) for all items at once, where threads are to be had. Waits for all before raising the first error."""
    errors: list[BaseException] = []

    def run(item: S) -> None:
        try:
            work(item)
        except BaseException as error:
            errors.append(error)

    begun = []
    for item in items:
        thread = threading.Thread(target=run, args=(item,))
        try:
            thread.start()
            begun.append(thread)
        except RuntimeError:
            run(item)
    for thread in begun:
        thread.join()
    if errors:
        raise errors[0]


def within(deadline: Deadline, action: Callable[[], T]) -> T:
    """What `action` returns, for one that cannot be bounded itself. Raises TimeoutError once the deadline has passed.

    `action` puts the deadline off by what it moves. When it is late it goes on by itself, in a thread that does not
    keep the process, and its outcome is lost.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(action())
        except BaseException as error:
            outcome.set_exception(error)

    try:
        threading.Thread(target=run, daemon=True).start()
    except RuntimeError as error:
        raise refused(1, error) from error
    while (left_s := deadline.left_s()) > 0:
        try:
            return outcome.result(left_s)
        except NotYet:
            if outcome.done():
                raise
    raise TimeoutError(f"no answer within {deadline.timeout_s:g} s")
