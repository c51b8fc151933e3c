"""The figure of tiers: every cell once, hollow where invalid, numbered where the line turns back."""

from tests.figures.made import all_text, legend_of, points, scenario_rows
from workflow.hyperkv.figures.tier_tradeoff import draw_tier_tradeoff


def test_every_valid_cell_of_the_chunk_is_drawn_once():
    rows = scenario_rows()
    axes = draw_tier_tradeoff(rows, 64).axes[0]
    wanted = rows[(rows["tier"] == "none") | (rows["chunk_tokens"] == 64)]
    assert points(axes, hollow=False) == set(zip(wanted["tps_per_user"], wanted["rps_per_gpu"], strict=True))
    assert points(axes, hollow=True) == set()
    assert not any("hollow" in text for text in legend_of(axes))


def test_invalid_cells_are_hollow():
    rows = scenario_rows()
    bad = (rows["scenario"] == "files-64") & (rows["load"] == 4)
    rows.loc[bad, "valid"] = False
    axes = draw_tier_tradeoff(rows, 64).axes[0]
    assert points(axes, hollow=True) == {
        (rows[bad].iloc[0]["tps_per_user"], rows[bad].iloc[0]["rps_per_gpu"])
    }
    assert "hollow: invalid, see cells.csv" in legend_of(axes)


def test_a_line_that_turns_back_has_its_clients_at_its_points():
    rows = scenario_rows(("dram", "files"), chunks=(64,), loads=(1, 4))
    rows["tps_per_user"] = 50 - rows["load"]
    assert "points: 1, 4 clients, right to left;" in all_text(draw_tier_tradeoff(rows, 64))
    line = rows["scenario"] == "files-64"
    rows.loc[line, "tps_per_user"] = 40 + rows["load"]
    figure = draw_tier_tradeoff(rows, 64)
    assert "right to left where not numbered;" in all_text(figure)
    assert sorted(float(text.get_text()) for text in figure.axes[0].texts) == sorted(rows.loc[line, "load"])


def test_an_unknown_hit_rate_is_a_dash():
    rows = scenario_rows()
    rows.loc[rows["scenario"] == "files-64", ["hit_rate", "rps_per_gpu"]] = None
    text = all_text(draw_tier_tradeoff(rows, 64))
    assert "hit rate -" in text
    assert "nan" not in text
