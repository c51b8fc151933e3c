"""Figure array: curves over a device's GB/s, with recompute and DRAM as lines and what was measured as it is as points."""

import pandas as pd
import pytest

from tests.figures.made import all_text, array_rows, points
from workflow.hyperkv.figures.array import draw_array


def labels_of(figure):
    """The texts of the legend below the figure."""
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_a_panel_per_load_and_measure_with_all_that_is_compared():
    figure = draw_array(array_rows())
    assert len(figure.axes) == 6
    assert labels_of(figure) == [
        "valkey behind a device of so many GB/s, 80 us",
        "break-even, measured, 80 us",
        "break-even, predicted for each request alone",
        "valkey behind a device of so many GB/s",
        "break-even, measured",
        "no cache below HBM (recompute)",
        "DRAM pool in process",
        "valkey_resp: without a device, at what it gave of these loads",
        "files: this machine's SSD, at what it gave of these loads",
        "hollow: not held in every repeat, see array.csv",
        "range over repeats",
    ]
    assert "3 repeats" in all_text(figure)


def test_a_disk_that_was_measured_is_a_point_at_what_it_gave():
    figure = draw_array(array_rows(loads=(1,), latencies=(None,)))
    assert (1.5, 60.0) in points(figure.axes[0], hollow=False)
    assert {(1.0, 100.0), (2.0, 50.0)} <= points(figure.axes[0], hollow=False)


def test_devices_that_were_not_held_are_hollow():
    assert points(draw_array(array_rows(loads=(1,), latencies=(None,))).axes[0], hollow=True) == {(4.0, 25.0)}


@pytest.mark.parametrize("loads", [(1, 2, 4, 8)])
def test_of_many_loads_the_least_the_middle_and_the_most_are_drawn(loads):
    figure = draw_array(array_rows(loads=loads))
    assert [axes.get_ylabel() for axes in figure.axes[::3]] == ["1 client", "4 clients", "8 clients"]


def test_without_devices_it_says_so():
    assert "experiment.array" in all_text(draw_array(pd.DataFrame({"role": ["recompute"]})))
