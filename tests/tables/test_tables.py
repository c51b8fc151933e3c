"""From records to tables: the dictionary, medians over valid repeats, paired ratios, the sweep's time."""

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.helpers import write_as_a_stage
from tests.record_factory import completed, measured, varied
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.records.frames import read_jsonl
from workflow.hyperkv.tables import tables

SPEC = json.dumps({"figures": {"baseline": None, "chunk_tokens": 32}})


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """One measured record of scenarios none and dram."""
    folder = tmp_path_factory.mktemp("real")
    return {name: measured(folder, name) for name in ("none", "dram")}


def run(folder: Path, monkeypatch, lines: list) -> Path:
    """Run the stage's main on records; the folder of its tables."""
    write_as_a_stage(folder / "cells.jsonl", lines)
    out = folder / "tables"
    arguments = ["--spec", SPEC, "--cells", folder / "cells.jsonl", "--out", out]
    monkeypatch.setattr(sys, "argv", ["tables", *map(str, arguments)])
    tables.main()
    return out


@pytest.fixture
def written(tmp_path, monkeypatch, real):
    """Tables of the two records, twice each."""
    lines = [varied(record, repeat=repeat) for record in real.values() for repeat in (1, 2)]
    return run(tmp_path, monkeypatch, lines)


def dictionary() -> dict:
    return yaml.safe_load(tables.COLUMNS_PATH.read_text())


def load(out: Path, name: str) -> pd.DataFrame:
    return (
        pd.read_parquet(out / f"{name}.parquet") if name == "requests" else pd.read_csv(out / f"{name}.csv")
    )


def test_the_dictionary_has_exactly_the_columns_of_every_table(written):
    names = {path.stem for path in written.iterdir()} - {"columns", "environment"}
    elsewhere = {
        "stores",
        "limits",
        "layers",
        "hit_rates",
        "break_even",
        "placed_stores",
        "cost_repeats",
        "cost",
        "cost_sensitivity",
        "claims",
        "tune",
        "ladder",
    }  # their stages' tests
    assert names == set(dictionary()) - elsewhere
    assert {name: list(load(written, name)) for name in names} == {
        name: list(columns) for name, columns in dictionary().items() if name in names
    }
    assert list(pd.read_parquet(written / "cells.parquet")) == list(dictionary()["cells"])


def test_every_column_has_a_unit_and_a_description():
    entries = [entry for columns in dictionary().values() for entry in columns.values()]
    assert all(set(entry) == {"unit", "description"} and all(entry.values()) for entry in entries)
    assert len(tables.columns_table()) == len(entries)


def test_unknown_is_empty_not_0_and_tier_none_stays_a_word(written):
    cells = pd.read_csv(written / "cells.csv", keep_default_na=False, dtype=str)
    none = cells[cells["scenario"] == "none"].iloc[0]
    assert none["tier"] == "none"
    assert none["served_bytes"] == none["store"] == none["load_gbps"] == ""
    assert none["loaded_bytes"] == "0"


def test_environments_are_named_once(written, real):
    assert json.loads((written / "environment.json").read_text()) == [
        *{
            json.dumps(record["environment"], sort_keys=True): record["environment"]
            for record in real.values()
        }.values()
    ]


def test_requests_have_a_row_each(written, real):
    requests = load(written, "requests")
    sent = sum(record["evidence"]["sent_requests"] for record in real.values())
    assert len(requests) == 2 * sent
    one = requests[(requests["scenario"] == "dram") & (requests["repeat"] == 2)]
    assert one["computed_tokens"].sum() == real["dram"]["evidence"]["computed_tokens"]


def test_a_record_without_gpus_has_one(real):
    record = real["dram"]
    old = {key: value for key, value in record.items() if key != "gpus"}
    cells = tables.cells_table([old, record | {"gpus": 2, "scenario": "two"}])
    assert list(cells["gpus"]) == [1, 2]
    assert list(tables.scenarios_table(cells)["gpus"]) == [1, 2]
    assert list(tables.scenarios_table(cells.drop(columns="gpus"))["gpus"]) == [1, 1]


def rates(record: dict, values: list, **keys) -> list[dict]:
    """Repeats 1, 2, … of a record with those RPS/GPU; None is an invalid repeat of 99."""
    return [
        varied(record, {"rps_per_gpu": value}, repeat=repeat, **keys)
        if value is not None
        else varied(record, {"rps_per_gpu": 99.0}, ("broken disk",), repeat=repeat, **keys)
        for repeat, value in enumerate(values, 1)
    ]


