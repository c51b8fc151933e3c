"""Small values beside the stripes, and the deletion of chunks: what keeping a bound asks of the servers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from .channels import Channel, Exchange
from .connector import StripedConnector
from .deadline import Deadline
from .errors import StoreError
from .stripes import HEAD_BYTES, read_head

Words = Sequence[bytes]
_ONE_READ = 64  # values asked for together


class Said(Exchange):
    """A command of several words and its reply: a line without its sign, a value, or None."""

    def __init__(self, *words: bytes):
        self.name = words[0].decode()
        self._words = words
        self.reply: bytes | None = None
        self._value: bytearray | None = None

    def request(self) -> Sequence[bytes | memoryview]:
        return [
            b"*%d\r\n" % len(self._words),
            *(b"$%d\r\n%b\r\n" % (len(word), word) for word in self._words),
        ]

    def line(self, line: bytes) -> bool:
        self.reply = None if line == b"$-1" else line[1:]
        return line[:1] in (b"+", b":") or line == b"$-1"

    def place(self, length: int, head: memoryview) -> memoryview | None:
        self._value = bytearray(length)
        return memoryview(self._value)

    def placed(self) -> None:
        assert self._value is not None
        self.reply = bytes(self._value)


class Ledger(StripedConnector):
    """A connection to each server for what is not moved in bulk. Calls from several threads wait for each other."""

    @property
    def servers(self) -> int:
        """How many there are."""
        return len(self._servers)

    @property
    def prefix(self) -> bytes:
        """What every key of ours begins with; those of chunks are given with it."""
        return self._channels[0].endpoint.prefix.encode()

    def ask(self, *commands: Words) -> list[list[bytes | None]]:
        """The replies of every server to the commands, which each is sent in this order. Raises StoreError."""
        size = sum(len(word) for words in commands for word in words) * self.servers
        with self._calling():
            asked = [[Said(*words) for words in commands] for _ in self._own_servers()]
            items = zip(self._servers, asked, strict=True)
            self._see_to([(channels, said) for channels, server in items for said in server], size)
        return [[said.reply for said in server] for server in asked]

    def tell(self, server: int, words: Words) -> None:
        """One server's command. Raises StoreError."""
        with self._calling():
            self._see_to([(self._own_servers()[server], Said(*words))])

    def read(self, server: int, keys: Sequence[bytes]) -> list[bytes]:
        """The values of leading keys that one server has, in their order, until one is not there. Raises StoreError."""
        found: list[bytes] = []
        for start in range(0, len(keys), _ONE_READ):
            asked = [Said(b"GET", key) for key in keys[start : start + _ONE_READ]]
            with self._calling():
                self._see_to([(self._own_servers()[server], said) for said in asked], 64 << 20)
            for said in asked:
                if said.reply is None:
                    return found
                found.append(said.reply)
        return found

    def stripe_counts(self, keys: Sequence[bytes]) -> list[int]:
        """How many stripes each chunk has, as its stripe 0 says; 0 where that is not there. Raises StoreError."""
        with self._calling():
            routes = [self._routed(key, 0) for key in keys]
            asked = [(channels, Said(b"GET", name)) for channels, name in routes]
            self._see_to(asked)
        return [_stripes_said_by(said.reply) for _, said in asked]

    def delete(self, keys: Sequence[bytes]) -> list[bool]:
        """Delete chunks of which nothing is known; whether each was there. Raises StoreError."""
        counts = self.stripe_counts(keys)
        self.unlink([(key, count) for key, count in zip(keys, counts, strict=True) if count])
        return [count > 0 for count in counts]

    def unlink(self, chunks: Sequence[tuple[bytes, int]]) -> None:
        """Delete chunks, (key, number of stripes) each: stripe 0 of all first, so that no lookup finds what is half gone.

        Raises StoreError. Kvrocks reads a value before it deletes it, to see whether it has expired, but not before it
        overwrites it: so a stripe is overwritten by nothing first. In a cluster keys of one command are in one slot, so there a command
        has one.
        """
        with self._calling():
            first = [self._routed(key, 0) for key, _ in chunks]
            groups: dict[object, tuple[list[Channel], list[bytes]]] = {}
            for key, count in chunks:
                for channels, name in (self._routed(key, index) for index in range(1, count)):
                    group = (key, id(channels)) if self._nodes is None else name
                    groups.setdefault(group, (channels, []))[1].append(name)
            rest = [
                (channels, said)
                for channels, names in groups.values()
                for said in (
                    Said(b"MSET", *(word for name in names for word in (name, b""))),
                    Said(b"UNLINK", *names),
                )
            ]
            self._see_to([(channels, Said(b"UNLINK", name)) for channels, name in first])
            self._see_to(rest)

    def _own_servers(self) -> list[list[Channel]]:
        """The servers, each of which keeps what it is told. Raises StoreError for a cluster, whose nodes do not."""
        if self._nodes is not None:
            raise StoreError(
                "bound_bytes: the servers are a cluster, in which a bound cannot be kept; leave it out, and set the nodes' maxmemory"
            )
        return self._servers

    def _see_to(self, asked: Sequence[tuple[list[Channel], Said]], size: int = 0) -> None:
        """Within a call: see commands to their end. Raises StoreError."""
        self._run(asked, partial(self._sent, Channel.answered), Deadline(self._timeout_s, size, len(asked)))
        self._served(None)


def _stripes_said_by(value: bytes | None) -> int:
    head = read_head(value) if value is not None and len(value) == HEAD_BYTES else None
    return 0 if head is None else head.count
