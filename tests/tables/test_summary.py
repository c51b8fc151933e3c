"""The text at the end of a run."""

import json

import pandas as pd
import pytest

from tests.helpers import command
from tests.record_factory import point, varied
from workflow.hyperkv.tables import summary
from workflow.hyperkv.tables.cells import cells_table
from workflow.hyperkv.tables.scenarios import scenarios_table
from workflow.hyperkv.tables.stores import stores_table
from workflow.hyperkv.tables.sweep_time import sweep_time_table


@pytest.fixture
def none(real):
    """A measured record of scenario none."""
    return real["none"]


def text_of(records: list[dict], folder, points=(), notes=(), layers="") -> str:
    """The summary that the stage writes of records' tables."""
    scenarios_table(cells_table(records)).to_csv(folder / "scenarios.csv", index=False)
    sweep_time_table(records).to_csv(folder / "sweep_time.csv", index=False)
    stores_table(points).to_csv(folder / "stores.csv", index=False)
    (folder / "layers.txt").write_text(layers)
    files = {"scenarios": "scenarios.csv", "sweep-time": "sweep_time.csv", "stores": "stores.csv"}
    files |= {"layers-text": "layers.txt", "out": "summary.txt"}
    options = [word for name, file in files.items() for word in (f"--{name}", folder / file)]
    command(summary, *options, "--notes", json.dumps(notes))
    return (folder / "summary.txt").read_text()


def line_of(text: str, scenario: str) -> list[str]:
    """Cells of a scenario's line of the table."""
    return next(line.split() for line in text.splitlines() if line.startswith(scenario))


def test_values_are_rounded_medians(none, tmp_path):
    values = {"rps_per_gpu": 1.234, "tps_per_user": 56.7, "ttft_p50_ms": 8.91, "ttft_p95_ms": 10}
    values["hit_rate"] = 0.125
    text = text_of([varied(none, values)], tmp_path)
    assert line_of(text, "none") == ["none", "2", "1.23", "57", "8.9", "10.0", "12%", "recompute", "yes"]
    assert "modelled GPU time" in text.splitlines()[0]
    assert "Invalid" not in text


def test_invalid_cells_are_listed_with_their_reasons(none, tmp_path):
    broken = varied(none, reasons=("3 requests failed",), repeat=2, scenario="files")
    text = text_of([none, varied(none, scenario="files"), broken], tmp_path)
    assert "\n  files load 2: 3 requests failed\n" in text
    assert line_of(text, "files")[-2:] == ["NO", "(1/2)"]
    assert line_of(text, "none")[-1] == "yes"
    assert "  none load" not in text


def test_what_is_not_known_is_a_dash(none, tmp_path):
    names = ("rps_per_gpu", "tps_per_user", "ttft_p50_ms", "ttft_p95_ms", "hit_rate")
    text = text_of([varied(none, dict.fromkeys(names))], tmp_path)
    assert line_of(text, "none") == ["none", "2", *["-"] * 5, "recompute", "yes"]
    assert "nan" not in text.lower()


def test_what_is_more_than_nothing_does_not_read_as_zero(none, tmp_path):
    values = {"rps_per_gpu": 0.004, "tps_per_user": 0.3, "ttft_p50_ms": 1e-9, "ttft_p95_ms": 0.0}
    text = text_of([varied(none, values)], tmp_path)
    assert line_of(text, "none")[2:6] == ["<0.01", "<1", "<0.1", "0.0"]
    text = text_of([varied(none, {"rps_per_gpu": 0.0051})], tmp_path)
    assert line_of(text, "none")[2] == "0.01"


def test_the_sweeps_time_is_said(none):
    scenarios = scenarios_table(cells_table([none]))
    time = pd.DataFrame(
        [{"cells": 6, "jobs_s": 30.0, "jobs_over_cells": 1.25, "cells_s": 24.0, "server_starts_s": 2.0}]
    )
    text = summary.summary_text(scenarios, time)
    assert "6 cells in 30 s of jobs, 1.25 x" in text
    assert "(24 s, of it 2 s server starts)" in text


