"""The profile's points on the stores in process."""

import json
from pathlib import Path

import pytest

from workflow.hyperkv.errors import UserError
from workflow.hyperkv.profile import measure_size, operations
from workflow.hyperkv.stores.files import FilesStore

from .record_factory import spec

SIZE, COUNT = 64 << 10, 8


def store_spec(folder: Path, name: str) -> dict:
    """The slice of one store: COUNT values of SIZE per point."""
    whole = spec(folder, name)
    return {"scenario": whole["scenario"], "data_dir": whole["data_dir"], "point_bytes": SIZE * COUNT}


@pytest.mark.parametrize(
    ("name", "wanted"), [("dram", ["set", "get_warm"]), ("files", ["set", "get_warm", "get_cold"])]
)
def test_a_size_gives_one_record_per_operation(tmp_path, name, wanted):
    records = measure_size(store_spec(tmp_path, name), SIZE, 3, tmp_path)
    assert [record["operation"] for record in records] == wanted
    assert list(operations(spec(tmp_path, name)["scenario"])) == wanted
    for record in records:
        assert (record["scenario"], record["repeat"], record["value_bytes"]) == (name, 3, SIZE)
        assert record["moved_bytes"] == SIZE * COUNT
        assert record["gbps"] == pytest.approx(record["moved_bytes"] / record["elapsed_s"] / 1e9)
        assert record["gbps"] > 0
    json.dumps(records, allow_nan=False)
    assert list(tmp_path.rglob("profile-*")) == []


@pytest.mark.parametrize("dropped", [True, False])
def test_only_a_get_after_a_drop_of_the_cache_is_cold(tmp_path, monkeypatch, dropped):
    monkeypatch.setattr(FilesStore, "make_cold", lambda store: dropped)
    records = measure_size(store_spec(tmp_path, "files"), SIZE, 1, tmp_path)
    assert [record["cold"] for record in records] == [False, False, dropped]


def test_a_value_larger_than_the_point_is_moved_once(tmp_path):
    records = measure_size(store_spec(tmp_path, "dram") | {"point_bytes": 10}, SIZE, 1, tmp_path)
    assert {record["moved_bytes"] for record in records} == {SIZE}


def test_wrong_bytes_are_no_result(tmp_path, monkeypatch):
    monkeypatch.setattr(FilesStore, "get_into", lambda store, key, buffer: False)
    with pytest.raises(UserError, match="store files: 8 of 8 values were missing or wrong"):
        measure_size(store_spec(tmp_path, "files"), SIZE, 1, tmp_path)
    assert list(tmp_path.rglob("profile-*")) == []
