"""Predictions beside what was measured: of kept runs of real engines, and by hand."""

import math
from copy import deepcopy
from pathlib import Path

import pandas as pd
import pytest

from tests.helpers import command, write_as_a_stage
from tests.kept import KEPT, kept
from workflow.hyperkv.models.geometry import load_geometry
from workflow.hyperkv.models.gpu import load_gpu
from workflow.hyperkv.predict.request_time import FITTED, HIT_S_PER_PIECE, REQUEST_S
from workflow.hyperkv.report.gpu_answer import prompt_rows
from workflow.hyperkv.tables import predicted
from workflow.hyperkv.tables.methods.dictionary import columns_dictionary
from workflow.hyperkv.tables.methods.predicted_text import counts_words
from workflow.hyperkv.tables.predicted import predicted_table

GPUS = sorted(Path("config/gpus").glob("*.yaml"))
BY_NAME = {folder.name: folder for folder in KEPT}
SERVER = BY_NAME["2026-11-28-server"]
NO_STORES = pd.DataFrame()


def records_of(folder: Path, *scenarios: str) -> list[dict]:
    """Cells and single requests of a kept run, those of some scenarios."""
    found = kept(folder).of("cell", "single")
    return [deepcopy(record) for record in found if not scenarios or record["scenario"] in scenarios]


def row_of(table: pd.DataFrame, quantity: str, scenario: str, at: float) -> pd.Series:
    column = "load" if quantity == "hit_rate" else "prompt_tokens"
    (index,) = table.index[
        (table["quantity"] == quantity) & (table["scenario"] == scenario) & (table[column] == at)
    ]
    return table.loc[index]


@pytest.fixture(scope="module")
def server() -> pd.DataFrame:
    return predicted_table(records_of(SERVER), NO_STORES, GPUS)


def test_ttft_and_break_even_by_hand(server):
    gpu = load_gpu(Path("config/gpus/h100.yaml"), load_geometry(Path("config/models/llama-3.1-8b.json")))
    computed, loaded = (
        row_of(server, f"ttft_{word}", f"h100_{name}", 8200)
        for word, name in (("computed", "none"), ("loaded", "dram"))
    )
    size, hit_s = 8192 * 131072, 8192 * HIT_S_PER_PIECE * 2 * 32  # keys and values of 32 layers
    step_s, copy_s = gpu.step_s([(8, 8192)], []), size / 54.9e9
    assert computed["predicted"] == pytest.approx(REQUEST_S + gpu.step_s([(8200, 0)], []))
    assert loaded["predicted"] == pytest.approx(REQUEST_S + step_s + copy_s + hit_s)
    need = row_of(server, "break_even", "h100_dram", 8200)
    assert need["predicted"] == pytest.approx(
        size / (gpu.step_s([(8200, 0)], []) - step_s - copy_s - hit_s) / 1e9
    )
    assert need["measured"] == pytest.approx(size / (computed["measured"] - loaded["measured"]) / 1e9)
    assert need["measured_low"] < need["measured"] < need["measured_high"]
    assert (need["gpu_from"], need["verdict"]) == ("measured", "within")
    assert need["error"] == pytest.approx(need["predicted"] / need["measured"] - 1)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ("documents", "TTFT computed 2 of 2, TTFT loaded 3 of 3, break-even 2 of 2, hit rate 2 of 2"),
        ("mixture", "TTFT computed 2 of 2, TTFT loaded 2 of 2, break-even 2 of 2, hit rate 0 of 1"),
        ("two-gpus", "TTFT computed 2 of 2, TTFT loaded 1 of 2, break-even 2 of 2, hit rate 2 of 3"),
    ],
)
def test_models_with_more_layers_mixtures_and_several_gpus_are_within_what_is_allowed(run, words):
    table = predicted_table(records_of(BY_NAME[f"2026-11-29-{run}"]), NO_STORES, GPUS)
    assert set(table.dropna(subset=["gpu_from"])["gpu_from"]) == {"derived, scaled"}
    assert counts_words(table) == words


