"""Keys of KV chunks, chained over the prefix: a chunk's key names every token up to its end."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

KEY_BYTES = 16


def chain_keys(tokens: np.ndarray, block_tokens: int, seed: bytes = b"") -> list[bytes]:
    """One 16-byte BLAKE2b digest per full block: key i = H(key i-1 || tokens of block i), key -1 = seed.

    tokens: uint32 (or a narrower unsigned type), shape (n,); hashed as little-endian uint32. Returns
    n // block_tokens keys; a last partial block has none. seed: keeps apart caches that must not share
    (another model, another KV dtype). Errors: TypeError for signed or wider tokens, ValueError for
    block_tokens < 1.
    """
    if block_tokens < 1:
        raise ValueError(f"block_tokens is {block_tokens}; it must be at least 1")
    data = tokens.astype("<u4", casting="safe", copy=False).tobytes()
    step = block_tokens * 4
    keys, key = [], seed
    for start in range(0, len(data) // step * step, step):
        key = blake2b(key + data[start : start + step], digest_size=KEY_BYTES).digest()
        keys.append(key)
    return keys


def every(keys: Sequence[bytes], n: int) -> list[bytes]:
    """Keys of blocks n times as long, from one chain: a block's key is that of its last part.

    Keys of two sizes taken from one chain coincide where their blocks end together, so a store that holds
    several sizes at once needs a seed per size. Errors: ValueError for n < 1.
    """
    if n < 1:
        raise ValueError(f"n is {n}; it must be at least 1")
    return list(keys[n - 1 :: n])