def test_medians_are_over_valid_repeats_only(real):
    table = tables.scenarios_table(tables.cells_table(rates(real["dram"], [1.0, None, 3.0])))
    row = table.iloc[0]
    assert (row["rps_per_gpu"], row["rps_per_gpu_low"], row["rps_per_gpu_high"]) == (2.0, 1.0, 3.0)
    assert (row["repeats"], row["valid_repeats"], row["valid"]) == (3, 2, False)
    assert row["reasons"] == "broken disk"


def test_a_group_without_a_valid_repeat_shows_its_medians_and_is_flagged(real):
    row = tables.scenarios_table(tables.cells_table(rates(real["dram"], [None, None]))).iloc[0]
    assert (row["rps_per_gpu"], row["valid_repeats"], row["valid"]) == (99.0, 0, False)
    assert row["reasons"] == "broken disk"


def test_rows_are_by_scenario_and_load(real):
    records = (
        rates(real["dram"], [1.0, 2.0], load=1)
        + rates(real["dram"], [5.0], load=2)
        + rates(real["none"], [7.0])
    )
    table = tables.scenarios_table(tables.cells_table(records))
    assert [(row["scenario"], row["load"], row["rps_per_gpu"]) for _, row in table.iterrows()] == [
        ("dram", 1, 1.5),
        ("dram", 2, 5.0),
        ("none", 2, 7.0),
    ]
    assert pd.isna(table.iloc[1]["rps_per_gpu_low"])


def ratio(records: list[dict], **where) -> pd.Series:
    """The one row of the ratios, dram over others, with those values."""
    table = tables.ratios_table(tables.cells_table(records), "dram")
    for column, value in where.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_ratios_are_paired_by_repeat(real):
    # ratios of repeats: 2, 10, 4; the ratio of the medians would be 10 / 2 = 5
    records = rates(real["dram"], [2.0, 10.0, 40.0]) + rates(real["none"], [1.0, 1.0, 10.0])
    row = ratio(records, metric="rps_per_gpu", at="load")
    assert (row["ratio"], row["ratio_low"], row["ratio_high"], row["repeats"]) == (4.0, 2.0, 10.0, 3)
    assert (row["baseline"], row["scenario"], row["load"]) == ("dram", "none", 2)


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"kv_dtype": "fp8"}, "kv_dtype"),
        ({"vllm": "0.25.0"}, "versions"),
        ({"save_decode_cache": False}, None),
    ],
)
def test_scenarios_that_ran_unlike_have_no_ratio_and_the_facts_are_named(real, changes, facts):
    other = varied(real["none"], {"rps_per_gpu": 1.0})
    other["effective"] |= changes
    row = ratio([varied(real["dram"], {"rps_per_gpu": 2.0}), other], metric="rps_per_gpu", at="load")
    assert pd.isna(row["ratio"]) is (facts is not None)
    assert row["unlike"] == facts


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"spec_digest": "other"}, "spec_digest"),
        ({"gpus": 2}, "gpus"),
        ({"effective": {"save_decode_cache": False}}, "save_decode_cache"),
        ({"effective": {"kv_dtype": "fp8"}}, "kv_dtype"),
    ],
)
def test_cells_of_one_scenario_that_ran_unlike_are_no_repeats(tmp_path, monkeypatch, real, changes, word):
    other = varied(real["dram"], repeat=2)
    other["effective"] |= changes.pop("effective", {})
    with pytest.raises(UserError, match=f"scenario dram: its cells differ in {word}"):
        run(tmp_path, monkeypatch, [real["none"], real["dram"], other | changes])


def test_a_pair_with_an_invalid_half_is_left_out(real):
    records = rates(real["dram"], [2.0, None, 9.0]) + rates(real["none"], [1.0, 1.0, None])
    row = ratio(records, metric="rps_per_gpu", at="load")
    assert (row["ratio"], row["repeats"]) == (2.0, 1)


def test_ratio_at_equal_tps_per_user(real):
    def curve(name: str, points: list) -> list[dict]:
        return [
            varied(real[name], {"tps_per_user": x, "rps_per_gpu": y}, load=load)
            for load, (x, y) in enumerate(points)
        ]

    dram = curve("dram", [(40.0, 3.0), (20.0, 5.0)])
    records = dram + curve("none", [(60.0, 0.0), (20.0, 4.0)])
    assert ratio(records, at="tps_per_user")["ratio"] == pytest.approx(4 / 3)
    gap = dram + curve("none", [(60.0, 0.0), (None, 1.0), (20.0, 4.0)])
    assert ratio(gap, at="tps_per_user")["ratio"] == pytest.approx(4 / 3)
    row = ratio(dram + curve("none", [(60.0, 0.0), (None, 4.0)]), at="tps_per_user")
    assert pd.isna(row["ratio"])
    assert row["repeats"] == 0


