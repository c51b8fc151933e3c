"""Values that check themselves: their bytes are a function of a key and a generation, and name both."""

from __future__ import annotations

import struct
from hashlib import blake2b

import numpy as np

_HEAD = struct.Struct("<8sQQQ")
_MAGIC = b"SOAKVAL1"
_POOL_BYTES = 1 << 22
HEAD_BYTES = _HEAD.size


class Values:
    """The values of a session: `size` bytes each, at least HEAD_BYTES. session: a number that no other one has."""

    def __init__(self, session: int, size: int):
        if size < HEAD_BYTES:
            raise ValueError(f"size is {size}; it must be at least {HEAD_BYTES}")
        self.session, self.size = session, size
        self._pool = np.random.default_rng(session).integers(0, 256, _POOL_BYTES + size, dtype=np.uint8)

    def key(self, index: int) -> bytes:
        """32 bytes, as long as LMCache's hashes."""
        return blake2b(struct.pack("<QQ", self.session, index), digest_size=32).digest()

    def value(self, index: int, generation: int) -> np.ndarray:
        """uint8, shape (size,): a head that names session, key and generation, then bytes that both decide."""
        made = np.empty(self.size, dtype=np.uint8)
        self._fill(made, index, generation)
        return made

    def _fill(self, made: np.ndarray, index: int, generation: int) -> None:
        made[:HEAD_BYTES] = np.frombuffer(_HEAD.pack(_MAGIC, self.session, index, generation), dtype=np.uint8)
        named = blake2b(struct.pack("<QQQ", self.session, index, generation), digest_size=8).digest()
        start = int.from_bytes(named, "little") % _POOL_BYTES
        made[HEAD_BYTES:] = self._pool[start : start + self.size - HEAD_BYTES]

    def judge(
        self, index: int, received: np.ndarray, oldest: int, newest: int
    ) -> tuple[int | None, str | None]:
        """What is wrong with bytes that were read for a key: (generation or None, reason or None).

        oldest, newest: the generations that may be read, both included.
        """
        magic, session, key, generation = _HEAD.unpack(received[:HEAD_BYTES].tobytes())
        if magic != _MAGIC or session != self.session:
            return (
                None,
                f"key {index}: foreign bytes, they begin with {received[:HEAD_BYTES].tobytes().hex()}",
            )
        if key != index:
            return None, f"key {index}: the value of key {key}, generation {generation}"
        expected = self.value(index, generation)
        if not np.array_equal(expected, received):
            wrong = np.flatnonzero(expected != received)
            return None, (
                f"key {index}: torn, generation {generation} but {wrong.size} of {self.size} bytes differ, the first at "
                f"{wrong[0]}"
            )
        if generation < oldest:
            return generation, f"key {index}: generation {generation}, older than {oldest}, which is promised"
        if generation > newest:
            return generation, f"key {index}: generation {generation}, and only {newest} were written"
        return generation, None
