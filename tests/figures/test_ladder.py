"""The figures of the ladder: every step with its gain, and the first beside the last."""

import pandas as pd

from tests.figures.made import all_text, ladder_rows, legend_of
from workflow.hyperkv.figures.before_after import draw_before_after
from workflow.hyperkv.figures.ladder import draw_ladder


def test_every_step_has_a_bar_and_its_gain():
    rows = ladder_rows()
    rows.loc[rows["step"] == "fp8", ["valid", "valid_repeats"]] = [False, 2]
    figure = draw_ladder(rows)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["40", "20; x2.00 [1.90, 2.10]", "10; x2.00 [1.90, 2.10]; in all x4.00; 2 of 3 valid"]
    steps = [label.get_text().split("\n")[0] for label in figure.axes[0].get_yticklabels()]
    assert steps == ["reference", "more", "fp8"]
    assert [bar.get_facecolor()[3] for bar in figure.axes[0].patches] == [1, 1, 0]
    assert legend_of(figure.axes[0]) == ["no cache below HBM (recompute)"]
    assert "2 clients, 3 repeats" in all_text(figure)


def test_before_and_after_are_the_first_step_the_last_and_the_last_of_the_first_s_format():
    names = legend_of(draw_before_after(ladder_rows()).axes[0])
    assert names == [
        "before: reference (dram, inprocess)",
        "after: more (dram, inprocess)",
        "after: fp8 (dram, inprocess, fp8)",
        "no cache below HBM (recompute)",
    ]


def test_before_and_after_numbers_the_points_of_lines_that_are_drawn_only():
    rows = ladder_rows()
    between = rows[rows["step"] == "more"].assign(scenario="dram_between", step="between", number=0.5)
    between["tps_per_user"] = 10.0 * between["load"]
    assert not draw_before_after(pd.concat([rows, between])).axes[0].texts
    rows.loc[rows["step"] == "fp8", "tps_per_user"] = 10.0 * rows["load"]
    assert [text.get_text() for text in draw_before_after(rows).axes[0].texts] == ["1", "2"]
