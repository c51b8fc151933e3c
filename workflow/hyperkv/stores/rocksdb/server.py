"""A RESP server over RocksDB (the `rocksdict` wheel): the `rocksdb` store, where there is no Kvrocks.

    python -m workflow.hyperkv.stores.rocksdb.server --dir DIR --port 6666 [--config FILE] [--set KEY VALUE]

A thread serves each connection (accepting.py); one that cannot have a thread or a descriptor is refused, and INFO counts it.
rocksdb_database.py says how values lie in RocksDB, and what becomes of writes when the disk is full.
"""

import argparse
import contextlib
import ctypes
import fnmatch
import importlib.metadata
import itertools
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from ...base.errors import UserError
from ...machine.accepting import Acceptor, Refused, raise_descriptor_limit
from .. import reach
from .. import resp_protocol as resp
from . import options as rocksdb_options
from .database import Store, check_direct_io
from .options import MIB, Settings

VERSION = "hyperkv-rocksdb"
STOP_GRACE_S = 10.0
MALLOPT = {
    "M_MMAP_THRESHOLD": (-3, 32 * MIB),
    "M_TRIM_THRESHOLD": (-1, 1024 * MIB),
    "M_TOP_PAD": (-2, 64 * MIB),
}


def tune_allocator() -> bool:
    """Make glibc keep and reuse freed blocks of up to 32 MiB, instead of mapping each value anew.

    Returns False where the C library has no mallopt.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    accepted = [mallopt(name, value) for name, value in MALLOPT.values()]
    return all(accepted)


@dataclass
class Counters:
    """What connections did, in commands and bytes."""

    total_commands_processed: int = 0
    total_net_input_bytes: int = 0
    total_net_output_bytes: int = 0
    keyspace_hits: int = 0
    keyspace_misses: int = 0
    value_bytes_read: int = 0
    value_bytes_written: int = 0

    def add(self, other: "Counters") -> None:
        """Add another's figures to these."""
        for item in fields(self):
            setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))


class CommandError(Exception):
    """A command refused; the text is the whole error reply, code included."""


@dataclass(eq=False)
class Connection:
    """One client: its socket, its protocol state and what it has done."""

    sock: socket.socket
    address: str
    number: int
    server: "Server"
    name: bytes = b""
    protocol: int = 2
    library: dict[bytes, bytes] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)
    since: float = field(default_factory=time.monotonic)
    closing: bool = False

    def __post_init__(self) -> None:
        self.writer = resp.ReplyWriter(self.sock)
        limit = int(self.server.store.settings["proto-max-bulk-len"])
        self.reader = resp.RequestReader(self.sock, limit, self.writer.flush)

    def serve(self) -> None:
        """Answer requests until either side ends the connection."""
        try:
            while not self.closing:
                self.answer(self.reader.read())
            self.writer.flush()
        except (resp.ProtocolError, MemoryError) as error:
            text = str(error) if isinstance(error, resp.ProtocolError) else "value too big for this machine"
            with contextlib.suppress(OSError, MemoryError):
                self.writer.add(resp.error(f"ERR Protocol error: {text}"))
                self.writer.flush()
        except (resp.ConnectionClosed, OSError):
            pass
        finally:
            self.sock.close()

    def answer(self, arguments: list[bytes]) -> None:
        """Run one command and queue its reply. Raises OSError when the client has gone."""
        self.counters.total_commands_processed += 1
        try:
            command = lookup(arguments)
            command.run(self, arguments[1:])
        except CommandError as refused:
            self.writer.add(resp.error(str(refused)))
        except OSError:
            raise
        except Exception as error:  # rocksdict raises nothing narrower
            self.writer.add(resp.error(f"ERR {error or type(error).__name__}"))

    def current(self) -> Counters:
        """The counters, network bytes included."""
        self.counters.total_net_input_bytes = self.reader.bytes_received
        self.counters.total_net_output_bytes = self.writer.bytes_sent
        return self.counters

    def describe(self) -> str:
        """The connection's line of CLIENT LIST."""
        age = int(time.monotonic() - self.since)
        return (
            f"id={self.number} addr={self.address} name={self.name.decode('latin-1')} age={age} db=0 resp=2"
        )


