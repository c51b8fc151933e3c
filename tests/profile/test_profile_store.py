"""The profile's points on the stores in process and on one server."""

import json
from pathlib import Path

import pytest

from tests.helpers import command
from tests.record_factory import spec
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.cells.point import values_per_connection
from workflow.hyperkv.connectors.resp import RespConnector
from workflow.hyperkv.machine.counters import ProcessCounters
from workflow.hyperkv.profile import profile_store as profile
from workflow.hyperkv.profile.profile_store import measure_size, operations
from workflow.hyperkv.records.kinds.record import SCHEMA_VERSION
from workflow.hyperkv.records.record_file import read_records
from workflow.hyperkv.stores.base import Counters
from workflow.hyperkv.stores.files import FilesStore
from workflow.hyperkv.stores.valkey import ValkeyStore

SIZE, COUNT, CONNECTIONS = 64 << 10, 8, 2


def store_spec(folder: Path, name: str) -> dict:
    """The slice of one store: COUNT values of SIZE per point."""
    whole = spec(folder, name)
    return {
        "scenario": whole["scenario"],
        "data_dir": whole["data_dir"],
        "point_bytes": SIZE * COUNT,
        "warm_up_bytes": 3 * SIZE - 1,
    }


def measured_size(*arguments) -> list[dict]:
    """The records of a size as they stand in a file."""
    return [record.dump() for record in measure_size(*arguments)]


def valkey_spec(folder: Path, **changes) -> dict:
    """The same of a Valkey server."""
    made = store_spec(folder, "dram")
    made["scenario"] |= {"name": "valkey", "store": "valkey", "connector": "resp", **changes}
    return made


@pytest.mark.parametrize(
    ("name", "wanted"), [("dram", ["set", "get_warm"]), ("files", ["set", "get_warm", "get_cold"])]
)
def test_a_size_gives_one_record_per_operation(tmp_path, name, wanted):
    records = measured_size(store_spec(tmp_path, name), SIZE, CONNECTIONS, 3, tmp_path)
    assert [record["operation"] for record in records] == wanted
    assert list(operations(spec(tmp_path, name)["scenario"])) == wanted
    for record in records:
        assert (record["scenario"], record["repeat"], record["value_bytes"]) == (name, 3, SIZE)
        assert record["connections"] == CONNECTIONS
        assert record["moved_bytes"] == SIZE * COUNT
        assert record["gbps"] == pytest.approx(record["moved_bytes"] / record["elapsed_s"] / 1e9)
        assert record["gbps"] > 0
        assert record["store_rss_bytes"] > SIZE
        assert record["store_page_faults"] >= 0
    json.dumps(records, allow_nan=False)
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize("dropped", [True, False])
def test_only_a_get_after_a_drop_of_the_cache_is_cold(tmp_path, monkeypatch, dropped):
    monkeypatch.setattr(FilesStore, "make_cold", lambda store: dropped)
    records = measured_size(store_spec(tmp_path, "files"), SIZE, CONNECTIONS, 1, tmp_path)
    assert [record["cold"] for record in records] == [False, False, dropped]


def test_every_connection_moves_as_many_values_and_at_least_one(tmp_path):
    assert values_per_connection(32, 4, 2) == 4
    assert values_per_connection(32, 4, 3) == 2
    assert values_per_connection(10, 64, 8) == 1
    made = store_spec(tmp_path, "dram") | {"point_bytes": 10}
    for connections in (1, 3):
        records = measured_size(made, SIZE, connections, 1, tmp_path)
        assert {record["moved_bytes"] for record in records} == {connections * SIZE}


def test_wrong_bytes_are_no_result(tmp_path, monkeypatch):
    monkeypatch.setattr(FilesStore, "get_into", lambda store, key, buffer: False)
    with pytest.raises(UserError, match="store files: 8 of 8 values were missing or wrong"):
        measured_size(store_spec(tmp_path, "files"), SIZE, CONNECTIONS, 1, tmp_path)
    assert list((tmp_path / "data").iterdir()) == []


def process(written: int | None) -> ProcessCounters:
    """Counters of a process that wrote so much to its device."""
    return ProcessCounters(0, written, 1.0, 10**6, 5)


