"""The answer and main numbers of a run for programs and the terminal: what stands there is what the tables say, and it is short."""

import json
from pathlib import Path

import jsonschema
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import command
from tests.kept import LAPTOP, kept
from tests.report.pages import few_cells, spoiled
from tests.tables.pays_rows import pair, table_of
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.records.repeats import at_common_load
from workflow.hyperkv.report import make_summary, summary
from workflow.hyperkv.report.make_summary import summary_of, terminal_text
from workflow.hyperkv.report.sources import sweep_rows
from workflow.hyperkv.tables.methods.pays_text import answer, caveat
from workflow.hyperkv.tables.ratios import ratios_table
from workflow.hyperkv.tables.scenarios import scenarios_table

PAIRS = [
    pair(model, gpu, tokens, prefill_s=seconds)
    for model, seconds in (("small", 0.05), ("large", 2.0))
    for gpu in ("NVIDIA H100 80GB HBM3", "NVIDIA L4 24GB (derived)")
    for tokens in (8192, 32768)
]
CHOSEN = {"scenario": "dram", "load": 4, "value": 11.5, "value_low": None, "value_high": None}
RECOMMENDATION = {
    "answer": "Keep KV in DRAM.",
    "chosen": CHOSEN,
    "objective": {"metric": "rps_per_gpu", "unit": "requests/s"},
    "engine": "replay",
    "model": "llama",
    "gpu": "NVIDIA H100",
}
EMPTY = table_of(PAIRS).head(0)
KVROCKS = "kvrocks: not built here, so without kvrocks_resp. Build it: snakemake build_kvrocks"


def found(cells: pd.DataFrame | None = None, pays: pd.DataFrame | None = None, **told) -> dict:
    """The tables and documents of a run: the kept one's six scenarios, by default with two models on two GPUs."""
    cells = few_cells() if cells is None else cells
    return {
        "cells": cells,
        "scenarios": scenarios_table(cells),
        "ratios": ratios_table(cells, "dram"),
        "pays": table_of(PAIRS) if pays is None else pays,
        "environment": kept(LAPTOP).environments,
        "recommendation": RECOMMENDATION | told,
    }


@pytest.fixture(scope="module")
def tables() -> dict:
    return found()


@pytest.fixture(scope="module")
def told(tables) -> summary.Summary:
    return summary_of(tables, [])


def test_the_schema_is_what_the_model_says_and_takes_a_summary(tables):
    rules = json.loads(Path("workflow/schemas/summary.schema.json").read_text())
    assert Path("workflow/schemas/summary.schema.json").read_text() == summary.text(), "run make docs"
    jsonschema.Draft202012Validator.check_schema(rules)
    document = summary_of(tables, []).model_dump(mode="json")
    jsonschema.validate(document, rules)
    document["sweep"][0]["valid"] = "no"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, rules)


def test_the_answer_and_the_counts_are_those_of_pays(tables, told):
    pays = tables["pays"]
    assert (told.answer, told.caveat) == (" ".join(answer(pays)), caveat(pays))
    assert [(each.tier, each.prompt_tokens) for each in told.pays] == [
        (tier, tokens) for tokens in (8192, 32768) for tier in ("dram", "ram_over_resp", "ssd")
    ]
    for each in told.pays:
        assert each.pays + each.undecided + each.loses + each.too_many_gpus == 4
    assert [each.pays for each in told.pays if each.prompt_tokens == 8192] == [2, 2, 2]


def test_the_sweep_stands_at_the_highest_load_that_all_have(tables, told):
    scenarios = tables["scenarios"]
    assert {each.scenario for each in told.sweep} == set(scenarios["scenario"])
    assert {each.load for each in told.sweep} == {scenarios["load"].max()}
    one = told.sweep[1]
    row = scenarios.set_index(["scenario", "load"]).loc[(one.scenario, one.load)]
    assert (one.rps_per_gpu.value, one.rps_per_gpu.low) == (row["rps_per_gpu"], row["rps_per_gpu_low"])
    assert (one.ttft_p50_ms.value, one.hit_rate.value) == (row["ttft_p50_ms"], row["hit_rate"])
    assert told.sweep[0].store is None
    without = scenarios[(scenarios["scenario"] != "none") | (scenarios["load"] < scenarios["load"].max())]
    without = without[~without["scenario"].str.contains("chunks")]
    lower = without[without["scenario"] == "none"]["load"].max()
    assert set(at_common_load(without)["load"]) == {lower}
    short = sweep_rows(without)
    assert {row[0][0].text for row in short.rows} == set(without["scenario"])
    assert [row[1] for row in short.rows] == [f"{lower:g}"] * len(short.rows)
    apart = pd.DataFrame({"scenario": ["a", "a", "b"], "load": [1, 2, 3]})
    assert list(at_common_load(apart)["load"]) == [2, 3]