OPERATIONS = ("set", "get_warm", "get_cold")


def store_lines(text: str) -> list[list[str]]:
    """Cells of the rows of the table of stores."""
    below = text.partition("Each store alone")[2].splitlines()
    return [line.split() for line in below if line.split()[:1] in (["files"], ["dram"])]


def test_each_store_alone_is_shown_at_the_most_connections(none, tmp_path):
    points = [
        point("files", operation, size, connections=connections, gbps=connections + index / 10)
        for index, operation in enumerate(OPERATIONS)
        for size in (1 << 18, 1 << 20, 16 << 20, 32 << 20)
        for connections in (1, 8)
    ]
    points += [
        point("dram", operation, size, connections=8)
        for operation in OPERATIONS[:2]
        for size in (1 << 20, 16 << 20)
    ]
    points[-1]["store_cpu_s"] = None
    text = text_of([none], tmp_path, points)
    assert store_lines(text) == [
        ["files", "1", "8.00", "8.10", "8.20", "0.50", "2.00"],
        ["files", "16", "8.00", "8.10", "8.20", "0.50", "2.00"],
        ["dram", "1", "1.00", "1.00", "-", "0.50", "-"],
        ["dram", "16", "1.00", "1.00", "-", "-", "-"],
    ]
    assert "no engine, 8 connections." in text
    assert "could not be dropped" not in text
    assert text.index("Sweep:") < text.index("Each store alone")


def test_the_nearest_sizes_are_taken_each_once(none, tmp_path):
    points = [
        point("dram", operation, size) for operation in OPERATIONS[:2] for size in (3 << 18, 8 << 20, 4 << 20)
    ]
    text = text_of([none], tmp_path, points)
    assert [line[1] for line in store_lines(text)] == ["0.75", "8"]
    points = [point("dram", operation, 2 << 20) for operation in OPERATIONS[:2]]
    assert [line[1] for line in store_lines(text_of([none], tmp_path, points))] == ["2"]


def test_a_get_that_was_not_cold_is_marked(none, tmp_path):
    points = [point("files", operation, cold=False) for operation in OPERATIONS]
    text = text_of([none], tmp_path, points)
    assert store_lines(text)[0][4] == "1.00*"
    assert "\n* the page cache could not be dropped.\n" in text


def test_without_a_profile_no_store_is_named_and_notes_end_the_text(none, tmp_path):
    text = text_of([none], tmp_path, notes=["kvrocks: not built here", "and more"])
    assert "Each store alone" not in text
    lines = text.splitlines()
    assert lines[-4].endswith("server starts).")
    assert lines[-3].startswith(f"Measured on {none['environment']['node']}: ")
    assert lines[-2:] == ["kvrocks: not built here", "and more"]


def test_what_stores_say_of_themselves_stands_once_with_their_scenarios(none, tmp_path):
    said = ["Kvrocks 2.10.0 (abc)", "ignored by Kvrocks: old-key"]
    records = [varied(none, scenario="a", notes=said), varied(none, scenario="b", notes=said), none]
    points = [point("files", operation, notes=["direct"]) for operation in ("set", "get_warm")]
    lines = text_of(records, tmp_path, points).splitlines()
    assert lines[-2:] == ["a, b: Kvrocks 2.10.0 (abc); ignored by Kvrocks: old-key", "files: direct"]


def test_where_the_time_goes_stands_between_the_stores_and_the_notes(none, tmp_path):
    points = [point("dram", operation) for operation in ("set", "get_warm")]
    text = text_of([none], tmp_path, points, ["a note"], "\nWhere the time goes\n")
    assert text.endswith("\n\nWhere the time goes\na note\n")
    assert text.index("Each store alone") < text.index("Where the time goes")
