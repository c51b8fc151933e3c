"""TLS over a socket whose calls end by its deadline (deadline.py)."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UserError

if TYPE_CHECKING:
    from .deadline import Deadline
_LEAST_S = 1e-3  # 0 would not wait at all
_MOST_SENT = 1 << 20


@dataclass(frozen=True)
class Tls:
    """How a server is proved and, where it asks for that, this client. ca_file: certificates that are trusted, None for the system's.
    cert_file, key_file: this client's own, None for none.
    """

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Tls:
        """From keys of these names, null or absent for none."""
        given = {field.name: values.get(field.name) for field in fields(cls)}
        return cls(**{name: None if value is None else Path(value) for name, value in given.items()})

    def keys(self) -> dict[str, str]:
        """As `of` takes it, with absolute paths, for a program that runs elsewhere."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: str(path.absolute()) for name, path in given.items() if path is not None}


class BoundedTlsSocket(ssl.SSLSocket):
    """As deadline.BoundedSocket, over TLS."""

    deadline: Deadline

    def settimeout(self, value: float | None) -> None:
        """Nothing: the deadline bounds every call."""

    def forget(self) -> None:
        """Nothing: every call has its time set anew."""

    def shake_hands(self) -> None:
        """Begin to speak TLS. Raises OSError."""
        self._arm()
        self.do_handshake()

    def sendmsg(self, buffers: Iterable[Any], *rest: Any) -> int:  # type: ignore[override]
        """Send some of the first buffers."""
        first = b"".join(_first(buffers, _MOST_SENT))
        self._arm()
        return self._moved(self.send(first))

    def sendall(self, data: Any, *rest: Any) -> None:
        view = memoryview(data).cast("B")
        while view:
            self._arm()
            view = view[self._moved(self.send(view[:_MOST_SENT])) :]

    def recv(self, size: int = 1024, flags: int = 0) -> bytes:
        """With MSG_DONTWAIT what is there; where nothing is, BlockingIOError."""
        if flags & socket.MSG_DONTWAIT:
            socket.socket.settimeout(self, 0)
            try:
                return super().recv(size)
            except ssl.SSLWantReadError:
                raise BlockingIOError from None
        self._arm()
        found = super().recv(size)
        self._moved(len(found))
        return found

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        self._arm()
        return self._moved(super().recv_into(buffer, nbytes))

    def recvmsg_into(self, buffers: Iterable[Any], ancillary: int = 0, flags: int = 0) -> Any:  # type: ignore[override]
        """Fill the buffers; fewer bytes only where the connection ends."""
        total = 0
        for buffer in buffers:
            view = memoryview(buffer).cast("B")
            while view:
                if not (count := self.recv_into(view)):
                    return total, [], 0, None
                view, total = view[count:], total + count
        return total, [], 0, None

    def _arm(self) -> None:
        left_s = self.deadline.left_s()
        if left_s <= 0:
            raise TimeoutError("timed out")
        socket.socket.settimeout(self, max(left_s, _LEAST_S))

    def _moved(self, count: int) -> int:
        self.deadline.moved(count)
        return count


@cache
def context_of(tls: Tls) -> ssl.SSLContext:
    """Certificates and names are checked. Raises UserError that begins with the key of a file that cannot be read."""
    context, key = ssl.create_default_context(), "ca_file"
    context.sslsocket_class = BoundedTlsSocket
    try:
        if tls.ca_file is not None:
            context.load_verify_locations(tls.ca_file)
        if tls.cert_file is not None:
            key = "cert_file"
            context.load_cert_chain(tls.cert_file, tls.key_file)
    except (OSError, ssl.SSLError) as error:
        path, why = getattr(tls, key), getattr(error, "strerror", None) or error
        raise UserError(f"tls.{key}: {path}: {why}; it must be a file of PEM that can be read") from None
    return context


def secured(connection: socket.socket, tls: Tls, host: str, deadline: Deadline) -> BoundedTlsSocket:
    """The connected socket, which is given away, over TLS. Raises OSError or UserError."""
    wrapped = context_of(tls).wrap_socket(connection, server_hostname=host, do_handshake_on_connect=False)
    assert isinstance(wrapped, BoundedTlsSocket)
    wrapped.deadline = deadline
    try:
        wrapped.shake_hands()
    except BaseException:
        wrapped.close()
        raise
    return wrapped


def _first(buffers: Iterable[Any], most: int) -> Iterable[memoryview]:
    for buffer in buffers:
        view = memoryview(buffer).cast("B")
        yield view[:most]
        if (most := most - len(view)) <= 0:
            return
