"""Values that belong to keys: reproducible, distinct, and checked to the last byte."""

import zlib
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow.hyperkv.workloads.payload import ALIGNMENT, Payload, aligned_buffer, slots

SIZES = [1, 7, 8, 4095, 65541]
payload = cache(Payload)
KEYS = [number.to_bytes(4, "big") + b"rest" for number in range(64)]


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 1 << 20])
def test_aligned_buffer(size):
    buffer = aligned_buffer(size)
    assert (buffer.size, buffer.dtype) == (size, np.uint8)
    assert buffer.flags.writeable
    assert not buffer.any()
    assert size == 0 or buffer.ctypes.data % ALIGNMENT == 0


@pytest.mark.parametrize("size", SIZES)
def test_value_has_its_size_alignment_and_full_entropy(size):
    value = payload(size).value(KEYS[3])
    assert value.size == size
    assert value.ctypes.data % ALIGNMENT == 0
    assert len(zlib.compress(value)) >= size


def test_value_is_the_keys_own_in_every_process():
    again, other = Payload(4095), Payload(4095, seed=1)
    assert all(again.matches(key, payload(4095).value(key)) for key in KEYS)
    assert not any(other.matches(key, payload(4095).value(key)) for key in KEYS)
    assert len({payload(4095).value(key).tobytes() for key in KEYS}) == len(KEYS)


def test_a_value_under_another_key_is_noticed():
    assert not any(
        payload(8).matches(one, payload(8).value(two)) for one in KEYS for two in KEYS if one != two
    )


def test_the_last_window_lies_within_the_pool():
    key = b"\xff\xff\xff\xff"
    assert payload(65541).value(key).size == 65541
    assert len(zlib.compress(payload(65541).value(key))) >= 65541


@given(
    size=st.sampled_from(SIZES),
    position=st.integers(0, 1 << 30),
    flip=st.integers(1, 255),
    shift=st.integers(0, 9),
)
def test_any_wrong_byte_is_noticed(size, position, flip, shift):
    received = np.zeros(size + shift, dtype=np.uint8)[shift:]
    received[:] = payload(size).value(KEYS[0])
    assert payload(size).matches(KEYS[0], received)
    received[position % size] ^= flip
    assert not payload(size).matches(KEYS[0], received)
    received[position % size] ^= flip
    assert not payload(size).matches(KEYS[0], received[:-1])


@pytest.mark.parametrize(("size", "slot", "count"), [(16, 4, 4), (19, 4, 4), (3, 4, 0), (4, 4, 1)])
def test_slots(size, slot, count):
    buffer = np.zeros(size, dtype=np.uint8)
    parts = slots(buffer, slot)
    assert [part.size for part in parts] == [slot] * count
    for number, part in enumerate(parts, 1):
        part += number
    assert buffer.tolist() == [i // slot + 1 if i < count * slot else 0 for i in range(size)]