@dataclass(frozen=True)
class Command:
    """A command's handler and how many arguments follow its name (`most` None: any number)."""

    run: Callable[[Connection, list[bytes]], None]
    least: int = 0
    most: int | None = None


def lookup(arguments: list[bytes]) -> Command:
    """The command of a request. Raises CommandError with Redis's texts."""
    name = arguments[0].lower()
    command = COMMANDS.get(name)
    shown = arguments[0][:128].decode("latin-1")
    if command is None:
        beginning = "".join(f"'{word[:128].decode('latin-1')}' " for word in arguments[1:9])[:128]
        raise CommandError(f"ERR unknown command '{shown}', with args beginning with: {beginning}")
    given = len(arguments) - 1
    if given < command.least or (command.most is not None and given > command.most):
        raise CommandError(f"ERR wrong number of arguments for '{shown.lower()}' command")
    return command


def do_ping(connection: Connection, arguments: list[bytes]) -> None:
    """PING [message]."""
    connection.writer.add(resp.bulk(arguments[0]) if arguments else resp.simple("PONG"))


def do_echo(connection: Connection, arguments: list[bytes]) -> None:
    """ECHO message."""
    connection.writer.add(resp.bulk(arguments[0]))


def do_quit(connection: Connection, arguments: list[bytes]) -> None:
    """QUIT: reply, then close."""
    connection.closing = True
    connection.writer.add(resp.OK)


def do_reset(connection: Connection, arguments: list[bytes]) -> None:
    """RESET: forget the name and the protocol version."""
    connection.name, connection.protocol = b"", 2
    connection.writer.add(resp.simple("RESET"))


def do_auth(connection: Connection, arguments: list[bytes]) -> None:
    """AUTH: there is no password."""
    raise CommandError(
        "ERR AUTH <password> called without any password configured for the default user. "
        "Are you sure your configuration is correct?"
    )


def do_select(connection: Connection, arguments: list[bytes]) -> None:
    """SELECT 0: there is one database."""
    number = resp.parse_length(arguments[0])
    if number is None:
        raise CommandError("ERR value is not an integer or out of range")
    if number != 0:
        raise CommandError("ERR DB index is out of range")
    connection.writer.add(resp.OK)


def send_value(connection: Connection, key: bytes) -> None:
    """Queue one key's value, or nil, and count it."""
    value = connection.server.store.get(key)
    if value is None:
        connection.counters.keyspace_misses += 1
        connection.writer.add(resp.NIL[connection.protocol])
        return
    connection.counters.keyspace_hits += 1
    connection.counters.value_bytes_read += len(value)
    connection.writer.add(b"$%d\r\n" % len(value), value, resp.CRLF)


def do_get(connection: Connection, arguments: list[bytes]) -> None:
    """GET key."""
    send_value(connection, arguments[0])


def do_mget(connection: Connection, arguments: list[bytes]) -> None:
    """Values go out one by one, so memory holds one; an unreadable one is an error within the array."""
    connection.writer.add(b"*%d\r\n" % len(arguments))
    for key in arguments:
        try:
            send_value(connection, key)
        except OSError:
            raise
        except Exception as error:
            connection.writer.add(resp.error(f"ERR {error}"))


def put(connection: Connection, pairs: Sequence[tuple[bytes, bytes]]) -> None:
    """Store pairs, count their bytes and queue OK."""
    connection.server.store.put(pairs)
    connection.counters.value_bytes_written += sum(len(value) for _, value in pairs)
    connection.writer.add(resp.OK)


def do_set(connection: Connection, arguments: list[bytes]) -> None:
    """SET key value, without options."""
    if len(arguments) > 2:
        raise CommandError("ERR syntax error")
    put(connection, [(arguments[0], arguments[1])])


def do_mset(connection: Connection, arguments: list[bytes]) -> None:
    """MSET key value [key value ...], atomic."""
    if len(arguments) % 2:
        raise CommandError("ERR wrong number of arguments for 'mset' command")
    put(connection, list(zip(arguments[::2], arguments[1::2], strict=True)))


def do_exists(connection: Connection, arguments: list[bytes]) -> None:
    """EXISTS key [key ...]."""
    store = connection.server.store
    connection.writer.add(resp.integer(sum(store.length(key) is not None for key in arguments)))


