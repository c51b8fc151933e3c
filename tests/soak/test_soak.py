"""The soak's own invariants: each holds on what is right, and each finds the defect that is planted for it."""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests import record_factory
from tests.soak import invariants
from tests.soak.faults import DAMAGES, damage
from tests.soak.invariants import Asked
from tests.soak.machine import kill_all, processes_of
from tests.soak.report import Finding, Report, Round
from tests.soak.stores import Session, State, Subject
from tests.soak.values import Values
from tests.soak.workflow import CONFIG, asked_of, remedies
from workflow.hyperkv.stores.files import FilesStore
from workflow.hyperkv.tables import layers as layers_table
from workflow.hyperkv.tables.cells import cells_table
from workflow.hyperkv.tables.ratios import ratios_table
from workflow.hyperkv.tables.requests import requests_table
from workflow.hyperkv.tables.scenarios import scenarios_table
from workflow.hyperkv.tables.stores import stores_table
from workflow.hyperkv.tables.sweep_time import sweep_time_table

SIZE = 5000
_RECOUNTED = ("cells.csv", "cells.parquet", "requests.parquet", "scenarios.csv", "stores.csv", "layers.csv")

# Values


def judged(change: Callable[[np.ndarray, Values], np.ndarray]) -> str | None:
    """What is said of key 3's generation 7, changed, when generations 5 to 8 may be read."""
    values = Values(1, SIZE)
    return values.judge(3, change(values.value(3, 7), values), 5, 8)[1]


def flipped(value: np.ndarray, place: int) -> np.ndarray:
    copy = value.copy()
    copy[place] ^= 1
    return copy


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda value, values: flipped(value, SIZE - 1), "torn"),
        (lambda value, values: flipped(value, 33), "torn"),
        (lambda value, values: flipped(value, 25), "torn"),
        (lambda value, values: np.concatenate([value[:4096], values.value(3, 6)[4096:]]), "torn"),
        (lambda value, values: np.concatenate([value[:4096], values.value(4, 7)[4096:]]), "torn"),
        (lambda value, values: np.concatenate([value[:4096], np.zeros(SIZE - 4096, np.uint8)]), "torn"),
        (lambda value, values: values.value(4, 7), "the value of key 4"),
        (lambda value, values: Values(2, SIZE).value(3, 7), "foreign"),
        (lambda value, values: np.zeros(SIZE, np.uint8), "foreign"),
        (lambda value, values: values.value(3, 4), "older than 5"),
        (lambda value, values: values.value(3, 9), "only 8 were written"),
    ],
)
def test_a_wrong_value_is_noticed(change, reason):
    assert reason in judged(change)


def test_a_right_value_is_right():
    assert judged(lambda value, values: value) is None
    assert judged(lambda value, values: values.value(3, 5)) is None


# What is promised of a key


def acknowledged(state: State, key: int) -> None:
    state.begin(key)
    state.done(key)


def test_what_was_acknowledged_is_promised():
    state = State(2)
    acknowledged(state, 0)
    acknowledged(state, 0)
    assert state.floor.tolist() == [2, 0]
    assert state.must_be_there().tolist() == [True, False]
    state.server_ended(kept=True, volatile=False)
    assert state.floor.tolist() == [2, 0]


def test_a_set_that_was_cut_off_may_be_done_until_the_server_ends():
    state = State(1)
    acknowledged(state, 0)
    state.begin(0)
    state.writer_ended()
    acknowledged(state, 0)
    assert state.floor.tolist() == [1]
    assert not state.must_be_there().any()
    state.server_ended(kept=True, volatile=False)
    acknowledged(state, 0)
    assert state.floor.tolist() == [4]


def test_without_a_log_nothing_is_promised_and_from_ram_nothing_comes_back():
    state = State(1)
    acknowledged(state, 0)
    state.server_ended(kept=False, volatile=False)
    assert state.floor.tolist() == [0]
    acknowledged(state, 0)
    state.server_ended(kept=False, volatile=True)
    assert state.floor.tolist() == [3]


FILES = Subject("files", "alone")


def soaked(folder: Path, subject: Subject = FILES, faults: int = 2) -> Session:
    session = Session(subject, 1, random.Random(1), folder / "session", None)
    session._small = False
    session.run(faults, float("inf"))
    return session


def test_a_session_without_a_defect_finds_nothing(tmp_path):
    session = soaked(tmp_path)
    assert not session.findings
    assert session.counts["values"] > 0
    assert session.counts["wrong"] == 0


