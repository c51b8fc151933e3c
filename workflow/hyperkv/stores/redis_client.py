"""redis-py, bounded: its own time-out is of every receive, and a server that sends a byte now and then is never late."""

from __future__ import annotations

import socket
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ...plugin.lmcache_striped.deadline import Connected, Deadline, Endpoint, connected
from ...plugin.lmcache_striped.tls import Tls

_REPLY_BYTES = 16 << 20


class Clock:
    """The deadline of what a client is doing; None for one of its own for every command."""

    def __init__(self) -> None:
        self.deadline: Deadline | None = None


class BoundedConnection(redis.Connection):
    """A TCP connection on which connecting and every command end by a deadline (deadline.py)."""

    def __init__(self, *, clock: Clock, tls: Tls | None = None, **options: Any) -> None:
        self._clock, self._tls = clock, tls
        super().__init__(**options)

    def _deadline(self) -> Deadline:
        return self._clock.deadline or Deadline(self.socket_timeout or 0.0, _REPLY_BYTES, 1)

    def _connect(self) -> Connected:
        connection = connected(self.host, self.port, self._deadline(), tls=self._tls)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def on_connect_check_health(self, check_health: bool = True) -> None:
        """What a server answers to AUTH may repeat the password, so no message has it."""
        try:
            super().on_connect_check_health(check_health)
        except redis.exceptions.NoPermissionError:  # of CLIENT SETNAME, when it took the password
            raise
        except (redis.AuthenticationError, redis.ResponseError) as error:
            if self.password is None:
                raise
            raise type(error)("the server did not take the password") from None

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        if self._sock is not None:
            self._sock.deadline = self._deadline()
        super().send_packed_command(command, check_health)

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        answer = super().read_response(*arguments, **options)
        if self._sock is not None:
            self._sock.deadline.answered()
        return answer


def client_of(
    endpoint: Endpoint, timeout_s: float, clock: Clock | None = None, **options: Any
) -> redis.Redis:
    """`bounded` for where a server listens, with its password. Raises UserError where that is not there."""
    password = None if endpoint.password is None else endpoint.password.value()
    own = {"username": endpoint.user, "password": password, "tls": endpoint.tls}
    return bounded(endpoint.host, endpoint.port, timeout_s, clock, **own, **options)


def bounded(
    host: str, port: int, timeout_s: float, clock: Clock | None = None, **options: Any
) -> redis.Redis:
    """A client that tries nothing again. timeout_s: of connecting and of every command, see deadline.py; a reply may have 16 MiB.

    clock: says the deadline instead. options: as of redis.Redis.
    """
    pool = redis.ConnectionPool(
        connection_class=BoundedConnection,
        clock=clock or Clock(),
        host=host,
        port=port,
        protocol=2,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        **options,
    )
    return redis.Redis.from_pool(pool)
