"""Connector `resp`: a chunk is one value, and every connection has its share of a batch in flight at once.

That is the request pattern of LMCache's native client. Values go out by scatter-gather and come in straight into the
buffers (channels.py of the plugin).
"""

from __future__ import annotations

from collections.abc import Sequence

from ...plugin.lmcache_striped.base import leading_present
from ...plugin.lmcache_striped.channels import Channel, ChannelConnector, Exchange, command
from ...plugin.lmcache_striped.deadline import Deadline, Endpoint
from ...plugin.lmcache_striped.exchanges import Lookup
from .base import Items, SpreadConnector

_CRLF = b"\r\n"


class RespConnector(ChannelConnector, SpreadConnector):
    """N connections, item i of a batch on connection i modulo N. A closed one is opened again by the next call.

    timeout_s: of every call, on each connection; deadline.py says how it bounds a large one. Connecting takes as long at most.
    """

    def __init__(self, endpoint: Endpoint, connections: int, timeout_s: float):
        super().__init__(connections)
        self._timeout_s = timeout_s
        self._channels = [Channel(endpoint, timeout_s, None) for _ in range(connections)]
        self.open()

    def count_present(self, keys: Sequence[bytes]) -> int:
        deadline = Deadline(self._timeout_s, commands=len(keys))

        def ask(batch: Sequence[bytes]) -> list[bool]:
            lookups = [Lookup(key) for key in batch]
            self._channels[0].run(lookups, deadline)
            return [lookup.present for lookup in lookups]

        return leading_present(keys, ask)

    def load(self, worker: int, items: Items) -> list[bool]:
        loads = [_Load(key, buffer.data) for key, buffer in items]
        self._run(worker, loads, items)
        return [load.found for load in loads]

    def save(self, worker: int, items: Items) -> None:
        self._run(worker, [_Save(key, value.data) for key, value in items], items)

    def _run(self, worker: int, exchanges: Sequence[Exchange], items: Items) -> None:
        size = sum(array.size for _, array in items)
        self._channels[worker].run(exchanges, Deadline(self._timeout_s, size, len(exchanges)))


class _Load(Exchange):
    """GET of a value into a buffer of its length; `found` is False where it is missing or of another."""

    name = "GET"

    def __init__(self, key: bytes, place: memoryview):
        self._key, self._place = key, place
        self.found = False

    def request(self) -> Sequence[bytes | memoryview]:
        return [command(b"GET", self._key)]

    def line(self, line: bytes) -> bool:
        return line == b"$-1"

    def place(self, length: int, head: memoryview) -> memoryview | None:
        return self._place if length == len(self._place) else None

    def placed(self) -> None:
        self.found = True


class _Save(Exchange):
    """SET of a value."""

    name = "SET"

    def __init__(self, key: bytes, value: memoryview):
        self._key, self._value = key, value

    def request(self) -> Sequence[bytes | memoryview]:
        head = b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n" % (len(self._key), self._key, len(self._value))
        return [head, self._value, _CRLF]

    def line(self, line: bytes) -> bool:
        return line == b"+OK"
