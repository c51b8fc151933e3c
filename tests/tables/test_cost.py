"""Costs: worked by hand, monotone in every price, compared at one SLO, from real and from varied records."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest

from tests.helpers import command, write_as_a_stage
from tests.record_factory import completed, measured, varied
from tests.tables.costs import NO_SLO, PRICES, full_prices, records
from workflow.hyperkv.tables import cost
from workflow.hyperkv.tables.cost import cost_table, point_of, repeats_table, sensitivity_table
from workflow.hyperkv.tables.methods.cost_model import usd_per_million
from workflow.hyperkv.tables.methods.dictionary import columns_dictionary


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """One measured record of scenarios none, dram and files."""
    return {name: measured(tmp_path_factory.mktemp(name), name) for name in ("none", "dram", "files")}


def test_tokens_and_bytes_of_a_real_record(real):
    record = real["files"]
    found, reasons = point_of(record)
    requests, window_s = record["requests"], record["values"]["window_s"]
    answered = round(record["values"]["rps_per_gpu"] * window_s)
    done = sorted(range(len(requests["finish_s"])), key=requests["finish_s"].__getitem__)[:answered]
    assert not reasons
    assert found.answer_tokens_per_s * window_s == pytest.approx(
        sum(requests["answer_tokens"][i] for i in done)
    )
    prompts = sum(requests["prompt_tokens"][i] for i in done)
    assert (found.tokens_per_s - found.answer_tokens_per_s) * window_s == pytest.approx(prompts)
    assert (found.dram_bytes, found.ssd_bytes) == (0.0, record["evidence"]["saved_bytes"])
    written = record["evidence"]["device_write_bytes"]
    assert found.written_bytes_per_s == pytest.approx(written / max(requests["finish_s"]))
    dram, _ = point_of(real["dram"])
    assert (dram.dram_bytes, dram.ssd_bytes, dram.written_bytes_per_s) == (64 << 20, 0.0, None)
    none, _ = point_of(real["none"])
    assert (none.dram_bytes, none.ssd_bytes) == (0.0, 0.0)


def with_scenario(record, evidence=None, **keys):
    copy = varied(record)
    copy["spec"]["scenario"] |= keys
    copy["evidence"] |= evidence or {}
    return copy


def test_a_stores_capacity_bounds_what_it_needs(real):
    saved = real["files"]["evidence"]["saved_bytes"]
    bounded, _ = point_of(with_scenario(real["files"], capacity_bytes=saved // 2))
    assert bounded.ssd_bytes == saved // 2
    server = {"tier": "dram", "store": "valkey", "dram_pool_bytes": 1 << 20}
    found, _ = point_of(with_scenario(real["files"], {"saved_bytes": None, "taken_bytes": 5}, **server))
    assert (found.dram_bytes, found.ssd_bytes, found.written_bytes_per_s) == ((1 << 20) + 5, 0.0, None)
    unknown = with_scenario(real["files"], {"saved_bytes": None, "taken_bytes": None})
    assert point_of(unknown) == (None, ["how many bytes the store holds is not known"])
    unseen = with_scenario(real["files"], {"device_write_bytes": None})
    assert point_of(unseen) == (None, ["how many bytes were written to the device is not known"])


def test_scenarios_are_compared_at_the_speed_that_all_reach(real):
    table = repeats_table(records(real), PRICES, NO_SLO)
    at = table[table["at"] == "slo"].set_index(["scenario", "repeat"])
    assert set(at["slo_tps_per_user"]) == {50.0}
    assert at["users_per_gpu"].groupby("scenario").first().to_dict() == {"none": 2.0, "dram": pytest.approx(17 / 9), "files": 1.0}  # fmt: skip
    assert at["users_at_least"].groupby("scenario").first().to_dict() == {"none": True, "dram": False, "files": False}  # fmt: skip
    assert at["load"].isna().all()
    loads = table[table["at"] == "load"]
    assert loads["slo_tps_per_user"].isna().all()
    assert list(loads["users_per_gpu"]) == list(loads["load"])


def test_a_record_of_two_gpus_costs_two_and_serves_half_the_users_on_each(real):
    lines = records({"dram": real["dram"]}, repeats=(1,))
    one, two = (repeats_table([line | {"gpus": gpus} for line in lines], PRICES, NO_SLO) for gpus in (1, 2))
    assert (set(one["gpus"]), set(two["gpus"])) == ({1}, {2})
    assert list(two["users_per_gpu"]) == list(one["users_per_gpu"] / 2)
    for name in ("gpu", "server"):
        dollars = [table["usd_per_hour"] * table[f"{name}_share"] for table in (one, two)]
        assert list(dollars[1]) == pytest.approx(list(2 * dollars[0]))
    assert (two["usd_per_million_tokens"] > 1.9 * one["usd_per_million_tokens"]).all()
    assert list(two["tokens_per_s"]) == list(one["tokens_per_s"])
    low = sensitivity_table(two, full_prices()).set_index("price").loc["gpu_usd_per_hour"]
    at = two[two["at"] == "slo"].iloc[0]
    saved = (low["usd_per_million_tokens"] - low["usd_at_low"]) * 3600 * at["tokens_per_s"] / 1e6
    assert saved == pytest.approx(2 * PRICES["gpu_usd_per_hour"] / 2)


def test_a_cost_names_the_gate_of_its_scenario(real):
    """So that a figure tells it from what loads everything."""
    gated = with_scenario(real["files"], gate="ttft")
    table = cost_table(repeats_table([real["dram"], gated], PRICES, NO_SLO))
    gates = table.set_index("scenario")["gate"].fillna("").to_dict()
    assert gates == {"dram": "", "files": "ttft"}


def test_an_slo_of_the_configuration_that_nobody_keeps_has_no_cost_and_a_reason(real):
    table = repeats_table(records(real), PRICES, {"tps_per_user": 60.0, "ttft_p95_ms": None})
    files = table[(table["at"] == "slo") & (table["scenario"] == "files")]
    assert not files["valid"].any()
    assert files["usd_per_million_tokens"].isna().all()
    summary = cost_table(table).set_index(["scenario", "at"])
    assert summary.loc[("files", "slo"), "reasons"] == "no load that was measured keeps the SLO"
    assert summary.loc[("none", "slo"), "valid_repeats"] == 2
    with_ttft = repeats_table(records(real), PRICES, {"tps_per_user": None, "ttft_p95_ms": 1e-6})
    assert not with_ttft[with_ttft["at"] == "slo"]["valid"].any()


def test_invalid_cells_have_no_cost_and_no_part_in_the_slo(real):
    lines = records(real)
    lines[0] = varied(lines[0], {"tps_per_user": 1.0}, ("served from RAM",))
    table = repeats_table(lines, PRICES, NO_SLO)
    assert table.iloc[0][["valid", "reasons"]].tolist() == [False, "served from RAM"]
    assert math.isnan(table.iloc[0]["usd_per_hour"])
    assert set(table["slo_tps_per_user"].dropna()) == {50.0}


@pytest.mark.parametrize("change", [{"loop": "open"}, {"engine": "vllm"}])
def test_an_open_loop_or_a_trace_has_costs_but_no_users(real, change):
    lines = []
    for line in records({"none": real["none"]}):
        line["spec"] |= {"loop": change["loop"]} if "loop" in change else {"workload": {"kind": "trace"}}
        lines.append(line | {key: value for key, value in change.items() if key == "engine"})
    table = repeats_table(lines, PRICES, NO_SLO)
    assert set(table["at"]) == {"load"}
    assert table["users_per_gpu"].isna().all()
    assert table["usd_per_million_tokens"].notna().all()
    compared = sensitivity_table(table, full_prices())
    assert set(compared["at"]) == {"load"}
    assert set(compared["load"]) == {2}


def test_a_window_in_which_nothing_was_answered_tells_nothing(real):
    assert point_of(varied(real["none"], {"window_s": 0.0})) == (None, ["no request was answered in the measured window"])  # fmt: skip


def test_shares_add_up_and_intervals_hold_their_median(real):
    table = cost_table(repeats_table(records(real), PRICES, NO_SLO))
    assert table[list(cost.SHARES)].sum(axis=1).tolist() == pytest.approx([1.0] * len(table))
    for name in cost.SUMMARISED[:3]:
        known = table[table[f"{name}_low"].notna()]
        assert len(known)
        assert (known[f"{name}_low"] <= known[name]).all()
        assert (known[name] <= known[f"{name}_high"]).all()


def test_sensitivity_moves_one_price_and_leaves_the_others(real):
    repeats = repeats_table(records(real), PRICES, NO_SLO)
    table = sensitivity_table(repeats, full_prices())
    assert set(table["price"]) == {*PRICES} - {"ssd_read_gbps"}  # of shaped devices alone
    assert len(table) == 3 * (len(PRICES) - 1)
    row = table[(table["scenario"] == "none") & (table["price"] == "gpu_usd_per_hour")].iloc[0]
    own = repeats[(repeats["scenario"] == "none") & (repeats["at"] == "slo")].iloc[0]
    assert row["usd_per_million_tokens"] == pytest.approx(own["usd_per_million_tokens"])
    difference = row["usd_at_high"] - row["usd_per_million_tokens"]
    assert difference == pytest.approx(usd_per_million(2.0, own["tokens_per_s"]))
    unused = table[(table["scenario"] == "none") & table["price"].isin(["ssd_usd_per_gb", "dram_usd_per_gb"])]
    assert (unused["usd_at_low"] == unused["usd_at_high"]).all()


def run(tmp_path, lines) -> Path:
    write_as_a_stage(tmp_path / "cells.jsonl", lines)
    spec = json.dumps({"prices": full_prices(), "slo": NO_SLO})
    arguments = ["--spec", spec, "--cells", tmp_path / "cells.jsonl", "--out", tmp_path / "tables"]
    command(cost, *arguments)
    return tmp_path / "tables"


@pytest.mark.parametrize("filled", [True, False])
def test_the_dictionary_has_exactly_the_columns_of_the_tables(tmp_path, real, filled):
    lines = records(real) if filled else [completed({"record": "single"})]
    out = run(tmp_path, lines)
    assert {path.stem for path in out.iterdir()} == {"cost", "cost_repeats", "cost_sensitivity"}
    for path in out.iterdir():
        table = pd.read_csv(path)
        assert list(table) == list(columns_dictionary()[path.stem])
        assert bool(len(table)) is filled
