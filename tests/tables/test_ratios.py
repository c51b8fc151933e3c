"""The baseline over other scenarios, paired by repeat, of what ran alike."""

import pandas as pd
import pytest

from tests.record_factory import varied
from tests.tables.repeats import rates
from workflow.hyperkv.tables.cells import cells_table
from workflow.hyperkv.tables.ratios import baseline_of, ratios_table


def ratio(records: list[dict], **where) -> pd.Series:
    """The one row of the ratios, dram over others, with those values."""
    table = ratios_table(cells_table(records), "dram")
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
    cells = cells_table([real["none"], other, real["dram"]])
    assert baseline_of(cells, None, 32) == "dram"
    assert baseline_of(cells, None, 64) == "dram-64"
    assert baseline_of(cells, None, 16) == "dram-64"
    assert baseline_of(cells, "none", 64) == "none"
    assert baseline_of(cells, "elsewhere", 64) == "dram-64"
    assert baseline_of(cells_table([real["none"]]), None, 16) is None


def of_pair(record: dict, pair: str, scenario: str, rps: float, **own) -> dict:
    """A cell of engine vllm, of a pair."""
    made = varied(record, {"rps_per_gpu": rps}, scenario=scenario, engine="vllm")
    made["effective"] |= {"pair": pair, "vllm": {"current": "0.33.0", "reference": "0.25.0"}[pair]}
    made["spec"]["scenario"] |= own
    return made


def test_ratios_are_taken_within_a_pair_against_a_baseline_of_its_own(real):
    files = {"store": "files", "connector": "inprocess", "tier": "ssd"}
    records = [
        of_pair(real["none"], "current", "none", 2.0),
        of_pair(real["dram"], "current", "files_mp", 8.0, **files | {"connector": "mp"}),
        of_pair(real["none"], "reference", "none_reference", 1.0),
        of_pair(real["dram"], "reference", "dram", 6.0),
        of_pair(real["dram"], "reference", "files", 2.0, **files),
    ]

    def at_load(named: str | None) -> dict:
        found = ratios_table(cells_table(records), named)
        found = found[(found["at"] == "load") & (found["metric"] == "rps_per_gpu")]
        return {(row["baseline"], row["scenario"]): row["ratio"] for _, row in found.iterrows()}

    current = {("none", "files_mp"): 0.25}
    assert at_load(None) == current | {("dram", "none_reference"): 6.0, ("dram", "files"): 3.0}
    assert at_load("none_reference") == current | {
        ("none_reference", "dram"): pytest.approx(1 / 6),
        ("none_reference", "files"): 0.5,
    }
    assert ratios_table(cells_table(records), None)["unlike"].isna().all()


def test_the_pool_of_a_server_is_a_baseline_where_there_is_none_inside_vllm(real):
    pool = of_pair(real["dram"], "current", "pool", 2.0, connector="mp")
    cells = cells_table([of_pair(real["none"], "current", "none", 1.0), pool])
    assert baseline_of(cells, None, 64) == "pool"
