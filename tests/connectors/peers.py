"""A server that sends what a test says, whatever it is asked."""

import contextlib
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field

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
