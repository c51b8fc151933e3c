"""RESP2 over a blocking socket: many commands in flight, values received where they belong.

A value's bytes take one call of the kernel, however many packets they are, and nothing of Python runs meanwhile: that is
what lets one process's threads receive from many connections at once. Protocol: redis.io, "RESP".
"""

from __future__ import annotations

import contextlib
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TypeVar

from .base import Connector
from .deadline import Connected, Deadline, Endpoint, connected, name_of, send_all
from .errors import StoreError

SOCKET_BUFFER_BYTES = 4 << 20
_CRLF = b"\r\n"
_NOTHING = memoryview(b"")
_SCRATCH_BYTES = 4096
_DISCARD_BYTES = 256 << 10
_SEND_BYTES = 256 << 10
E = TypeVar("E", bound="Exchange")
MOST_IN_FLIGHT = 1024  # what is not read of their requests and replies has to fit the kernel's buffers


def open_socket(endpoint: Endpoint, deadline: Deadline) -> Connected:
    """A socket connected by the deadline, with large buffers. Raises OSError."""
    connection = connected(endpoint.host, endpoint.port, deadline, endpoint.path, endpoint.tls)
    try:
        enlarge(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def enlarge(connection: socket.socket) -> None:
    """Ask for large kernel buffers, and over TCP for no delay. Raises OSError."""
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        connection.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)
    if connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def command(name: bytes, key: bytes) -> bytes:
    """A RESP command with one argument."""
    return b"*2\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(name), name, len(key), key)


class Exchange(ABC):
    """One command and what becomes of its reply. head_bytes: how much of a value is looked at before the rest. answers: where
    the reply is an array, how many it has.
    """

    name = "?"
    head_bytes = 0
    answers = 0

    @abstractmethod
    def request(self) -> Sequence[bytes | memoryview]:
        """The command's bytes, asked for when it is about to be sent."""

    def line(self, line: bytes) -> bool:
        """A reply of one line, without CRLF; False when this command has no such reply. Errors do not come here."""
        return False

    def place(self, length: int, head: memoryview) -> memoryview | None:
        """Where the rest of a value of `length` bytes goes, given its head (shorter only if the value is).

        None to throw it away. A command whose reply is no value raises StoreError.
        """
        raise StoreError(f"{self.name} was answered with a value")

    def placed(self) -> None:  # noqa: B027
        """The rest of the value lies in its place."""


