"""The figure of the layers: bars that sum to the whole, layers below zero, and no rows at all."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgb

from tests.record_factory import rung, rungs
from workflow.hyperkv.figures.layers import COLOURS, draw_layers
from workflow.hyperkv.tables.layers import layers_table


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


def test_the_rest_is_hatched_and_what_cannot_be_told_from_zero_is_dotted_in_its_own_colour():
    records = rungs()
    for record, s_per_gb in zip([r for r in records if r["rung"] == "null"], (0.9, 1.5, 1.6), strict=True):
        record["s_per_gb"] = s_per_gb
    panel = draw_layers(layers_table(records)).axes[1]
    marks = {to_hex(bar.get_facecolor()).upper(): bar.get_hatch() or "" for bar in panel.patches}
    assert {colour for colour, marked in marks.items() if "/" in marked} == {COLOURS["unexplained"]}
    assert "o" in marks[COLOURS["protocol"]]
    assert not marks[COLOURS["device"]]
    assert all(bar.get_alpha() in (None, 1) for bar in panel.patches)


# Machado, Oliveira, Fernandes 2009: what eyes without one kind of cones see, on linear RGB.
VISIONS = {
    "all": np.eye(3),
    "no red": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no green": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "no blue": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(colour: str, vision: list[list[float]]) -> np.ndarray:
    """CIELAB of a colour as it is seen."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(np.array(vision) @ linear, 0, 1) / (0.9505, 1, 1.089)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISIONS)
def test_layers_can_be_told_apart_with_every_kind_of_eyes(vision):
    seen = {name: lab(colour, VISIONS[vision]) for name, colour in COLOURS.items()}
    for one, other in combinations(seen, 2):
        assert np.linalg.norm(seen[one] - seen[other]) > 15, (one, other)


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
