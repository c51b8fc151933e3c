"""A server that sends what a test says, whatever it is asked."""

import contextlib
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from workflow.plugin.lmcache_striped.deadline import Endpoint

TIMEOUT_S = 5


def bulk(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)


def get_request(*keys: bytes) -> bytes:
    return b"".join(b"*2\r\n$3\r\nGET\r\n" + bulk(key) for key in keys)


@dataclass
class Script:
    """One peer, connected again when it is left: for every request, wait for all of its bytes, then send the pieces."""

    turns: Sequence[tuple[int, Sequence[bytes]]]
    closes: bool = False
    received: bytes = b""
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    def run(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.settimeout(TIMEOUT_S)
            peer = self._accepted()
            for wanted, pieces in self.turns:
                while wanted > 0:
                    piece = b""
                    with contextlib.suppress(ConnectionResetError):
                        piece = peer.recv(wanted)
                    if not piece:
                        peer.close()
                        peer = self._accepted()
                    self.received += piece
                    wanted -= len(piece)
                with contextlib.suppress(ConnectionError):
                    for piece in pieces:
                        peer.sendall(piece)
            while not self.closes and peer.recv(4096):
                pass
            peer.close()

    def _accepted(self) -> socket.socket:
        peer, _ = self.listener.accept()
        peer.settimeout(TIMEOUT_S)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return peer


class ClusterPeer:
    """A server that says it is a cluster's, of whose slots `at` has all, and answers everything else with `reply`. state: of the cluster."""

    def __init__(self, at: tuple[str, int] | None = None, reply: bytes = b"$-1", state: bytes = b"fail"):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.at, self.reply = at or ("127.0.0.1", self.port), reply
        self.commands, self.state = 0, b"cluster_state:" + state
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint("127.0.0.1", self.port)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        host, port = self.at
        slots = b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$%d\r\n%b\r\n:%d\r\n" % (len(host), host.encode(), port)
        with contextlib.suppress(OSError), peer, peer.makefile("rb") as lines:
            while head := lines.readline():
                words = []
                for _ in range(int(head[1:])):
                    words.append(lines.read(int(lines.readline()[1:]) + 2)[:-2])
                if words[0] == b"CLUSTER":
                    peer.sendall(
                        slots if words[1] == b"SLOTS" else b"$%d\r\n%b\r\n" % (len(self.state), self.state)
                    )
                else:
                    self.commands += 1
                    peer.sendall(self.reply + b"\r\n")
