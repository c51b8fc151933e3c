"""RESP2 over non-blocking sockets: many commands in flight on each, values received where they belong.

A lane is one thread's share of the connections, driven by one selector. Protocol: redis.io, "RESP".
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice

from ..errors import StoreError
from ..stores.base import Endpoint
from .sockets import command, enlarge, name_of, open_socket

_CRLF = b"\r\n"
_SCRATCH_BYTES = 4096
_DISCARD_BYTES = 256 << 10
_PENDING_BYTES = 256 << 10
_BUFFERS_PER_SEND = 64
_TURNS = 8
_LINE, _HEAD, _BODY, _DISCARDED, _END = range(5)
_NOTHING = memoryview(b"")


class Exchange(ABC):
    """One command and what becomes of its reply. head_bytes: how much of a value is looked at before the rest."""

    name = "?"
    head_bytes = 0

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

    in_flight: commands sent and not answered at most, None for all. timeout_s: longest wait without any progress.
    After a time-out, an end in the middle, or a reply that is not RESP the socket is closed: what came next would
    answer an earlier command.
    """

    def __init__(self, endpoint: Endpoint, timeout_s: float, in_flight: int | None):
        self.endpoint = endpoint
        self._peer = name_of(endpoint)
        self._timeout_s = timeout_s
        self._most = in_flight
        self._scratch = bytearray(_SCRATCH_BYTES)
        self._view = memoryview(self._scratch)
        self._bin = memoryview(bytearray(_DISCARD_BYTES))
        self._socket: socket.socket | None = None
        self.refused: StoreError | None = None
        self._forget()

    def _forget(self) -> None:
        self._waiting: deque[Exchange] = deque()
        self._sent: deque[Exchange] = deque()
        self._out: deque[memoryview] = deque()
        self._out_bytes = 0
        self._state, self._at, self._have = _LINE, 0, 0
        self._length = self._left = 0
        self._rest = _NOTHING
        self._placing = False

    @property
    def busy(self) -> bool:
        """Whether a command waits or is not answered yet."""
        return bool(self._sent or self._waiting or self._out)

    @property
    def wants_to_send(self) -> bool:
        """Whether the kernel did not take everything."""
        return bool(self._out)

    def fileno(self) -> int:
        """The socket's descriptor, -1 while it is closed."""
        return -1 if self._socket is None else self._socket.fileno()

    def open(self) -> bool:
        """Connect unless an earlier connection still stands; True for a new one. Raises StoreError."""
        self.refused = None
        if self._socket is not None and self._stands():
            return False
        self.close()
        try:
            self._socket = open_socket(self.endpoint, self._timeout_s)
            enlarge(self._socket)
            if self.endpoint.password is not None:
                self._authenticate(self.endpoint.password.encode())
            self._socket.setblocking(False)
        except OSError as error:
            self.close()
            raise StoreError(f"cannot connect to {self._peer}: {error}") from error
        return True

    def _stands(self) -> bool:
        assert self._socket is not None
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def _authenticate(self, password: bytes) -> None:
        assert self._socket is not None
        self._socket.sendall(command(b"AUTH", password))
        answer = b""
        while not answer.endswith(_CRLF):
            piece = self._socket.recv(256)
            if not piece:
                break
            answer += piece
        if answer != b"+OK\r\n":
            self.close()
            raise StoreError(f"{self._peer} answered AUTH with {answer[:80]!r}")

    def close(self) -> None:
        """Close the socket and forget what was under way."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
        self._socket = None
        self._forget()

    def begin(self, exchanges: Iterable[Exchange], now: float) -> None:
        """Queue the commands and send what goes."""
        self._waiting.extend(exchanges)
        self.deadline = now + self._timeout_s
        self.send(now)

    def send(self, now: float) -> None:
        """Send until the kernel takes no more, or `in_flight` commands are under way. Raises StoreError."""
        assert self._socket is not None
        while True:
            self._refill()
            if not self._out:
                return
            try:
                count = self._socket.sendmsg(list(islice(self._out, _BUFFERS_PER_SEND)))
            except BlockingIOError:
                return
            except OSError as error:
                raise self._failure("send", error) from error
            self.deadline = now + self._timeout_s
            self._out_bytes -= count
            while self._out and count >= len(self._out[0]):
                count -= len(self._out.popleft())
            if count:
                self._out[0] = self._out[0][count:]

    def _refill(self) -> None:
        while (
            self._waiting
            and self._out_bytes < _PENDING_BYTES
            and (self._most is None or len(self._sent) < self._most)
        ):
            exchange = self._waiting.popleft()
            self._sent.append(exchange)
            for part in exchange.request():
                if len(part):
                    self._out.append(memoryview(part))
                    self._out_bytes += len(part)

    def receive(self, now: float) -> None:
        """Take what has arrived. Raises StoreError."""
        assert self._socket is not None
        for _ in range(_TURNS):
            try:
                count = self._receive_once(self._socket)
            except BlockingIOError:
                break
            except OSError as error:
                raise self._failure("receive", error) from error
            if count == 0:
                raise StoreError(f"{self._peer} closed the connection in the middle of a reply")
            self.deadline = now + self._timeout_s
            self._parse()
            if not self._sent:
                break
        if self._waiting and not self._out:
            self.send(now)

    def _receive_once(self, source: socket.socket) -> int:
        if self._state == _BODY:
            count = source.recvmsg_into([self._rest, self._view])[0]
            taken = min(count, len(self._rest))
            self._rest = self._rest[taken:]
            self._at, self._have = 0, count - taken
        elif self._state == _DISCARDED:
            count = source.recv_into(self._bin[: self._left])
            self._left -= count
        else:
            if self._at:
                kept = self._have - self._at
                self._scratch[:kept] = self._scratch[self._at : self._have]
                self._at, self._have = 0, kept
            count = source.recv_into(self._view[self._have :])
            self._have += count
        return count

    def _parse(self) -> None:
        while True:
            if self._state == _LINE:
                if not self._sent and self._have > self._at:
                    raise StoreError(f"{self._peer} sent more than it was asked for")
                end = self._scratch.find(_CRLF, self._at, self._have)
                if end < 0:
                    if self._have - self._at == _SCRATCH_BYTES:
                        raise StoreError(f"{self._peer} sent a line of more than {_SCRATCH_BYTES} bytes")
                    return
                line = bytes(self._view[self._at : end])
                self._at = end + 2
                self._take_line(line)
            elif self._state == _HEAD:
                length = min(self._sent[0].head_bytes, self._length)
                if self._have - self._at < length:
                    return
                head = self._view[self._at : self._at + length]
                self._at += length
                self._take_head(head, self._length - length)
            elif self._state == _BODY:
                if self._rest:
                    return
                self._state = _END
            elif self._state == _DISCARDED:
                if self._left:
                    return
                self._state = _END
            else:
                if self._have - self._at < 2:
                    return
                if self._scratch[self._at : self._at + 2] != _CRLF:
                    raise StoreError(f"{self._peer} sent a value that is not as long as it says")
                self._at += 2
                exchange = self._sent.popleft()
                self._state = _LINE
                if self._placing:
                    exchange.placed()

    def _take_line(self, line: bytes) -> None:
        exchange = self._sent[0]
        if line[:1] == b"$" and line[1:].isdigit():
            self._length, self._state = int(line[1:]), _HEAD
            return
        if line[:1] == b"-":
            self.refused = self.refused or StoreError(
                f"{self._peer} answered: {line[1:].decode(errors='replace')}"
            )
        elif not exchange.line(line):
            raise StoreError(f"{self._peer} answered {exchange.name} with {line[:80]!r}")
        self._sent.popleft()

    def _take_head(self, head: memoryview, length: int) -> None:
        place = self._sent[0].place(self._length, head)
        there = min(self._have - self._at, length)
        self._placing = place is not None
        if place is None:
            self._at += there
            self._left, self._state = length - there, _DISCARDED
            return
        place[:there] = self._view[self._at : self._at + there]
        self._at += there
        self._rest, self._state = place[there:], _BODY

    def _failure(self, verb: str, error: OSError) -> StoreError:
        return StoreError(f"{verb} failed at {self._peer}: {error.strerror or error}")

    def timed_out(self) -> StoreError:
        """The error of a connection past its deadline."""
        return StoreError(f"receive timed out after {self._timeout_s:g} s at {self._peer}")


class Lane:
    """One thread's connections and their selector."""

    def __init__(self, channels: Sequence[Channel]):
        self.channels = list(channels)
        self._selector = selectors.DefaultSelector()
        self._watched: dict[Channel, tuple[int, int]] = {}

    def close(self) -> None:
        """Close every connection."""
        for channel in self.channels:
            channel.close()
        self._selector.close()

    def run(self, work: Sequence[Sequence[Exchange]]) -> None:
        """work[i] on channel i, all of them at once. Raises StoreError, the first one, when all have ended.

        A failed connection is closed and the others go on to their end, so that no buffer is written any more
        when the error is raised.
        """
        errors: list[StoreError] = []
        begun: list[Channel] = []
        try:
            for channel, exchanges in zip(self.channels, work, strict=True):
                if exchanges:
                    begun.append(channel)
                    self._guarded(channel, errors, lambda c=channel, e=exchanges: self._begin(c, e))
            busy = {channel for channel in begun if channel.busy}
            while busy:
                self._turn(busy, errors)
        except BaseException:
            for channel in begun:
                self._drop(channel)
            raise
        errors += [channel.refused for channel in begun if channel.refused is not None]
        if errors:
            raise errors[0]

    def _begin(self, channel: Channel, exchanges: Sequence[Exchange]) -> None:
        if channel.open():
            self._unwatch(channel)
        channel.begin(exchanges, time.monotonic())
        self._watch(channel)

    def _turn(self, busy: set[Channel], errors: list[StoreError]) -> None:
        now = time.monotonic()
        first = min(channel.deadline for channel in busy)
        ready = self._selector.select(max(0.0, first - now))
        now = time.monotonic()
        for key, events in ready:
            if key.data in busy:
                self._guarded(key.data, errors, lambda c=key.data, e=events: self._advance(c, e, now))
            else:
                self._drop(key.data)
        for channel in list(busy):
            if channel.busy and channel.deadline <= now:
                errors.append(channel.timed_out())
                self._drop(channel)
            if not channel.busy:
                busy.discard(channel)

    def _advance(self, channel: Channel, events: int, now: float) -> None:
        if events & selectors.EVENT_READ:
            channel.receive(now)
        if events & selectors.EVENT_WRITE:
            channel.send(now)
        self._watch(channel)

    def _guarded(self, channel: Channel, errors: list[StoreError], step) -> None:
        try:
            step()
        except StoreError as error:
            errors.append(error)
            self._drop(channel)

    def _watch(self, channel: Channel) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if channel.wants_to_send else 0)
        wanted = (channel.fileno(), events)
        if self._watched.get(channel) == wanted:
            return
        if channel in self._watched:
            self._selector.modify(wanted[0], events, channel)
        else:
            self._selector.register(wanted[0], events, channel)
        self._watched[channel] = wanted

    def _unwatch(self, channel: Channel) -> None:
        if (watched := self._watched.pop(channel, None)) is not None:
            with contextlib.suppress(KeyError, ValueError, OSError):
                self._selector.unregister(watched[0])

    def _drop(self, channel: Channel) -> None:
        self._unwatch(channel)
        channel.close()