def test_the_bytes_of_a_set_are_counted_until_its_process_has_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(FilesStore, "counters", lambda store: Counters(0, 0, 0, 0, process(100)))
    monkeypatch.setattr(FilesStore, "final_counters", lambda store: process(700))
    records = measured_size(store_spec(tmp_path, "files"), SIZE, CONNECTIONS, 1, tmp_path)
    assert [record["settled_write_bytes"] for record in records] == [600, None, None]
    assert [record["settled_set_bytes"] for record in records] == [COUNT * SIZE, None, None]
    assert [record["device_write_bytes"] for record in records] == [0, 0, 0]
    monkeypatch.setattr(FilesStore, "final_counters", lambda store: process(None))
    records = measured_size(store_spec(tmp_path, "files"), SIZE, CONNECTIONS, 1, tmp_path)
    assert records[0]["settled_write_bytes"] is None


def test_in_process_the_bytes_of_a_set_are_this_process_s(tmp_path):
    set_record = measured_size(store_spec(tmp_path, "files"), SIZE, CONNECTIONS, 1, tmp_path)[0]
    assert set_record["settled_write_bytes"] >= set_record["device_write_bytes"]


def test_what_only_the_store_tells_stands_before_and_after_each_load(tmp_path, monkeypatch):
    tellings = iter(range(100))

    def counters(store):
        return Counters(0, 0, 0, 0, process(0), details={"stalls": next(tellings)})

    monkeypatch.setattr(FilesStore, "counters", counters)
    monkeypatch.setattr(FilesStore, "notes", lambda store: ["a setting was ignored"])
    for record in measured_size(store_spec(tmp_path, "files"), SIZE, CONNECTIONS, 1, tmp_path):
        assert record["store_before"]["stalls"] + 1 == record["store_after"]["stalls"]
        assert record["notes"] == ["a setting was ignored"]


def test_a_server_gets_the_scenario_s_environment_and_settings(tmp_path, monkeypatch):
    seen = []
    start = ValkeyStore.start

    def noted(store):
        seen.append(store.config)
        start(store)

    monkeypatch.setattr(ValkeyStore, "start", noted)
    made = valkey_spec(
        tmp_path, environment={"A": "1"}, settings={"io-threads": 1}, ignored_settings=["io-threads"]
    )
    records = measured_size(made, SIZE, 3, 1, tmp_path)
    assert [record["moved_bytes"] for record in records] == [2 * 3 * SIZE] * 2
    assert (seen[0].environment, seen[0].settings) == ({"A": "1"}, {"io-threads": 1})
    assert seen[0].ignored_settings == ("io-threads",)


def test_a_server_first_takes_other_values(tmp_path, monkeypatch):
    batches = []
    put = RespConnector.put

    def noted(connector, keys, values):
        batches.append(set(keys))
        put(connector, keys, values)

    monkeypatch.setattr(RespConnector, "put", noted)
    set_record = measured_size(valkey_spec(tmp_path), SIZE, CONNECTIONS, 1, tmp_path)[0]
    assert [len(batch) for batch in batches] == [3, COUNT]
    assert not batches[0] & batches[1]
    assert set_record["moved_bytes"] == COUNT * SIZE


def run(folder: Path, made: dict) -> list[dict]:
    """Run the stage; the records of its file."""
    arguments = ["--spec", json.dumps(made), "--out", folder / "out.jsonl", "--logs", folder]
    command(profile, *arguments)
    return read_records(folder / "out.jsonl")


def test_a_repeat_has_all_sizes_and_connections_before_the_next_one(tmp_path):
    made = store_spec(tmp_path, "dram") | {
        "value_bytes": [SIZE, 2 * SIZE],
        "connections": [1, 2],
        "repeats": 2,
    }
    records = run(tmp_path, made)
    order = [
        (record["repeat"], record["value_bytes"], record["connections"], record["operation"])
        for record in records
    ]
    assert order == [
        (repeat, size, connections, operation)
        for repeat in (1, 2)
        for size in (SIZE, 2 * SIZE)
        for connections in (1, 2)
        for operation in ("set", "get_warm")
    ]
    assert {(record["record"], record["schema_version"]) for record in records} == {("point", SCHEMA_VERSION)}
    assert records[0]["environment"]["cores"]


def test_points_that_were_kept_are_not_measured_again(tmp_path, monkeypatch):
    made = store_spec(tmp_path, "dram") | {
        "value_bytes": [SIZE, 2 * SIZE],
        "connections": [1, 2],
        "repeats": 1,
    }
    calls = []

    def stopped(*arguments):
        calls.append(arguments[1:3])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measure_size(*arguments)

    monkeypatch.setattr(profile, "measure_size", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, made)
    assert not (tmp_path / "out.jsonl").exists()
    assert len(run(tmp_path, made)) == 8
    assert calls == [(SIZE, 1), (SIZE, 2), (2 * SIZE, 1), (2 * SIZE, 1), (2 * SIZE, 2)]
