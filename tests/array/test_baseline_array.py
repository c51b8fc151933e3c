"""Stage baseline_array: our reader for real, fio as it was recorded."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.array.fake_fio import write_fio
from tests.array.machines import settings
from workflow.hyperkv.array import baseline_array as baseline
from workflow.hyperkv.array.baseline_file import baseline_of
from workflow.hyperkv.array.refusal import NOT_THERE
from workflow.hyperkv.base.cli import run_stage
from workflow.hyperkv.machine.counters import supports_direct_io
from workflow.hyperkv.records.record_file import read_records

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def spec(tmp_path) -> dict[str, Any]:
    if not supports_direct_io(tmp_path):
        pytest.skip("the tests' folder has no O_DIRECT")
    return {
        "block_bytes": [4096, 65536],
        "queue_depths": [1, 2],
        "point_s": 1,
        "file_bytes": 1 << 20,
        "reader_bytes": 1 << 18,
        "repeats": 2,
        "data_dir": str(tmp_path / "data"),
    }


def run(monkeypatch, spec: dict[str, Any], out: Path) -> int:
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr("sys.argv", ["baseline", "--spec", json.dumps(spec), "--out", str(out)])
    return run_stage("baseline_array", baseline.main)


def with_fio(monkeypatch, folder: Path, script: str | None = None) -> Path:
    calls = write_fio(folder, script)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return calls


def test_fio_and_our_reader(tmp_path, monkeypatch, spec, capfd):
    calls = with_fio(monkeypatch, tmp_path / "bin")
    out = tmp_path / "baseline.jsonl"
    assert run(monkeypatch, spec, out) == 0
    records = read_records(out)
    points = [
        (row["pattern"], row["operation"], row["block_bytes"], row["queue_depth"])
        for row in records
        if row["repeat"] == 1
    ]
    assert len(points) == len(set(points)) == (4 + 2) * 2 * 2
    assert len(records) == 2 * len(points)
    assert all(row["gbps"] > 0 and row["iops"] > 0 for row in records)
    assert {row["tool"] for row in records} == {"fio-3.33", "hyperkv files"}
    assert records[0]["spec"] == spec
    assert records[0]["environment"]["disk"]["kind"]
    assert not (tmp_path / "data/baseline").exists()
    assert not list((tmp_path / "data").iterdir())
    listed = calls.read_text().splitlines()
    assert len([line for line in listed if "--runtime" not in line]) == 1
    assert len(listed) == 1 + 2 * 4 * 2 * 2
    printed = capfd.readouterr().out
    assert "sequential read: 1.16 GB/s at " in printed
    assert "values write: " in printed


def test_without_fio_only_our_reader_and_records_say_which_array_they_are_of(
    tmp_path, monkeypatch, spec, capfd
):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(baseline, "require_array", lambda spec: "aa:bb")
    out = tmp_path / "baseline.jsonl"
    assert run(monkeypatch, spec | {"block_bytes": [4096], "queue_depths": [1], "repeats": 1}, out) == 0
    assert "fio is not installed (Debian: fio)" in capfd.readouterr().out
    assert {(record["pattern"], record["md_uuid"]) for record in read_records(out)} == {("values", "aa:bb")}


def test_a_failing_fio_is_one_line_and_what_was_measured_stays(tmp_path, monkeypatch, spec, capfd):
    with_fio(monkeypatch, tmp_path / "bin", "echo 'fio: disk full' >&2; exit 1")
    out = tmp_path / "baseline.jsonl"
    assert run(monkeypatch, spec, out) == 2
    [line] = {line for line in capfd.readouterr().out.splitlines() if "error" in line}
    assert "--rw=write" in line
    assert line.endswith("failed (status 1): fio: disk full")
    assert not out.exists()
    assert not (tmp_path / "data/baseline").exists()


@pytest.mark.parametrize(("key", "value"), [("file_bytes", 1 << 60), ("reader_bytes", 1 << 60)])
def test_no_room(tmp_path, monkeypatch, spec, capfd, key, value):
    assert run(monkeypatch, spec | {key: value}, tmp_path / "out.jsonl") == 2
    assert "GB are free; free some, or choose a folder on a larger disk" in capfd.readouterr().out


def test_a_folder_without_direct_io(tmp_path, monkeypatch, spec, capfd):
    monkeypatch.setattr(baseline, "supports_direct_io", lambda folder: False)
    assert run(monkeypatch, spec, tmp_path / "out.jsonl") == 2
    assert "has no O_DIRECT (" in capfd.readouterr().out


def test_the_array_must_be_there(tmp_path, monkeypatch, spec, capfd):
    status = run(
        monkeypatch,
        spec | {"array": settings(name="nowhere", mount=str(tmp_path)).identity()},
        tmp_path / "out.jsonl",
    )
    assert status == NOT_THERE
    assert "hyperkv baseline_array: error: array: " in capfd.readouterr().out
    assert not (tmp_path / "data").exists()


def test_a_baseline_counts_for_what_is_asked_only(tmp_path):
    path = tmp_path / "baseline.jsonl"
    asked = {"data_dir": "data", "repeats": 3}
    assert baseline_of(asked, path) == []
    path.write_text(json.dumps({"spec": asked}) + "\n")
    assert baseline_of(asked, path) == [str(path)]
    for other in ({"data_dir": "other"}, {"array": {"name": "x"}}, {"repeats": 2}):
        assert baseline_of(asked | other, path) == []
    path.write_text("{torn")
    assert baseline_of(asked, path) == []


def test_a_baseline_of_another_array_does_not_count(tmp_path):
    path, record = tmp_path / "baseline.jsonl", tmp_path / "array.json"
    array = {"name": "x", "devices": ["a", "b"]}

    def write(measured: object, there: object) -> list[str]:
        path.write_text(
            json.dumps(
                {"spec": {"data_dir": "data", "array": array}, **({"md_uuid": measured} if measured else {})}
            )
            + "\n"
        )
        record.write_text(json.dumps({"md_uuid": there} if there else {}))
        return baseline_of({"data_dir": "data", "array": array}, path, record)

    assert write("aa:bb", "aa:bb") == [str(path)]
    assert write("aa:bb", "cc:dd") == []
    assert write(None, "aa:bb") == []
    assert write("aa:bb", None) == write(None, None) == []
    record.unlink()
    assert baseline_of({"data_dir": "data", "array": array}, path, record) == []