def do_strlen(connection: Connection, arguments: list[bytes]) -> None:
    """STRLEN key."""
    connection.writer.add(resp.integer(connection.server.store.length(arguments[0]) or 0))


def do_delete(connection: Connection, arguments: list[bytes]) -> None:
    """DEL or UNLINK key [key ...]."""
    connection.writer.add(resp.integer(connection.server.store.delete(arguments)))


def do_dbsize(connection: Connection, arguments: list[bytes]) -> None:
    """DBSIZE, exact."""
    connection.writer.add(resp.integer(connection.server.store.count()))


def do_flush(connection: Connection, arguments: list[bytes]) -> None:
    """FLUSHALL or FLUSHDB, disk space included."""
    if arguments and arguments[0].lower() not in (b"sync", b"async"):
        raise CommandError("ERR syntax error")
    connection.server.store.clear()
    connection.writer.add(resp.OK)


def do_info(connection: Connection, arguments: list[bytes]) -> None:
    """INFO [section ...]."""
    asked = {word.decode("latin-1").lower() for word in arguments}
    everything = not asked or bool(asked & {"all", "default", "everything"})
    sections = connection.server.sections()
    shown = [
        "\r\n".join([f"# {name}", *(f"{key}:{value}" for key, value in build().items()), ""])
        for name, build in sections.items()
        if everything or name.lower() in asked
    ]
    connection.writer.add(resp.bulk("\r\n".join(shown).encode()))


def do_config(connection: Connection, arguments: list[bytes]) -> None:
    """CONFIG GET pattern [pattern ...], of the effective values; CONFIG SET is refused."""
    settings = connection.server.store.settings
    subcommand = arguments[0].lower()
    if subcommand == b"get" and len(arguments) > 1:
        values = {name: rocksdb_options.as_text(value) for name, value in settings.items()}
        values |= {"save": "", "appendonly": "no", "databases": "1"}
        patterns = [pattern.decode("latin-1").lower() for pattern in arguments[1:]]
        pairs = [
            (resp.bulk(name.encode()), resp.bulk(text.encode()))
            for name, text in values.items()
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
        ]
        connection.writer.add(resp.mapping(pairs, connection.protocol))
    elif subcommand == b"set" and len(arguments) > 2:
        name = arguments[1].decode("latin-1")
        raise CommandError(f"ERR Unsupported CONFIG parameter: {name}: restart with --set {name} VALUE")
    else:
        raise unknown_subcommand("CONFIG", arguments[0])


def do_client(connection: Connection, arguments: list[bytes]) -> None:
    """CLIENT SETNAME, SETINFO, GETNAME, ID, INFO or LIST."""
    subcommand, rest = arguments[0].lower(), arguments[1:]
    if subcommand == b"setname" and len(rest) == 1:
        connection.name = rest[0]
        reply = resp.OK
    elif subcommand == b"setinfo" and len(rest) == 2:
        connection.library[rest[0].lower()] = rest[1]
        reply = resp.OK
    elif subcommand == b"getname" and not rest:
        reply = resp.bulk(connection.name)
    elif subcommand == b"id" and not rest:
        reply = resp.integer(connection.number)
    elif subcommand == b"info" and not rest:
        reply = resp.bulk(connection.describe().encode() + b"\n")
    elif subcommand == b"list":
        lines = [other.describe() + "\n" for other in connection.server.live()]
        reply = resp.bulk("".join(lines).encode())
    else:
        raise unknown_subcommand("CLIENT", arguments[0])
    connection.writer.add(reply)


def do_command(connection: Connection, arguments: list[bytes]) -> None:
    """COMMAND [COUNT | LIST | DOCS | INFO]; the last two are empty."""
    if arguments and arguments[0].lower() == b"count":
        connection.writer.add(resp.integer(len(COMMANDS)))
    elif arguments and arguments[0].lower() == b"list":
        connection.writer.add(resp.array([resp.bulk(name) for name in sorted(COMMANDS)]))
    elif not arguments or arguments[0].lower() in (b"docs", b"info"):
        connection.writer.add(resp.array([]))
    else:
        raise unknown_subcommand("COMMAND", arguments[0])


