"""The figure of the layers: bars that sum to the whole, layers below zero, and no rows at all."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from workflow.hyperkv.layers_figure import COLOURS, draw_layers
from workflow.hyperkv.layers_table import layers_table

from .record_factory import rung, rungs


@pytest.fixture(autouse=True)
def closed():
    """Figures of a test are closed after it."""
    yield
    plt.close("all")


def bars(axes) -> dict[str, tuple[float, float]]:
    """Bottom and height of every bar of a panel, by its colour."""
    return {to_hex(bar.get_facecolor()).upper(): (bar.get_y(), bar.get_height()) for bar in axes.patches}


def both(**layers) -> pd.DataFrame:
    return layers_table(rungs(operation="set", **layers) + rungs(operation="get", **layers))


def test_the_layers_are_stacked_and_sum_to_the_whole():
    found = bars(draw_layers(both()).axes[1])
    assert found[COLOURS["wire"]] == pytest.approx((0, 1.01))
    assert found[COLOURS["protocol"]] == pytest.approx((1.01, 0.505))
    assert sum(height for _, height in found.values()) == pytest.approx(7.9375 * 1.01)


def test_what_a_layer_takes_off_lies_below_zero_and_the_sum_stays():
    found = bars(draw_layers(both(protocol=-0.5, unexplained=-0.25)).axes[0])
    assert found[COLOURS["protocol"]] == pytest.approx((0, -0.505))
    assert found[COLOURS["unexplained"]] == pytest.approx((-0.505, -0.2525))
    assert found[COLOURS["server_memory"]][0] == pytest.approx(1.01)
    assert sum(height for _, height in found.values()) == pytest.approx((7.9375 - 0.125 - 1 - 0.3125) * 1.01)


def test_the_rest_is_hatched_and_what_cannot_be_told_from_zero_is_pale():
    records = rungs()
    for record, s_per_gb in zip([r for r in records if r["rung"] == "null"], (0.9, 1.5, 1.6), strict=True):
        record["s_per_gb"] = s_per_gb
    panel = draw_layers(layers_table(records)).axes[1]
    pale = {to_hex(bar.get_facecolor()).upper() for bar in panel.patches if bar.get_alpha() < 1}
    hatched = {to_hex(bar.get_facecolor()).upper() for bar in panel.patches if bar.get_hatch()}
    assert COLOURS["protocol"] in pale
    assert COLOURS["device"] not in pale
    assert hatched == {COLOURS["unexplained"]}


def test_only_the_most_connections_are_drawn_and_every_scenario_is_named():
    records = rungs() + [record | {"scenario": "other"} for record in rungs()]
    records += [record | {"connections": 8} for record in records]
    figure = draw_layers(layers_table(records))
    assert "8 connections" in figure.get_suptitle()
    assert len(figure.axes[1].patches) == 2 * 7
    texts = [text.get_text() for text in figure.axes[1].texts]
    assert {"rocksdb\nresp", "other"} <= set(texts)


def test_many_bars_put_the_panels_above_each_other():
    records = [record | {"value_bytes": size << 20} for size in range(1, 14) for record in rungs()]
    upper, lower = draw_layers(layers_table(records)).axes[:2]
    assert upper.get_position().y0 > lower.get_position().y1
    assert len(lower.patches) == 13 * 7


def test_a_point_that_was_not_cold_says_so_instead_of_a_bar():
    records = rungs() + [rung("whole", None, repeat, "set", notes=["not cold"]) for repeat in (1, 2)]
    panel = draw_layers(layers_table(records)).axes[0]
    assert not panel.patches
    assert "not\ncold" in [text.get_text() for text in panel.texts]


def test_without_rows_the_figure_says_why():
    figure = draw_layers(layers_table([]))
    assert figure.axes[0].texts[0].get_text() == "No scenario was taken apart (layers.scenarios is empty)"