@pytest.mark.parametrize(
    ("run", "quantity", "scenario", "prompt", "error"),
    [
        ("two-gpus", "ttft_computed", "gpu_none", 12296, -0.04),
        ("two-gpus", "ttft_loaded", "gpu_dram", 8200, -0.01),
        ("two-gpus", "break_even", "gpu_dram", 8200, 0.02),
        ("direct", "ttft_loaded", "h100_dram_mp", 32776, -0.04),
    ],
)
def test_what_was_not_fitted_is_predicted(run, quantity, scenario, prompt, error):
    """70B with fp8 KV of two GPUs, 8B of another run."""
    folder = BY_NAME[f"2026-11-29-{run}"]
    assert str(folder) not in FITTED
    table = predicted_table(records_of(folder), NO_STORES, GPUS)
    assert row_of(table, quantity, scenario, prompt)["error"] == pytest.approx(error, abs=0.005)


@pytest.mark.parametrize(
    ("run", "scenario", "load", "error"),
    [
        ("29-documents", "gpu_dram", 3, 0.06),
        ("29-documents", "gpu_disk", 3, 0.00),
        ("30-documents", "gpu_dram", 3, -0.18),
        ("30-gate", "gpu_tmpfs", 40, -0.05),
        ("30-gate", "gpu_disk", 40, -0.07),
        ("29-two-gpus", "gpu_dram", 4, 0.28),
        ("29-mixture", "gpu_dram", 3, -0.29),
    ],
)
def test_what_a_pool_of_lmcaches_server_finds_is_played_by_its_rule(run, scenario, load, error):
    """Pools smaller than the data; by the ideal LRU errors are up to +100 %."""
    records = [
        each for each in records_of(BY_NAME[f"2026-11-{run}"], scenario) if each.get("load") in (None, load)
    ]
    row = row_of(predicted_table(records, NO_STORES, GPUS), "hit_rate", scenario, load)
    assert row["error"] == pytest.approx(error, abs=0.02)


def test_without_the_gpu_s_file_no_such_pool_is_played():
    records = records_of(BY_NAME["2026-11-29-documents"], "gpu_dram")
    row = row_of(predicted_table(records, NO_STORES, []), "hit_rate", "gpu_dram", 3)
    assert row["reason"] == "no file of break_even.gpus is of NVIDIA H200"
    assert row["measured"] > 0
    assert pd.isna(row["predicted"])


def test_a_stores_gbps_are_those_of_its_longest_prompt_which_is_not_compared(server):
    longest = row_of(server, "ttft_loaded", "h100_valkey", 32776)
    assert math.isnan(longest["predicted"])
    assert pd.isna(longest["verdict"])
    assert "no longer prompt" in longest["reason"]
    shorter = row_of(server, "ttft_loaded", "h100_valkey", 8200)
    assert shorter["gbps_from"] == "its load of 32,776 tokens"
    assert shorter["gbps"] > 0


def test_the_store_alone_and_the_stated_device_are_taken_before_that():
    records = records_of(SERVER, "h100_none", "h100_valkey")
    point = {"scenario": "h100_valkey", "operation": "get_warm", "value_bytes": 1 << 20, "gbps": 8.0}
    alone = predicted_table(records, pd.DataFrame([point]), GPUS)
    for record in records:
        if record["scenario"] == "h100_valkey":
            record["spec"]["scenario"]["shape"] = {"read_gbps": 4.0}
    stated = predicted_table(records, pd.DataFrame([point]), GPUS)
    rows = [row_of(table, "ttft_loaded", "h100_valkey", 32776) for table in (alone, stated)]
    assert [row["gbps_from"] for row in rows] == ["the store alone", "stated device"]
    assert rows[1]["predicted"] - rows[0]["predicted"] == pytest.approx(32768 * 131072 / 8e9)
    # a hit without a store is measured with the engine's own pool alone
    assert not (alone["quantity"] == "break_even").any()


