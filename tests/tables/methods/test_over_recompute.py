"""Every scenario over recompute of its own run: paired by repeat, of what is alike and valid, and the break-even that follows."""

from copy import deepcopy

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kept import H100, kept, repeated
from workflow.hyperkv.predict.single_requests import requests_of
from workflow.hyperkv.tables.cells import cells_table
from workflow.hyperkv.tables.methods.over_recompute import cell_ratios, measured_break_even, single_ratios

RUN = kept(H100)
CELLS, SINGLES = RUN.of("cell"), RUN.of("single")
DRIFT = {1: 1.0, 2: 1.5, 3: 0.8}  # of a machine, of all of a repeat


def drifting(scenario: str, repeat: int) -> float:
    """DRAM's first tokens take a tenth longer from repeat to repeat, on a machine that drifts."""
    return DRIFT[repeat] * (1 + 0.1 * (repeat - 1) * (scenario == "h100_dram"))


def of(table: pd.DataFrame, **facts) -> dict:
    """The one row that has the facts."""
    for name, value in facts.items():
        table = table[table[name] == value]
    (row,) = table.to_dict("records")
    return row


def test_cells_are_paired_by_repeat_so_that_a_machines_drift_is_in_no_ratio():
    row = of(cell_ratios(cells_table(repeated(CELLS, drifting))), scenario="h100_dram", load=20)
    none, dram = (
        next(each["values"] for each in CELLS if (each["scenario"], each["load"]) == (name, 20))
        for name in ("h100_none", "h100_dram")
    )
    rps, ttft = (dram[name] / none[name] for name in ("rps_per_gpu", "ttft_p50_ms"))
    assert [row[f"ttft_ratio{end}"] for end in ("_low", "", "_high")] == pytest.approx(
        [ttft, 1.1 * ttft, 1.2 * ttft]
    )
    assert [row[f"rps_ratio{end}"] for end in ("_high", "", "_low")] == pytest.approx(
        [rps, rps / 1.1, rps / 1.2]
    )
    assert row["repeats"] == 3


def test_single_requests_are_too_of_the_prompts_that_proved_themselves():
    records = repeated(SINGLES, drifting)
    row = of(single_ratios(records), scenario="h100_dram", prompt_tokens=8200)
    assert [row[f"ratio{end}"] for end in ("_low", "", "_high")] == pytest.approx(
        [0.2243, 0.2468, 0.2692], abs=1e-4
    )
    assert row["loaded_bytes"] == 8192 * 131072
    assert row["loaded_share"] == pytest.approx(8192 / 8200)
    for record in records:
        for sample in record["samples"] if record["scenario"] == "h100_dram" and record["repeat"] < 3 else ():
            sample["faults"] = ["nothing was found again"] if sample["pass"] == "again" else []
    row = of(single_ratios(records), scenario="h100_dram", prompt_tokens=8200)
    assert (row["valid"], row["reasons"], row["repeats"]) == (False, "nothing was found again", 1)
    assert row["ratio"] == pytest.approx(0.2692, abs=1e-4)
    assert pd.isna(row["ratio_low"])


def test_one_repeat_has_no_interval():
    assert cell_ratios(cells_table(CELLS))["ttft_ratio_low"].isna().all()
    assert single_ratios(SINGLES)["ratio_low"].isna().all()


def test_what_is_not_valid_is_in_no_ratio():
    rows = cell_ratios(cells_table(CELLS))
    assert not cells_table(CELLS).query("scenario == 'h100_striped_mp_disk' and load == 20")["valid"].any()
    assert list(rows.loc[rows["scenario"] == "h100_striped_mp_disk", "load"]) == [5]


def test_where_recompute_is_not_alike_there_is_no_ratio_and_the_facts_are_named():
    cells = cells_table(CELLS)
    cells.loc[cells["scenario"] == "h100_none", ["kv_dtype", "comparable_digest"]] = ["fp8", "other"]
    rows = cell_ratios(cells)
    assert set(rows["unlike"]) == {"configuration, kv_dtype"}
    assert rows["rps_ratio"].isna().all()
    other = cells[cells["scenario"] == "h100_none"].assign(scenario="none_bf16", kv_dtype="bfloat16")
    other["comparable_digest"] = cells["comparable_digest"].iloc[-1]
    assert cell_ratios(pd.concat([cells, other]))["unlike"].isna().all()
    assert cell_ratios(cells[cells["tier"] != "none"])["rps_ratio"].isna().all()


@given(st.floats(0.3, 5), st.floats(0.01, 0.1), st.floats(0.5, 20))
def test_at_break_even_a_prompt_takes_as_long_loaded_as_computed(computed_s, pool_s, size_gb):
    pool = single(pool_s, computed_s) | {"loaded_bytes": size_gb * 1e9}
    disk = pool | single(3.0, computed_s, "kvrocks")
    table = pd.DataFrame([pool | single(2 * pool_s, computed_s, name="slower"), pool, disk])
    needs, gave = measured_break_even(table, disk)
    assert size_gb / needs.median + pool_s == pytest.approx(computed_s)
    assert size_gb / needs.low + 0.9 * pool_s == pytest.approx(1.1 * computed_s)
    assert size_gb / needs.high + 1.1 * pool_s == pytest.approx(0.9 * computed_s)
    assert size_gb / gave + pool_s == pytest.approx(3.0)
    assert measured_break_even(table, pool)[0] == needs
    for change in ({"kv_dtype": "bfloat16"}, {"gpus": 2}, {"computed_s": pool_s}, {"loaded_bytes": None}):
        assert measured_break_even(table, disk | change)[0].median is None, change
    assert measured_break_even(table, disk | {"loaded_s": pool_s})[1] is None


def single(loaded_s: float, computed_s: float, store: str = "dram", name: str | None = None) -> dict:
    """A row of single_ratios with intervals of a tenth."""
    row = {"gpu": "H100", "gpus": 1, "model": "m", "pair": None, "kv_dtype": "fp8", "prompt_tokens": 8200}
    row |= {"scenario": name or store, "store": store, "tier": "dram" if store == "dram" else "ssd"}
    for key, value in (("loaded_s", loaded_s), ("computed_s", computed_s)):
        row |= {key: value, f"{key}_low": 0.9 * value, f"{key}_high": 1.1 * value}
    return row


def test_bytes_are_those_that_were_stored():
    """Of half the bytes, and of KV heads that are on two GPUs each."""
    records = [deepcopy(record) for record in SINGLES if record["scenario"] == "h100_striped_mp"]
    for record in records:
        record["spec"]["scenario"]["serde"] = "fp8"
    row = of(single_ratios(records), prompt_tokens=8200)
    assert row["loaded_bytes"] == 8192 * 131072 / 2
    for record in records:
        record["spec"]["scenario"] |= {"serde": None, "vllm": {"tensor_parallel": 16}}
    row = of(single_ratios(records), prompt_tokens=8200)
    assert row["loaded_bytes"] == 8192 * 131072 * 2
    loaded = {each.loaded_bytes for record in records for each in requests_of(record)}
    assert row["loaded_bytes"] in loaded
