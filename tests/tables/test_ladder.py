"""The ladder: steps that differ by exactly what they name, gains paired by repeat, and what is refused."""

import json
from copy import deepcopy
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import yaml

from tests.record_factory import varied
from tests.workflow_helpers import changed, merged
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.config.config import checked
from workflow.hyperkv.config.plan import ladder_spec
from workflow.hyperkv.tables.ladder import ladder_table
from workflow.hyperkv.tables.methods.dictionary import columns_dictionary
from workflow.hyperkv.tables.methods.ladder_parity import changed_keys

FILES = ("config/scenarios.yaml", "config/config.yaml", "config/experiments/ladder.yaml")
SPEC = {
    "steps": [
        {"step": "reference", "scenario": "dram", "changes": []},
        {"step": "more", "scenario": "dram_more", "changes": ["connections"]},
        {"step": "fp8", "scenario": "dram_fp8", "changes": ["kv_dtype"]},
    ],
    "beside": ["none"],
}


def config(changes=None):
    """The repository's ladder, with values set under dotted keys."""
    return checked(
        changed(merged(*[yaml.safe_load(Path(name).read_text()) for name in FILES]), changes or {})
    )


def records(real, ttft=None):
    """Three scenarios and `none` in two repeats; TTFT 40, 20 and 5 ms, one more in repeat 2."""
    found = []
    for name, values, own in [
        ("none", (80, {}), real["none"]),
        ("dram", (40, {}), real["dram"]),
        ("dram_more", (20, {"connections": 8}), real["dram"]),
        ("dram_fp8", (5, {"connections": 8, "kv_dtype": "fp8"}), real["dram"]),
    ]:
        for repeat in (1, 2):
            value = (ttft or {}).get(name, values[0]) + repeat - 1
            record = varied(deepcopy(own), {"ttft_p50_ms": value, "rps_per_gpu": 100 / value}, repeat=repeat)
            record["spec"]["scenario"] |= values[1] | {"name": name}
            record["effective"]["kv_dtype"] = values[1].get("kv_dtype", "bfloat16")
            found.append(record | {"scenario": name})
    return found


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_the_repository_s_ladder_keeps_its_word():
    steps = json.loads(ladder_spec(config()))["steps"]
    assert [step["step"] for step in steps] == [
        "reference", "native client", "small values", "allocator", "write path", "no compactions", "striped", "patched server", "fp8",
    ]  # fmt: skip
    assert all(step["changes"] for step in steps[1:])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "scenarios.ladder_allocator.connections",
            8,
            "differs from ladder_small_values in connections as well",
        ),
        ("scenarios.ladder_striped.data_dir", "x", "differs from ladder_no_compactions in data_dir as well"),
        ("scenarios.ladder_fp8.loads", [9], "differs from ladder_patched in config loads as well"),
        (
            "scenarios.ladder_native_client.connector",
            "redis",
            "native client.changes: connector does not differ",
        ),
        ("ladder.steps.reference.changes", ["connector"], "the first step changes nothing"),
        ("ladder.steps.fp8.changes", ["kv_dtype", "stripe_bytes"], "stripe_bytes does not differ"),
        (
            "ladder.steps.fp8.scenario",
            "nowhere",
            "ladder.steps.fp8.scenario: nowhere is not among experiment",
        ),
        ("ladder.beside", ["files"], "ladder.beside: files is not among experiment.scenarios"),
        ("ladder.steps", {"reference": {"scenario": "ladder_reference"}}, "a ladder has two steps at least"),
    ],
)
def test_a_ladder_that_is_none_is_refused_in_one_line(key, value, message):
    with pytest.raises(UserError) as caught:
        ladder_spec(config({key: value}))
    assert message in str(caught.value)
    assert str(caught.value).startswith("config: ")
    assert "\n" not in str(caught.value)


def test_differences_name_keys_in_settings_and_outside_the_scenario():
    one = {"model": "a", "scenario": {"name": "x", "connections": 1, "settings": {"k": 1, "l": 2}}}
    other = {"model": "b", "scenario": {"name": "y", "connections": 1, "settings": {"k": 2, "l": 2, "m": 3}}}
    assert changed_keys(one, other) == {"config model", "settings.k", "settings.m"}


def test_of_what_a_pair_brings_along_the_pair_alone_is_named():
    one, other = (
        {
            "scenario": {"name": pair, "pair": pair},
            "vllm": {"flags": [], "pairs": {pair: {"flags": [pair]}}},
            "engine_python": pair,
            "environment_records": {"engine": pair},
        }
        for pair in ("current", "reference")
    )
    assert changed_keys(one, other) == {"pair"}
    other["vllm"]["flags"] = ["--x"]
    assert changed_keys(one, other) == {"pair", "config vllm"}


def test_gains_are_paired_and_over_both_the_step_before_and_the_first(real):
    table = ladder_table(SPEC, records(real)).set_index("scenario")
    assert list(table["number"])[:3] == [0, 1, 2]
    assert pd.isna(table.loc["dram", "ttft_gain_over_previous"])
    assert pd.isna(table.loc["dram", "ttft_gain_over_first"])
    more, fp8 = table.loc["dram_more"], table.loc["dram_fp8"]
    assert more["ttft_gain_over_previous"] == pytest.approx((40 / 20 + 41 / 21) / 2)
    assert more["rps_gain_over_first"] == pytest.approx(more["ttft_gain_over_first"])
    assert fp8["ttft_gain_over_previous_low"] == pytest.approx(21 / 6)
    assert fp8["ttft_gain_over_first"] == pytest.approx((40 / 5 + 41 / 6) / 2)
    assert pd.isna(table.loc["none", "number"])


def test_an_invalid_repeat_takes_no_part_in_a_gain(real):
    cells = records(real)
    bad = next(item for item in cells if (item["scenario"], item["repeat"]) == ("dram_more", 1))
    bad |= {"valid": False, "reasons": ["wrong bytes"]}
    row = ladder_table(SPEC, cells).set_index("scenario").loc["dram_more"]
    assert (row["valid"], row["valid_repeats"], row["reasons"]) == (False, 1, "wrong bytes")
    assert row["ttft_gain_over_previous"] == pytest.approx(41 / 21)
    assert pd.isna(row["ttft_gain_over_previous_low"])


def test_records_that_are_not_as_the_steps_say_are_refused(real):
    cells = records(real)
    for record in cells:
        if record["scenario"] == "dram_fp8":
            record["spec"]["scenario"]["connections"] = 16
    with pytest.raises(UserError, match="dram_fp8 differs from dram_more in connections as well"):
        ladder_table(SPEC, cells)
    with pytest.raises(UserError, match="scenario dram_more was not measured"):
        ladder_table(SPEC, [item for item in records(real) if item["scenario"] != "dram_more"])


def test_the_table_has_the_columns_of_the_dictionary(real):
    dictionary = columns_dictionary()["ladder"]
    assert set(ladder_table(SPEC, records(real))) == set(dictionary)
