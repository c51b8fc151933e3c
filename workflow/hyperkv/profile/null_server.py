"""A RESP server that stores nothing: what the protocol costs, beside the raw socket that has none.

    python -m workflow.hyperkv.profile.null_server --port 7000 --value-bytes 1048576 --memory-bytes 33554432

SET takes the value off the socket and forgets it. GET answers with --value-bytes of memory, and under a key that ends
in `metadata` with the 28 bytes that connector `redis` keeps there. As the raw socket's process (loopback.py), it
moves values to and from memory of --memory-bytes, so that both touch as many pages. A thread serves each connection.
"""

from __future__ import annotations

import argparse
import itertools
import mmap
import socket
import struct
import time
from collections.abc import Iterator

from ...plugin.lmcache_striped.deadline import send_all
from ..machine.accepting import Acceptor, on_threads

_CRLF = b"\r\n"
_METADATA = struct.Struct("<7I")
_READ_BYTES = 16 << 10
_OK = b"+OK\r\n"


class Closed(Exception):
    """The peer ended the connection."""


class Stream:
    """Requests from a blocking socket: lines through a small buffer, values of any size straight into memory."""

    def __init__(self, connection: socket.socket):
        self._connection = connection
        self._buffer = b""

    def words(self, place: memoryview) -> list[bytes]:
        """The next request's words without a SET's value, which went into `place`. Raises Closed, ValueError."""
        count = self._number(b"*")
        words: list[bytes] = []
        for index in range(count):
            length = self._number(b"$")
            if index == 2 and words[0].upper() == b"SET":
                self._into(place, length)
                self._exactly(2)
                return words
            words.append(self._exactly(length + 2)[:-2])
        return words

    def _number(self, mark: bytes) -> int:
        while (end := self._buffer.find(_CRLF)) < 0:
            self._fill()
        line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
        if line[:1] != mark or not line[1:].isdigit():
            raise ValueError(f"Protocol error: expected {mark.decode()}, got {line[:20]!r}")
        return int(line[1:])

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._fill()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _into(self, place: memoryview, length: int) -> None:
        """Take `length` bytes; from the end of `place` on, over its beginning again."""
        here, self._buffer = self._buffer[:length], self._buffer[length:]
        kept = min(len(here), len(place))
        place[:kept] = here[:kept]
        at, left = kept % len(place), length - len(here)
        while left:
            part = place[at : at + left]
            count = self._connection.recv_into(part, len(part), socket.MSG_WAITALL)
            if count == 0:
                raise Closed
            at, left = (at + count) % len(place), left - count

    def _fill(self) -> None:
        data = self._connection.recv(_READ_BYTES)
        if not data:
            raise Closed
        self._buffer += data


def main() -> None:
    """Parse the command line and serve until the process is ended."""
    parser = argparse.ArgumentParser(
        prog="python -m workflow.hyperkv.profile.null_server", description=__doc__
    )
    parser.add_argument("--port", required=True, type=int, help="TCP port on loopback")
    parser.add_argument("--value-bytes", required=True, type=int, help="bytes that a GET answers with")
    parser.add_argument("--memory-bytes", type=int, default=0, help="bytes of memory, at least one value")
    parser.add_argument("--get-delay-s", type=float, default=0.0, help="seconds that every GET waits")
    arguments = parser.parse_args()
    count = max(1, arguments.memory_bytes // arguments.value_bytes)
    memory = memoryview(mmap.mmap(-1, count * arguments.value_bytes))
    for page in range(0, len(memory), mmap.PAGESIZE):
        memory[page] = 1
    slots = itertools.count()

    def begin(connection: socket.socket) -> None:
        serve(connection, places(memory, arguments.value_bytes, slots), arguments.get_delay_s)

    with socket.create_server(("127.0.0.1", arguments.port)) as listener:
        Acceptor([listener], on_threads(begin), lambda reason: f"-ERR {reason}\r\n".encode()).run()


def places(memory: memoryview, value_bytes: int, slots: Iterator[int]) -> Iterator[memoryview]:
    """Places of one value each in memory, one after the other and over again, whoever asks."""
    count = len(memory) // value_bytes
    for slot in slots:
        start = slot % count * value_bytes
        yield memory[start : start + value_bytes]


def serve(connection: socket.socket, places: Iterator[memoryview], get_delay_s: float) -> None:
    """Answer one connection until it ends."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream = Stream(connection)
    with connection:
        try:
            while True:
                place = next(places)
                words = stream.words(place)
                command = words[0].upper()
                if command == b"GET" and get_delay_s:
                    time.sleep(get_delay_s)
                send_all(connection, _answer(command, words, place))
        except ValueError as error:
            connection.sendall(f"-ERR {error}\r\n".encode())
        except (Closed, ConnectionError):
            return


def _answer(command: bytes, words: list[bytes], place: memoryview) -> tuple[bytes | memoryview, ...]:
    if command == b"SET":
        return (_OK,)
    if command == b"GET":
        if words[1].endswith(b"metadata"):
            return (b"$%d\r\n" % _METADATA.size + _METADATA.pack(len(place), *[0] * 6) + _CRLF,)
        return (b"$%d\r\n" % len(place), place, _CRLF)
    if command == b"EXISTS":
        return (b":%d\r\n" % (len(words) - 1),)
    if command == b"PING":
        return (b"+PONG\r\n",)
    if command == b"INFO":
        return (b"$0\r\n\r\n",)
    return (b"-ERR unknown command\r\n",)


if __name__ == "__main__":
    main()
