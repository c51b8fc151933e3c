"""What is said where throughput tells scenarios not apart and waiting does."""

import pandas as pd
import pytest

from tests.figures.made import all_text, scenario_rows
from workflow.hyperkv.figures.tier_tradeoff import draw_tier_tradeoff
from workflow.hyperkv.tables.methods.told_apart import told_apart

FAMILIES = ("none", "dram", "files")
TOLD = (
    "At 4 clients RPS/GPU hardly tells the scenarios apart, all their intervals overlap; "
    "TTFT p50 does: 30 ms (none) to 50 ms (files-64)."
)


def rows_of(rps=(1.0, 1.1, 0.9), ttft=(30.0, 40.0, 50.0), around=0.2) -> pd.DataFrame:
    """Two loads of three scenarios, so far apart at the higher one; at the lower one far apart in everything."""
    rows = scenario_rows(FAMILIES, chunks=(64,), loads=(1, 4))
    for column, values in (("rps_per_gpu", rps), ("ttft_p50_ms", ttft)):
        for load, apart in ((4, 1), (1, 9)):
            at = rows["load"] == load
            told = [value * apart * (number if load == 1 else 1) for number, value in enumerate(values, 1)]
            rows.loc[at, column] = told
            rows.loc[at, f"{column}_low"] = [value - around for value in told]
            rows.loc[at, f"{column}_high"] = [value + around for value in told]
    return rows


def test_the_sentence_names_both_ends_of_what_tells_them_apart():
    assert told_apart(rows_of()) == TOLD


@pytest.mark.parametrize(
    "rows",
    [
        rows_of(rps=(1.0, 1.1, 2.0)),
        rows_of(ttft=(30.0, 30.1, 30.2)),
        rows_of().assign(pair=["current", "reference"] * 3),
        rows_of().assign(ttft_p50_ms_low=None),
        rows_of().assign(rps_per_gpu_high=None),
        rows_of().assign(valid=False),
    ],
    ids=["rps does", "ttft does not", "two pairs", "no interval", "no interval of rps", "nothing valid"],
)
def test_else_nothing_is_said(rows):
    assert told_apart(rows) == ""


def test_an_invalid_row_takes_no_part():
    rows = rows_of(rps=(1.0, 1.1, 2.0))
    rows.loc[rows["scenario"] == "files-64", "valid"] = False
    assert "(none) to 40 ms (dram-64)" in told_apart(rows)


def test_the_figure_says_it_too():
    assert TOLD in all_text(draw_tier_tradeoff(rows_of(), 64))
    assert "tells the scenarios apart" not in all_text(draw_tier_tradeoff(rows_of(rps=(1.0, 1.1, 2.0)), 64))