def do_hello(connection: Connection, arguments: list[bytes]) -> None:
    """HELLO [2 | 3 [SETNAME name]]."""
    wanted = resp.parse_length(arguments[0]) if arguments else connection.protocol
    if wanted is None:
        raise CommandError("ERR Protocol version is not an integer or out of range")
    if wanted not in (2, 3):
        raise CommandError("NOPROTO unsupported protocol version")
    options = arguments[1:]
    if options and options[0].lower() == b"auth":
        do_auth(connection, [])
    if options and not (len(options) == 2 and options[0].lower() == b"setname"):
        raise CommandError("ERR syntax error in HELLO")
    if options:
        connection.name = options[1]
    connection.protocol = wanted if connection.server.store.settings["resp3-enabled"] else 2
    facts = {
        b"server": resp.bulk(VERSION.encode()),
        b"version": resp.bulk(connection.server.wheel_version.encode()),
        b"proto": resp.integer(connection.protocol),
        b"id": resp.integer(connection.number),
        b"mode": resp.bulk(b"standalone"),
        b"role": resp.bulk(b"master"),
        b"modules": resp.array([]),
    }
    pairs = [(resp.bulk(name), value) for name, value in facts.items()]
    connection.writer.add(resp.mapping(pairs, connection.protocol))


def do_shutdown(connection: Connection, arguments: list[bytes]) -> None:
    """SHUTDOWN: as SIGTERM."""
    if arguments and arguments[0].lower() not in (b"save", b"nosave"):
        raise CommandError("ERR syntax error")
    connection.closing = True
    connection.server.stop()


def unknown_subcommand(command: str, given: bytes) -> CommandError:
    """Redis's refusal of a subcommand it does not know, or with too few or many arguments."""
    shown = given[:128].decode("latin-1")
    return CommandError(
        f"ERR unknown subcommand or wrong number of arguments for '{shown}'. Try {command} HELP."
    )


COMMANDS: dict[bytes, Command] = {
    b"ping": Command(do_ping, 0, 1),
    b"echo": Command(do_echo, 1, 1),
    b"quit": Command(do_quit),
    b"reset": Command(do_reset, 0, 0),
    b"auth": Command(do_auth, 1, 2),
    b"select": Command(do_select, 1, 1),
    b"get": Command(do_get, 1, 1),
    b"set": Command(do_set, 2),
    b"mget": Command(do_mget, 1),
    b"mset": Command(do_mset, 2),
    b"exists": Command(do_exists, 1),
    b"strlen": Command(do_strlen, 1, 1),
    b"del": Command(do_delete, 1),
    b"unlink": Command(do_delete, 1),
    b"dbsize": Command(do_dbsize, 0, 0),
    b"flushall": Command(do_flush, 0, 1),
    b"flushdb": Command(do_flush, 0, 1),
    b"info": Command(do_info),
    b"config": Command(do_config, 1),
    b"client": Command(do_client, 1),
    b"command": Command(do_command),
    b"hello": Command(do_hello),
    b"shutdown": Command(do_shutdown, 0, 1),
}


