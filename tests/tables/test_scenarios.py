"""One row per scenario and load: medians over valid repeats."""

import pandas as pd

from tests.tables.repeats import rates
from workflow.hyperkv.tables.cells import cells_table
from workflow.hyperkv.tables.scenarios import scenarios_table


def test_medians_are_over_valid_repeats_only(real):
    table = scenarios_table(cells_table(rates(real["dram"], [1.0, None, 3.0])))
    row = table.iloc[0]
    assert (row["rps_per_gpu"], row["rps_per_gpu_low"], row["rps_per_gpu_high"]) == (2.0, 1.0, 3.0)
    assert (row["repeats"], row["valid_repeats"], row["valid"]) == (3, 2, False)
    assert row["reasons"] == "broken disk"


def test_a_group_without_a_valid_repeat_shows_its_medians_and_is_flagged(real):
    row = scenarios_table(cells_table(rates(real["dram"], [None, None]))).iloc[0]
    assert (row["rps_per_gpu"], row["valid_repeats"], row["valid"]) == (99.0, 0, False)
    assert row["reasons"] == "broken disk"


def test_rows_are_by_scenario_and_load(real):
    records = (
        rates(real["dram"], [1.0, 2.0], load=1)
        + rates(real["dram"], [5.0], load=2)
        + rates(real["none"], [7.0])
    )
    table = scenarios_table(cells_table(records))
    assert [(row["scenario"], row["load"], row["rps_per_gpu"]) for _, row in table.iterrows()] == [
        ("dram", 1, 1.5),
        ("dram", 2, 5.0),
        ("none", 2, 7.0),
    ]
    assert pd.isna(table.iloc[1]["rps_per_gpu_low"])
