"""Figure layers: where the time of each store goes, s/GB stacked from the wire up, SET beside GET.

python -m workflow.hyperkv.figures.layers --tables results/tables/layers.csv --svg F.svg --png F.png
"""

from __future__ import annotations

import sys
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ..base.cli import run_stage
from ..records.stats import interval_word
from ..tables.methods.substitution import UNEXPLAINED, WHOLE, WORDS
from .command import Picture, Table, draw_tables
from .style import empty, legend_beside, note

# Okabe and Ito's palette. Transport is blue, the server orange, the device green.
COLOURS = {
    "wire": "#56B4E9",
    "protocol": "#0072B2",
    "client": "#004466",
    "server_memory": "#F0E442",
    "engine": "#E69F00",
    "cold_engine": "#D55E00",
    "device": "#009E73",
    "copy": "#CC79A7",
    "files": "#AA66FF",
    "proof": "#663300",
    UNEXPLAINED: "#FFFFFF",
}
_PANELS = {"set": "SET (to a warm server)", "get": "GET (cold where the tier is ssd)"}
_STROKES, _DOTS = "////", "oo"
_SIDE_BY_SIDE = 12  # bars of a panel


def main(*, tables: Table, picture: Picture) -> None:
    """Draw the figure.

    Args:
        tables: layers.csv.
    """
    draw_tables(draw_layers, tables, picture)


def draw_layers(layers: pd.DataFrame) -> Figure:
    """Stacked bars of layers.csv at the most connections, a group per scenario, a bar per value size.

    What a layer takes off is drawn below 0, what cannot be told from 0 dotted. Hatched is what the layers' medians leave of
    the whole's median, so that every bar sums to it; the table's `unexplained` is the median of each repeat's rest.
    """
    if layers.empty:
        return empty("No scenario was taken apart (layers.scenarios is empty)")
    connections = int(layers["connections"].max())
    rows = layers[layers["connections"] == connections]
    bars = list(dict.fromkeys(zip(rows["scenario"], rows["value_bytes"], strict=True)))
    scenarios = list(dict.fromkeys(rows["scenario"]))
    bars.sort(key=lambda bar: (scenarios.index(bar[0]), bar[1]))
    places = _places(bars)
    if len(bars) <= _SIDE_BY_SIDE:
        figure, panels = plt.subplots(1, 2, figsize=(max(9.0, 1.2 + 1.5 * len(bars)), 5.4), sharey=True)
    else:
        figure, panels = plt.subplots(2, 1, figsize=(2 + 0.5 * len(bars), 10.4), sharey=True)
    shown: list[str] = []
    for axes, (operation, title) in zip(panels, _PANELS.items(), strict=True):
        for bar in bars:
            of_bar = (rows["scenario"] == bar[0]) & (rows["value_bytes"] == bar[1])
            shown += _draw_bar(axes, places[bar], rows[of_bar & (rows["operation"] == operation)])
        axes.axhline(0, color="#333333", linewidth=0.8)
        axes.set_title(title, fontsize=11)
        axes.set_xticks(list(places.values()), [f"{size / 2**20:g}" for _, size in bars])
        axes.set_xlabel("value (MiB)", labelpad=38)
        axes.grid(axis="x", visible=False)
        axes.set_axisbelow(True)
        axes.margins(x=0.03)
        look = {
            "xycoords": ("data", "axes fraction"),
            "ha": "center",
            "va": "top",
            "fontsize": 9,
            "weight": "bold",
        }
        for scenario in scenarios:
            mine = [place for (name, _), place in places.items() if name == scenario]
            note(axes, scenario.replace("_", "\n", 1), (sum(mine) / len(mine), 0), (0, -22), **look)
    for axes in panels if len(bars) > _SIDE_BY_SIDE else panels[:1]:
        axes.set_ylabel("s/GB (median over repeats)")
    figure.suptitle(
        f"Where the time goes: each store alone, {connections} connection{'s' * (connections > 1)}; layers are "
        f"paired differences between measurements",
        fontsize=11,
    )
    figure.tight_layout()
    _legend(figure, [name for name in COLOURS if name in shown], interval_word(rows["repeats"].max()))
    return figure


def _places(bars: list[tuple[str, int]]) -> dict[tuple[str, int], float]:
    """Where each bar stands: one apart, and a gap before another scenario."""
    places, at, before = {}, 0.0, None
    for bar in bars:
        at += 0 if before is None else 1.0 if before == bar[0] else 1.5
        places[bar], before = at, bar[0]
    return places


def _draw_bar(axes: Axes, place: float, point: pd.DataFrame) -> list[str]:
    """One stacked bar with the measured whole on it; the layers that were drawn."""
    layers = point[(point["kind"] == "layer") & point["s_per_gb"].notna()]
    whole = point[(point["kind"] == WHOLE) & point["s_per_gb"].notna()]
    top, bottom, drawn = 0.0, 0.0, []
    for _, row in layers.iterrows():
        name, value = row["layer"], float(row["s_per_gb"])
        if name == UNEXPLAINED:
            value = float(whole["s_per_gb"].iloc[0]) - (top + bottom)
        start = top if value >= 0 else bottom
        axes.bar(place, value, bottom=start, width=0.8, **_look(name, bool(row["distinguishable"])))
        top, bottom = (top + value, bottom) if value >= 0 else (top, bottom + value)
        drawn.append(name)
    for _, row in whole.iterrows():
        axes.plot([place - 0.46, place + 0.46], [row["s_per_gb"]] * 2, color="#000000", linewidth=2, zorder=4)
        if pd.notna(row["s_per_gb_low"]):
            ends = [row["s_per_gb_low"], row["s_per_gb_high"]]
            axes.plot([place] * 2, ends, color="#000000", linewidth=1.2, zorder=4)
    missing = point[(point["kind"] == "layer") & point["s_per_gb"].isna()]
    if len(missing) and len(whole):
        note(axes, "not all\nmeasured", (place, top), ha="center")
    if whole.empty and len(point):
        note(axes, "not\ncold", (place, 0), ha="center")
    return drawn


def _look(name: str, told: bool) -> dict[str, Any]:
    """A layer's bar or patch. told: whether it can be told from 0."""
    hatch = _STROKES * (name == UNEXPLAINED) + _DOTS * (not told)
    return {"facecolor": COLOURS[name], "edgecolor": "#333333", "linewidth": 0.6, "hatch": hatch or None}


def _legend(figure: Figure, shown: list[str], interval: str) -> None:
    whole = Line2D([], [], color="#000000", linewidth=2)
    dotted = Patch(**{**_look(UNEXPLAINED, False), "hatch": _DOTS})
    layers = {WORDS[name]: Patch(**_look(name, True)) for name in shown[::-1]}
    handles = {
        f"measured whole, {interval}": whole,
        **layers,
        "dotted: not told from 0\n(its interval spans 0)": dotted,
    }
    legend_beside(figure, list(handles.values()), list(handles), handlelength=None)


if __name__ == "__main__":
    sys.exit(run_stage("draw_layers", main))
