"""The bound on loads: leading chunks for which there is room, and what was left is remembered once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow.plugin.lmcache_striped.load_bound import LoadBound

CHUNK = bytearray(10)


def bound(most_bytes: int | None, **remembered) -> LoadBound:
    one = LoadBound(most_bytes, **remembered)
    one.saw([memoryview(CHUNK)])
    return one


@given(most=st.integers(1, 200), loading=st.integers(0, 300), count=st.integers(0, 30))
def test_what_is_found_fits_beside_what_is_loading_and_the_rest_was_left(most, loading, count):
    one, keys = bound(most), [f"k{number}" for number in range(count)]
    one.begin(loading)
    found = one.fitting([*keys, "not there"], count)
    assert found == min(count, max(0, most - loading) // len(CHUNK))
    assert [one.was_left(key) for key in keys] == [False] * found + [True] * (count - found)
    assert not any(one.was_left(key) for key in [*keys, "not there"])
    one.end(loading)
    assert one.fitting(keys, count) == min(count, most // len(CHUNK))


def test_without_a_bound_and_before_a_chunks_size_is_known_everything_is_found():
    assert bound(None).fitting(["a"] * 9, 9) == 9
    assert LoadBound(1).fitting(["a"] * 9, 9) == 9
    one = LoadBound(1)
    one.saw([])
    assert one.fitting(["a"] * 9, 9) == 9


@pytest.mark.parametrize(("room", "present"), [(10, 1), (0, 0)])
def test_what_is_found_or_not_there_any_more_was_not_left(room, present):
    one = bound(10)
    one.begin(10)
    assert one.fitting(["a"], 1) == 0
    one.end(room)
    assert one.fitting(["a"], present) == present
    assert not one.was_left("a")


def test_what_was_left_long_ago_or_before_many_others_is_forgotten():
    one = bound(1, remembered=2)
    for key in ("a", "b", "a", "c"):
        assert one.fitting([key], 1) == 0
    assert [one.was_left(key) for key in "abc"] == [True, False, True]
    forgets = bound(1, remembered_s=0.0)
    assert forgets.fitting(["d"], 1) == 0
    assert not forgets.was_left("d")
