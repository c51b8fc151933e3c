"""What our own RESP clients share: a connected socket and the shape of a command."""

from __future__ import annotations

import socket

from ...base.deadline import BoundedSocket, Deadline, Endpoint, connected

SOCKET_BUFFER_BYTES = 4 << 20


def open_socket(endpoint: Endpoint, deadline: Deadline) -> BoundedSocket:
    """A socket connected by the deadline, with large buffers. Raises OSError."""
    connection = connected(endpoint.host, endpoint.port, deadline, endpoint.path)
    try:
        enlarge(connection)
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


def name_of(endpoint: Endpoint) -> str:
    """How errors call an endpoint: its path, or host:port."""
    return endpoint.path or f"{endpoint.host}:{endpoint.port}"


def command(name: bytes, key: bytes) -> bytes:
    """A RESP command with one argument."""
    return b"*2\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(name), name, len(key), key)
