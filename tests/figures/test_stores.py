"""The figure of stores alone: a panel per operation and number of connections, with the machine's limits."""

from itertools import product

import pandas as pd
import pytest

from tests.figures.made import all_text, legend_of, limit_rows, points, store_rows
from workflow.hyperkv.figures.stores import draw_stores


@pytest.mark.parametrize("cold", [True, False])
def test_a_get_that_was_not_cold_is_hollow(cold):
    stores = store_rows(cold=cold)
    figure = draw_stores(stores, limit_rows())
    *warm, last = figure.axes
    assert all(points(axes, hollow=True) == set() for axes in warm)
    expected = stores[stores["operation"] == "get_cold"]
    drawn = set(zip(expected["value_bytes"] / 2**20, expected["gbps"], strict=True))
    assert points(last, hollow=False) == drawn
    assert points(last, hollow=True) == (set() if cold else drawn)
    assert ("hollow: page cache not dropped" in legend_of(figure)) == (not cold)


def test_there_is_a_row_per_number_of_connections_and_a_column_per_operation():
    stores = store_rows(connections=(8, 1, 4))
    figure = draw_stores(stores, limit_rows((1, 4, 8)))
    places = product((1, 4, 8), ("set", "get_warm", "get_cold"))
    for axes, (connections, operation) in zip(figure.axes, places, strict=True):
        rows = stores[(stores["connections"] == connections) & (stores["operation"] == operation)]
        assert points(axes, hollow=False) == set(zip(rows["value_bytes"] / 2**20, rows["gbps"], strict=True))
        limits = [line.get_ydata()[0] for line in axes.lines if str(line.get_label()).startswith("limit")]
        device = {"set": [1], "get_warm": [], "get_cold": [2]}[operation]
        assert limits == [gbps + connections for gbps in (10, 20 if operation == "set" else 30, *device)]
    heads = [axes.get_ylabel().splitlines()[0] for axes in figure.axes[::3]]
    assert heads == ["1 connection", "4 connections", "8 connections"]
    assert [bool(axes.get_title()) for axes in figure.axes] == [True] * 3 + [False] * 6
    assert "no engine and no GPU" in all_text(figure)


def test_the_best_that_fio_got_from_the_device_is_a_limit():
    fio = [
        {"limit": f"fio_{operation}", "connections": depth, "value_bytes": size, "gbps": best + depth}
        for (operation, best), size, depth in product(
            {"write": 3, "read": 5}.items(), (1 << 12, 1 << 20), (1, 32)
        )
    ]
    figure = draw_stores(store_rows(), pd.concat([limit_rows(), pd.DataFrame(fio)]))
    mebibytes = store_rows()["value_bytes"] / 2**20
    for axes, gbps in zip(figure.axes, (35, None, 37), strict=True):
        lines = [line for line in axes.lines if "fio" in str(line.get_label())]
        assert [list(line.get_ydata()) for line in lines] == ([[gbps, gbps]] if gbps else [])
        assert all(list(line.get_xdata()) == [mebibytes.min(), mebibytes.max()] for line in lines)
    assert "limit: device (fio, its best)" in legend_of(figure)


@pytest.mark.parametrize(
    "limits", [pd.DataFrame(), limit_rows().head(0), limit_rows((7,))], ids=["absent", "empty", "others"]
)
def test_it_is_drawn_without_limits(limits):
    figure = draw_stores(store_rows(), limits)
    assert not any("limit" in text for text in legend_of(figure))
    assert points(figure.axes[0], hollow=False)


def test_no_profile_is_said_in_words():
    assert "No store was profiled" in all_text(draw_stores(store_rows(()), limit_rows()))