def test_nothing_finished_gives_no_ratio(real):
    records = rates(real["dram"], [2.0]) + rates(real["none"], [0.0])
    assert pd.isna(ratio(records, metric="rps_per_gpu", at="load")["ratio"])
    two = [
        varied(record, {"rps_per_gpu": 0.0, "tps_per_user": load}, load=load)
        for record in real.values()
        for load in (1, 2)
    ]
    assert pd.isna(ratio(two, at="tps_per_user")["ratio"])


def test_the_default_baseline_is_dram_at_the_figures_chunk(real):
    other = varied(real["dram"], scenario="dram-64")
    other["spec"]["scenario"]["chunk_tokens"] = 64
    cells = tables.cells_table([real["none"], other, real["dram"]])
    assert tables.default_baseline(cells, {"figures": {"chunk_tokens": 32}}) == "dram"
    assert tables.default_baseline(cells, {"figures": {"chunk_tokens": 64}}) == "dram-64"
    assert tables.default_baseline(cells, {"figures": {"chunk_tokens": 16}}) == "dram-64"
    assert (
        tables.default_baseline(tables.cells_table([real["none"]]), {"figures": {"chunk_tokens": 16}}) is None
    )


def test_cells_are_comparable_unless_something_but_the_scenario_differs(real):
    same = varied(real["dram"])
    same["spec"]["data_dir"] = "elsewhere"
    assert tables.comparable_digest(real["none"]) != tables.comparable_digest(same)
    same["spec"]["data_dir"] = real["none"]["spec"]["data_dir"]
    assert tables.comparable_digest(same) == tables.comparable_digest(real["none"])
    same["spec"]["loads"] = [9]
    assert tables.comparable_digest(same) == tables.comparable_digest(real["none"])
    same["spec"]["replay"]["hbm_kv_bytes"] += 1
    assert tables.comparable_digest(same) != tables.comparable_digest(real["none"])


def jobs(record: dict, starts: list[float], cells: int = 2) -> list[dict]:
    """Jobs of 10 s with `cells` cells of 4 s each, of which 1 s starts the store."""
    return [
        varied(
            record,
            repeat=repeat,
            load=load,
            cell_s=4.0,
            start_s=1.0,
            job_started_at=start,
            measured_in_job=start,
            job_s=10.0,
        )
        for repeat, start in enumerate(starts, 1)
        for load in range(1, cells + 1)
    ]


def test_sweep_time_is_jobs_over_cells(real):
    row = tables.sweep_time_table(jobs(real["dram"], [100.0, 112.0])).iloc[0]
    assert (row["cells"], row["jobs"], row["cells_s"], row["server_starts_s"]) == (4, 2, 16.0, 4.0)
    assert (row["jobs_s"], row["stage_s"]) == (20.0, 22.0)
    assert (row["jobs_over_cells"], row["stage_over_cells"]) == (20 / 16, 22 / 16)


def test_cells_kept_from_a_stopped_job_count_in_no_job(real):
    kept, measured = jobs(real["dram"], [100.0])
    kept["measured_in_job"] = 50.0
    row = tables.sweep_time_table([kept, measured]).iloc[0]
    assert (row["cells"], row["cells_s"], row["jobs_over_cells"]) == (2, 4.0, 2.5)


def test_the_stage_has_no_span_over_several_runs(real):
    row = tables.sweep_time_table(jobs(real["dram"], [100.0, 5000.0])).iloc[0]
    assert pd.isna(row["stage_s"])
    assert pd.isna(row["stage_over_cells"])
    assert row["jobs_over_cells"] == 20 / 16


def test_a_broken_line_is_named_with_file_and_line(tmp_path):
    path = tmp_path / "1.jsonl"
    path.write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(UserError, match=r"1\.jsonl:2: not JSON .*delete the file") as caught:
        read_jsonl([path])
    assert "\n" not in str(caught.value)


SINGLE = {
    "record": "single",
    "engine": "vllm",
    "model": "m",
    "scenario": "s",
    "load": None,
    "repeat": 1,
    "valid": True,
    "reasons": [],
    "environment": {"gpu": ["NVIDIA H100 80GB HBM3, 580.1, 81559 MiB"]},
}


