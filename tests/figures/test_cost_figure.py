"""The figure of costs from tables of varied records: what it draws, what it says, and the same bytes every time."""

import sys

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from tests.figures.test_figures import all_text, svg_of
from tests.record_factory import measured, varied
from tests.tables.costs import NO_SLO, PRICES, full_prices, records
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.figures import cost as cost_figure
from workflow.hyperkv.figures.cost import PART_COLOURS, compared_rows, draw_cost
from workflow.hyperkv.figures.figures import read_table
from workflow.hyperkv.tables.cost import cost_table, repeats_table, sensitivity_table


@pytest.fixture(autouse=True)
def closed():
    """Figures of a test are closed after it."""
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """Records of scenarios none, dram and files at two loads, twice."""
    folder = tmp_path_factory.mktemp("cells")
    return records({name: measured(folder, name) for name in ("none", "dram", "files")})


def written(folder, lines, slo=NO_SLO):
    """cost.csv and cost_sensitivity.csv of records, as the figure reads them, and their paths."""
    repeats = repeats_table(lines, PRICES, slo)
    paths = [folder / "cost.csv", folder / "cost_sensitivity.csv"]
    cost_table(repeats).to_csv(paths[0], index=False)
    sensitivity_table(repeats, full_prices()).to_csv(paths[1], index=False)
    return read_table(paths[0]), pd.read_csv(paths[1]), paths


def test_every_scenario_has_a_bar_of_parts_that_add_up_to_its_cost(tmp_path, lines):
    cost, sensitivity, _ = written(tmp_path, lines)
    figure = draw_cost(cost, sensitivity, 32)
    left, right = figure.axes
    rows = compared_rows(cost)
    bars = left.patches
    assert len(bars) == 3 * len(PART_COLOURS)
    ends = [bars[5 * index + 4].get_x() + bars[5 * index + 4].get_width() for index in range(3)]
    assert ends == pytest.approx(list(rows["usd_per_million_tokens"]))
    text = all_text(figure)
    assert "keep 50 TPS/user" in text
    assert "2 clients or more" in text
    assert "1 clients; drive" in text
    assert "nan" not in text
    names = [label.get_text() for label in right.get_yticklabels()]
    assert names[0].startswith("gpu_usd_per_hour\n1 to 4 (2)")
    assert svg_of(figure).endswith(b"</svg>\n")


def test_a_scenario_that_keeps_no_slo_says_so(tmp_path, lines):
    cost, sensitivity, _ = written(tmp_path, lines, {"tps_per_user": 60.0, "ttft_p95_ms": 1e6})
    text = all_text(draw_cost(cost, sensitivity, 32))
    assert "no cost: no load that was measured keeps the SLO" in text
    assert "60 TPS/user and TTFT p95 up to 1e+06 ms" in text
    assert "nan" not in text


def test_an_open_loop_is_drawn_at_its_highest_load(tmp_path, lines):
    opened = []
    for line in lines:
        opened.append(line | {"spec": line["spec"] | {"loop": "open"}})
    cost, sensitivity, _ = written(tmp_path, opened)
    text = all_text(draw_cost(cost, sensitivity, 32))
    assert "load 2 of an open loop" in text
    assert "clients" not in text


def test_a_scenario_without_a_valid_cell_has_no_bar_and_its_reason(tmp_path, lines):
    bad = [varied(line, None, ("served from RAM",)) if line["scenario"] == "none" else line for line in lines]
    cost, sensitivity, _ = written(tmp_path, bad)
    figure = draw_cost(cost, sensitivity, 32)
    text = all_text(figure)
    assert "no cost: served from RAM" in text
    assert "keep 50 TPS/user" in text
    assert len(figure.axes[0].patches) == 2 * len(PART_COLOURS)


def test_scenarios_that_are_not_alike_are_refused(tmp_path, lines):
    cost, sensitivity, _ = written(tmp_path, lines)
    cost.loc[cost["scenario"] == "files", "comparable_digest"] = "other"
    with pytest.raises(UserError, match="differ in comparable_digest"):
        draw_cost(cost, sensitivity, 32)
    with pytest.raises(UserError, match="no scenario has chunk 64"):
        draw_cost(cost, sensitivity, 64)


def test_the_stage_writes_the_same_bytes_twice(tmp_path, monkeypatch, lines):
    _, _, (cost, sensitivity) = written(tmp_path, lines)
    made = []
    for name in ("a", "b"):
        out = [tmp_path / f"{name}.svg", tmp_path / f"{name}.png"]
        arguments = ["--spec", '{"chunk_tokens": 32}', "--cost", cost, "--sensitivity", sensitivity]
        monkeypatch.setattr(
            sys, "argv", ["cost_figure", *map(str, [*arguments, "--svg", out[0], "--png", out[1]])]
        )
        cost_figure.main()
        made.append([path.read_bytes() for path in out])
    assert made[0] == made[1]
