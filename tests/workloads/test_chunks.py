from hashlib import blake2b

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from workflow.hyperkv.workloads.chunks import chain_keys, every

token_arrays = hnp.arrays(np.uint32, st.integers(0, 200))
blocks = st.integers(1, 40)


def test_the_chain_is_the_documented_one():
    tokens = np.arange(5, dtype=np.uint32)
    first = blake2b(b"seed" + b"\0\0\0\0\1\0\0\0", digest_size=16).digest()
    second = blake2b(first + b"\2\0\0\0\3\0\0\0", digest_size=16).digest()
    assert chain_keys(tokens, 2, b"seed") == [first, second]


@given(token_arrays, blocks)
def test_full_blocks_only(tokens, block):
    keys = chain_keys(tokens, block)
    assert len(keys) == len(tokens) // block
    assert all(len(key) == 16 for key in keys)
    assert keys == chain_keys(tokens[: len(keys) * block], block)


@given(token_arrays, token_arrays, token_arrays, blocks)
def test_keys_are_shared_exactly_as_far_as_the_prefix(prefix, left, right, block):
    a, b = np.concatenate([prefix, left]), np.concatenate([prefix, right])
    shorter = min(len(a), len(b))
    differs = np.flatnonzero(a[:shorter] != b[:shorter])
    shared_tokens = int(differs[0]) if len(differs) else shorter
    same = [x == y for x, y in zip(chain_keys(a, block), chain_keys(b, block), strict=False)]
    shared_blocks = shared_tokens // block
    assert same == [True] * shared_blocks + [False] * (len(same) - shared_blocks)


@given(token_arrays, blocks, st.integers(1, 6))
def test_longer_blocks_come_from_one_chain(tokens, block, n):
    keys = every(chain_keys(tokens, block), n)
    assert len(keys) == len(tokens) // (block * n)
    assert keys == [chain_keys(tokens[: (i + 1) * block * n], block)[-1] for i in range(len(keys))]


@given(token_arrays.filter(lambda tokens: len(tokens) >= 16))
def test_seeds_keep_caches_apart(tokens):
    assert not set(chain_keys(tokens, 16, b"bf16")) & set(chain_keys(tokens, 16, b"fp8"))


def test_views_and_narrow_tokens_hash_as_uint32():
    tokens = np.arange(64, dtype=np.uint32)
    assert chain_keys(tokens[::2], 16) == chain_keys(np.arange(0, 64, 2, dtype=np.uint32), 16)
    assert chain_keys(tokens.astype(np.uint16), 16) == chain_keys(tokens.astype(">u4"), 16)
    assert chain_keys(tokens, 16) == chain_keys(tokens.astype(np.uint16), 16)


def test_wrong_arguments():
    tokens = np.arange(64)
    with pytest.raises(TypeError):
        chain_keys(tokens, 16)
    with pytest.raises(ValueError, match="at least 1"):
        chain_keys(tokens.astype(np.uint32), 0)
    with pytest.raises(ValueError, match="at least 1"):
        every([], 0)