class Server:
    """Accepts connections on the given listening sockets and serves them from one store until stopped."""

    def __init__(self, store: Store, listeners: Sequence[socket.socket], port: int, tuned: bool) -> None:
        self.store = store
        self.wheel_version = importlib.metadata.version("rocksdict")
        self._listeners = listeners
        self._port = port
        self._tuned = tuned
        self._started = time.monotonic()
        self._numbers = itertools.count(1)
        self._past = Counters()
        self._connections: dict[Connection, threading.Thread] = {}
        self._lock = threading.Lock()
        self._acceptor = Acceptor(listeners, self._start, lambda reason: resp.error(f"ERR {reason}"))

    def stop(self) -> None:
        """Make `run` return; callable from any thread and from a signal handler."""
        self._acceptor.stop()

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

    def sections(self) -> dict[str, Callable[[], dict[str, object]]]:
        """INFO's sections: name -> a function that gathers its fields."""
        return {
            "Server": self._info_server,
            "Clients": lambda: {
                "connected_clients": len(self.live()),
                "maxclients": self.store.settings["maxclients"],
            },
            "Memory": lambda: {
                "used_memory_rss": resident_bytes(),
                "mem_allocator": "libc-tuned" if self._tuned else "libc",
            },
            "Persistence": lambda: {
                "loading": 0,
                "wal_enabled": int(not self.store.settings["rocksdb.write_options.disable_wal"]),
                "wal_sync": int(bool(self.store.settings["rocksdb.write_options.sync"])),
                "writes_stopped": int(self.store.writes_stopped),
                "recoveries": self.store.recoveries,
            },
            "Stats": self._info_stats,
            "RocksDB": self.store.properties,
            "Keyspace": lambda: (
                {"db0": f"keys={count},expires=0,avg_ttl=0"} if (count := self.store.count()) else {}
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
        total = Counters()
        with self._lock:
            for counters in [self._past, *(connection.current() for connection in self._connections)]:
                total.add(counters)
        values = {item.name: getattr(total, item.name) for item in fields(total)}
        return {
            "total_connections_received": self._acceptor.accepted,
            "rejected_connections": self._acceptor.refused,
            **values,
        }

    def _start(self, sock: socket.socket, peer: object) -> None:
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if len(self.live()) >= self.store.settings["maxclients"]:
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
            connection.serve()
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


def resident_bytes() -> int:
    """Resident memory of this process (VmRSS)."""
    match = re.search(r"^VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


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


def read_settings(arguments: argparse.Namespace) -> Settings:
    """Complete settings from the configuration file and the command line, which wins. Raises UserError."""
    given = {"bind": arguments.bind, "port": arguments.port, "unixsocket": arguments.unix_socket}
    given |= {"dir": arguments.dir}
    if arguments.direct_io is not None:
        direct = arguments.direct_io == "yes"
        given["rocksdb.use_direct_reads"] = direct
        given["rocksdb.use_direct_io_for_flush_and_compaction"] = direct
    return rocksdb_options.complete(
        rocksdb_options.read_config(Path(arguments.config)) if arguments.config else {},
        rocksdb_options.parse_pairs(arguments.set),
        {name: value for name, value in given.items() if value is not None},
    )


def serve(settings: Settings) -> None:
    """Run the server until SIGTERM, SIGINT or SHUTDOWN. Raises UserError."""
    tuned = tune_allocator()
    most = int(settings["rocksdb.max_open_files"])
    half = raise_descriptor_limit() // 2
    settings = settings | {"rocksdb.max_open_files": most if 0 <= most <= half else half}
    host, port = str(settings["bind"]), int(settings["port"])
    listeners = listen(host, port, str(settings["unixsocket"]), int(settings["tcp-backlog"]))
    port = listeners[0].getsockname()[1]
    try:
        path = Path(str(settings["dir"]))
        if settings["rocksdb.use_direct_reads"] or settings["rocksdb.use_direct_io_for_flush_and_compaction"]:
            check_direct_io(path)
        store = Store(path, settings)
        try:
            server = Server(store, listeners, port, tuned)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: server.stop())
            mend = "leave --bind out, since it knows no password"
            if (text := reach.warning("rocksdb_server: warning", [host], False, mend)) is not None:
                print(text, file=sys.stderr, flush=True)
            print(f"ready on {host}:{port} pid {os.getpid()}", flush=True)
            server.run()
        finally:
            store.close()
    finally:
        for listener in listeners:
            listener.close()
        if settings["unixsocket"]:
            Path(str(settings["unixsocket"])).unlink(missing_ok=True)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="rocksdb_server", description="RESP server over RocksDB")
    parser.add_argument("--dir", required=True, help="directory of the database, created if missing")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bind", help="address to listen on (127.0.0.1)")
    parser.add_argument("--unix-socket", metavar="PATH", help="listen on a Unix socket as well")
    parser.add_argument("--config", metavar="FILE", help="a file of `key value` lines, as Kvrocks reads it")
    parser.add_argument("--set", nargs=2, metavar=("KEY", "VALUE"), action="append", default=[])
    parser.add_argument("--direct-io", choices=("yes", "no"), help="bypass the page cache (no)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, or 2 after one line on stderr."""
    try:
        serve(read_settings(parse_arguments(argv)))
    except UserError as error:
        print(f"rocksdb_server: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
