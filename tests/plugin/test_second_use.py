"""The sketch of what came to be saved: it never forgets too early, seldom remembers what never came, and does not grow."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow.plugin.lmcache_striped.second_use import SecondUse, told, told_by


def names(first: int, count: int) -> list[bytes]:
    return [b"chunk-%d" % number for number in range(first, first + count)]


@given(st.lists(st.integers(0, 30), max_size=200), st.integers(1, 40))
def test_one_of_the_last_chunks_is_never_taken_for_new(numbers, remembered):
    uses, recent = SecondUse(remembered), []
    for number in numbers:
        (again,) = uses.again([b"%d" % number])
        assert again or number not in recent
        recent = [number, *(other for other in recent if other != number)][:remembered]


def test_chunks_are_told_apart_within_one_batch_too():
    uses = SecondUse()
    assert uses.again([b"a", b"b", b"a"]) == [False, False, True]
    assert uses.again([b"b", b"c"]) == [True, False]
    assert uses.first_uses == 3


def test_new_chunks_are_seldom_taken_for_known_and_those_of_long_ago_are_forgotten():
    uses = SecondUse(1 << 12)
    came = sum(uses.again(names(0, 8 << 12)))
    assert came / (8 << 12) <= 0.0012
    assert sum(uses.again(names(0, 1 << 12))) / (1 << 12) <= 0.004
    assert all(uses.again(names(0, 1 << 12)))


def test_its_memory_is_four_mebibytes_however_much_comes():
    tracemalloc.start()
    try:
        uses = SecondUse()
        begun = tracemalloc.get_traced_memory()[0]
        small = SecondUse(1 << 8)
        small.again(names(0, 1 << 8))
        one = tracemalloc.get_traced_memory()[0] - begun
        small.again(names(0, 1 << 11))
        grown = tracemalloc.get_traced_memory()[0] - begun
    finally:
        tracemalloc.stop()
    assert begun == pytest.approx(4 << 20, rel=0.01)
    assert not uses.first_uses
    assert grown <= one + (8 << 10)  # of the interpreter's own; so many names are far more


def test_what_a_log_says_is_read_back():
    assert told_by(f"LMCache INFO: striped: {told(12)}") == 12
    assert told_by("LMCache INFO: striped: dropped 12 chunks") == 0
