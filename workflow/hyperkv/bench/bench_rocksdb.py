"""The cost of the RESP server: the same RocksDB, options and bytes, in-process and through `rocksdb_server`.

    python -m workflow.hyperkv.bench.bench_rocksdb --dir DIR [--connections 2] [--set KEY VALUE]

The two sides alternate, round by round. Both use the tuned allocator, as many threads as connections, random
values, every key once a round, and rocksdict's faster read (the list form). The in-process SET is a bare
`Rdict.put`; the server's keeps its key index as well. GET comes from flushed files, page cache warm.
"""

import argparse
import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import rocksdict

from ..base.deadline import Deadline, connected
from ..base.errors import StoreError, UserError
from ..stores.resp_protocol import send_all
from ..stores.rocksdb import database as rocksdb_database
from ..stores.rocksdb import keys as rocksdb_keys
from ..stores.rocksdb import options as rocksdb_options
from ..stores.rocksdb import server as rocksdb_server
from ..stores.rocksdb.keys import MIB, Settings

HEADER_PEEK_BYTES = 32
START_S = 30.0
REPLY_S = 60.0
IDLE_S = 60.0

Operation = Callable[[int, bytes], None]


@dataclass(frozen=True)
class Row:
    """Medians of one operation at one value size, in GB/s."""

    value_bytes: int
    operation: str
    in_process_gbps: float
    server_gbps: float

    @property
    def ratio(self) -> float:
        """Server over in-process throughput."""
        return self.server_gbps / self.in_process_gbps


class RespClient:
    """A blocking client that copies no value: SET by sendmsg, GET into a buffer kept for the purpose.

    A call takes REPLY_S at most, see deadline.py; past it TimeoutError is raised.
    """

    def __init__(self, port: int, value_bytes: int) -> None:
        self._sock = connected("127.0.0.1", port, Deadline(REPLY_S))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray(value_bytes + 2)

    def call(self, *words: bytes) -> bytes:
        """Send one command; the first line of its reply without CRLF. Raises StoreError on an error reply."""
        parts: list[bytes] = [b"*%d\r\n" % len(words)]
        for word in words:
            parts += (b"$%d\r\n" % len(word), word, b"\r\n")
        self._sock.deadline = Deadline(REPLY_S, len(self.buffer), 1)
        send_all(self._sock, parts)
        seen = b""
        while b"\n" not in seen:
            seen = self._sock.recv(HEADER_PEEK_BYTES, socket.MSG_PEEK)
            if not seen:
                raise StoreError("rocksdb_server closed the connection: see its stderr")
        line = self._sock.recv(seen.index(b"\n") + 1, socket.MSG_WAITALL)
        if line.startswith(b"-"):
            raise StoreError(f"rocksdb_server: {line.decode(errors='replace').strip()}")
        return line.rstrip()

    def get(self, key: bytes) -> memoryview:
        """The value of a key of the expected size, valid until the next call. Raises StoreError."""
        header = self.call(b"GET", key)
        if header != b"$%d" % (len(self.buffer) - 2):
            raise StoreError(f"rocksdb_server answered {header!r} to a GET of {len(self.buffer) - 2} bytes")
        self._sock.recv_into(self.buffer, len(self.buffer), socket.MSG_WAITALL)
        return memoryview(self.buffer)[:-2]

    def receive(self, size: int) -> bytes:
        """The next `size` bytes of a reply."""
        return self._sock.recv(size, socket.MSG_WAITALL)

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()


@contextlib.contextmanager
def running_server(directory: Path, pairs: Sequence[Sequence[str]]) -> Iterator[int]:
    """A server process in its own session; yields its port, stops it with SIGTERM. Raises StoreError."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "workflow.hyperkv.stores.rocksdb.server"]
    command += ["--dir", str(directory), "--port", str(port)]
    for pair in pairs:
        command += ["--set", *pair]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        if process.stdout is None or not process.stdout.readline().startswith("ready"):
            raise StoreError("rocksdb_server did not start: see its stderr")
        yield port
    finally:
        process.terminate()
        try:
            process.wait(START_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def open_plain(directory: Path, settings: Settings) -> rocksdict.Rdict:
    """The in-process side: one Rdict with the server's options and no index."""
    options = rocksdb_options.build_options(settings, rocksdb_options.new_block_cache(settings))
    database = rocksdb_database.open_database(directory, options, {})
    database.set_read_options(rocksdb_options.build_read_options(settings))
    database.set_write_options(rocksdb_options.build_write_options(settings))
    return database


def timed_gbps(operations: Sequence[Operation], keys: Sequence[bytes], value_bytes: int) -> float:
    """Throughput of one thread per operation, the keys dealt out among them, in GB/s. Raises StoreError."""
    failures: list[BaseException] = []
    barrier = threading.Barrier(len(operations) + 1)

    def work(number: int, operate: Operation) -> None:
        barrier.wait()
        try:
            for position in range(number, len(keys), len(operations)):
                operate(position, keys[position])
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=item) for item in enumerate(operations)]
    for thread in threads:
        thread.start()
    barrier.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    elapsed_s = time.perf_counter() - start
    if failures:
        raise StoreError(f"the benchmark stopped: {failures[0]}")
    return len(keys) * value_bytes / elapsed_s / 1e9


