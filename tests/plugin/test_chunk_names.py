"""An LMCache server's keys by chunk: a chunk is there when the values of all its ranks are."""

from hypothesis import given
from hypothesis import strategies as st

from workflow.plugin.lmcache_striped.chunk_names import Columns, row_and_chunk


def key(rank: int, group: int, number: int, salt: str = "") -> str:
    return f"org/model@{rank:08x}@{group:x}@{number:064x}" + (f"@{salt}" if salt else "")


def test_a_keys_parts_and_one_of_another_form_is_its_own_name():
    assert row_and_chunk(key(1, 2, 3)) == ("00000001@2", f"org/model@{3:064x}")
    assert row_and_chunk(key(0, 0, 3, "user"))[1] == f"org/model@{3:064x}@user"
    assert row_and_chunk("other-7") == ("", "other-7")


@given(ranks=st.integers(1, 4), groups=st.integers(1, 3), count=st.integers(0, 9), found=st.integers(0, 9))
def test_rows_of_keys_are_read_as_columns(ranks, groups, count, found):
    rows = [(rank, group) for group in range(groups) for rank in range(ranks)]
    keys = [key(*row, number) for row in rows for number in range(count)]
    columns = Columns.of(keys)
    assert columns.chunks == [f"org/model@{number:064x}" for number in range(count)]
    assert columns.rows == (len(rows) if count else 1)
    assert columns.names == [tuple(key(*row, number) for row in rows) for number in range(count)]
    assert columns.found(found) == [number < found for _ in rows for number in range(count)]


def test_rows_of_different_lengths_are_no_columns():
    keys = [key(0, 0, 1), key(0, 0, 2), key(1, 0, 1)]
    assert Columns.of(keys).names == [(one,) for one in keys]