def test_measured_break_even_is_the_one_of_the_gpu_answer(server):
    """Of a disk's prompts, and of the pool that answered soonest."""
    told = prompt_rows(kept(SERVER))
    assert set(told["scenario"]) >= {"h100_striped_mp_disk"}
    pools = server[server["quantity"] == "break_even"]
    for row in told.to_dict("records"):
        own = pools[pools["prompt_tokens"] == row["prompt_tokens"]]
        assert row["needs_gbps"] == pytest.approx(own["measured"].min())


def test_what_did_not_prove_itself_is_not_measured_and_says_why():
    records = records_of(SERVER, "h100_none", "h100_dram")
    for record in records:
        record["valid"], record["reasons"] = False, ["because"]
        for sample in record.get("samples", []):
            sample["faults"] = ["because"]
    table = predicted_table(records, NO_STORES, GPUS)
    assert table["measured"].isna().all()
    assert table["verdict"].isna().all()
    assert set(table["reason"]) == {"because"}
    assert row_of(table, "ttft_computed", "h100_none", 8200)["predicted"] > 0
    assert counts_words(table) == ""


def test_a_gpu_of_which_there_is_no_file_leaves_hit_rates_alone():
    table = predicted_table(records_of(SERVER, "h100_none", "h100_dram"), NO_STORES, [])
    singles = table[table["quantity"] != "hit_rate"]
    assert singles["verdict"].isna().all()
    assert singles["measured"].notna().any()
    assert set(singles["reason"]) == {"no file of break_even.gpus is of NVIDIA H100 80GB HBM3"}
    assert set(table[table["quantity"] == "hit_rate"]["verdict"]) == {"within"}


def test_an_error_beyond_what_is_allowed_is_off():
    records = [
        each for each in records_of(SERVER, "h100_dram") if each["record"] == "cell" and each["load"] == 5
    ]
    allowed = predicted_table(records, NO_STORES, GPUS).iloc[0]
    records[0]["values"]["hit_rate"] = allowed["predicted"] / 1.11
    off = predicted_table(records, NO_STORES, GPUS).iloc[0]
    assert (allowed["verdict"], off["verdict"]) == ("within", "off")
    assert off["error"] == pytest.approx(0.11)
    records[0]["values"]["hit_rate"] = 0.0
    none = predicted_table(records, NO_STORES, GPUS).iloc[0]
    assert (none["error"], none["verdict"]) == (math.inf, "off")


def test_a_gate_and_a_pool_before_the_store_are_not_compared():
    records = records_of(BY_NAME["2026-11-30-gate"], "gpu_disk_ttft", "gpu_tmpfs")
    table = predicted_table([each for each in records if each["record"] == "single"], NO_STORES, GPUS)
    why = {name: set(own["reason"]) for name, own in table.groupby("scenario")}
    assert why["gpu_tmpfs"] == {"a DRAM pool stands before the store, and may have served it"}
    assert why["gpu_disk_ttft"] == {"a gate decides how much is loaded"}
    assert table["verdict"].isna().all()


def test_its_command_writes_the_dictionarys_columns(tmp_path):
    cells, stores, out = (tmp_path / name for name in ("cells.jsonl", "stores.csv", "predicted.csv"))
    write_as_a_stage(cells, records_of(SERVER, "h100_none"))
    stores.write_text("scenario,operation,value_bytes,gbps\n")
    command(predicted, "--cells", cells, "--stores", stores, "--gpus", *GPUS, "--out", out)
    written = pd.read_csv(out)
    assert list(written) == list(columns_dictionary()["predicted"])
    assert len(written) == 4
    assert set(written["unit"]) == {"s"}


def test_a_run_without_any_has_an_empty_table():
    assert predicted_table([], NO_STORES, GPUS).empty
    assert counts_words(predicted_table([], NO_STORES, GPUS)) == ""