class Channel:
    """One connection that sends ahead and receives in place; opened when it is needed, closed by any failure.

    in_flight: commands sent and not answered at most, None for as many as the kernel's buffers hold; an eighth of them
    are sent together. timeout_s: of every call, see deadline.py. After a time-out, an end in the middle, or a reply that
    is not RESP the socket is closed: what came next would answer an earlier command.
    """

    def __init__(self, endpoint: Endpoint, timeout_s: float, in_flight: int | None):
        self.endpoint = endpoint
        self.peer = name_of(endpoint)
        self.timeout_s = timeout_s
        self.in_flight = min(in_flight or MOST_IN_FLIGHT, MOST_IN_FLIGHT)
        self._scratch = bytearray(_SCRATCH_BYTES)
        self._view = memoryview(self._scratch)
        self._at = self._have = 0
        self._socket: Connected | None = None

    def open(self, deadline: Deadline | None = None) -> None:
        """Connect unless an earlier connection still stands. deadline: of the call that needs it. Raises StoreError."""
        deadline = deadline or Deadline(self.timeout_s)
        if self._socket is not None and self._stands():
            self._socket.deadline = deadline
            return
        self.close()
        try:
            self._socket = open_socket(self.endpoint, deadline)
        except OSError as error:
            raise StoreError(f"cannot connect to {self.peer}: {error}") from error
        if self.endpoint.password is not None:
            self._authenticate(self.endpoint.user, self.endpoint.password.value())

    @property
    def is_open(self) -> bool:
        """Whether the connection goes on after the last command."""
        return self._socket is not None

    def _stands(self) -> bool:
        assert self._socket is not None
        try:
            self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def _authenticate(self, user: str | None, password: str) -> None:
        """What a server answers may repeat the password, so no message has it."""
        words = [word.encode() for word in ("AUTH", user, password) if word is not None]
        sizes = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
        with self.closing():
            self.send([b"*%d\r\n%b" % (len(words), sizes)])
            if self._line() != b"+OK":
                raise StoreError(f"{self.peer} did not take the password")

    def close(self) -> None:
        """Close the socket and forget what was under way."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
        self._socket = None
        self._at = self._have = 0

    @contextlib.contextmanager
    def descriptor(self, deadline: Deadline) -> Iterator[int]:
        """The open connection's socket, for what sends whole commands and takes whole replies by itself, by the deadline.

        An exception within closes the connection. Raises StoreError.
        """
        self.open(deadline)
        with self.closing():
            assert self._socket is not None
            self._socket.forget()
            yield self._socket.fileno()

    def lent(self) -> int | None:
        """The socket of a connection that was there after the last command, for the same; None of one that was not. Who finds that it
        does not stand any more, or does not take whole replies, closes it.
        """
        if self._socket is None:
            return None
        self._socket.forget()
        return self._socket.fileno()

    def run(self, exchanges: Sequence[Exchange], deadline: Deadline) -> None:
        """Send the commands and see every reply to its end, by the deadline. Raises StoreError.

        A command that the server refused raises after the last reply, and the connection goes on.
        """
        for _, said in self.answered(exchanges, deadline)[:1]:
            raise StoreError(f"{self.peer} answered: {said}")

    def answered(self, exchanges: Sequence[E], deadline: Deadline, most: int = 0) -> list[tuple[E, str]]:
        """The same, and returned instead of raised: what the server refused, and what it said. most: for in_flight, of these."""
        self.open(deadline)
        most = most or self.in_flight
        refused: list[tuple[E, str]] = []
        sent = 0
        with self.closing():
            for number, exchange in enumerate(exchanges):
                end = min(len(exchanges), number + most)
                if end == len(exchanges) or end - sent >= max(1, most // 8):
                    while sent < end:
                        sent = self._send_some(exchanges, sent, end)
                if (said := self._take_reply(exchange)) is not None:
                    refused.append((exchange, said))
                deadline.answered()
            if self._have > self._at:
                raise StoreError(f"{self.peer} sent more than it was asked for")
        return refused

    @contextlib.contextmanager
    def closing(self) -> Iterator[None]:
        """Whatever ends the block by an exception closes the connection."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _send_some(self, exchanges: Sequence[Exchange], first: int, end: int) -> int:
        """Send the commands from `first` up to `end`, `_SEND_BYTES` or a little more; the number of the next one."""
        parts: list[memoryview] = []
        size = 0
        for number in range(first, end):
            new = [memoryview(part) for part in exchanges[number].request() if len(part)]
            parts += new
            size += sum(map(len, new))
            if size >= _SEND_BYTES:
                break
        self.send(parts)
        return number + 1

    def send(self, parts: Sequence[bytes | memoryview]) -> None:
        """Send all parts on the open connection. Raises StoreError."""
        assert self._socket is not None
        try:
            send_all(self._socket, parts)
        except OSError as error:
            raise self._failure("send", error) from error

    def _take_reply(self, exchange: Exchange) -> str | None:
        """One reply, to its end; what the server said, when it is an error of its own. Raises StoreError."""
        line = self._line()
        if line[:1] == b"-":
            return line[1:].decode(errors="replace")
        if not exchange.answers:
            self._take_answer(exchange, line)
        elif line != b"*%d" % exchange.answers:
            raise self._not_answered(exchange, line)
        for _ in range(exchange.answers):
            self._take_answer(exchange, self._line())
        return None

    def _take_answer(self, exchange: Exchange, line: bytes) -> None:
        """The rest of a value, or of what is one line, that begins with `line`. Raises StoreError."""
        if line[:1] == b"$" and line[1:].isdigit():
            self._take_value(exchange, int(line[1:]))
        elif not exchange.line(line):
            raise self._not_answered(exchange, line)

    def _not_answered(self, exchange: Exchange, line: bytes) -> StoreError:
        return StoreError(f"{self.peer} answered {exchange.name} with {line[:80]!r}")

    def _line(self) -> bytes:
        while (end := self._scratch.find(_CRLF, self._at, self._have)) < 0:
            if self._have - self._at == _SCRATCH_BYTES:
                raise StoreError(f"{self.peer} sent a line of more than {_SCRATCH_BYTES} bytes")
            self._fill()
        line = bytes(self._view[self._at : end])
        self._at = end + 2
        return line

    def _take_value(self, exchange: Exchange, length: int) -> None:
        head_bytes = min(exchange.head_bytes, length)
        while self._have - self._at < head_bytes:
            self._fill()
        place = exchange.place(length, self._view[self._at : self._at + head_bytes])
        self._at += head_bytes
        left = length - head_bytes
        there = min(self._have - self._at, left)
        if place is not None:
            place[:there] = self._view[self._at : self._at + there]
        self._at += there
        end = self._discard(left - there) if place is None else self._fill_place(place[there:])
        if end != _CRLF:
            raise StoreError(f"{self.peer} sent a value that is not as long as it says")
        if place is not None:
            exchange.placed()

    def _fill_place(self, place: memoryview) -> bytes:
        """Receive a value's rest where it belongs; the two bytes after it."""
        end = bytearray(2)
        known = min(self._have - self._at, 2)
        end[:known] = self._view[self._at : self._at + known]
        self._at += known
        after = memoryview(end)[known:]
        while place or after:
            count = self.receive([place, after] if place else [after])
            taken = min(count, len(place))
            place, after = place[taken:], after[count - taken :]
        return bytes(end)

    def _discard(self, length: int) -> bytes:
        """Receive `length` bytes for nothing; the two bytes after them."""
        waste = memoryview(bytearray(min(length, _DISCARD_BYTES)))
        while length:
            length -= self.receive([waste[:length]])
        return self._fill_place(_NOTHING)

    def receive(self, buffers: Sequence[memoryview]) -> int:
        """Fill the buffers, or what comes before the time is over; how many bytes. Raises StoreError."""
        assert self._socket is not None
        try:
            count = self._socket.recvmsg_into(buffers, 0, socket.MSG_WAITALL)[0]
        except OSError as error:
            raise self._failure("receive", error) from error
        return self._counted(count)

    def _fill(self) -> None:
        """Take what has arrived, at least a byte, into the scratch buffer."""
        assert self._socket is not None
        kept = self._have - self._at
        self._scratch[:kept] = self._scratch[self._at : self._have]
        self._at, self._have = 0, kept
        try:
            count = self._socket.recv_into(self._view[kept:])
        except OSError as error:
            raise self._failure("receive", error) from error
        self._have += self._counted(count)

    def _counted(self, count: int) -> int:
        if count == 0:
            raise StoreError(f"{self.peer} closed the connection in the middle of a reply")
        return count

    def _failure(self, verb: str, error: OSError) -> StoreError:
        if isinstance(error, TimeoutError):
            return StoreError(f"{verb} timed out after {self.timeout_s:g} s at {self.peer}")
        return StoreError(f"{verb} failed at {self.peer}: {error.strerror or error}")


class ChannelConnector(Connector):
    """A connector over channels, which lie in `_channels` once it is made."""

    _channels: list[Channel]

    def open(self) -> None:
        """Connect every channel; closes all, and the workers, before it raises."""
        try:
            for channel in self._channels:
                channel.open()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        super().close()
        for channel in self._channels:
            channel.close()
