"""RESP on a blocking stream socket: requests in, replies out, large values without a second buffer."""

import shlex
import socket
from collections.abc import Callable, Sequence

from ...plugin.lmcache_striped.deadline import send_all

PEEK_BYTES = 16 * 1024
LARGE_VALUE_BYTES = 64 * 1024
LINE_BYTES_MAX = 64 * 1024
ARGUMENTS_MAX = 1024 * 1024
REQUEST_BYTES_MAX = 1 << 30
CRLF = b"\r\n"
OK = b"+OK\r\n"
NIL = {2: b"$-1\r\n", 3: b"_\r\n"}


class ProtocolError(Exception):
    """The peer does not speak RESP; the text is Redis's own."""


class ConnectionClosed(Exception):
    """The peer ended the stream, perhaps within a request."""


class RequestReader:
    """Reads requests from a blocking socket.

    Bytes are peeked before they are taken, so that a value of 64 KiB or more is received by one call straight
    into the `bytes` object handed on: it exists once, whatever the peer's fragmentation.
    """

    def __init__(
        self, sock: socket.socket, max_bulk_bytes: int, before_wait: Callable[[], None] = lambda: None
    ) -> None:
        """`before_wait` is called before every wait for the peer, to send what it may be waiting for."""
        self.bytes_received = 0
        self._sock = sock
        self._max_bulk_bytes = max_bulk_bytes
        self._max_request_bytes = max(REQUEST_BYTES_MAX, max_bulk_bytes + LARGE_VALUE_BYTES)
        self._before_wait = before_wait
        self._buffer = b""
        self._position = 0
        self._taken = 0  # how much of the buffer has left the socket; the rest was only peeked

    def read(self) -> list[bytes]:
        """The next request's arguments, never empty. Raises ProtocolError, ConnectionClosed, OSError."""
        while True:
            line = self._line("inline request")
            arguments = self._multibulk(line) if line[:1] == b"*" else split_inline(line)
            if arguments:
                return arguments

    def _multibulk(self, line: bytes) -> list[bytes]:
        count = parse_length(line[1:])
        if count is None or count > ARGUMENTS_MAX:
            raise ProtocolError("invalid multibulk length")
        arguments = []
        total = 0
        for _ in range(count):
            header = self._line("bulk count string")
            if header[:1] != b"$":
                raise ProtocolError(f"expected '$', got '{header[:1].decode('latin-1') or chr(13)}'")
            length = parse_length(header[1:])
            if length is None or not 0 <= length <= self._max_bulk_bytes:
                raise ProtocolError("invalid bulk length")
            total += length
            if total > self._max_request_bytes:
                raise ProtocolError("too big request")
            arguments.append(self._bulk(length))
        return arguments

    def _line(self, what: str) -> bytes:
        searched = self._position
        while (end := self._buffer.find(b"\n", searched)) < 0:
            if len(self._buffer) - self._position > LINE_BYTES_MAX:
                starred = self._buffer[self._position : self._position + 1] == b"*"
                raise ProtocolError(f"too big {'mbulk count string' if starred else what}")
            unsearched = len(self._buffer) - self._position
            self._fill()
            searched = self._position + unsearched
        line = self._buffer[self._position : end]
        self._position = end + 1
        return line.removesuffix(b"\r")

    def _bulk(self, length: int) -> bytes:
        if length < LARGE_VALUE_BYTES:
            while len(self._buffer) - self._position < length + 2:
                self._fill()
            value = self._buffer[self._position : self._position + length]
            self._position += length + 2
            return value
        self._take(self._position - self._taken)
        self._buffer, self._position, self._taken = b"", 0, 0
        self._before_wait()
        value = self._receive(length)
        self._receive(2)
        return value

    def _fill(self) -> None:
        self._take(len(self._buffer) - self._taken)
        self._buffer = self._buffer[self._position :]
        self._position, self._taken = 0, len(self._buffer)
        self._before_wait()
        peeked = self._sock.recv(PEEK_BYTES, socket.MSG_PEEK)
        if not peeked:
            raise ConnectionClosed
        self._buffer += peeked

    def _take(self, size: int) -> None:
        if size:
            self._receive(size)

    def _receive(self, size: int) -> bytes:
        data = self._sock.recv(size, socket.MSG_WAITALL)
        self.bytes_received += len(data)
        if len(data) == size:
            return data
        parts = [data]
        missing = size - len(data)
        while missing:  # a signal may cut MSG_WAITALL short
            if not parts[-1]:
                raise ConnectionClosed
            parts.append(self._sock.recv(missing, socket.MSG_WAITALL))
            self.bytes_received += len(parts[-1])
            missing -= len(parts[-1])
        return b"".join(parts)


class ReplyWriter:
    """Collects replies and sends them together, without joining a large value to its header."""

    def __init__(self, sock: socket.socket) -> None:
        self.bytes_sent = 0
        self._sock = sock
        self._parts: list[bytes] = []
        self._pending_bytes = 0

    def add(self, *parts: bytes) -> None:
        """Queue a reply, or a piece of one; sends when more than 64 KiB are waiting. Raises OSError."""
        self._parts.extend(parts)
        self._pending_bytes += sum(map(len, parts))
        if self._pending_bytes > LARGE_VALUE_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send everything queued. Raises OSError."""
        if self._parts:
            parts, size = self._parts, self._pending_bytes
            self._parts, self._pending_bytes = [], 0
            send_all(self._sock, parts)
            self.bytes_sent += size


def parse_length(text: bytes) -> int | None:
    """A RESP length: an optional minus sign and at most 18 digits, else None."""
    digits = text[1:] if text[:1] == b"-" else text
    return int(text) if digits.isdigit() and len(digits) <= 18 else None


def split_inline(line: bytes) -> list[bytes]:
    """The words of an inline command, quotes respected. Raises ProtocolError."""
    if b'"' not in line and b"'" not in line:
        return line.split()
    try:
        return [word.encode("latin-1") for word in shlex.split(line.decode("latin-1"))]
    except ValueError:
        raise ProtocolError("unbalanced quotes in request") from None


def simple(text: str) -> bytes:
    """A simple string reply."""
    return b"+" + text.encode() + CRLF


def error(text: str) -> bytes:
    """An error reply; the text begins with its code, as in `ERR syntax error`."""
    return b"-" + " ".join(text.split()).encode("utf-8", "replace") + CRLF


def integer(number: int) -> bytes:
    """An integer reply."""
    return b":%d\r\n" % number


def bulk(value: bytes) -> bytes:
    """A bulk reply in one piece, for small values."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


def array(items: Sequence[bytes]) -> bytes:
    """An array reply of encoded items."""
    return b"*%d\r\n" % len(items) + b"".join(items)


def mapping(pairs: Sequence[tuple[bytes, bytes]], protocol: int) -> bytes:
    """A map of encoded keys and values: RESP3's own type, or RESP2's flat array."""
    body = b"".join(key + value for key, value in pairs)
    return b"%%%d\r\n" % len(pairs) + body if protocol == 3 else b"*%d\r\n" % (2 * len(pairs)) + body
