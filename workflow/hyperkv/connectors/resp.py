"""Connector `resp`: RESP2 without a copy. Values go out by scatter-gather and come in straight into the buffers.

One blocking socket per worker; each worker pipelines its share of a batch. Protocol: redis.io, "RESP".
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from ..base.deadline import Deadline
from ..base.errors import StoreError
from ..stores.base import Endpoint
from ..stores.resp_protocol import send_all
from .base import Connector, gather_flags, leading_true
from .striped.sockets import command, name_of, open_socket

_CRLF = b"\r\n"
_EXISTS_BATCH = 512
_LINE_BYTES = 4096
_PEEKED_BYTES = 64

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class ErrorReply(StoreError):
    """The server refused one command; the connection goes on."""


class RespConnector(Connector):
    """Our own client: N connections, everything of a batch in flight at once.

    timeout_s: of every call, on each connection; deadline.py says how it bounds a large one. Connecting takes as long at most.
    """

    def __init__(self, endpoint: Endpoint, connections: int, timeout_s: float):
        super().__init__(connections)
        self._connections: list[RespConnection] = []
        try:
            for _ in range(connections):
                self._connections.append(RespConnection(endpoint, timeout_s))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        super().close()
        for connection in self._connections:
            connection.close()

    def count_present(self, keys: Sequence[bytes]) -> int:
        connection = self._connections[0]
        deadline = Deadline(connection.timeout_s, commands=len(keys))
        for start in range(0, len(keys), _EXISTS_BATCH):
            batch = keys[start : start + _EXISTS_BATCH]
            present = leading_true(connection.exists(batch, deadline))
            if present < len(batch):
                return start + present
        return len(keys)

    def get(self, keys: Sequence[bytes], buffers: Sequence[np.ndarray]) -> list[bool]:
        def load(worker: int, indices: range) -> list[bool]:
            return self._connections[worker].get([keys[i] for i in indices], [buffers[i] for i in indices])

        return gather_flags(self.spread(load, len(keys)), len(keys), self.connections)

    def put(self, keys: Sequence[bytes], values: Sequence[np.ndarray]) -> None:
        def save(worker: int, indices: range) -> None:
            self._connections[worker].set([keys[i] for i in indices], [values[i] for i in indices])

        self.spread(save, len(keys))


class RespConnection:
    """One RESP2 connection that pipelines commands and never copies a value in Python.

    After a time-out or a reply that is not RESP it is closed: what came next would answer an earlier command.
    timeout_s: of every call, see deadline.py.
    """

    def __init__(self, endpoint: Endpoint, timeout_s: float):
        self._peer = name_of(endpoint)
        self.timeout_s = timeout_s
        try:
            self._socket = open_socket(endpoint, Deadline(timeout_s))
        except OSError as error:
            raise StoreError(f"cannot connect to {self._peer}: {error}") from error
        if endpoint.password is not None:
            self._authenticate(endpoint.password.value().encode())

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def exists(self, keys: Sequence[bytes], deadline: Deadline | None = None) -> list[bool]:
        """Whether each key is present; one round trip. deadline: of a call that this is a part of."""
        self._begin(0, len(keys), deadline)
        self._send_all([b"".join(command(b"EXISTS", key) for key in keys)])
        return self._read_replies(lambda _: self._read_line() == b":1", keys)

    def get(self, keys: Sequence[bytes], buffers: Sequence[np.ndarray]) -> list[bool]:
        """Fill buffers[i] from keys[i]; False where the value is missing or of another length."""
        self._begin(sum(buffer.size for buffer in buffers), len(keys))
        self._send_all([b"".join(command(b"GET", key) for key in keys)])
        return self._read_replies(self._read_value, buffers)

    def set(self, keys: Sequence[bytes], values: Sequence[np.ndarray]) -> None:
        """Save values[i] under keys[i]; the replies are read after the last value is sent."""
        self._begin(sum(value.size for value in values), len(keys))
        for key, value in zip(keys, values, strict=True):
            header = b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n" % (len(key), key, value.size)
            self._send_all([header, value.data, _CRLF])
        self._read_replies(lambda _: self._read_ok("SET"), keys)

    def _authenticate(self, password: bytes) -> None:
        """What a server answers may repeat the password, so no message has it."""
        self._send_all([command(b"AUTH", password)])
        with contextlib.suppress(ErrorReply):
            if self._read_line() == b"+OK":
                return
        raise self._closed(f"{self._peer} did not take the password")

    def _begin(self, size: int, commands: int, deadline: Deadline | None = None) -> None:
        """A call begins, of so many commands with values of `size` bytes together."""
        self._socket.deadline = deadline or Deadline(self.timeout_s, size, commands)

    def _read_replies(self, read: Callable[[Item], Answer], items: Sequence[Item]) -> list[Answer]:
        """read(item) once per reply. Raises the first error reply only when every reply has been read."""
        answers, refused = [], None
        for item in items:
            try:
                answers.append(read(item))
            except ErrorReply as error:
                refused = refused or error
            self._socket.deadline.answered()
        if refused is not None:
            raise refused
        return answers

    def _read_ok(self, command: str) -> None:
        if (line := self._read_line()) != b"+OK":
            raise self._closed(f"{self._peer} answered {command} with {line[:80]!r}")

    def _send_all(self, parts: Sequence[bytes | memoryview]) -> None:
        try:
            send_all(self._socket, parts)
        except OSError as error:
            raise self._failure("send", error) from error

    def _read_value(self, buffer: np.ndarray) -> bool:
        line = self._read_line()
        if line == b"$-1":
            return False
        if line[:1] != b"$" or not line[1:].isdigit():
            raise self._closed(f"{self._peer} answered GET with {line[:80]!r}")
        length = int(line[1:])
        if length == buffer.size:
            self._receive(memoryview(buffer))
        else:
            self._discard(length)
        end = bytearray(2)
        self._receive(memoryview(end))
        if end != _CRLF:
            raise self._closed(f"{self._peer} sent a value that is not as long as it says")
        return length == buffer.size

    def _read_line(self) -> bytes:
        """One reply line without its CRLF. Raises StoreError for an error reply.

        Takes no byte past the line: the shortest one has four, and the rest is looked at before it is taken.
        """
        line = bytearray(4)
        self._receive(memoryview(line))
        while not line.endswith(_CRLF):
            if len(line) >= _LINE_BYTES:
                raise self._closed(f"{self._peer} sent a line of more than {_LINE_BYTES} bytes")
            ahead = b"" if line[-1:] == b"\r" else self._peeked()
            end = ahead.find(_CRLF)
            more = bytearray(max(1, len(ahead) if end < 0 else end + 2))
            self._receive(memoryview(more))
            line += more
        if line[:1] == b"-":
            raise ErrorReply(f"{self._peer} answered: {line[1:-2].decode(errors='replace')}")
        return bytes(line[:-2])

    def _peeked(self) -> bytes:
        """What has arrived, at least a byte; it stays to be received."""
        try:
            ahead = self._socket.recv(_PEEKED_BYTES, socket.MSG_PEEK)
        except OSError as error:
            raise self._failure("receive", error) from error
        if not ahead:
            raise self._closed(f"{self._peer} closed the connection in the middle of a reply")
        return ahead

    def _receive(self, view: memoryview) -> None:
        while view:
            try:
                count = self._socket.recv_into(view, 0, socket.MSG_WAITALL)
            except OSError as error:
                raise self._failure("receive", error) from error
            if count == 0:
                raise self._closed(f"{self._peer} closed the connection in the middle of a reply")
            view = view[count:]

    def _discard(self, length: int) -> None:
        scratch = memoryview(bytearray(min(length, 1 << 20)))
        while length:
            part = scratch[: min(length, len(scratch))]
            self._receive(part)
            length -= len(part)

    def _failure(self, verb: str, error: OSError) -> StoreError:
        if isinstance(error, TimeoutError):
            return self._closed(f"{verb} timed out after {self.timeout_s:g} s at {self._peer}")
        return self._closed(f"{verb} failed at {self._peer}: {error.strerror or error}")

    def _closed(self, message: str) -> StoreError:
        with contextlib.suppress(OSError):
            self._socket.close()
        return StoreError(message)
