"""Where a server listens, and how long an operation over a socket may take: the one definition, for every client and for
native.c.

A time-out of a single receive bounds nothing: a peer that sends a byte now and then is never late. A fixed bound of the
whole operation fails a large one that goes well. So time is earned by moving what the operation is there to move.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from .secret import Secret
from .tls import BoundedTlsSocket, Tls, secured

LEAST_BYTES_PER_S = 1 << 20
COMMAND_BYTES = 64 << 10  # what a command that was answered counts for, beside its value
_LEAST_S = 1e-3  # to the kernel 0 is for ever
_MOST_BUFFERS = 512  # of one call of the kernel


@dataclass(frozen=True)
class Endpoint:
    """Where a RESP server listens, and where the password is that it asks for, if any. path: a unix socket, instead of TCP.
    folder: its data folder, where that is on this machine and known. user: whose password it is, None for the default user. tls: None for
    a connection in the clear. prefix: what every key of ours begins with there.
    """

    host: str
    port: int
    password: Secret | None = None
    path: str | None = None
    folder: Path | None = None
    user: str | None = None
    tls: Tls | None = None
    prefix: str = ""


def name_of(endpoint: Endpoint) -> str:
    """How errors and configurations call an endpoint: its path, or host:port."""
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return endpoint.path or f"{host}:{endpoint.port}"


class Deadline:
    """The end of one operation, of `commands` commands and values of `size` bytes together.

    It is `timeout_s` away at first. Moving `bytes_per_s` puts it off by a second, never to more than `timeout_s` from
    now, and what is moved beyond the operation's own bytes puts nothing off. So an operation that falls behind that rate
    by `timeout_s` ends there, and the longest takes timeout_s + (size + COMMAND_BYTES * commands) / bytes_per_s.
    """

    def __init__(
        self, timeout_s: float, size: int = 0, commands: int = 0, bytes_per_s: int = LEAST_BYTES_PER_S
    ) -> None:
        self.timeout_s, self._bytes_per_s = timeout_s, bytes_per_s
        self.size = size + COMMAND_BYTES * commands
        self._end = time.monotonic() + timeout_s

    def left_s(self) -> float:
        """Seconds until it is over; 0 or less when it is."""
        left_s = self._end - time.monotonic()
        if left_s > self.timeout_s:
            self._end -= left_s - self.timeout_s
            return self.timeout_s
        return left_s

    def moved(self, count: int) -> None:
        """So many bytes were sent or received."""
        counted = count if count < self.size else self.size
        self.size -= counted
        self._end += counted / self._bytes_per_s

    def waited(self, seconds: float) -> None:
        """The operation waited so long of its own accord."""
        self._end += seconds

    def answered(self) -> None:
        """A command was answered to its end."""
        self.moved(COMMAND_BYTES)


class BoundedSocket(socket.socket):
    """A connected stream socket on which nothing waits past `deadline`, which whoever begins an operation sets.

    The kernel keeps the time, so that the socket blocks and one call fills a whole value; a time-out that a library
    sets is not taken. Calls raise TimeoutError, and OSError as usual.
    """

    deadline: Deadline
    _armed_s = 0.0

    def settimeout(self, value: float | None) -> None:
        """Nothing: the deadline bounds every call."""

    def forget(self) -> None:
        """Others have set the kernel's time-outs."""
        self._armed_s = 0.0

    def sendmsg(self, buffers: Iterable[Any], *rest: Any) -> int:
        return self._bounded(super().sendmsg, buffers, *rest)

    def sendall(self, data: Any, *rest: Any) -> None:
        view = memoryview(data).cast("B")
        while view:
            view = view[self._bounded(super().send, view, *rest) :]

    def recv(self, size: int, flags: int = 0) -> bytes:
        if flags & socket.MSG_DONTWAIT:
            return super().recv(size, flags)
        return self._bounded(super().recv, size, flags, moved=_nothing if flags & socket.MSG_PEEK else len)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        return self._bounded(super().recv_into, buffer, nbytes, flags)

    def recvmsg_into(self, buffers: Iterable[Any], ancillary: int = 0, flags: int = 0) -> Any:
        return self._bounded(super().recvmsg_into, buffers, ancillary, flags, moved=itemgetter(0))

    def _bounded(self, call: Any, *arguments: Any, moved: Callable[[Any], int] = int) -> Any:
        """What the call returns. moved: bytes that it says were moved."""
        self._arm()
        try:
            found = call(*arguments)
        except BlockingIOError:
            raise TimeoutError("timed out") from None
        self.deadline.moved(moved(found))
        return found

    def _arm(self) -> None:
        """Have the kernel wait as long as there is time, to a tenth of it."""
        left_s = self.deadline.left_s()
        if left_s <= 0:
            raise TimeoutError("timed out")
        if not 0.9 * left_s <= self._armed_s <= 1.1 * left_s:
            self._armed_s = max(left_s, _LEAST_S)
            timeval = struct.pack("ll", int(self._armed_s), int(self._armed_s % 1 * 1e6))
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                self.setsockopt(socket.SOL_SOCKET, option, timeval)


Connected = BoundedSocket | BoundedTlsSocket


def _nothing(_: Any) -> int:
    return 0


def connected(
    host: str, port: int, deadline: Deadline, path: str | None = None, tls: Tls | None = None
) -> Connected:
    """A socket connected to a TCP address, with `tls` over TLS, or to the unix socket `path`, by the deadline. Raises OSError."""
    places: list[tuple[Any, ...]]
    if path is None:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    else:
        places = [(socket.AF_UNIX, socket.SOCK_STREAM, 0, "", path)]
    failure: OSError = OSError(f"no address of {host}")
    for family, kind, protocol, _, address in places:
        connection = None
        try:
            connection = BoundedSocket(family, kind, protocol)
            connection.deadline = deadline
            socket.socket.settimeout(connection, max(deadline.left_s(), _LEAST_S))
            connection.connect(address)
            socket.socket.settimeout(connection, None)
            return connection if tls is None else secured(connection, tls, host, deadline)
        except OSError as error:
            failure = error
        if connection is not None:
            connection.close()
    raise failure


def send_all(sock: socket.socket, parts: Sequence[bytes | memoryview]) -> None:
    """Send buffers in order without copying them together. Raises OSError."""
    views = [memoryview(part) for part in parts if len(part)]
    while views:
        sent = sock.sendmsg(views[:_MOST_BUFFERS])
        done = 0
        while done < len(views) and sent >= len(views[done]):
            sent -= len(views[done])
            done += 1
        del views[:done]
        if sent:
            views[0] = views[0][sent:]
