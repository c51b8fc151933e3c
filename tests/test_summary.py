"""The text at the end of a run."""

import sys

import pandas as pd
import pytest

from workflow.hyperkv import summary, tables

from .record_factory import measured, varied


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A measured record of scenario none."""
    return measured(tmp_path_factory.mktemp("none"), "none")


def text_of(records: list[dict], folder, monkeypatch) -> str:
    """The summary that the stage writes of records' tables."""
    tables.scenarios_table(tables.cells_table(records)).to_csv(folder / "scenarios.csv", index=False)
    tables.sweep_time_table(records).to_csv(folder / "sweep_time.csv", index=False)
    monkeypatch.setattr(
        sys, "argv", ["summary", "--tables", str(folder), "--out", str(folder / "summary.txt")]
    )
    summary.main()
    return (folder / "summary.txt").read_text()


def line_of(text: str, scenario: str) -> list[str]:
    """Cells of a scenario's line of the table."""
    return next(line.split() for line in text.splitlines() if line.startswith(scenario))


def test_values_are_rounded_medians(real, tmp_path, monkeypatch):
    values = {
        "rps_per_gpu": 1.234,
        "tps_per_user": 56.7,
        "ttft_p50_ms": 8.91,
        "ttft_p95_ms": 10,
        "hit_rate": 0.125,
    }
    text = text_of([varied(real, values)], tmp_path, monkeypatch)
    assert line_of(text, "none") == ["none", "2", "1.23", "57", "8.9", "10.0", "12%", "recompute", "yes"]
    assert "modelled GPU time" in text.splitlines()[0]
    assert "Invalid" not in text


def test_invalid_cells_are_listed_with_their_reasons(real, tmp_path, monkeypatch):
    broken = varied(real, reasons=("3 requests failed",), repeat=2, scenario="files")
    text = text_of([real, varied(real, scenario="files"), broken], tmp_path, monkeypatch)
    assert "\n  files load 2: 3 requests failed\n" in text
    assert line_of(text, "files")[-2:] == ["NO", "(1/2)"]
    assert line_of(text, "none")[-1] == "yes"
    assert "  none load" not in text


def test_what_is_not_known_is_a_dash(real, tmp_path, monkeypatch):
    names = ("rps_per_gpu", "tps_per_user", "ttft_p50_ms", "ttft_p95_ms", "hit_rate")
    text = text_of([varied(real, dict.fromkeys(names))], tmp_path, monkeypatch)
    assert line_of(text, "none") == ["none", "2", *["-"] * 5, "recompute", "yes"]
    assert "nan" not in text.lower()


def test_the_sweeps_time_is_said(real):
    scenarios = tables.scenarios_table(tables.cells_table([real]))
    time = pd.DataFrame(
        [{"cells": 6, "jobs_s": 30.0, "jobs_over_cells": 1.25, "cells_s": 24.0, "server_starts_s": 2.0}]
    )
    text = summary.summary_text(scenarios, time)
    assert "6 cells in 30 s of jobs, 1.25 x" in text
    assert "(24 s, of it 2 s server starts)" in text
