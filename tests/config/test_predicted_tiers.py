"""The tiers that a prediction of the sweep simulates are those that each scenario has, with its own engine settings."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.workflow_helpers import changed, merged
from workflow.hyperkv.config.config import checked
from workflow.hyperkv.config.plan import predict_spec
from workflow.hyperkv.figures.hit_rate import draw_hit_rate
from workflow.hyperkv.predict.predict_hit_rates import hit_rates_table

FILES = ("config/config.yaml", "config/scenarios.yaml")
GIB, MIB = 1 << 30, 1 << 20


def config(file, **changes):
    """The repository's config with a file on top and values set under dotted keys."""
    full = merged(*(yaml.safe_load(Path(name).read_text()) for name in (*FILES, f"config/{file}.yaml")))
    return checked(changed(full, {key.replace("__", "."): value for key, value in changes.items()}))


def tiers(file, **changes):
    spec = json.loads(predict_spec(config(file, **changes)))
    return {
        name: (entry.pop("scenarios"), entry) for name, entry in spec["cases"]["experiment"]["tiers"].items()
    }


H = {
    "experiment__scenarios": ["gpu_none", "gpu_dram", "gpu_disk"],
    "scenarios__gpu_disk__dram_pool_bytes": None,
}
OWN = {"prefix_caching": True, "hbm_kv_bytes": "8 GiB"}


def test_a_scenarios_own_hbm_is_a_tier_as_the_sections_is():
    found = tiers("experiments/gpu", scenarios__gpu_none__vllm=OWN, scenarios__gpu_dram__vllm=OWN, **H)
    names = list(found)
    assert names[0] == "hbm_8192mib"
    assert found["hbm_8192mib"] == (["gpu_none"], {"hbm_bytes": 8 * GIB})
    assert names[1].startswith("hbm_8192mib_dram_")
    assert found[names[1]][1]["hbm_bytes"] == 8 * GIB
    assert found["ssd"][1] == {"ssd_bytes": None}
    section = tiers("experiments/gpu", vllm__prefix_caching=True, vllm__hbm_kv_bytes="8 GiB", **H)
    assert section["hbm"][1] == found["hbm_8192mib"][1]


def test_a_scenario_may_have_no_hbm_where_the_others_have():
    off = {"prefix_caching": False}
    given = {
        "vllm__prefix_caching": True,
        "vllm__hbm_kv_bytes": "8 GiB",
        "scenarios__gpu_none__vllm": off,
    }
    found = tiers("experiments/gpu", scenarios__gpu_disk__vllm=off, **given, **H)
    assert found["none"] == (["gpu_none"], {})
    assert found["no_hbm_ssd"] == (["gpu_disk"], {"ssd_bytes": None})


@pytest.mark.parametrize(
    ("own", "name", "entry"),
    [
        ({**OWN, "block_tokens": 32}, "hbm_8192mib_blocks_32", {"hbm_bytes": 8 * GIB, "block_tokens": 32}),
        ({**OWN, "tensor_parallel": 2}, "hbm_8192mib_2_gpus", {"hbm_bytes": 8 * GIB}),
        (
            {**OWN, "hbm_kv_bytes": "16 GiB", "tensor_parallel": 16},
            "hbm_16384mib_16_gpus",
            {"hbm_bytes": 8 * GIB},
        ),
        ({**OWN, "hbm_kv_bytes": 6 * GIB + 1}, "hbm_6442450945b", {"hbm_bytes": 6 * GIB + 1}),
    ],
)
def test_blocks_and_gpus_are_the_scenarios_own(own, name, entry):
    assert tiers("experiments/gpu", scenarios__gpu_none__vllm=own, **H)[name] == (
        ["gpu_none"],
        entry,
    )


def small(**changes):
    """Two DRAM scenarios, one of them in fp8, at one chunk size."""
    full = merged(*(yaml.safe_load(Path(name).read_text()) for name in (*FILES, "config/smoke.yaml")))
    full["scenarios"]["dram"] |= {"chunk_tokens": 64, "dram_pool_bytes": "256 MiB"}
    full["scenarios"]["dram_fp8"] = {**full["scenarios"]["dram"], "kv_dtype": "fp8", **changes}
    full["experiment"]["scenarios"] = ["dram", "dram_fp8"]
    full["predict"] |= {"cases": {}}
    full["workload"] |= {"conversations": 24}
    full["replay"] |= {"hbm_kv_bytes": "160 MiB"}
    return checked(full)


def at_64(text: str) -> dict:
    """A spec of the prediction, of one chunk size."""
    return json.loads(text) | {"chunk_tokens": [64]}


def with_answers_saved(text: str) -> dict:
    """A spec of the prediction, of runs that save the KV of answers alone."""
    return at_64(text) | {"save_decode_cache": [True]}


def test_half_the_bytes_hold_as_much_as_twice_the_room():
    of_fp8 = hit_rates_table(with_answers_saved(predict_spec(small()))).set_index("tiers")
    assert list(of_fp8.index) == ["dram_256mib", "dram_256mib_fp8"]
    assert list(of_fp8["kv_dtype"]) == ["bfloat16", "fp8"]
    assert list(of_fp8["scenarios"]) == ["dram", "dram_fp8"]
    double = with_answers_saved(predict_spec(small()))
    double["cases"]["experiment"]["tiers"] = {"twice": {"hbm_bytes": 320 * MIB, "dram_bytes": 512 * MIB}}
    rate = hit_rates_table(double)["hit_rate"][0]
    assert of_fp8.loc["dram_256mib_fp8", "hit_rate"] == rate > of_fp8.loc["dram_256mib", "hit_rate"]


def test_a_format_that_is_the_usual_one_under_its_name_is_no_other():
    found = json.loads(predict_spec(small(kv_dtype="bfloat16")))["cases"]["experiment"]["tiers"]
    assert list(found) == ["dram_256mib"]
    assert found["dram_256mib"]["scenarios"] == ["dram", "dram_fp8"]


def test_measured_points_stand_beside_the_tiers_of_their_scenario():
    rates = hit_rates_table(at_64(predict_spec(small())))
    rows = [
        ("dram", "bfloat16", 0.2),
        ("dram_fp8", "fp8", 0.3),
        ("dram_fp8", "bfloat16", 0.9),
        ("other", "fp8", 0.8),
    ]
    cells = pd.DataFrame(
        {"scenario": name, "kv_dtype": form, "hit_rate": rate, "store": "dram", "chunk_tokens": 64, "load": 3}
        for name, form, rate in rows
    ).assign(valid=True, save_decode_cache=True, dram_pool_bytes=256 * MIB)
    axes = draw_hit_rate(rates, cells).axes[0]
    handles, texts = axes.get_legend_handles_labels()
    measured = {
        text: list(line.get_ydata()) for line, text in zip(handles, texts, strict=True) if "measured" in text
    }
    assert measured == {
        "measured: dram, 256 MiB, bfloat16": [0.2],
        "measured: dram, 256 MiB, fp8": [0.3],
    }
    assert texts[:2] == ["HBM 160 MiB + DRAM 256 MiB, bfloat16", "HBM 160 MiB + DRAM 256 MiB, fp8"]
