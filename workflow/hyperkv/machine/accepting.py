"""Accepting connections for threads that serve them, and going on when a thread, a descriptor or memory is not to be had."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import resource
import select
import selectors
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
KEPT_DESCRIPTORS = 64
_PAUSE_S = 0.1
_THREAD_BYTES = 32 << 20  # a thread's stack, and what it takes to begin


class Refused(Exception):
    """Why a connection is not served; the text is for the client."""


class Acceptor:
    """Accepts on `listeners` and hands each connection to `start` until stopped.

    start: takes a connected blocking socket and the peer's address, and begins to serve it on a thread of its own;
    it raises Refused, RuntimeError (no thread), MemoryError or OSError when it cannot. refusal: what a client that is
    not served is told before its connection is closed, made of a reason. The last KEPT_DESCRIPTORS, at most a quarter
    of what the process may open, are left to the server's own files. accepted, refused: connections so far.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        start: Callable[[socket.socket, Any], None],
        refusal: Callable[[str], bytes],
    ) -> None:
        self.accepted = self.refused = 0
        self._listeners, self._start, self._refusal = listeners, start, refusal
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_write.setblocking(False)
        self._spare: int | None = None
        self._take_spare()

    def stop(self) -> None:
        """Make `run` return; callable from any thread and from a signal handler."""
        with contextlib.suppress(BlockingIOError):
            self._wake_write.send(b"\x00")

    def stop_at(self, numbers: Iterable[int]) -> None:
        """Make `run` return at these signals, whichever thread gets them. Only the main thread may call this."""
        for number in numbers:
            signal.signal(number, lambda *_: self.stop())
        signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)

    def run(self) -> None:
        """Accept until `stop`."""
        with selectors.DefaultSelector() as selector:
            for listener in self._listeners:
                selector.register(listener, selectors.EVENT_READ)
            selector.register(self._wake_read, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select()]
                if self._wake_read in ready:
                    return
                taken = [self._accept(listener) for listener in ready if isinstance(listener, socket.socket)]
                if not all(taken) and self._stopped_within(_PAUSE_S):
                    return

    def _stopped_within(self, seconds: float) -> bool:
        waiting = select.poll()
        waiting.register(self._wake_read, select.POLLIN)
        return bool(waiting.poll(seconds * 1000))

    def _accept(self, listener: socket.socket) -> bool:
        """Take one connection; False when the system lacks what it takes, and waiting is all that is left."""
        try:
            connection, peer = listener.accept()
        except OSError as error:
            return error.errno not in SHORTAGES or self._turn_away(listener)
        self.accepted += 1
        try:
            if connection.fileno() >= _most_descriptors():
                raise Refused("no file descriptor is left for another connection")
            require_memory(_THREAD_BYTES)
            connection.setblocking(True)
            self._start(connection, peer)
        except (Refused, RuntimeError, MemoryError, OSError) as error:
            self._refuse(connection, str(error) or "out of memory")
        return True

    def _turn_away(self, listener: socket.socket) -> bool:
        """Refuse a connection with the spare descriptor, so that it does not wait unanswered for ever."""
        if self._spare is None and not self._take_spare():
            return False
        assert self._spare is not None
        os.close(self._spare)
        self._spare = None
        try:
            connection, _ = listener.accept()
        except OSError:
            return False
        else:
            self.accepted += 1
            self._refuse(connection, "no file descriptor is left for another connection")
            return True
        finally:
            self._take_spare()

    def _take_spare(self) -> bool:
        with contextlib.suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        return self._spare is not None

    def _refuse(self, connection: socket.socket, reason: str) -> None:
        self.refused += 1
        with contextlib.suppress(OSError), connection:
            connection.send(self._refusal(reason), socket.MSG_DONTWAIT)


def on_threads(serve: Callable[[socket.socket], None]) -> Callable[[socket.socket, Any], None]:
    """The `start` of a server that needs no more than a thread for each connection, which ends with the process."""

    def start(connection: socket.socket, _: Any) -> None:
        threading.Thread(target=serve, args=(connection,), daemon=True).start()

    return start


def raise_descriptor_limit() -> int:
    """Let this process open as many files as it may; how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return soft


def memory_is_limited() -> bool:
    """Whether this process's address space is, as by `ulimit -v`."""
    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


def require_memory(size: int) -> None:
    """Raises MemoryError unless the process may have `size` bytes more: what fails to get them in C++ ends the process."""
    if not memory_is_limited():
        return
    try:
        mmap.mmap(-1, size).close()
    except OSError:
        raise MemoryError(f"no memory for {size} bytes") from None


def _most_descriptors() -> int:
    """The first descriptor that a connection does not get."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return limit - min(KEPT_DESCRIPTORS, limit // 4)
