"""One row per cell: what is not known is empty, and cells that ran unlike are no repeats."""

import json

import pandas as pd
import pytest

from tests.record_factory import varied
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.records.parity import comparable_digest
from workflow.hyperkv.tables.cells import cells_table
from workflow.hyperkv.tables.scenarios import scenarios_table


def test_unknown_is_empty_not_0_and_tier_none_stays_a_word(written):
    cells = pd.read_csv(written / "cells.csv", keep_default_na=False, dtype=str)
    none = cells[cells["scenario"] == "none"].iloc[0]
    assert none["tier"] == "none"
    assert none["served_bytes"] == none["store"] == none["load_gbps"] == ""
    assert none["loaded_bytes"] == "0"


def test_environments_are_named_once(written, real):
    different = []
    for record in real.values():
        if record["environment"] not in different:
            different.append(record["environment"])
    assert json.loads((written / "environment.json").read_text()) == different


def test_requests_have_a_row_each(written, real):
    requests = pd.read_parquet(written / "requests.parquet")
    sent = sum(record["evidence"]["sent_requests"] for record in real.values())
    assert len(requests) == 2 * sent
    one = requests[(requests["scenario"] == "dram") & (requests["repeat"] == 2)]
    assert one["computed_tokens"].sum() == real["dram"]["evidence"]["computed_tokens"]


def test_a_row_says_how_many_gpus_there_were(real):
    cells = cells_table([real["dram"], real["dram"] | {"gpus": 2, "scenario": "two"}])
    assert list(cells["gpus"]) == [1, 2]
    assert list(scenarios_table(cells)["gpus"]) == [1, 2]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"spec_digest": "other"}, "spec_digest"),
        ({"gpus": 2}, "gpus"),
        ({"effective": {"save_decode_cache": False}}, "save_decode_cache"),
        ({"effective": {"kv_dtype": "fp8"}}, "kv_dtype"),
    ],
)
def test_cells_of_one_scenario_that_ran_unlike_are_no_repeats(tables_of, real, changes, word):
    other = varied(real["dram"], repeat=2)
    other["effective"] |= changes.pop("effective", {})
    with pytest.raises(UserError, match=f"scenario dram: its cells differ in {word}"):
        tables_of([real["none"], real["dram"], other | changes])


def test_cells_are_comparable_unless_something_but_the_scenario_differs(real):
    same = varied(real["dram"])
    same["spec"]["data_dir"] = "elsewhere"  # on another disk it has that disk beside it (records/hardware.py)
    assert comparable_digest(same) == comparable_digest(real["none"])
    same["spec"]["loads"] = [9]
    assert comparable_digest(same) == comparable_digest(real["none"])
    same["spec"]["replay"]["hbm_kv_bytes"] += 1
    assert comparable_digest(same) != comparable_digest(real["none"])


def test_cells_of_a_real_engine_name_its_gpu(tables_of, real):
    spec = {**real["none"]["spec"], "vllm": {"device": "cpu"}}
    spec["scenario"] = {**spec["scenario"], "vllm": {}}
    cells = pd.read_csv(tables_of([real["none"] | {"gpu_model": None, "spec": spec}]) / "cells.csv")
    assert cells["gpu"][0] == "CPU"
