"""The figure of predicted hit rates, with what was measured beside them."""

import pandas as pd
import pytest

from tests.figures.made import all_text, cell_rows, hit_rate_rows, svg_of
from workflow.hyperkv.figures.hit_rate import ALONE, draw_hit_rate

NOTHING = pd.DataFrame()


def texts(axes) -> list[str]:
    return axes.get_legend_handles_labels()[1]


def test_there_is_a_row_per_case_and_a_column_per_saved():
    figure = draw_hit_rate(hit_rate_rows(), cell_rows())
    assert len(figure.axes) == 4
    reference, _, measured, other = figure.axes
    assert texts(reference) == [
        "HBM 256 MiB",
        "HBM 256 MiB + DRAM 256 MiB",
        "HBM 256 MiB + DRAM 512 MiB",
        "HBM 256 MiB + SSD unbounded",
        ALONE,
    ]
    assert texts(measured)[-2:] == ["measured: files", "measured: HBM alone"]
    assert not any(text.startswith("measured") for text in texts(other))
    looks = [(line.get_color(), line.get_linestyle()) for line in reference.lines]
    assert len(set(looks)) == len(looks)
    assert [axes.texts[0].get_text().split("\n")[0] for axes in (reference, measured)] == [
        "Case reference",
        "What the sweep measures; markers: engine replay, mean of its repeats",
    ]
    assert reference.get_ylim() == (0, 1)


def test_lines_are_the_table_and_the_table_is_left_alone():
    rows = hit_rate_rows()
    before = rows.copy()
    figure = draw_hit_rate(rows, NOTHING)
    chosen = rows[(rows["case"] == "reference") & rows["save_decode_cache"]]
    for line, tiers in zip(figure.axes[0].lines, ("hbm", "dram", "dram_large", "ssd"), strict=False):
        assert list(line.get_ydata()) == list(chosen[chosen["tiers"] == tiers]["hit_rate"])
    svg_of(figure)
    pd.testing.assert_frame_equal(rows, before)


@pytest.mark.parametrize("named", ["files-64", "another"])
def test_markers_are_of_scenarios_that_were_predicted(named):
    axes = draw_hit_rate(hit_rate_rows().assign(scenarios=named), cell_rows()).axes[2]
    markers = [line for line in axes.get_lines() if line.get_linestyle() == "None"]
    assert [list(line.get_xdata()) for line in markers] == ([[64]] if named == "files-64" else [])


def test_markers_are_means_of_valid_repeats_at_the_highest_load():
    files, alone = draw_hit_rate(hit_rate_rows(), cell_rows()).axes[2].lines[-2:]
    assert list(files.get_xdata()) == [16, 64]
    assert list(files.get_ydata()) == pytest.approx([0.55, 0.5])
    assert (list(alone.get_xdata()), list(alone.get_ydata())) == ([64], [pytest.approx(0.5)])


def test_sets_of_tiers_that_hit_alike_share_a_line():
    tiers = {"ssd": (None, None, float("inf")), "large": (None, float("inf"), None), "small": (None, 1, None)}
    rows = hit_rate_rows(tiers, ("reference",))
    rows.loc[rows["tiers"] != "small", "hit_rate"] = 0.5
    figure = draw_hit_rate(rows, NOTHING)
    assert texts(figure.axes[0]) == ["DRAM 1 MiB", "DRAM unbounded\n= SSD unbounded", ALONE]


def test_what_was_measured_at_the_second_use_has_its_line_and_its_marker():
    rows = hit_rate_rows().assign(second_use_hit_rate=0.1)
    rows["scenarios"] = rows["tiers"].map({"ssd": "files-64; second-64"})
    cells = cell_rows()
    second = cells[cells["scenario"] == "files-64"].assign(scenario="second-64", save="second_use")
    axes = draw_hit_rate(rows, pd.concat([cells, second])).axes[2]
    (line,) = (
        line for line in axes.lines if line.get_label().endswith("SSD unbounded, saved at the second use")
    )
    assert set(line.get_ydata()) == {0.1}
    assert texts(axes)[-2:] == ["measured: files", "measured: files, saved at the second use"]


def test_where_nothing_is_predicted_it_says_so():
    assert "experiment.engines" in all_text(draw_hit_rate(hit_rate_rows().iloc[:0], cell_rows()))
