"""The figure of costs: what it draws, what it says, what it refuses."""

import pandas as pd
import pytest

from tests.figures.made import all_text, cost_rows, sensitivity_rows
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.figures.cost import PART_COLOURS, draw_cost
from workflow.hyperkv.tables.methods.cost_model import compared_rows


def test_every_scenario_has_a_bar_of_parts_that_add_up_to_its_cost():
    cost = cost_rows()
    figure = draw_cost(cost, sensitivity_rows(), 64)
    left, right = figure.axes
    bars = left.patches
    assert len(bars) == 3 * len(PART_COLOURS)
    ends = [bars[5 * index + 4].get_x() + bars[5 * index + 4].get_width() for index in range(3)]
    assert ends == pytest.approx(list(pd.concat(compared_rows(cost))["usd_per_million_tokens"]))
    text = all_text(figure)
    assert "keep 50 TPS/user" in text
    assert "2 clients or more" in text
    assert "2 clients; drive 2.1 years" in text
    assert "nan" not in text
    names = [label.get_text() for label in right.get_yticklabels()]
    assert names == ["gpu_usd_per_hour\n1 to 4 (2)"]
    assert "under 1 %: ssd_usd_per_gb" in text


def test_tiers_of_one_store_are_told_apart_where_prices_move_them():
    """As Kvrocks on a tmpfs and on a disk."""
    cost = cost_rows()
    cached = cost["tier"] != "none"
    cost.loc[cached, ["store", "connector"]] = ["kvrocks", "direct_mp"]
    drawn = draw_cost(cost, sensitivity_rows(), 64).axes[1]
    handles, names = drawn.get_legend_handles_labels()
    assert len(names) == cost[cached]["tier"].nunique() == 2
    assert len({handle.patches[0].get_facecolor() for handle in handles}) == 2


def test_without_loads_it_says_so():
    assert "No load was measured" in all_text(draw_cost(cost_rows().head(0), sensitivity_rows().head(0), 64))


def test_a_scenario_without_a_cost_has_no_bar_and_its_reason():
    cost = cost_rows().assign(slo_tps_per_user=60.0, slo_ttft_p95_ms=1e6)
    cost.loc[cost["scenario"] == "none", "usd_per_million_tokens"] = None
    cost.loc[cost["scenario"] == "none", "reasons"] = "no load that was measured keeps the SLO"
    figure = draw_cost(cost, sensitivity_rows(), 64)
    text = all_text(figure)
    assert "no cost: no load that was measured keeps the SLO" in text
    assert "60 TPS/user and TTFT p95 up to 1e+06 ms" in text
    assert "nan" not in text
    assert len(figure.axes[0].patches) == 2 * len(PART_COLOURS)


def test_an_open_loop_is_drawn_at_its_highest_load():
    cost = cost_rows().assign(users_per_gpu=None)
    text = all_text(draw_cost(cost[cost["at"] == "load"], sensitivity_rows(), 64))
    assert "load 2 of an open loop" in text
    assert "clients" not in text


def test_scenarios_that_are_not_alike_are_refused():
    cost = cost_rows()
    with pytest.raises(UserError, match="no scenario has chunk 32"):
        draw_cost(cost, sensitivity_rows(), 32)
    cost.loc[cost["scenario"] == "files", "comparable_digest"] = "other"
    with pytest.raises(UserError, match="differ in comparable_digest"):
        draw_cost(cost, sensitivity_rows(), 64)