def test_direct_is_soaked_where_it_reads_files(tmp_path):
    session = soaked(tmp_path, Subject("rocksdb", "direct", wal=True), faults=4)
    assert not session.findings
    assert session.counts["file stripes"] > 0


def a_flipped_bit(monkeypatch) -> None:
    get = FilesStore.get_into

    def wrong(self, key, buffer):
        hit = get(self, key, buffer)
        buffer[-1] ^= 1
        return hit

    monkeypatch.setattr(FilesStore, "get_into", wrong)


def a_set_that_does_nothing(monkeypatch) -> None:
    monkeypatch.setattr(FilesStore, "put", lambda self, key, value: None)


def a_set_that_keeps_the_first_value(monkeypatch) -> None:
    put = FilesStore.put
    monkeypatch.setattr(
        FilesStore, "put", lambda self, key, value: None if self.exists([key])[0] else put(self, key, value)
    )


def an_error_of_two_lines(monkeypatch) -> None:
    def fail(self, key, value):
        raise ValueError("two\nlines")

    monkeypatch.setattr(FilesStore, "put", fail)


@pytest.mark.parametrize(
    ("plant", "invariant"),
    [
        (a_flipped_bit, "bytes"),
        (a_set_that_does_nothing, "promise"),
        (a_set_that_keeps_the_first_value, "promise"),
        (an_error_of_two_lines, "error_lines"),
    ],
)
def test_a_session_finds_a_store_with_a_defect(plant, invariant, tmp_path, monkeypatch):
    plant(monkeypatch)
    assert invariant in {finding.invariant for finding in soaked(tmp_path).findings}


# A finished checkout


