"""The figure of tiers: every cell once, hollow where invalid, numbered where the line turns back."""

import re

from tests.figures.made import all_text, legend_of, points, scenario_rows, svg_of
from workflow.hyperkv.figures.tier_tradeoff import draw_tier_tradeoff

PANELS = (("tps_per_user", "rps_per_gpu"), ("load", "ttft_p50_ms"), ("load", "ttft_p95_ms"))


def at_loads(drawn, x):
    """Points with those that stand beside their load (_beside) at it."""
    return {(round(at) if x == "load" else at, value) for at, value in drawn}


def test_intervals_of_one_load_do_not_hide_one_another():
    rows = scenario_rows(("none", "dram", "files"), chunks=(64,), loads=(4,))
    waits = draw_tier_tradeoff(rows, 64).axes[1]
    places = sorted(at for at, _ in points(waits, hollow=False))
    assert len(set(places)) == 3
    assert places[1] == 4
    once = rows.assign(ttft_p50_ms_low=None)
    assert {at for at, _ in points(draw_tier_tradeoff(once, 64).axes[1], hollow=False)} == {4}


def test_every_valid_cell_of_the_chunk_is_drawn_once():
    rows = scenario_rows()
    figure = draw_tier_tradeoff(rows, 64)
    wanted = rows[(rows["tier"] == "none") | (rows["chunk_tokens"] == 64)]
    for axes, (x, y) in zip(figure.axes, PANELS, strict=True):
        assert at_loads(points(axes, hollow=False), x) == set(zip(wanted[x], wanted[y], strict=True))
        assert points(axes, hollow=True) == set()
    assert not any("hollow" in text for text in legend_of(figure))


def test_without_loads_it_says_so():
    assert "No load was measured" in all_text(draw_tier_tradeoff(scenario_rows().head(0), 64))


def test_every_point_leads_to_its_cells():
    rows = scenario_rows(("none", "files"), chunks=(64,))
    drawn = svg_of(draw_tier_tradeoff(rows, 64)).decode()
    links = re.findall(r'xlink:href="#(cell-[^"]+)"', drawn)
    assert sorted(links) == sorted(3 * ["cell-none-1", "cell-none-4", "cell-files-64-1", "cell-files-64-4"])


def test_invalid_cells_are_hollow():
    rows = scenario_rows()
    bad = (rows["scenario"] == "files-64") & (rows["load"] == 4)
    rows.loc[bad, "valid"] = False
    figure = draw_tier_tradeoff(rows, 64)
    for axes, (x, y) in zip(figure.axes, PANELS, strict=True):
        assert at_loads(points(axes, hollow=True), x) == {(rows[bad].iloc[0][x], rows[bad].iloc[0][y])}
    assert "hollow: invalid, see cells.csv" in legend_of(figure)


def test_a_line_that_turns_back_has_its_clients_at_its_points():
    rows = scenario_rows(("dram", "files"), chunks=(64,), loads=(1, 4))
    rows["tps_per_user"] = 50 - rows["load"]
    assert "points: 1, 4 clients, right to left;" in all_text(draw_tier_tradeoff(rows, 64))
    line = rows["scenario"] == "files-64"
    rows.loc[line, "tps_per_user"] = 40 + rows["load"]
    figure = draw_tier_tradeoff(rows, 64)
    assert "right to left where not numbered;" in all_text(figure)
    assert sorted(float(text.get_text()) for text in figure.axes[0].texts) == sorted(rows.loc[line, "load"])


def test_one_load_has_no_order_and_its_points_stand_close_to_it():
    rows = scenario_rows(("dram", "files"), chunks=(64,), loads=(3,))
    rows = rows.assign(ttft_p50_ms_low=rows["ttft_p50_ms"] - 1, ttft_p50_ms_high=rows["ttft_p50_ms"] + 1)
    figure = draw_tier_tradeoff(rows, 64)
    assert "points: 3 clients;" in all_text(figure)
    low, high = figure.axes[1].get_xlim()
    beside = [x for line in figure.axes[1].lines for x in line.get_xdata()]
    assert max(abs(x - 3) for x in beside) < (high - low) / 4


def test_an_unknown_hit_rate_is_a_dash():
    rows = scenario_rows()
    rows.loc[rows["scenario"] == "files-64", ["hit_rate", "rps_per_gpu"]] = None
    text = all_text(draw_tier_tradeoff(rows, 64))
    assert "hit rate -" in text
    assert "nan" not in text
