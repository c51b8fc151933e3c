"""The bound on loads: leading chunks for which there is room, and what was left is remembered once."""

from hypothesis import given
from hypothesis import strategies as st

from workflow.hyperkv.connectors import load_bound
from workflow.hyperkv.connectors.load_bound import LoadBound

CHUNK = bytearray(10)


def bound(most_bytes: int | None) -> LoadBound:
    one = LoadBound(most_bytes)
    one.saw([memoryview(CHUNK)])
    return one


@given(most=st.integers(1, 200), loading=st.integers(0, 300), count=st.integers(0, 30))
def test_what_is_found_fits_beside_what_is_loading_and_the_rest_was_left(most, loading, count):
    one, keys = bound(most), [f"k{number}" for number in range(count)]
    one.begin(loading)
    found = one.fitting(keys)
    assert found == min(count, max(0, most - loading) // len(CHUNK))
    assert [one.was_left(key) for key in keys] == [False] * found + [True] * (count - found)
    assert not any(one.was_left(key) for key in keys)
    one.end(loading)
    assert one.fitting(keys) == min(count, most // len(CHUNK))


def test_without_a_bound_and_before_a_chunks_size_is_known_everything_is_found():
    assert bound(None).fitting(["a"] * 9) == 9
    assert LoadBound(1).fitting(["a"] * 9) == 9
    one = LoadBound(1)
    one.saw([])
    assert one.fitting(["a"] * 9) == 9


def test_what_was_left_longest_ago_is_forgotten(monkeypatch):
    monkeypatch.setattr(load_bound, "_REMEMBERED", 2)
    one = bound(1)
    for key in ("a", "b", "a", "c"):
        assert one.fitting([key]) == 0
    assert [one.was_left(key) for key in "abc"] == [True, False, True]