ASKED = Asked(
    {"dram": {"chunk_tokens": 32}, "files": {"chunk_tokens": 32}},
    [1, 2],
    2,
    {"workload": {"conversations": 4}},
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A checkout's results: records of two scenarios, two loads and two repeats, and their tables. Not to be changed."""
    folder = tmp_path_factory.mktemp("soak") / "checkout"
    results = folder / "results"
    records = []
    cell = tmp_path_factory.mktemp("cell")
    for scenario in ASKED.scenarios:
        real = record_factory.measured(cell, scenario)
        for repeat in (1, 2):
            path = results / "sweep" / scenario / f"{repeat}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            own = [
                record_factory.varied(real, {"rps_per_gpu": 10.0 * repeat + load}, load=load, repeat=repeat)
                for load in (1, 2)
            ]
            path.write_text("".join(json.dumps(record) + "\n" for record in own))
            records += own
    points = [record_factory.point("dram", repeat=repeat) for repeat in (1, 2, 3)]
    for name, lines in {"dram": points, "layers/dram": record_factory.rungs()}.items():
        (results / "profile" / name).parent.mkdir(parents=True, exist_ok=True)
        (results / "profile" / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = results / "tables"
    out.mkdir()
    cells = cells_table(records)
    cells.to_csv(out / "cells.csv", index=False)
    cells.to_parquet(out / "cells.parquet", index=False)
    requests_table(records).to_parquet(out / "requests.parquet", index=False)
    scenarios_table(cells).to_csv(out / "scenarios.csv", index=False)
    ratios_table(cells, "dram").to_csv(out / "ratios.csv", index=False)
    sweep_time_table(records).to_csv(out / "sweep_time.csv", index=False)
    stores_table(points).to_csv(out / "stores.csv", index=False)
    layers_table.layers_table(record_factory.rungs()).to_csv(out / "layers.csv", index=False)
    (out / "summary.txt").write_text("all of it\n")
    (results / "figures").mkdir()
    for number in range(6):
        (results / "figures" / f"{number}.svg").write_text("<svg></svg>\n")
        (results / "figures" / f"{number}.png").write_bytes(b"\x89PNG....IEND\xae\x42\x60\x82")
    (results / "report").mkdir()
    (results / "report" / "index.html").write_text("<html></html>\n")
    (folder / ".snakemake" / "metadata").mkdir(parents=True)
    return folder


@pytest.fixture
def checkout(finished, tmp_path) -> Path:
    shutil.copytree(finished, tmp_path / "checkout")
    return tmp_path / "checkout"


def found_in(folder: Path) -> set[str]:
    """The invariants that do not hold."""
    return {finding.invariant for finding in invariants.of_checkout(folder, ASKED)}


def test_a_checkout_without_a_defect_has_none(checkout):
    assert found_in(checkout) == set()


Plant = Callable[[Path], object]


def record(*section: str, name: str = "sweep/files/2.jsonl", **changes: object) -> Plant:
    """Changes in a section of a file's first record."""

    def plant(folder: Path) -> None:
        first, *others = (path := folder / "results" / name).read_text().splitlines()
        part = whole = json.loads(first)
        for key in section:
            part = part[key]
        part.update(changes)
        path.write_text("\n".join([json.dumps(whole), *others]) + "\n")

    return plant


def table(name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Plant:
    def plant(folder: Path) -> None:
        path = folder / "results/tables" / name
        if path.suffix == ".parquet":
            change(pd.read_parquet(path)).to_parquet(path, index=False)
        else:
            change(pd.read_csv(path, keep_default_na=False, na_values=[""])).to_csv(path, index=False)

    return plant


def lines(name: str, change: Callable[[list[str]], list[str]]) -> Plant:
    def plant(folder: Path) -> None:
        found = (folder / name).read_text().splitlines(keepends=True)
        (folder / name).write_text("".join(change(found)))

    return plant


def written(name: str, text: str = "x") -> Plant:
    def plant(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)

    return plant


DRAM = "results/sweep/dram/1.jsonl"
PLANTED: dict[str, list[Plant]] = {
    "cells": [
        lambda folder: (folder / DRAM).unlink(),
        lines(DRAM, lambda found: found[:1]),
        lines(DRAM, lambda found: [*found, found[0]]),
        record(load=3),
        record("spec", loads=[1]),
        record("spec", "workload", conversations=5),
        record("spec", "scenario", chunk_tokens=16),
    ],
    "bytes": [record("evidence", corrupt_chunks=1), record("evidence", failed_requests=1)],
    "tables": [
        record("values", hit_rate=0.5),
        record("evidence", hit_tokens=7),
        record("requests", turn=[1] * 99),
        record(name="profile/dram.jsonl", gbps=9.0),
        record(name="profile/layers/dram.jsonl", s_per_gb=9.0),
        written("results/tables/cells.csv", ""),
        written("results/tables/cells.parquet", "PAR1"),
        *[table(name, lambda rows: rows.iloc[1:]) for name in _RECOUNTED],
        *[table(name, lambda rows: pd.concat([rows, rows])) for name in _RECOUNTED],
        table("sweep_time.csv", lambda rows: rows.assign(cells=9)),
        table("scenarios.csv", lambda rows: rows.assign(hit_rate=0.1)),
        table("ratios.csv", lambda rows: rows.assign(ratio=1.5)),
        table("requests.parquet", lambda rows: rows.assign(computed_tokens=1)),
    ],
    "figures": [
        written("results/figures/1.svg", "<svg>"),
        lambda folder: (folder / "results/report/index.html").unlink(),
        lambda folder: shutil.rmtree(folder / "results/figures"),
        written("results/tables/summary.txt", ""),
    ],
    "left": [
        written(".snakemake/locks/0.input.lock"),
        written(".snakemake/incomplete/x"),
        written("results/sweep/dram/1.jsonl.lock"),
        written("results/sweep/dram/2.jsonl.partial"),
        written("results/tables/cells.csv.tmp"),
        written("results/data/dram-1/files/00/x"),
    ],
    "error_lines": [
        written("results/logs/sweep/dram-1.log", "Traceback (most recent call last):\n  x\nE: y\n"),
        written(".snakemake/log/a.snakemake.log", "Exception ignored in: <x>\n"),
    ],
}
CASES = [(invariant, plant) for invariant, plants in PLANTED.items() for plant in plants]


@pytest.mark.parametrize(("invariant", "plant"), CASES)
def test_a_planted_defect_is_found(invariant, plant, checkout):
    plant(checkout)
    assert invariant in found_in(checkout)


def test_what_was_measured_must_be_kept(finished):
    before = invariants.measured(finished / "results", ASKED)
    assert len(before) == 8
    assert invariants.kept(before, before) == []
    cell = ("files", 2, 1)
    lost = {key: record for key, record in before.items() if key != cell}
    again = before | {cell: before[cell] | {"measured_in_job": 2000.0}}
    other = before | {cell: before[cell] | {"values": {}}}
    texts = [invariants.kept(before, after)[0].text for after in (lost, again, other)]
    for text, word in zip(texts, ("lost", "measured again", "another one"), strict=True):
        assert word in text


def test_damage_must_be_noticed(tmp_path):
    healed, still, gone = (tmp_path / name for name in ("healed", "still", "gone"))
    healed.write_text("whole")
    still.write_text("damaged")
    found = invariants.noticed(
        {healed: b"damaged", still: b"damaged", gone: None, tmp_path / "back": b"damaged"}
    )
    assert [finding.text.split()[3].rpartition("/")[2] for finding in found] == ["still", "gone"]


def test_cells_of_a_partial_file_are_measured(finished, tmp_path):
    line = (finished / "results/sweep/dram/1.jsonl").read_text().splitlines()[0]
    partial = tmp_path / "sweep/dram/1.jsonl.partial"
    partial.parent.mkdir(parents=True)
    partial.write_text(json.dumps({"digest": "d", "key": "1", "record": json.loads(line)}) + '\n{"torn')
    assert set(invariants.measured(tmp_path, ASKED)) == {("dram", 1, 1)}


@pytest.mark.parametrize(
    ("output", "status", "killed", "fine"),
    [
        ("hyperkv sweep: error: no space; free some\n", 1, False, True),
        ("config: experiment.laods is no key\n", 1, False, True),
        ("LockException:\nError: Directory cannot be locked.\n", 1, False, True),
        ("it went on\n", 0, False, True),
        ("", -9, True, True),
        ("it went on\n", 1, False, False),
        (
            "hyperkv sweep: error: x\nTraceback (most recent call last):\n  a\nValueError: b\n",
            1,
            False,
            False,
        ),
        ("Exception ignored in: <x>\n", 0, False, False),
    ],
)
def test_a_failed_run_says_why_on_a_line(output, status, killed, fine):
    assert (invariants.errors_are_lines(output, status, killed) == []) == fine


def test_a_message_that_asks_to_delete_a_file_is_followed_to_the_letter(tmp_path):
    for name in ("results/sweep/a/1.jsonl", "results/build/x.json"):
        written(name)(tmp_path)
    first, second = tmp_path / "results/sweep/a/1.jsonl", tmp_path / "results/build/x.json"
    assert remedies(
        "results/sweep/a/1.jsonl:3: not JSON (x); delete the file to measure it again", tmp_path
    ) == [first]
    assert remedies("it is damaged: delete results/build/x.json, then run again", tmp_path) == [second]
    assert remedies("delete /etc/results/passwd; delete results/../../results/x", tmp_path) == []
    assert remedies("results/sweep/a/1.jsonl is fine", tmp_path) == []


def test_a_process_that_is_left_is_found_by_its_mark_and_by_its_folder(tmp_path):
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    folder = tmp_path / "own"
    folder.mkdir()
    marked = subprocess.Popen(sleeper, env={**os.environ, "SOAK_TEST": str(tmp_path)})
    inside = subprocess.Popen(sleeper, cwd=folder)
    other = subprocess.Popen(sleeper)
    try:
        found = processes_of(f"SOAK_TEST={tmp_path}", [folder])
        assert {process.pid for process in found} == {marked.pid, inside.pid}
        kill_all(found)
        assert processes_of(f"SOAK_TEST={tmp_path}", [folder]) == []
    finally:
        for process in (marked, inside, other):
            process.kill()
            process.wait()


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damage_changes_the_file(kind, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"one\ntwo\nthree\n")
    damage(path, kind, random.Random(1))
    assert not path.exists() or path.read_bytes() != b"one\ntwo\nthree\n"


def test_the_configuration_asks_for_its_cells():
    asked = asked_of(CONFIG)
    assert len(asked.cells) == 5 * 2 * 2
    assert asked.scenarios["none"] == {}


def test_the_summary_names_every_finding_with_its_round(capsys):
    report = Report(7)
    report.count("files", {"kills": 3, "wrong": 0})
    report.add(Round("stores", 4, "files by alone", [Finding("bytes", "key 1: torn")]))
    report.add(Round("workflow", 5, "full disk"))
    assert "round 4 · files by alone · seed 7 · 1 FINDINGS" in capsys.readouterr().out
    text = "\n".join(report.summary())
    assert "2 rounds, 1 findings" in text
    assert "bytes: key 1: torn  [files by alone; python -m tests.soak stores --seed 7 --round 4]" in text
    assert report.total("kills") == 3
