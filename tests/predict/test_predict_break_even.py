"""Break-even by hand, against what an H100 was measured to take, and where stores lie; derived GPUs."""

import json
import math
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.figures.made import store_rows
from tests.helpers import command, refused
from tests.predict.specs import BREAK_EVEN, MODELS
from tests.record_factory import limit
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.models import derive_gpu
from workflow.hyperkv.models.derive_gpu import GPUS, derived, published, render
from workflow.hyperkv.models.geometry import load_geometry
from workflow.hyperkv.models.gpu import load_gpu
from workflow.hyperkv.predict import place_stores
from workflow.hyperkv.predict import predict_break_even as breakeven
from workflow.hyperkv.predict.break_even_text import break_even_text, required_words
from workflow.hyperkv.predict.place_stores import nearest_get, placed_stores_table
from workflow.hyperkv.predict.predict_break_even import break_even_table, remarks
from workflow.hyperkv.predict.request_time import HIT_S_PER_TOKEN, required_gbps
from workflow.hyperkv.records.hardware import short_gpu
from workflow.hyperkv.tables.methods.dictionary import columns_dictionary

# FACTS.md, section 1, of an H100 80 GB: 8,192 tokens of Llama-3.1-8B, vLLM 0.25.0 and LMCache 0.5.0.
MEASURED_RECOMPUTE_S, MEASURED_DRAM_HIT_S = 0.213, 0.057


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Break-even of every model on every GPU."""
    return break_even_table(BREAK_EVEN)


def row_of(table: pd.DataFrame, model: str, gpu: str, prompt: int = 8192) -> pd.Series:
    """One row; gpu: part of its name."""
    chosen = (table["model"] == model) & table["gpu"].str.contains(gpu) & (table["prompt_tokens"] == prompt)
    chosen &= table["kv_dtype"] != "fp8"
    (index,) = table.index[chosen]
    return table.loc[index]


def test_an_h100_needs_what_was_measured_but_for_two_small_differences(table):
    """6.22 GB/s against 6.88 measured (6.7 with 0.16 s to load in): the modelled time to load is 17 ms longer.

    9 ms of that are what a hit took there and not in the model (eager, an earlier LMCache; in all 57 ms from the DRAM pool), 7 ms are
    recompute, modelled 3 % slower than it was there.
    """
    row = row_of(table, "llama-3.1-8b", "H100")
    measured = row["kv_bytes"] / (MEASURED_RECOMPUTE_S - MEASURED_DRAM_HIT_S) / 1e9
    overhead_s = MEASURED_DRAM_HIT_S - row["step_s"] - row["copy_s"] - row["hit_s"]
    slower_s = row["prefill_s"] - MEASURED_RECOMPUTE_S
    assert row["kv_bytes"] == 8192 * 131072
    assert (row["required_gbps"], measured) == (pytest.approx(6.22, abs=0.01), pytest.approx(6.88, abs=0.01))
    assert (overhead_s, slower_s) == (pytest.approx(0.009, abs=0.0005), pytest.approx(0.007, abs=0.0005))
    load_s = row["kv_bytes"] / (row["required_gbps"] * 1e9)
    assert row["kv_bytes"] / (load_s - overhead_s - slower_s) / 1e9 == pytest.approx(measured)


def test_break_even_by_hand(table):
    row = row_of(table, "llama-3.1-8b", "H100", 1024)
    prefill_s = 1024 / 40725 + 5.7e-10 * 1024 * 512
    copy_s, rest_s = 1024 * 131072 / 54.9e9, 0.0155 + 1024 * HIT_S_PER_TOKEN
    assert row["prefill_s"] == pytest.approx(prefill_s)
    assert (row["step_s"], row["hit_s"]) == (0.0155, 1024 * HIT_S_PER_TOKEN)
    assert row["required_gbps"] == pytest.approx(1024 * 131072 / (prefill_s - rest_s - copy_s) / 1e9)
    assert row["required_to_gpu_gbps"] == pytest.approx(1024 * 131072 / (prefill_s - rest_s) / 1e9)


@given(st.integers(1, 10**12), st.floats(1e-6, 1e4), st.floats(0, 1e4))
def test_at_break_even_loading_takes_as_long_as_computing(size, load_s, rest_s):
    gbps = required_gbps(size, load_s + rest_s, rest_s)
    if load_s > rest_s * 1e-9:
        assert size / (gbps * 1e9) + rest_s == pytest.approx(load_s + rest_s, rel=1e-6)


def test_what_never_pays_is_infinite_and_reads_as_never():
    assert [required_words(gbps, " GB/s") for gbps in (math.inf, 5.812)] == ["never", "5.8 GB/s"]
    assert required_gbps(1, 0.1, 0.1) == math.inf
    assert required_gbps(1, 0.1, 0.2) == math.inf


def test_the_table_has_the_dictionarys_columns_and_no_prompt_above_a_context(tmp_path):
    out, text = tmp_path / "break_even.csv", tmp_path / "break_even.txt"
    command(breakeven, "--spec", json.dumps(BREAK_EVEN), "--out", out, "--text", text)
    written = pd.read_csv(out)
    assert list(written) == list(columns_dictionary()["break_even"])
    assert text.read_text() == break_even_text(break_even_table(BREAK_EVEN), remarks(BREAK_EVEN))
    assert text.read_text().endswith(
        "\nqwen3-32b: left out 65,536 tokens, longer than its context of 40,960 (max_position_embeddings 40,960).\n"
    )
    assert len(written) == 2 * (4 * (4 * 4) - 4)  # two KV formats
    assert written[written["model"] == "qwen3-32b"]["prompt_tokens"].max() == 32768
    assert written["source"].notna().all()
    assert written["assumption"].isna().sum() == len(written[written["gpu"] == "NVIDIA H100 80GB HBM3"])


def test_slower_gpus_need_less_and_larger_models_need_less_per_gpu(table):
    needs = [row_of(table, "llama-3.1-8b", gpu)["required_gbps"] for gpu in ("L4", "A100", "H100")]
    assert needs == sorted(needs)
    assert row_of(table, "llama-3.1-70b", "H100")["required_gbps"] < needs[-1]
    assert row_of(table, "deepseek-v3", "H200")["required_gbps"] < needs[-1] / 4


def test_how_many_gpus_hold_the_weights(table):
    counts = {(m, g): row_of(table, m, g)["gpus_for_weights"] for m in MODELS for g in ("L4", "H100", "H200")}
    assert counts["llama-3.1-8b", "L4"] == counts["llama-3.1-8b", "H100"] == 1
    assert counts["llama-3.1-70b", "H100"] == counts["llama-3.1-70b", "H200"] == 2
    assert counts["qwen3-32b", "L4"] == 4
    assert counts["llama-3.1-70b", "L4"] == 8
    assert counts["deepseek-v3", "H200"] == 8


def test_gpus_together_share_the_prefill_the_copy_and_the_weights_but_not_a_launch(table):
    row, one = row_of(table, "llama-3.1-70b", "H100"), one_gpu("h100", "llama-3.1-70b")
    launch_s = 0.0155 * 80 / 32
    assert row["prefill_s"] == pytest.approx(one.step_s([(8192, 0)], []) / 2)
    assert row["copy_s"] == pytest.approx(row["kv_bytes"] / 54.9e9 / 2)
    assert row["step_s"] == pytest.approx(launch_s)
    assert launch_s > one.decode_base_s / 2
    time_s = row["prefill_s"] - row["copy_s"] - launch_s - 8192 * HIT_S_PER_TOKEN
    assert row["required_node_gbps"] == pytest.approx(row["kv_bytes"] / time_s / 1e9)
    assert row["required_node_gbps"] == pytest.approx(2 * row["required_gbps"])


def one_gpu(gpu: str, model: str):
    return load_gpu(GPUS / f"{gpu}.yaml", load_geometry(Path(f"config/models/{model}.json")))


def test_mla_goes_to_every_gpu_as_a_whole(table):
    row, one = row_of(table, "deepseek-v3", "H200"), one_gpu("h200", "deepseek-v3")
    assert row["copy_s"] == pytest.approx(row["kv_bytes"] / 54.9e9)
    time_s = one.step_s([(8192, 0)], []) / 8 - row["copy_s"] - 0.0155 * 61 / 32 - 8192 * HIT_S_PER_TOKEN
    assert row["required_node_gbps"] == pytest.approx(row["kv_bytes"] / time_s / 1e9)


def test_copies_of_kv_heads_are_loaded_too(tmp_path):
    config = json.loads(Path("config/models/llama-3.1-70b.json").read_text())
    (tmp_path / "few.json").write_text(json.dumps({**config, "num_key_value_heads": 4}))
    (tmp_path / "l4.yaml").write_text(
        (GPUS / "l4.yaml").read_text().replace("memory_gb: 24", "memory_gb: 20")
    )
    spec = BREAK_EVEN | {"models": [str(tmp_path / "few.json")], "gpus": [str(tmp_path / "l4.yaml")]}
    row = row_of(break_even_table(spec), "few", "L4")
    whole = 8192 * 2 * 80 * 4 * 128 * 2
    assert row["gpus_for_weights"] == 8
    assert row["kv_bytes"] == 2 * whole
    assert row["copy_s"] == pytest.approx(whole / 4 / 27.45e9)


def test_a_store_serves_all_gpus_that_hold_the_model(table):
    placed = placed_stores_table(table, store_rows(("files",)), "")
    row = placed[(placed["model"] == "llama-3.1-70b") & placed["gpu"].str.contains("L4")].iloc[0]
    needed = row_of(table, "llama-3.1-70b", "L4", row["prompt_tokens"])
    assert row["gpus_for_weights"] == 8
    assert row["required_gbps"] == needed["required_node_gbps"] == pytest.approx(8 * needed["required_gbps"])


def test_public_geometries():
    found = {name: load_geometry(Path(f"config/models/{name}.json")) for name in MODELS}
    assert {name: item.kv_bytes_per_token for name, item in found.items()} == {
        "llama-3.1-8b": 131072,
        "llama-3.1-70b": 327680,
        "qwen3-32b": 262144,
        "deepseek-v3": 70272,
    }
    assert found["llama-3.1-70b"].parameters == 70_553_706_496
    assert found["qwen3-32b"].parameters == pytest.approx(32.76e9, rel=0.001)


def test_attention_is_scaled_by_its_width():
    found = {name: load_geometry(Path(f"config/models/{name}.json")) for name in MODELS}
    widths = {name: geometry.attention_width for name, geometry in found.items()}
    assert widths["llama-3.1-70b"] == 5 * widths["llama-3.1-8b"] == 5 * 32 * 32 * 2 * 128
    assert widths["deepseek-v3"] == 61 * 128 * (128 + 64 + 128)
    gpu = load_gpu(Path("config/gpus/h100.yaml"), found["llama-3.1-70b"])
    assert gpu.prefill_attention_s_per_token2 == pytest.approx(5 * 5.7e-10)


@pytest.mark.parametrize("gpu", [name for name in published() if name != "h100"])
def test_derived_gpus_are_as_derived(gpu):
    assert (GPUS / f"{gpu}.yaml").read_text() == render(gpu), (
        f"run python -m workflow.hyperkv.models.derive_gpu --gpu {gpu}"
    )


def test_a_gpus_file_is_written_whole_or_not_at_all(tmp_path):
    command(derive_gpu, "--gpu", "l4", "--out", tmp_path / "l4.yaml")
    assert (tmp_path / "l4.yaml").read_text() == (GPUS / "l4.yaml").read_text()
    with refused(r"no GPU 'l5'; it has .*l4"):
        command(derive_gpu, "--gpu", "l5", "--out", tmp_path / "l5.yaml")
    assert not (tmp_path / "l5.yaml").exists()
    with refused(r"config/gpus/h100\.yaml was measured"):
        command(derive_gpu, "--gpu", "h100")


def test_a_gpu_derived_from_itself_is_itself():
    measured = yaml.safe_load((GPUS / "h100.yaml").read_text())
    document = derived("h100", "h100", published(), measured)
    assert document["models"] == measured["models"]
    assert document["host_device_gbps"] == measured["host_device_gbps"]


def test_a_gpu_without_published_figures_is_one_line():
    with pytest.raises(UserError, match="no GPU 'tpu'; it has h100"):
        render("tpu")


def test_a_store_is_taken_cold_near_the_chunk_at_its_fastest():
    points = store_rows(("files",), connections=(1, 4))
    point = nearest_get(points, 700_000)
    assert (point["operation"], point["value_bytes"], point["connections"]) == ("get_cold", 1 << 20, 4)
    assert nearest_get(store_rows(("dram",)), 1)["operation"] == "get_warm"
    assert nearest_get(points[points["operation"] == "set"], 1) is None


def test_placed_stores(table, tmp_path):
    files = {"break_even": table, "stores": store_rows()}
    for name, content in files.items():
        content.to_csv(tmp_path / f"{name}.csv", index=False)
    environment = {
        "cpu": "A",
        "cores": 2,
        "ram_bytes": 4 << 30,
        "disk": {"file_system": "ext4", "device": "vda"},
    }
    (tmp_path / "limits.jsonl").write_text(json.dumps(limit(environment=environment)) + "\n")
    out = tmp_path / "placed_stores.csv"
    arguments = [
        "--break-even",
        tmp_path / "break_even.csv",
        "--stores",
        tmp_path / "stores.csv",
        "--limits",
        tmp_path / "limits.jsonl",
        "--out",
        out,
    ]
    command(place_stores, *arguments)
    placed = pd.read_csv(out)
    assert list(placed) == list(columns_dictionary()["placed_stores"])
    assert len(placed) == 3 * len(table)
    assert placed["machine"].unique().tolist() == ["2 x A, 4 GiB, ext4 on vda"]
    assert ((placed["speedup"] > 1) == (placed["share_of_required"] > 1)).all()


def test_the_text_has_a_row_per_model_and_a_column_per_gpu(table):
    text = break_even_text(table)
    one, together, origin = text.split("\n\n")[1:4]
    assert "8,192 tokens" in text.splitlines()[0]
    assert one.splitlines()[0].split("  ")[0] == "per GPU"
    assert [line.split()[0] for line in one.splitlines()[1:]] == list(MODELS)
    gpus = [re.split("  +", lines.splitlines()[0])[-4:] for lines in (one, together, origin)]
    assert gpus == 3 * [[short_gpu(gpu) for gpu in dict.fromkeys(table["gpu"])]]
    assert one.splitlines()[1].split() == ["llama-3.1-8b", "1.07", "GB", "0.64", "1.7", "6.2", "6.2"]
    assert together.splitlines()[2].endswith("3 (2)")
    assert origin.splitlines()[1].split()[3:] == ["derived", "derived", "measured", "derived"]
    assert "1.55 us a token" in text


def test_the_text_of_nothing_is_empty(table):
    assert break_even_text(table.head(0)) == ""
    assert break_even_text(pd.DataFrame(), ["left out"]) == "left out\n"


def test_no_store_is_placed_without_one(table):
    assert placed_stores_table(table, store_rows(()), "").empty
