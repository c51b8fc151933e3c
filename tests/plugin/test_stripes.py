"""How a chunk is cut into stripes, and that stripes that are not exactly its own are never taken for it."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow.plugin.lmcache_striped.stripes import (
    HEAD_BYTES,
    ChunkProof,
    Head,
    checksum,
    chunk_id,
    parts_of,
    read_head,
    root_of,
    shard_of,
    stripe_key,
)

SIZES = st.integers(0, 5000)
STRIPES = st.integers(1, 700)
WORDS = st.integers(0, 2**64 - 1)


def encoded(key: bytes, value: bytes, stripe_bytes: int) -> list[bytes]:
    """A chunk's stripes as they lie in a store."""
    parts = parts_of(len(value), stripe_bytes)
    sums = [checksum(value[part.offset : part.end]) for part in parts]
    return [
        Head(
            part.index,
            len(parts),
            part.length,
            len(value),
            chunk_id(key),
            sums[part.index],
            0 if part.index else root_of(sums),
        ).packed()
        + value[part.offset : part.end]
        for part in parts
    ]


def decoded(key: bytes, size: int, stripe_bytes: int, stripes: list[bytes | None]) -> bytes | None:
    """The chunk that these stripes are, as a load puts it together; None when they are not."""
    proof, buffer = ChunkProof(key, size, stripe_bytes), bytearray(size)
    for part, stripe in zip(proof.parts, stripes, strict=True):
        if stripe is None or len(stripe) != HEAD_BYTES + part.length:
            continue
        if (head := proof.expects(part, stripe[:HEAD_BYTES])) is not None:
            buffer[part.offset : part.end] = stripe[HEAD_BYTES:]
            proof.take(part, head, checksum(memoryview(buffer)[part.offset : part.end]))
    return bytes(buffer) if proof.complete else None


def random_bytes(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8).tobytes()


@given(size=SIZES, stripe_bytes=STRIPES)
def test_parts_cover_the_chunk_once_and_in_order(size, stripe_bytes):
    parts = parts_of(size, stripe_bytes)
    assert [part.index for part in parts] == list(range(len(parts)))
    assert parts[0].offset == 0
    assert all(one.end == other.offset for one, other in itertools.pairwise(parts))
    assert parts[-1].end == size
    assert parts[0].length == 0
    assert all(part.length == stripe_bytes for part in parts[1:-1])
    assert len(parts) == 1 + -(-size // stripe_bytes)


@pytest.mark.parametrize("stripe_bytes", [0, -1])
def test_a_stripe_has_bytes(stripe_bytes):
    with pytest.raises(ValueError, match="stripe_bytes"):
        parts_of(10, stripe_bytes)


@given(size=SIZES, stripe_bytes=STRIPES, seed=st.integers(0, 99))
def test_split_and_joined(size, stripe_bytes, seed):
    value = random_bytes(size, seed)
    assert decoded(b"key", size, stripe_bytes, encoded(b"key", value, stripe_bytes)) == value


@given(
    fields=st.tuples(*[st.integers(0, 2**32 - 1)] * 3, WORDS),
    chunk=st.binary(min_size=16, max_size=16),
    sums=st.tuples(WORDS, WORDS),
)
def test_a_head_is_read_as_it_was_written(fields, chunk, sums):
    head = Head(*fields, chunk, *sums)
    assert len(head.packed()) == HEAD_BYTES
    assert read_head(head.packed()) == head
    assert read_head(b"x" + head.packed()[1:]) is None


@given(data=st.data(), size=st.integers(1, 600), stripe_bytes=st.integers(1, 200))
def test_any_changed_byte_is_a_miss(data, size, stripe_bytes):
    stripes = encoded(b"key", random_bytes(size), stripe_bytes)
    index = data.draw(st.integers(0, len(stripes) - 1))
    at = data.draw(st.integers(0, len(stripes[index]) - 1))
    changed = bytearray(stripes[index])
    changed[at] ^= data.draw(st.integers(1, 255))
    stripes[index] = bytes(changed)
    assert decoded(b"key", size, stripe_bytes, stripes) is None


@given(data=st.data(), size=st.integers(1, 600), stripe_bytes=st.integers(1, 200))
def test_a_missing_short_or_long_stripe_is_a_miss(data, size, stripe_bytes):
    stripes: list[bytes | None] = list(encoded(b"key", random_bytes(size), stripe_bytes))
    index = data.draw(st.integers(0, len(stripes) - 1))
    stripe = stripes[index]
    stripes[index] = data.draw(st.sampled_from([None, b"", stripe[:-1], stripe + b"x", stripe[:HEAD_BYTES]]))
    if stripes[index] != stripe:
        assert decoded(b"key", size, stripe_bytes, stripes) is None


@pytest.mark.parametrize("order", [[1, 0, 2, 3], [0, 2, 1, 3], [0, 1, 1, 3], [0, 3, 2, 1], [3, 1, 2, 0]])
def test_swapped_stripes_are_a_miss(order):
    stripes = encoded(b"key", random_bytes(300), 100)
    assert decoded(b"key", 300, 100, [stripes[i] for i in order]) is None


@pytest.mark.parametrize("foreign", [0, 1, 2, 3])
def test_a_stripe_of_another_chunk_with_the_same_bytes_is_a_miss(foreign):
    value = random_bytes(300)
    stripes = encoded(b"key", value, 100)
    stripes[foreign] = encoded(b"other", value, 100)[foreign]
    assert decoded(b"key", 300, 100, stripes) is None


@given(mask=st.lists(st.booleans(), min_size=4, max_size=4))
def test_two_saves_are_never_mixed(mask):
    """Every stripe is valid by itself; only stripes of one and the same content are a chunk."""
    old, new = random_bytes(300, 1), random_bytes(300, 2)
    pairs = zip(encoded(b"key", old, 100), encoded(b"key", new, 100), strict=True)
    mixed = [pair[choice] for pair, choice in zip(pairs, mask, strict=True)]
    assert decoded(b"key", 300, 100, mixed) == {0: old, 4: new}.get(sum(mask))


@pytest.mark.parametrize("read_with", [99, 101, 150, 300])
def test_another_stripe_size_is_a_miss(read_with):
    stripes = encoded(b"key", random_bytes(300), 100)
    count = len(parts_of(300, read_with))
    assert decoded(b"key", 300, read_with, (stripes + [None] * 4)[:count]) is None


@given(key=st.binary(min_size=1, max_size=40), shards=st.integers(1, 9), stripes=st.integers(1, 50))
def test_a_chunks_stripes_lie_evenly_on_all_servers(key, shards, stripes):
    counts = [0] * shards
    for index in range(stripes):
        counts[shard_of(key, index, shards)] += 1
    assert max(counts) - min(counts) <= 1


def test_keys_of_stripes_differ():
    keys = [stripe_key(key, index) for key in (b"a", b"b") for index in range(20)]
    assert len(set(keys)) == 40
