"""What the network to a server gives: round trips of PING, and one value got again and again, which the server has in memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from functools import partial

from ....plugin.lmcache_striped.channels import Channel
from ....plugin.lmcache_striped.deadline import Deadline, Endpoint
from ....plugin.lmcache_striped.ledger import Said
from ...base.threads import each
from .place import Network

_ROUND_TRIPS = 200
_CONNECTIONS = 4
_VALUE_BYTES = 1 << 20
_VALUES = 64  # on each connection
_IN_FLIGHT = 4


def probe(endpoint: Endpoint, timeout_s: float, tag: str = "") -> Network:
    """Measure it, over TLS where the endpoint has that. The value is one of the run's, deleted again; tag: how its key ends. Raises
    StoreError.
    """
    channels = [Channel(endpoint, timeout_s, _IN_FLIGHT) for _ in range(_CONNECTIONS)]
    first, key = channels[0], f"{endpoint.prefix}probe{tag}".encode()
    try:
        trips = [_asked(first, [Said(b"PING")], timeout_s) for _ in range(_ROUND_TRIPS)]
        _asked(first, [Said(b"SET", key, bytes(_VALUE_BYTES))], timeout_s)
        for count in (_IN_FLIGHT, _VALUES):  # the first opens the connections' windows
            began = time.perf_counter()
            each(channels, partial(_got, key, count, timeout_s))
            took_s = time.perf_counter() - began
        _asked(first, [Said(b"UNLINK", key)], timeout_s)
    finally:
        for channel in channels:
            channel.close()
    return Network(statistics.median(trips), _CONNECTIONS * _VALUES * _VALUE_BYTES / took_s / 1e9)


def _asked(channel: Channel, asked: Sequence[Said], timeout_s: float) -> float:
    """Seconds until all were answered."""
    began = time.perf_counter()
    channel.run(asked, Deadline(timeout_s, len(asked) * _VALUE_BYTES, len(asked)))
    return time.perf_counter() - began


def _got(key: bytes, count: int, timeout_s: float, channel: Channel) -> None:
    _asked(channel, [_Got(key) for _ in range(count)], timeout_s)


class _Got(Said):
    """GET of a value that is thrown away."""

    def __init__(self, key: bytes):
        super().__init__(b"GET", key)

    def place(self, length: int, head: memoryview) -> memoryview | None:
        return None
