"""The stage layers: a line per rung, kept when it is stopped, and refused before anything runs."""

import json
from pathlib import Path

import psutil
import pytest

from tests.helpers import command
from tests.record_factory import REST, ROCKSDB, VALKEY
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.profile import profile_layers as layers
from workflow.hyperkv.profile import stations
from workflow.hyperkv.profile.rungs import keys_of
from workflow.hyperkv.profile.stations import measure_point
from workflow.hyperkv.records.record_file import read_records

SIZE = 64 << 10


def spec(folder: Path, scenario: dict, **changes) -> dict:
    """A slice of the config with two small points."""
    return {
        "scenario": {"name": "x", **REST, **scenario},
        "data_dir": str(folder / "data"),
        "memory_dir": str(folder / "memory"),
        "value_bytes": [SIZE, 2 * SIZE],
        "connections": [1],
        "point_bytes": 2 * SIZE,
        "warm_up_bytes": SIZE,
        "repeats": 1,
    } | changes


def run(folder: Path, monkeypatch, made: dict) -> list[dict]:
    """Run the stage; the records of its file."""
    monkeypatch.setattr(stations, "_REPEATED_S", 0.0)
    arguments = ["--spec", json.dumps(made), "--out", folder / "out.jsonl", "--logs", folder]
    command(layers, *arguments)
    return read_records(folder / "out.jsonl")


def test_the_stage_writes_a_line_per_rung_and_ends_its_processes(tmp_path, monkeypatch):
    records = run(tmp_path, monkeypatch, spec(tmp_path, VALKEY))
    assert [(r["value_bytes"], r["rung"], r["operation"]) for r in records] == [
        (size, *key) for size in (SIZE, 2 * SIZE) for key in keys_of(VALKEY)
    ]
    assert {(r["record"], r["scenario"], r["repeat"], r["connections"]) for r in records} == {
        ("rung", "x", 1, 1)
    }
    assert "OMP_NUM_THREADS" in records[0]["environment"]["thread_variables"]
    running = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    left = [" ".join(child.cmdline()) for child in running]
    assert not [line for line in left if "loopback" in line or "null_server" in line]


def test_points_that_were_kept_are_not_measured_again(tmp_path, monkeypatch):
    made = spec(tmp_path, {"tier": "ssd", "store": "files", "connector": "inprocess"})
    calls = []

    def stopped(bench):
        calls.append(bench.values.value_bytes)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return measure_point(bench)

    monkeypatch.setattr(layers, "measure_point", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, monkeypatch, made)
    assert not (tmp_path / "out.jsonl").exists()
    assert len(run(tmp_path, monkeypatch, made)) == 2 * 6
    assert calls == [SIZE, 2 * SIZE, 2 * SIZE]


def test_a_memory_folder_that_is_none_stops_before_anything_is_measured(tmp_path, monkeypatch):
    def refuse(folder: Path, needed: int) -> None:
        raise UserError(f"layers.memory_dir: {folder} {needed}")

    monkeypatch.setattr(layers, "memory_folder", refuse)
    monkeypatch.setattr(layers, "Loopback", None)
    with pytest.raises(UserError, match=rf"layers\.memory_dir: .*memory {2 * (SIZE + 3 * 2 * SIZE)}"):
        run(tmp_path, monkeypatch, spec(tmp_path, ROCKSDB))
