"""A store that is damaged on purpose: every value is still there, and none is what it was."""

import pytest

from workflow.hyperkv.pairs.damage import damage
from workflow.hyperkv.stores.base import StoreConfig
from workflow.hyperkv.stores.valkey import ValkeyStore

VALUES = {"a": b"1", "b": b"2", "c": b"3", "long": b"44"}
DAMAGED = {
    "swapped": {"a": b"2", "b": b"3", "c": b"1", "long": b"44"},
    "inverted": {"a": b"\xce", "b": b"\xcd", "c": b"\xcc", "long": b"4\xcb"},
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_values_of_a_server_are_damaged(tmp_path, kind):
    with ValkeyStore(StoreConfig(tmp_path / "valkey", 1 << 20, tmp_path / "log")) as store:
        assert not damage(kind, store, None)
        with store.client() as client:
            client.mset(VALUES)
            assert damage(kind, store, None)
            assert client.mget(*VALUES) == [*DAMAGED[kind].values()]


@pytest.mark.parametrize("kind", DAMAGED)
def test_files_are_damaged_where_they_lie(tmp_path, kind):
    for name, value in VALUES.items():
        (tmp_path / name).write_bytes(value)
    with (tmp_path / "a").open("rb") as held:
        assert damage(kind, None, tmp_path)
        assert held.read() == DAMAGED[kind]["a"]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == DAMAGED[kind]


def test_large_values_are_damaged_in_every_part(tmp_path):
    (tmp_path / "one").write_bytes(bytes(200_000))
    assert damage("inverted", None, tmp_path)
    changed = (tmp_path / "one").read_bytes()
    assert [changed[at] for at in (0, 40_000, 65_536, 131_071, 199_999)] == [0, 255, 0, 255, 255]


def test_where_nothing_is_kept_or_nothing_can_change_places_nothing_is_damaged(tmp_path):
    (tmp_path / "one").write_bytes(b"alone")
    assert not damage("swapped", None, tmp_path)
    assert not damage("inverted", None, None)
