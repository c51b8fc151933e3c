"""Figure array: which device pays: TTFT, requests per second and cost against its GB/s.

python -m workflow.hyperkv.figures.array --tables results/tables/array.csv --svg F.svg --png F.png
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import cycle

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..base.cli import run_stage
from ..records.repeats import load_words
from .axes import sizes_x
from .command import Picture, Table, draw_tables
from .looks import colour_of, marker_of
from .style import RECOMPUTE, WIDTH, draw_line, empty, legend_below, title, told, unique_legend

_PANELS = (
    ("ttft_p50_ms", "TTFT p50 (ms)", "break_even_ttft_gbps"),
    ("rps_per_gpu", "RPS/GPU (requests/s)", "break_even_rps_gbps"),
    ("usd_per_million_tokens", "USD per 10^6 tokens", None),
)
_CURVES = (("#D55E00", "o", "-"), ("#CC79A7", "s", (0, (6, 2))), ("#E69F00", "D", (0, (2, 1.5))))


def main(*, tables: Table, picture: Picture) -> None:
    """Draw the figure.

    Args:
        tables: array.csv.
    """
    draw_tables(draw_array, tables, picture)


def draw_array(array: pd.DataFrame) -> Figure:
    """A row of panels per load: curves over the device's GB/s, recompute and DRAM as lines, what was measured as it is as points."""
    shaped = array[array["role"] == "shaped"]
    if shaped.empty:
        return empty("No scenario was put behind a device (experiment.array)")
    loads = sorted(shaped["load"].unique())
    loads = loads if len(loads) <= 3 else [loads[0], loads[len(loads) // 2], loads[-1]]
    figure, grid = plt.subplots(
        len(loads), len(_PANELS), figsize=(WIDTH, 1.2 + 2.9 * len(loads)), squeeze=False, sharex=True
    )
    for panels, load in zip(grid, loads, strict=True):
        rows = array[array["load"] == load]
        for axes, (column, _, break_even) in zip(panels, _PANELS, strict=True):
            _draw(axes, rows, column, break_even)
        panels[0].set_ylabel(load_words(rows))
    for axes, (_, name, _) in zip(grid[0], _PANELS, strict=True):
        axes.set_title(name, fontsize=10)
    sizes_x(grid[0, 0], _ticks(array))
    for axes in grid[-1]:
        axes.set_xlabel("GB/s of the device")
    repeats = f"{int(shaped['repeats'].max())} repeats"
    figure.suptitle(
        title(shaped, f"Which device pays: one store behind devices of stated GB/s, {repeats}"), fontsize=11
    )
    figure.tight_layout()
    legend_below(figure, *told(*unique_legend(grid.flat), shaped, "not held in every repeat, see array.csv"))
    return figure


def _ticks(array: pd.DataFrame) -> list[float]:
    """The GB/s of the devices, and so many times the fastest as what lies beside the curves has."""
    devices = sorted(array["read_gbps"].dropna().unique())
    most = array.loc[array["role"].isin(("store", "disk")), "store_read_gbps"].max()
    while devices[-1] < most:
        devices.append(2 * devices[-1])
    return devices


def _draw(axes: Axes, rows: pd.DataFrame, column: str, break_even: str | None) -> None:
    for curve, (colour, marker, line) in zip(_curves(rows), cycle(_CURVES), strict=False):
        first = curve.iloc[0]
        style = {"color": colour, "marker": marker, "linestyle": line, "linewidth": 1.8, "markersize": 6}
        waits = f", {first['latency_us']:g} us" if pd.notna(first["latency_us"]) else ""
        draw_line(
            axes, curve, "read_gbps", column, f"{first['base']} behind a device of so many GB/s{waits}", style
        )
        if break_even is not None and pd.notna(found := first[break_even]):
            axes.axvline(found, color=colour, linewidth=1.2, label=f"break-even, measured{waits}")
        predicted = first["predicted_gbps"]
        if break_even == "break_even_ttft_gbps" and pd.notna(predicted):
            axes.axvline(
                predicted, color="#444444", linestyle=":", linewidth=1.6,
                label="break-even, predicted for each request alone",
            )  # fmt: skip
    _line(axes, rows[rows["role"] == "recompute"], column, RECOMPUTE, "black", "-")
    _line(axes, rows[rows["role"] == "dram"], column, "DRAM pool in process", "#666666", (0, (5, 2)))
    for role, what in (("store", "without a device"), ("disk", "this machine's SSD")):
        for _, row in rows[rows["role"] == role].iterrows():
            axes.plot(
                row["store_read_gbps"], row[column], linestyle="none", color=colour_of(row["store"]),
                marker="*" if role == "disk" else marker_of(row["store"]), markersize=13 if role == "disk" else 7,
                markerfacecolor=colour_of(row["store"]) if row["valid"] else "white", markeredgecolor="black",
                zorder=7, label=f"{row['scenario']}: {what}, at what it gave of these loads",
            )  # fmt: skip
    low = rows[column].min()
    axes.set_ylim(bottom=0 if low > 0 and column != "usd_per_million_tokens" else None)


def _curves(rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    for _, curve in rows[rows["role"] == "shaped"].groupby(["base", "latency_us"], sort=True, dropna=False):
        yield curve.sort_values("read_gbps")


def _line(axes: Axes, rows: pd.DataFrame, column: str, name: str, colour: str, line: object) -> None:
    for _, row in rows.head(1).iterrows():
        if pd.notna(row[column]):
            axes.axhline(row[column], color=colour, linestyle=line, linewidth=1.6, label=name)


if __name__ == "__main__":
    sys.exit(run_stage("draw_array", main))
