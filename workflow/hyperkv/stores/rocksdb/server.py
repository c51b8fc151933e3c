"""A RESP server over RocksDB (the `rocksdict` wheel): the `rocksdb` store, where there is no Kvrocks.

    python -m workflow.hyperkv.stores.rocksdb.server --dir DIR --port 6666 [--set KEY VALUE]

A thread serves each connection (accepting.py); one that cannot have a thread or a descriptor is refused, and INFO counts it.
keyspace.py says what becomes of writes when the disk is full.
"""

import argparse
import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from ....plugin.lmcache_striped.secret import Secret
from ...base.errors import UserError
from ...machine.accepting import raise_descriptor_limit
from .. import reach
from .database import check_direct_io
from .keys import MIB, Settings, complete, parse_pairs
from .keyspace import Keyspace
from .listening import Server, listen

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


def read_settings(arguments: argparse.Namespace) -> Settings:
    """Complete settings from the command line. Raises UserError."""
    given = {"bind": arguments.bind, "port": arguments.port, "unixsocket": arguments.unix_socket}
    given |= {"dir": arguments.dir}
    if arguments.direct_io is not None:
        direct = arguments.direct_io == "yes"
        given["rocksdb.use_direct_reads"] = direct
        given["rocksdb.use_direct_io_for_flush_and_compaction"] = direct
    return complete(
        parse_pairs(arguments.set),
        {name: value for name, value in given.items() if value is not None},
    )


def serve(settings: Settings, secret: Secret | None = None) -> None:
    """Run the server until SIGTERM, SIGINT or SHUTDOWN. secret: where the password is that clients must know. Raises UserError."""
    password = None if secret is None else secret.value()
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
        keyspace = Keyspace(path, settings)
        try:
            server = Server(keyspace, listeners, port, tuned, password)
            server.stop_at((signal.SIGTERM, signal.SIGINT))
            mend = "leave --bind out, or give --password-file"
            if (
                text := reach.warning("rocksdb_server: warning", [host], password is not None, mend)
            ) is not None:
                print(text, file=sys.stderr, flush=True)
            print(f"ready on {host}:{port} pid {os.getpid()}", flush=True)
            server.run()
        finally:
            keyspace.close()
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
    for name, what in (("file", "file (mode 600)"), ("env", "environment variable")):
        parser.add_argument(f"--password-{name}", help=f"{what} with the password that clients must know")
    parser.add_argument("--set", nargs=2, metavar=("KEY", "VALUE"), action="append", default=[])
    parser.add_argument("--direct-io", choices=("yes", "no"), help="bypass the page cache (no)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, or 2 after one line on stderr."""
    try:
        arguments = parse_arguments(argv)
        serve(read_settings(arguments), Secret.of(vars(arguments)))
    except UserError as error:
        print(f"rocksdb_server: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
