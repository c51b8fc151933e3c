"""One client's connection: requests read, answered and counted."""

import contextlib
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from .. import resp_protocol as resp

if TYPE_CHECKING:
    from .listening import Server


class CommandError(Exception):
    """A command refused; the text is the whole error reply, code included."""


@dataclass
class Traffic:
    """What connections did, in commands and bytes."""

    total_commands_processed: int = 0
    total_net_input_bytes: int = 0
    total_net_output_bytes: int = 0
    keyspace_hits: int = 0
    keyspace_misses: int = 0
    value_bytes_read: int = 0
    value_bytes_written: int = 0

    def add(self, other: "Traffic") -> None:
        """Add another's figures to these."""
        for item in fields(self):
            setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))


@dataclass(eq=False)
class Connection:
    """One client: its socket, its protocol state and what it has done."""

    sock: socket.socket
    address: str
    number: int
    server: "Server"
    name: bytes = b""
    protocol: int = 2
    library: dict[bytes, bytes] = field(default_factory=dict)
    counters: Traffic = field(default_factory=Traffic)
    since: float = field(default_factory=time.monotonic)
    closing: bool = False
    trusted: bool = False

    def __post_init__(self) -> None:
        self.trusted = self.server.password is None
        self.writer = resp.ReplyWriter(self.sock)
        limit = int(self.server.keyspace.settings["proto-max-bulk-len"])
        self.reader = resp.RequestReader(self.sock, limit, self.writer.flush)

    def serve(self, answer: Callable[["Connection", list[bytes]], None]) -> None:
        """Have requests answered until either side ends the connection."""
        try:
            while not self.closing:
                answer(self, self.reader.read())
            self.writer.flush()
        except (resp.ProtocolError, MemoryError) as error:
            text = str(error) if isinstance(error, resp.ProtocolError) else "value too big for this machine"
            with contextlib.suppress(OSError, MemoryError):
                self.writer.add(resp.error(f"ERR Protocol error: {text}"))
                self.writer.flush()
        except (resp.ConnectionClosed, OSError):
            pass
        finally:
            self.sock.close()

    def current(self) -> Traffic:
        """The counters, network bytes included."""
        self.counters.total_net_input_bytes = self.reader.bytes_received
        self.counters.total_net_output_bytes = self.writer.bytes_sent
        return self.counters

    def describe(self) -> str:
        """The connection's line of CLIENT LIST."""
        age = int(time.monotonic() - self.since)
        return (
            f"id={self.number} addr={self.address} name={self.name.decode('latin-1')} age={age} db=0 resp=2"
        )
