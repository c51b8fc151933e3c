"""Small values beside the stripes, and the deletion of chunks: what keeping a bound asks of the servers."""

from __future__ import annotations

from collections.abc import Sequence

from .channels import Channel, Exchange
from .connector import StripedConnector
from .deadline import Deadline
from .stripes import HEAD_BYTES, read_head, stripe_key

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
        asked = [[Said(*words) for words in commands] for _ in self._servers]
        size = sum(len(word) for words in commands for word in words) * len(self._servers)
        self._see_to(asked, size)
        return [[said.reply for said in server] for server in asked]

    def tell(self, server: int, words: Words) -> None:
        """One server's command. Raises StoreError."""
        self._see_to([[Said(*words)] if number == server else [] for number in range(self.servers)], 0)

    def read(self, server: int, keys: Sequence[bytes]) -> list[bytes]:
        """The values of leading keys that one server has, in their order, until one is not there. Raises StoreError."""
        found: list[bytes] = []
        for start in range(0, len(keys), _ONE_READ):
            asked = [Said(b"GET", key) for key in keys[start : start + _ONE_READ]]
            self._see_to([asked if number == server else [] for number in range(self.servers)], 64 << 20)
            for said in asked:
                if said.reply is None:
                    return found
                found.append(said.reply)
        return found

    def stripe_counts(self, keys: Sequence[bytes]) -> list[int]:
        """How many stripes each chunk has, as its stripe 0 says; 0 where that is not there. Raises StoreError."""
        asked: list[list[Said]] = [[] for _ in self._servers]
        said = [Said(b"GET", stripe_key(key, 0)) for key in keys]
        for key, one in zip(keys, said, strict=True):
            asked[self._server_of(key, 0)].append(one)
        self._see_to(asked, 0)
        return [_stripes_said_by(one.reply) for one in said]

    def delete(self, keys: Sequence[bytes]) -> list[bool]:
        """Delete chunks of which nothing is known; whether each was there. Raises StoreError."""
        counts = self.stripe_counts(keys)
        self.unlink([(key, count) for key, count in zip(keys, counts, strict=True) if count])
        return [count > 0 for count in counts]

    def unlink(self, chunks: Sequence[tuple[bytes, int]]) -> None:
        """Delete chunks, (key, number of stripes) each: stripe 0 of all first, so that no lookup finds what is half gone.

        Raises StoreError. Kvrocks reads a value before it deletes it, to see whether it has expired, but not before it
        overwrites it: so a stripe is overwritten by nothing first.
        """
        first: list[list[Said]] = [[] for _ in self._servers]
        rest: list[list[Said]] = [[] for _ in self._servers]
        for key, count in chunks:
            first[self._server_of(key, 0)].append(Said(b"UNLINK", stripe_key(key, 0)))
            mine: list[list[bytes]] = [[] for _ in self._servers]
            for index in range(1, count):
                mine[self._server_of(key, index)].append(stripe_key(key, index))
            for commands, keys in zip(rest, mine, strict=True):
                if keys:
                    commands += [Said(b"MSET", *(word for each in keys for word in (each, b"")))]
                    commands += [Said(b"UNLINK", *keys)]
        self._see_to(first, 0)
        self._see_to(rest, 0)

    def _see_to(self, asked: Sequence[Sequence[Said]], size: int) -> None:
        with self._lock:
            deadline = Deadline(self._timeout_s, size, sum(map(len, asked)))
            items = [(server, said) for server, commands in enumerate(asked) for said in commands]
            self._run(items, Channel.run, deadline)


def _stripes_said_by(value: bytes | None) -> int:
    head = read_head(value) if value is not None and len(value) == HEAD_BYTES else None
    return 0 if head is None else head.count
