"""Questions that are answered late because their connection shares a thread of the server with saves.

Kvrocks has `workers`, and the kernel gives each connection to one of them for good. While RocksDB stops writes, as it does whenever saves
come faster than the device takes them, the worker of a save stands still until a write buffer is on the device, and with it every other
of its connections. No client is told which worker it has. So a connection that is late again and again is opened anew, and likely
has another.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

from .channels import Channel

LATE_S = 0.02
_TIMES = 4  # the shortest answer of all connections, which tells how far away the servers are
_KEPT, _MOST = 0.5, 1.2  # two of three answers were late


class Late:
    """Closes connections that are late again and again; the next call opens them. Several threads may tell, each of connections of its own."""

    def __init__(self) -> None:
        self._shortest_s = float("inf")
        self._late: WeakKeyDictionary[Channel, float] = WeakKeyDictionary()

    def answered(self, channel: Channel, after_s: float) -> None:
        """A question on this connection, on which nothing else is under way, was answered after so many seconds."""
        self._shortest_s = min(self._shortest_s, after_s)
        late = _KEPT * self._late.get(channel, 0.0) + (after_s > max(LATE_S, _TIMES * self._shortest_s))
        if late > _MOST:
            channel.close()
            late = 1.0  # a new connection whose first answer is late is not better
        self._late[channel] = late