def test_ratios_are_of_dram_over_ssd_alone(tables, told):
    ratios = tables["ratios"]
    assert {each.scenario for each in told.ratios} == {"files", "rocksdb_resp"}
    assert {each.baseline for each in told.ratios} == {"dram"}
    assert [(each.at, each.metric) for each in told.ratios][:3] == [
        ("load", "rps_per_gpu"),
        ("load", "ttft_p50_ms"),
        ("tps_per_user", "rps_per_gpu"),
    ]
    one = told.ratios[0]
    row = ratios[(ratios["scenario"] == one.scenario) & (ratios["load"] == one.load)].iloc[0]
    assert one.load == ratios["load"].max()
    assert (one.ratio.value, one.ratio.high) == (row["ratio"], row["ratio_high"])


def test_evidence_environment_and_recommendation(tables, told):
    cells = tables["cells"]
    assert (told.evidence.cells, told.evidence.valid_cells) == (len(cells), cells["valid"].sum())
    assert told.evidence.sent_requests == cells["sent_requests"].sum() > 0
    assert (told.evidence.failed_requests, told.evidence.wrong_chunks) == (0, 0)
    assert summary_of(found(few_cells().assign(corrupt_chunks=None)), []).evidence.wrong_chunks is None
    assert told.environments[0].machine
    assert told.environments[0].versions["numpy"]
    assert told.environments[0].commit
    assert told.recommendation.scenario == "dram"
    assert (told.recommendation.value.value, told.recommendation.value.low) == (11.5, None)
    nothing = summary_of(found(chosen=None), []).recommendation
    assert (nothing.scenario, nothing.load, nothing.value.value) == (None, None, None)


def test_invalid_cells_and_what_is_left_out_are_notes():
    told = summary_of(found(spoiled(few_cells(), "files", "too few device reads")), [KVROCKS])
    invalid, *others = told.notes
    count = (few_cells()["scenario"] == "files").sum()
    assert invalid.startswith(f"{count} of {len(few_cells())} cells are invalid and drawn hollow: files at")
    assert invalid.endswith(f"and {count - 2} more.")
    assert others == [KVROCKS]
    assert not next(each for each in told.sweep if each.scenario == "files").valid
    text = " ".join(terminal_text(told, table_of(PAIRS)).split())
    assert invalid in text
    assert KVROCKS in text


def test_without_a_model_to_compare_the_sweep_answers():
    told = summary_of(found(pays=EMPTY), [])
    assert "the DRAM pool (dram) serves" in told.answer
    assert told.caveat == ""
    assert told.answer in " ".join(terminal_text(told, EMPTY).split())


def test_the_terminal_has_answer_grid_and_five_paths(tables, told):
    text = terminal_text(told, tables["pays"])
    assert " ".join(text.split()).startswith(f"{told.answer} {told.caveat}")
    assert "\nlarge  " in text
    assert "\nsmall  " in text
    assert text.count("results/") == 5
    assert "What to run:   results/recommended/README.txt (dram)\n" in text
    assert "pays.txt" not in text
    nothing = terminal_text(summary_of(found(chosen=None), []), tables["pays"])
    assert "(nothing can be recommended)" in nothing


WORDS = st.text("abcdefgh ", min_size=1, max_size=30).map(str.strip).filter(bool)


@settings(max_examples=20, deadline=None)
@given(
    models=st.lists(WORDS, min_size=1, max_size=14, unique=True),
    gpus=st.lists(WORDS, min_size=1, max_size=10, unique=True),
    notes=st.lists(st.text("kv rocks", max_size=900), max_size=6),
)
def test_it_is_at_most_40_lines_of_120_characters(told, models, gpus, notes):
    pays = table_of([pair(model, f"NVIDIA {gpu} (derived)") for model in models for gpu in gpus])
    lines = terminal_text(told.model_copy(update={"notes": notes}), pays).splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 120
    assert lines[-5].startswith("Read first:")
    assert len(models) <= 11 or "results/tables/pays.txt has every model and GPU." in lines


def test_the_stage_writes_both_and_names_a_table_that_is_missing(tables, tmp_path):
    for name, table in tables.items():
        path = tmp_path / name
        if isinstance(table, pd.DataFrame):
            table.to_csv(path.with_suffix(".csv"), index=False)
        else:
            path.with_suffix(".json").write_text(json.dumps(table))
    files = [tmp_path / f"{name}.csv" for name in ("cells", "scenarios", "ratios", "pays")]
    out = ["--out", tmp_path / "summary.json", "--text", tmp_path / "answer.txt"]
    rest = ["--recommendation", tmp_path / "recommendation.json", "--notes", json.dumps([KVROCKS]), *out]
    command(make_summary, "--tables", *files, tmp_path / "environment.json", *rest)
    told = summary_of(tables, [KVROCKS])
    written = summary.Summary.model_validate_json((tmp_path / "summary.json").read_text())
    assert written.sweep == told.sweep
    assert written.notes == told.notes
    assert (tmp_path / "answer.txt").read_text() == terminal_text(told, tables["pays"])
    with pytest.raises(UserError, match=r"environment is not among the files; give its path with --tables"):
        command(make_summary, "--tables", *files, *rest)
