"""Network links of stated GB/s before servers of this machine, in a process of their own.

    python -m workflow.hyperkv.profile.clusters.links --gbps 0.1 --ports 7001:6001 7002:6002

What is sent to the first port of a pair goes to the second, and back, both ways at the link's rate.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ....plugin.lmcache_striped.channels import enlarge
from ...base.cli import run_stage
from ...machine.processes import LOOPBACK, OwnedProcess

_PIECE_BYTES = 128 << 10
_READY = "ready"


class Pipe:
    """One way of a link. Safe for several threads."""

    def __init__(self, gbps: float):
        self._s_per_byte = 1e-9 / gbps
        self._lock = threading.Lock()
        self._free_s = 0.0

    def take(self, size: int, idle: bool) -> None:
        """Return when so many bytes have passed. idle: they have only come now, or what was before them could not leave; others pass while
        the thread is late.
        """
        with self._lock:
            begun_s = max(self._free_s, time.perf_counter()) if idle else self._free_s
            self._free_s = due_s = begun_s + size * self._s_per_byte
        time.sleep(max(0.0, due_s - time.perf_counter()))


def main(
    *,
    gbps: float,
    client_gbps: float | None = None,
    ports: Annotated[tuple[str, ...], Parameter(consume_multiple=1)],
) -> None:
    """Serve until it is ended.

    Args:
        gbps: 10^9 bytes per second of each link and way.
        client_gbps: of the client's own link, through which all of them go; without a bound where it is not said.
        ports: pairs of ports on loopback, FROM:TO.
    """
    own = None if client_gbps is None else (Pipe(client_gbps), Pipe(client_gbps))
    for pair in ports:
        here, there = map(int, pair.split(":"))
        listener = socket.create_server((LOOPBACK, here))
        ways = (Pipe(gbps), Pipe(gbps))
        threading.Thread(target=_accept, args=(listener, there, ways, own), daemon=True).start()
    print(_READY, flush=True)
    threading.Event().wait()


def _accept(listener: socket.socket, port: int, ways: Sequence[Pipe], own: Sequence[Pipe] | None) -> None:
    while True:
        client, _ = listener.accept()
        server = socket.create_connection((LOOPBACK, port))
        for number, (source, target) in enumerate(((client, server), (server, client))):
            enlarge(source)
            pipes = [ways[number], *([] if own is None else [own[number]])]
            threading.Thread(target=_pump, args=(source, target, pipes), daemon=True).start()


def _pump(source: socket.socket, target: socket.socket, pipes: Sequence[Pipe]) -> None:
    piece, idle = memoryview(bytearray(_PIECE_BYTES)), True
    with contextlib.suppress(OSError):
        while True:
            try:
                size = source.recv_into(piece, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                size, idle = source.recv_into(piece), True
            if size == 0:
                break
            for pipe in pipes:
                pipe.take(size, idle)
            idle = not _sent_at_once(target, piece[:size])
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


def _sent_at_once(target: socket.socket, piece: memoryview) -> bool:
    """Send it all; whether it did not have to wait. Raises OSError."""
    try:
        sent = target.send(piece, socket.MSG_DONTWAIT)
    except BlockingIOError:
        sent = 0
    target.sendall(piece[sent:])
    return sent == len(piece)


@contextlib.contextmanager
def links(ports: dict[int, int], gbps: float, client_gbps: float | None, log: Path) -> Iterator[OwnedProcess]:
    """Links before servers that need not be there yet. ports: of each server, by its link's."""
    words = ["--gbps", str(gbps), *([] if client_gbps is None else ["--client-gbps", str(client_gbps)])]
    pairs = [f"{here}:{there}" for here, there in ports.items()]
    argv = [sys.executable, "-m", __name__, *words, "--ports", *pairs]
    with OwnedProcess(argv, log=log, label="links") as process:
        process.wait_ready(lambda: _READY in log.read_text())
        yield process


if __name__ == "__main__":
    sys.exit(run_stage("links", main))
