"""What our own RESP clients share: a connected socket and the shape of a command."""

from __future__ import annotations

import socket
import struct

from ..stores.base import Endpoint

SOCKET_BUFFER_BYTES = 4 << 20


def open_socket(endpoint: Endpoint, timeout_s: float) -> socket.socket:
    """A connected TCP or unix socket with a time-out. Raises OSError."""
    if endpoint.path is None:
        return socket.create_connection((endpoint.host, endpoint.port), timeout=timeout_s)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(timeout_s)
        connection.connect(endpoint.path)
    except BaseException:
        connection.close()
        raise
    return connection


def enlarge(connection: socket.socket) -> None:
    """Ask for large kernel buffers, and over TCP for no delay. Raises OSError."""
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        connection.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)
    if connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def set_timeout(connection: socket.socket, timeout_s: float) -> None:
    """Let the kernel keep the time-out of every send and receive, so that the socket blocks and one call fills a whole value."""
    connection.settimeout(None)
    timeval = struct.pack("ll", int(timeout_s), int(timeout_s % 1 * 1e6))
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, option, timeval)


def name_of(endpoint: Endpoint) -> str:
    """How errors call an endpoint: its path, or host:port."""
    return endpoint.path or f"{endpoint.host}:{endpoint.port}"


def command(name: bytes, key: bytes) -> bytes:
    """A RESP command with one argument."""
    return b"*2\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(name), name, len(key), key)
