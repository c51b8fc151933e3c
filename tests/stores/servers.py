"""What tests of servers share: the rocksdb store's process by hand, and what processes and Kvrocks's parser do."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import redis

from workflow.hyperkv.machine.processes import free_port

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
TIMEOUT_S = 60


@dataclass
class Running:
    """A server process and how to reach it."""

    process: subprocess.Popen
    port: int

    def client(self, **options) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=TIMEOUT_S, **options)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_S)


def command(directory: Path, port: int, *extra: str) -> list[str]:
    module = "workflow.hyperkv.stores.rocksdb.server"
    return [sys.executable, "-m", module, "--dir", str(directory), "--port", str(port), *extra]


@contextlib.contextmanager
def running(directory: Path, *extra: str) -> Iterator[Running]:
    port = free_port()
    process = subprocess.Popen(
        command(directory, port, *extra), cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout.readline() == f"ready on 127.0.0.1:{port} pid {process.pid}\n"
        yield Running(process, port)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(TIMEOUT_S)
        process.stdout.close()


def refused(directory: Path, port: int, *extra: str) -> str:
    done = subprocess.run(
        command(directory, port, *extra), cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    return done.stderr


def receive_all(sock: socket.socket) -> bytes:
    """Everything until the server closes; a reset counts as closing."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := sock.recv(65536):
            data += piece
    return data


def receive(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        assert piece, f"closed after {data!r}"
        data += piece
    return data


def parsed(line: str) -> tuple[str, str]:
    """ParseConfigLine of Kvrocks 2.10 for lines without escapes other than \\\\ and \\"."""
    key, _, rest = line.partition(" ")
    if rest[:1] not in "\"'":
        return key, rest.split("#")[0].strip()
    value, escaped = "", False
    for character in rest[1:]:
        if not escaped and character == rest[0]:
            return key, value
        if escaped or character != "\\":
            value += character
        escaped = not escaped and character == "\\"
    raise AssertionError(line)
