"""What a server is asked beside the stripes, whatever the form of its reply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .channels import Channel, Exchange
from .deadline import Deadline, Endpoint
from .errors import StoreError

_DEEPEST = 8  # arrays in arrays that a reply may have


class Refused(StoreError):
    """What a server said when it refused a command."""


class _Whole(Exchange):
    """A value that is all taken."""

    def __init__(self, room: memoryview):
        self._room = room

    def request(self) -> Sequence[bytes | memoryview]:
        return []

    def place(self, length: int, head: memoryview) -> memoryview | None:
        return self._room


class Questions(Channel):
    """A connection for commands one after the other."""

    def __init__(self, endpoint: Endpoint, timeout_s: float):
        super().__init__(endpoint, timeout_s, None)

    def ask(self, words: Sequence[bytes], deadline: Deadline) -> Any:
        """The reply to a command: an array as a list, a value or a line without its sign as bytes, None for nothing. Raises StoreError;
        Refused where the server refused it.
        """
        self.open(deadline)
        with self.closing():
            self.send([b"*%d\r\n" % len(words), *(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)])
            return self._any_reply()

    def _any_reply(self, depth: int = 0) -> Any:
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"-":
            raise Refused(rest.decode(errors="replace"))
        if kind not in (b"$", b"*"):
            return rest
        if not rest.isdigit() or depth > _DEEPEST:
            return None
        count = int(rest)
        if kind == b"*":
            return [self._any_reply(depth + 1) for _ in range(count)]
        said = bytearray(count)
        self._take_value(_Whole(memoryview(said)), count)
        return bytes(said)