def wait_idle(running: Callable[[], int]) -> None:
    """Wait until no flush or compaction runs, so that one side's leftovers do not slow the other."""
    deadline = time.monotonic() + IDLE_S
    while running() and time.monotonic() < deadline:
        time.sleep(0.05)


def info_running(client: RespClient) -> int:
    """Flushes and compactions that the server has under way."""
    size = int(client.call(b"INFO", b"rocksdb")[1:])
    text = client.receive(size + 2).decode()
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return int(fields["num_running_flushes"]) + int(fields["num_running_compactions"])


def plain_running(database: rocksdict.Rdict) -> int:
    """Flushes and compactions under way in-process."""
    names = ("rocksdb.num-running-flushes", "rocksdb.num-running-compactions")
    return sum(database.property_int_value(name) or 0 for name in names)


def bench_size(
    directory: Path,
    pairs: Sequence[Sequence[str]],
    value_bytes: int,
    round_bytes: int,
    rounds: int,
    threads: int,
) -> list[Row]:
    """SET and GET at one value size: medians over alternated rounds. Raises StoreError, UserError."""
    settings = rocksdb_keys.complete(rocksdb_keys.parse_pairs(pairs))
    count = max(threads, round_bytes // value_bytes)
    pool = [os.urandom(value_bytes) for _ in range(min(count, 16))]
    keys = [[b"round-%d-key-%d" % (number, item) for item in range(count)] for number in range(rounds + 1)]
    sides = {"in-process": directory / "plain", "server": directory / "server"}
    speeds: dict[tuple[str, str], list[float]] = {}

    def value_of(position: int) -> bytes:
        return pool[position % len(pool)]

    for operation in ("SET", "GET"):
        database = open_plain(sides["in-process"], settings)
        with contextlib.closing(database), running_server(sides["server"], pairs) as port:
            clients = [RespClient(port, value_bytes) for _ in range(threads)]
            for number in range(rounds + 1):
                names = keys[number] if operation == "SET" else keys[0]
                wait_idle(lambda db=database: plain_running(db))
                wait_idle(lambda client=clients[0]: info_running(client))
                if operation == "SET":
                    plain = [lambda at, key, db=database: db.put(key, value_of(at))] * threads
                    remote = [lambda at, key, c=c: c.call(b"SET", key, value_of(at)) for c in clients]
                else:
                    plain = [lambda at, key, db=database: db.get([key])] * threads
                    remote = [lambda at, key, c=c: c.get(key) for c in clients]
                both = [("in-process", plain), ("server", remote)]
                for side, operations in both if number % 2 else reversed(both):
                    speed = timed_gbps(operations, names, value_bytes)
                    if number:  # round 0 warms up
                        speeds.setdefault((operation, side), []).append(speed)
                    wait_idle(lambda db=database: plain_running(db))
                    wait_idle(lambda client=clients[0]: info_running(client))
            if operation == "GET" and clients[0].get(keys[0][-1]) != value_of(count - 1):
                raise StoreError("rocksdb_server returned other bytes than were set")
            for client in clients:
                client.close()
            database.flush()
    for path in sides.values():
        shutil.rmtree(path)
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    return [
        Row(value_bytes, operation, medians[operation, "in-process"], medians[operation, "server"])
        for operation in ("SET", "GET")
    ]


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned text."""
    lines = ["value MiB  op   in-process GB/s  server GB/s  ratio"]
    for row in rows:
        speeds = f"{row.in_process_gbps:15.2f}  {row.server_gbps:11.2f}"
        lines.append(f"{row.value_bytes / MIB:9g}  {row.operation:3}  {speeds}  {row.ratio:5.2f}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, or 2 after one line on stderr."""
    parser = argparse.ArgumentParser(
        prog="bench_rocksdb", description="in-process RocksDB against the server"
    )
    parser.add_argument("--dir", required=True, type=Path, help="an empty or new directory for two databases")
    parser.add_argument("--value-mib", type=float, nargs="+", default=[1, 4])
    parser.add_argument("--round-mib", type=int, default=192, help="bytes moved per side and round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=2)
    parser.add_argument("--set", nargs=2, metavar=("KEY", "VALUE"), action="append", default=[])
    arguments = parser.parse_args(argv)
    rocksdb_server.tune_allocator()
    rows: list[Row] = []
    try:
        for size in arguments.value_mib:
            rows += bench_size(
                arguments.dir,
                arguments.set,
                int(size * MIB),
                arguments.round_mib * MIB,
                arguments.rounds,
                arguments.connections,
            )
    except (UserError, TimeoutError) as error:
        print(f"bench_rocksdb: {error}", file=sys.stderr)
        return 2
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
