"""The raw socket: memory of another process read and written over loopback TCP, without keys, store or protocol.

    python -m workflow.hyperkv.profile.loopback --port 7000 --memory-bytes 33554432

With --unix PATH it is a unix socket instead.

A request is 17 bytes: b"G" or b"S", offset and length, little-endian. G answers with the memory's bytes; S takes
the bytes that follow into the memory and answers with one byte.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ...plugin.lmcache_striped.channels import Channel
from ...plugin.lmcache_striped.deadline import Deadline, Endpoint
from ..base.errors import StoreError
from ..machine.accepting import Acceptor, on_threads
from ..machine.own_folder import socket_folder
from ..machine.processes import LOOPBACK, OwnedProcess, free_port
from ..stores.base import GRACE_S
from ..workloads.payload import aligned_buffer

REQUEST = struct.Struct("<cQQ")
_ACKNOWLEDGEMENT = b"."
_READY_TIMEOUT_S = 30.0


class Loopback:
    """Owner of one process with `memory_bytes` of memory behind a socket. A context manager.

    unix: a unix socket, in a folder of its own, instead of TCP. timeout_s: of every read and write, see deadline.py.
    """

    def __init__(self, memory_bytes: int, log: Path, timeout_s: float = 30.0, unix: bool = False):
        self._memory_bytes, self._log, self._timeout_s, self._unix = memory_bytes, log, timeout_s, unix
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Loopback:
        with self._stack as stack:
            if self._unix:
                folder = stack.enter_context(socket_folder())
                self._endpoint = Endpoint(LOOPBACK, 0, path=f"{folder}/socket")
                place = ["--unix", f"{folder}/socket"]
            else:
                self._endpoint = Endpoint(LOOPBACK, free_port())
                place = ["--port", str(self._endpoint.port)]
            argv = [sys.executable, "-m", __spec__.name, *place, "--memory-bytes", str(self._memory_bytes)]
            process = OwnedProcess(argv, log=self._log, label="the raw socket's process")
            self._process = stack.enter_context(process)
            process.wait_ready(self._listens, _READY_TIMEOUT_S)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _listens(self) -> bool:
        try:
            self.connect().close()
        except StoreError:
            return False
        return True

    @property
    def pid(self) -> int:
        """The process that holds the memory."""
        return self._process.pid

    def connect(self) -> RawConnection:
        """A new connection. Raises StoreError."""
        return RawConnection(self._endpoint, self._timeout_s)

    @contextlib.contextmanager
    def movers(
        self, connections: int, values: Sequence[np.ndarray], buffers: Sequence[np.ndarray]
    ) -> Iterator[dict[str, Callable[[int], None]]]:
        """By operation, set and get: what moves a worker's equal share of the values, or of the buffers, over its connection."""
        each, size = len(values) // connections, values[0].size
        shares = [slice(worker * each, (worker + 1) * each) for worker in range(connections)]
        with contextlib.ExitStack() as stack:
            raw = [stack.enter_context(contextlib.closing(self.connect())) for _ in shares]
            yield {
                "set": lambda worker: raw[worker].write(shares[worker].start * size, values[shares[worker]]),
                "get": lambda worker: raw[worker].read(shares[worker].start * size, buffers[shares[worker]]),
            }

    @contextlib.contextmanager
    def explaining(self) -> Iterator[None]:
        """A StoreError of the block becomes StoreDied when the process is gone."""
        try:
            yield
        except StoreError:
            self._process.check_alive(GRACE_S)
            raise


class RawConnection(Channel):
    """The socket, the options and the failures of connector `resp`, without RESP. Raises StoreError."""

    def __init__(self, endpoint: Endpoint, timeout_s: float):
        super().__init__(endpoint, timeout_s, None)
        self.open()

    def read(self, offset: int, buffers: Sequence[np.ndarray]) -> None:
        """Fill the buffers with the memory's bytes from `offset` on; one request per buffer, all sent first."""
        requests = []
        for buffer in buffers:
            requests.append(REQUEST.pack(b"G", offset, buffer.size))
            offset += buffer.size
        self._exchange([b"".join(requests)], [buffer.data for buffer in buffers])

    def write(self, offset: int, values: Sequence[np.ndarray]) -> None:
        """Write the values to the memory from `offset` on; returns when the last byte was acknowledged."""
        request = REQUEST.pack(b"S", offset, sum(value.size for value in values))
        acknowledgement = memoryview(bytearray(len(_ACKNOWLEDGEMENT)))
        self._exchange([request, *(value.data for value in values)], [acknowledgement])

    def _exchange(self, sent: Sequence[bytes | memoryview], places: Sequence[memoryview]) -> None:
        self.open(Deadline(self.timeout_s, sum(map(len, [*sent, *places]))))
        with self.closing():
            self.send(sent)
            for place in places:
                while place:
                    place = place[self.receive([place]) :]


def main() -> None:
    """Parse the command line and serve until the process is ended."""
    parser = argparse.ArgumentParser(prog="python -m workflow.hyperkv.profile.loopback", description=__doc__)
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--port", type=int, help="TCP port on loopback")
    place.add_argument("--unix", help="path of a unix socket")
    parser.add_argument("--memory-bytes", required=True, type=int, help="bytes of memory")
    arguments = parser.parse_args()
    memory = aligned_buffer(arguments.memory_bytes).data
    family = socket.AF_INET if arguments.unix is None else socket.AF_UNIX
    address = arguments.unix or (LOOPBACK, arguments.port)
    with socket.create_server(address, family=family) as listener:
        Acceptor([listener], on_threads(lambda connection: _serve(connection, memory)), lambda _: b"").run()


def _serve(connection: socket.socket, memory: memoryview) -> None:
    if connection.family == socket.AF_INET:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = memoryview(bytearray(REQUEST.size))
    with connection, contextlib.suppress(ConnectionError):
        while _filled(connection, request):
            kind, offset, length = REQUEST.unpack(request)
            if kind == b"G":
                connection.sendall(memory[offset : offset + length])
            elif _filled(connection, memory[offset : offset + length]):
                connection.sendall(_ACKNOWLEDGEMENT)


def _filled(connection: socket.socket, view: memoryview) -> bool:
    """Receive until the view is full; False when the peer closed the connection before."""
    while view:
        count = connection.recv_into(view, 0, socket.MSG_WAITALL)
        if count == 0:
            return False
        view = view[count:]
    return True


if __name__ == "__main__":
    main()
