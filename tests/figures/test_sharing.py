"""Figure sharing: who saved what was found, and what sharing the store changes."""

import pandas as pd
import pytest
from matplotlib.patches import Rectangle

from tests.figures.made import all_text, sharing_rows
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.figures.sharing import draw_sharing


def drawn(rows):
    """The figure, and the widths of each scenario's bars in its left panel, from top to bottom."""
    figure = draw_sharing(rows, 64)
    bars: dict[float, list[float]] = {}
    for bar in figure.axes[0].findobj(Rectangle):
        if bar.get_height() == pytest.approx(0.62):
            bars.setdefault(round(bar.get_y(), 3), []).append(round(bar.get_width(), 3))
    return figure, [bars[place] for place in sorted(bars, reverse=True)]


def test_bars_are_who_saved_what_was_found_at_the_highest_load_and_add_up():
    rows = sharing_rows()
    figure, bars = drawn(rows)
    assert len(bars) == 8
    assert all(sum(parts) == pytest.approx(1) for parts in bars)
    shown = rows[rows["load"] == 4].sort_values("routing", kind="stable")
    for parts, (_, row) in zip(bars, shown.iterrows(), strict=True):
        assert parts[:3] == pytest.approx([row["held_share"], row["own_share"], row["other_share"]])
    assert "2 engines on 2 GPUs, 4 clients together" in all_text(figure)


def test_what_it_buys_stands_at_what_shares_with_its_interval():
    text = all_text(draw_sharing(sharing_rows(), 64))
    assert text.count("x 1.25\n(1.15 to 1.35)") == 2
    assert text.count("x 1.50\n(1.40 to 1.60)") == 2
    for words in (
        "KV shared by all",
        "KV of each engine apart",
        "a pool for each engine",
        "files_request_apart: ",
    ):
        assert words in text


def test_what_stands_beside_bars_is_inside_the_panels():
    figure = draw_sharing(sharing_rows(), 64)
    figure.canvas.draw()
    for axes in figure.axes[1:]:
        assert axes.texts
        for text in axes.texts:
            assert text.get_window_extent().x1 <= axes.get_window_extent().x1


def test_what_nobody_told_is_not_given_to_an_engine():
    rows = sharing_rows()
    rows.loc[rows["store"] == "files", ["own_share", "other_share"]] = None
    figure, bars = drawn(rows)
    assert "by whom it was saved is not known" in all_text(figure)
    assert bars[3][:4] == pytest.approx([0.1, 0, 0, 0.2])
    assert "not known" not in all_text(draw_sharing(sharing_rows(), 64))


def test_invalid_ones_are_hatched_and_said():
    rows = sharing_rows().assign(valid=False)
    assert "hatched: not valid in every repeat, see sharing.csv" in all_text(draw_sharing(rows, 64))


def test_other_numbers_of_gpus_are_not_alike():
    rows = sharing_rows()
    rows.loc[rows["store"] == "files", "gpus"] = 4
    with pytest.raises(UserError, match=r"experiment\.engines"):
        draw_sharing(rows, 64)


def test_of_one_engine_there_is_nothing_to_draw():
    assert "experiment.engines" in all_text(draw_sharing(pd.DataFrame(columns=sharing_rows().columns), 64))
