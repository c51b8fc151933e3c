"""Where a cluster keeps a key: its hash slot, of which every node has some. Protocol: redis.io, "cluster specification".

A stripe's key in a cluster ends in a tag that chooses its slot, so that the stripes of a chunk go round the slots as they go
round the servers elsewhere: any few in a row lie as far apart as they can, on whichever nodes.
"""

from __future__ import annotations

from binascii import crc_hqx
from functools import lru_cache
from itertools import product
from string import ascii_letters, digits

from .stripes import stripe_key

SLOTS = 1 << 14
_BITS = SLOTS.bit_length() - 1


def slot_of(key: bytes) -> int:
    """The hash slot of a key: of what stands between its first { and the } after it, if anything does, else of all of it."""
    start = key.find(b"{")
    if start >= 0 and (end := key.find(b"}", start + 1)) > start + 1:
        key = key[start + 1 : end]
    return crc_hqx(key, 0) % SLOTS


def spread_key(key: bytes, index: int) -> bytes:
    """The key of one stripe of the chunk `key` in a cluster, with %7B for {: the first { of a key begins its tag."""
    own = stripe_key(key.replace(b"{", b"%7B"), index)
    return b"%b{%b}" % (own, tag_of((crc_hqx(key, 0) + _far_apart(index - 1)) % SLOTS))


@lru_cache(1 << 12)
def _far_apart(number: int) -> int:
    """The number with its bits the other way round: each next one is in the middle of the widest gap (van der Corput)."""
    return int(f"{number % SLOTS:0{_BITS}b}"[::-1], 2)


@lru_cache(1)
def _tags() -> list[bytes]:
    """A short word of every slot."""
    found: dict[int, bytes] = {}
    for letters in product((digits + ascii_letters).encode(), repeat=3):
        found.setdefault(crc_hqx(word := bytes(letters), 0) % SLOTS, word)
        if len(found) == SLOTS:
            break
    return [found[slot] for slot in range(SLOTS)]


def tag_of(slot: int) -> bytes:
    """A word of three letters in this slot."""
    return _tags()[slot]
