"""Listening sockets, and connections served by a thread each (accepting.py) until the end."""

import contextlib
import importlib.metadata
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict

from ...base.errors import UserError
from ...machine.accepting import Acceptor, Refused
from ...machine.counters import process_counters
from .. import resp_protocol as resp
from .commands import VERSION, answer
from .connection import Connection, Traffic
from .keyspace import Keyspace

STOP_GRACE_S = 10.0


class Server:
    """Accepts connections on the given listening sockets and serves them from one store until stopped."""

    def __init__(
        self,
        keyspace: Keyspace,
        listeners: Sequence[socket.socket],
        port: int,
        tuned: bool,
        password: str | None = None,
    ) -> None:
        self.keyspace, self.password = keyspace, password
        self.wheel_version = importlib.metadata.version("rocksdict")
        self._listeners = listeners
        self._port = port
        self._tuned = tuned
        self._started = time.monotonic()
        self._numbers = itertools.count(1)
        self._past = Traffic()
        self._connections: dict[Connection, threading.Thread] = {}
        self._lock = threading.Lock()
        self._acceptor = Acceptor(listeners, self._start, lambda reason: resp.error(f"ERR {reason}"))

    def stop(self) -> None:
        """Make `run` return; callable from any thread and from a signal handler."""
        self._acceptor.stop()

    def stop_at(self, numbers: Iterable[int]) -> None:
        """Make `run` return at these signals."""
        self._acceptor.stop_at(numbers)

    def run(self) -> None:
        """Serve until `stop`; then let commands under way end, and cut connections that take over 10 s."""
        self._acceptor.run()
        for listener in self._listeners:
            listener.close()
        self._drain(socket.SHUT_RD, STOP_GRACE_S)
        self._drain(socket.SHUT_RDWR, STOP_GRACE_S)

    def live(self) -> list[Connection]:
        """The open connections, oldest first."""
        with self._lock:
            return list(self._connections)

    def sections(self) -> dict[str, Callable[[], Mapping[str, object]]]:
        """INFO's sections: name -> a function that gathers its fields."""
        return {
            "Server": self._info_server,
            "Clients": lambda: {
                "connected_clients": len(self.live()),
                "maxclients": self.keyspace.settings["maxclients"],
            },
            "Memory": lambda: {
                "used_memory_rss": process_counters(os.getpid()).rss_bytes,
                "mem_allocator": "libc-tuned" if self._tuned else "libc",
            },
            "Persistence": lambda: {
                "loading": 0,
                "wal_enabled": int(not self.keyspace.settings["rocksdb.write_options.disable_wal"]),
                "wal_sync": int(bool(self.keyspace.settings["rocksdb.write_options.sync"])),
                "writes_stopped": int(self.keyspace.writes_stopped),
                "recoveries": self.keyspace.recoveries,
            },
            "Stats": self._info_stats,
            "RocksDB": self.keyspace.properties,
            "Keyspace": lambda: (
                {"db0": f"keys={count},expires=0,avg_ttl=0"} if (count := self.keyspace.count()) else {}
            ),
        }

    def _info_server(self) -> dict[str, object]:
        return {
            "redis_version": VERSION,
            "rocksdict_version": self.wheel_version,
            "redis_mode": "standalone",
            "process_id": os.getpid(),
            "tcp_port": self._port,
            "uptime_in_seconds": int(time.monotonic() - self._started),
        }

    def _info_stats(self) -> dict[str, object]:
        total = Traffic()
        with self._lock:
            for counters in [self._past, *(connection.current() for connection in self._connections)]:
                total.add(counters)
        accepted = {"total_connections_received": self._acceptor.accepted}
        return {**accepted, "rejected_connections": self._acceptor.refused, **asdict(total)}

    def _start(self, sock: socket.socket, peer: object) -> None:
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if len(self.live()) >= int(self.keyspace.settings["maxclients"]):
            raise Refused("max number of clients reached")
        address = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "unixsocket:0"
        connection = Connection(sock, address, next(self._numbers), self)
        thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
        with self._lock:
            self._connections[connection] = thread
        try:
            thread.start()
        except RuntimeError:
            with self._lock:
                del self._connections[connection]
            raise

    def _serve(self, connection: Connection) -> None:
        try:
            connection.serve(answer)
        finally:
            with self._lock:
                del self._connections[connection]
                self._past.add(connection.current())

    def _drain(self, how: int, grace_s: float) -> None:
        with self._lock:
            remaining = dict(self._connections)
        for connection in remaining:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(how)
        deadline = time.monotonic() + grace_s
        for thread in remaining.values():
            thread.join(max(0.0, deadline - time.monotonic()))


def listen(host: str, port: int, unix_path: str, backlog: int) -> list[socket.socket]:
    """Listening sockets: TCP, and a Unix one when `unix_path` is not empty. Raises UserError."""
    listeners = []
    try:
        where = f"{host}:{port}"
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listeners.append(bound(family, (host, port), backlog))
        if unix_path:
            where = unix_path
            listeners.append(bound(socket.AF_UNIX, unix_path, backlog))
    except (OSError, OverflowError) as error:
        for listener in listeners:
            listener.close()
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(
            f"cannot listen on {where} ({reason}): free it or choose another --port or --unix-socket"
        ) from None
    return listeners


def bound(family: int, address: tuple[str, int] | str, backlog: int) -> socket.socket:
    """A listening socket. Raises OSError."""
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    return listener
