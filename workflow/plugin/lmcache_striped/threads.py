"""Threads that are there before they are needed: one that cannot start in the middle leaves its work in a queue."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from .errors import StoreError


def started(count: int, name: str = "worker") -> ThreadPoolExecutor:
    """A pool of `count` threads that all run, so that `submit` never starts one. Raises StoreError."""
    pool = ThreadPoolExecutor(count, thread_name_prefix=name)
    begin = threading.Event()
    try:
        for _ in range(count):
            pool.submit(begin.wait)
    except RuntimeError as error:
        begin.set()
        pool.shutdown(cancel_futures=True)
        raise refused(count, error) from error
    begin.set()
    return pool


def refused(count: int, error: RuntimeError) -> StoreError:
    """What to say when the system gives no thread."""
    return StoreError(
        f"cannot start {count} threads: {error}; raise the limit of processes (ulimit -u) or of memory (ulimit -v), or "
        f"lower connections"
    )