def single(tier: str, *ttfts: float, **changes) -> dict:
    """A record of single requests of one length, first and again in turn."""
    passes = ("first", "again") * (len(ttfts) // 2)
    samples = [
        {"pass": name, "prompt_tokens": 8192, "cached_tokens": 8191 * (name == "again"), "ttft_s": ttft}
        for name, ttft in zip(passes, ttfts, strict=True)
    ]
    samples = [sample | {"faults": changes.get("reasons", [])} for sample in samples]
    scenario = {"tier": tier, "store": "valkey", "connector": "resp", "chunk_tokens": 256, "vllm": {}}
    spec = {"vllm": {"device": "cuda"}, "kv_dtype": "auto", "scenario": scenario}
    return completed(SINGLE | {"samples": samples, "spec": spec} | changes)


def test_single_requests_are_medians_by_pass(tmp_path, monkeypatch, real):
    records = [single("dram", 0.3, 0.1, 0.2, 0.12), single("dram", 0.25, 0.2, repeat=2)]
    latency = load(run(tmp_path, monkeypatch, [*real.values(), *records]), "latency").set_index("pass")
    assert latency["ttft_s"].to_dict() == {"saved": 0.25, "loaded": 0.12}
    assert latency["prompts"].to_list() == [3, 3]
    assert set(latency["gpu"]) == {"NVIDIA H100 80GB HBM3"}
    assert latency["cached_tokens"].to_dict() == {"saved": 0, "loaded": 8191}


def test_without_a_tier_both_passes_are_computed_and_an_unproved_record_is_marked(
    tmp_path, monkeypatch, real
):
    record = single("none", 0.2, 0.3, valid=False, reasons=["because"])
    latency = load(run(tmp_path, monkeypatch, [*real.values(), record]), "latency")
    assert latency["pass"].to_list() == ["computed"]
    assert (latency["ttft_s"][0], latency["valid"][0], latency["reasons"][0]) == (0.25, False, "because")


def test_one_prompt_that_is_not_proved_leaves_other_lengths_as_they_are(tmp_path, monkeypatch, real):
    record = single("dram", 0.3, 0.1, 0.2, 0.12, valid=False)
    for sample in record["samples"][2:]:
        sample |= {"prompt_tokens": 32768, "faults": ["not found again"]}
    latency = load(run(tmp_path, monkeypatch, [*real.values(), record]), "latency")
    valid = latency.set_index(["prompt_tokens", "pass"])["valid"].to_dict()
    assert valid == {(n, kind): n == 8192 for n in (8192, 32768) for kind in ("saved", "loaded")}


def test_cells_of_a_real_engine_name_its_gpu(tmp_path, monkeypatch, real):
    spec = {**real["none"]["spec"], "vllm": {"device": "cpu"}}
    spec["scenario"] = {**spec["scenario"], "vllm": {}}
    cells = load(run(tmp_path, monkeypatch, [real["none"] | {"gpu_model": None, "spec": spec}]), "cells")
    assert cells["gpu"][0] == "CPU"


REFERENCE = [
    folder for folder in sorted(Path("results/reference").iterdir()) if any(folder.glob("sweep/*/*.jsonl"))
]


@pytest.mark.parametrize("folder", REFERENCE, ids=lambda folder: folder.name)
def test_kept_records_of_every_age_are_read(folder):
    found = read_jsonl(sorted(folder.glob("sweep/*/*.jsonl")))
    cells = [record for record in found if record["record"] == "cell"]
    singles = [record for record in found if record["record"] == "single"]
    table = tables.cells_table(cells)
    assert len(table) == len(cells)
    scenarios = tables.scenarios_table(table)
    assert scenarios["rps_per_gpu"].notna().any()
    tables.ratios_table(table, tables.default_baseline(table, json.loads(SPEC)))
    assert tables.sweep_time_table(cells)["cells"][0] == len(cells)
    latency = tables.latency_table(singles)
    assert latency["prompts"].sum() == sum(len(record["samples"]) for record in singles)


def test_single_requests_from_before_there_were_faults_are_read():
    record = next(
        record
        for folder in REFERENCE
        for record in read_jsonl(sorted(folder.glob("sweep/*/*.jsonl")))
        if record["record"] == "single"
    )
    for sample in record["samples"]:
        sample.pop("faults", None)
    table = tables.latency_table([record])
    assert table["valid"].all()
    assert (table["reasons"] == "").all()
