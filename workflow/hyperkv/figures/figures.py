"""Stage figures: from tables to pictures, each as SVG and PNG.

python -m workflow.hyperkv.figures.figures --figure tier_tradeoff --tables results/tables/scenarios.csv --spec '{...}' --svg F.svg --png F.png
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    FuncFormatter,
    LogFormatter,
    LogFormatterMathtext,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    PercentFormatter,
    ScalarFormatter,
)

from ..base.cli import run_stage
from ..base.errors import UserError
from ..records.frames import read_csv
from ..records.hardware import gpu_words, mixed
from ..records.parity import require_parity
from ..records.subtitles import under
from .latency import draw_latency
from .layers import draw_layers

# Okabe and Ito's palette, told apart with every common colour blindness. A store keeps its colour everywhere.
COLOURS = {
    "none": "#000000",
    "dram": "#0072B2",
    "files": "#009E73",
    "valkey": "#56B4E9",
    "rocksdb": "#D55E00",
    "kvrocks": "#CC79A7",
}
MARKERS = {"none": "x", "dram": "o", "files": "s", "valkey": "^", "rocksdb": "D", "kvrocks": "P"}
SECOND_MARKERS = {"dram": "8", "files": "p", "valkey": "v", "rocksdb": "d", "kvrocks": "H"}
SECOND_LINE = (0, (4, 1.2, 1, 1.2))
FURTHER = (
    (">", (0, (8, 1.5))),
    ("*", (0, (1, 2.5))),
    ("<", (0, (3, 1, 1, 1, 1, 1))),
    ("h", (0, (6, 1, 1, 1))),
)
LINES = {
    "inprocess": "-",
    "resp": "-",
    "redis": "--",
    "striped": (0, (1, 1)),
    "striped_mp": (0, (3, 1, 1, 1)),
    "": ":",
}
CONNECTOR_MARKERS = {"inprocess": "o", "redis": "v", "resp": "s", "striped": "*", "striped_mp": "P"}
MEDIUM = {"dram": "RAM", "valkey": "RAM", "files": "SSD", "rocksdb": "SSD", "kvrocks": "SSD"}
LIMITS = {
    "memcpy": ("limit: memcpy", (0, (6, 3))),
    "loopback_set": ("limit: raw loopback socket", (0, (1, 1.5))),
    "loopback_get": ("limit: raw loopback socket", (0, (1, 1.5))),
    "device_set": ("limit: device (O_DIRECT)", (0, (6, 2, 1, 2))),
    "device_get": ("limit: device (O_DIRECT)", (0, (6, 2, 1, 2))),
    "fio_write": ("limit: device (fio, its best)", "-"),
    "fio_read": ("limit: device (fio, its best)", "-"),
}


@dataclass(frozen=True)
class Tables:
    """What figures are drawn from, and the chunk size at which scenarios are compared.

    scenarios, stores, limits, layers, latency: those CSV tables; one that is not there has no rows. Figure `stores`
    takes the second and the third only, `layers` and `latency` the one of that name, the others the first only.
    """

    scenarios: pd.DataFrame
    stores: pd.DataFrame
    limits: pd.DataFrame
    chunk_tokens: int
    layers: pd.DataFrame = field(default_factory=pd.DataFrame)
    latency: pd.DataFrame = field(default_factory=pd.DataFrame)


def main() -> None:
    """Parse the command line and draw one figure."""
    parser = argparse.ArgumentParser(prog="python -m workflow.hyperkv.figures.figures", description=__doc__)
    parser.add_argument("--figure", required=True, choices=sorted(DRAWINGS), help="which figure")
    parser.add_argument(
        "--tables",
        required=True,
        nargs="+",
        type=Path,
        help="scenarios.csv, or stores.csv and limits.csv, or layers.csv, or latency.csv",
    )
    parser.add_argument("--spec", required=True, help='JSON: {"figures": {"chunk_tokens": ...}}, or {}')
    parser.add_argument("--svg", required=True, type=Path)
    parser.add_argument("--png", required=True, type=Path)
    arguments = parser.parse_args()
    given = {path.stem: read_table(path) for path in arguments.tables}
    names = ("scenarios", "stores", "limits", "layers", "latency")
    compared = json.loads(arguments.spec).get("figures", {})
    tables = Tables(
        **{name: given.get(name, pd.DataFrame()) for name in names},
        chunk_tokens=compared.get("chunk_tokens", 0),
    )
    note = mixed(list(given.values()))
    save(lambda: DRAWINGS[arguments.figure](tables), arguments.svg, arguments.png, note)


def save(draw: Callable[[], Figure], svg: Path, png: Path, note: str = "") -> None:
    """Draw a figure in the house's style and write it; the same bytes for the same tables.

    note: what is not alike about its rows, for below the figure.
    """
    plt.rcParams.update({"font.size": 10, "axes.grid": True, "grid.alpha": 0.3, "svg.hashsalt": "hyperkv"})
    plt.rcParams["text.parse_math"] = False  # a name with $ is no formula
    figure = draw()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        if isinstance(axis.get_minor_formatter(), LogFormatterMathtext):
            axis.set_minor_formatter(LogFormatter(labelOnlyBase=False))
    if note:
        lines = [textwrap.fill(line, int(figure.get_figwidth() * 13)) for line in note.splitlines()]
        figure.text(0.02, -0.02, "\n".join(lines), va="top", fontsize=9, color="#B00020")
    figure.savefig(svg, metadata={"Date": None}, bbox_inches="tight")
    figure.savefig(png, dpi=150, bbox_inches="tight")


def read_table(path: Path) -> pd.DataFrame:
    """A table with empty words as "", so that tier `none` has a store and a connector to compare by."""
    words = ["store", "connector", "reasons"]
    table = read_csv(path, keep_default_na=False, na_values=[""], dtype=dict.fromkeys(words, str))
    present = [column for column in words if column in table]
    table[present] = table[present].fillna("")
    return table


def label(row: pd.Series) -> str:
    """How a scenario is called in a legend: store, connector and medium."""
    if row["tier"] == "none":
        return "no cache below HBM (recompute)"
    medium = MEDIUM.get(row["store"], "?")
    medium = "tmpfs" if medium == "SSD" and row["tier"] == "dram" else medium
    return f"{row['store']}, {row['connector']} ({medium})"


def labels(rows: pd.DataFrame) -> dict[str, str]:
    """Legend labels by scenario; two scenarios with the same store and connector carry their names as well."""
    found = {row["scenario"]: label(row) for _, row in rows.drop_duplicates("scenario").iterrows()}
    known = list(found.values())
    return {name: text if known.count(text) == 1 else f"{text}: {name}" for name, text in found.items()}


def name_loads(axes: Axes, rows: pd.DataFrame) -> str:
    """The legend's words for which point is which load, of lines of TPS/user against RPS/GPU.

    The more clients, the fewer TPS/user, mostly; where that is not so the line's points carry their number of clients.
    """
    loads = ", ".join(f"{load:g}" for load in sorted(rows["load"].unique()))
    known = rows.dropna(subset=["tps_per_user", "rps_per_gpu"]).sort_values("load")
    turning = known.groupby("scenario").filter(lambda line: not line["tps_per_user"].is_monotonic_decreasing)
    look = {"textcoords": "offset points", "fontsize": 8, "ha": "center"}
    for _, point in turning.iterrows():
        at = (point["tps_per_user"], point["rps_per_gpu"])
        axes.annotate(f"{point['load']:g}", at, xytext=(0, -13), **look)
    return f"points: {loads} clients, right to left{'' if turning.empty else ' where not numbered'}"


def draw_tier_tradeoff(tables: Tables) -> Figure:
    """RPS/GPU against TPS/user, one line per scenario, one point per load, hit rate at the highest load in the legend."""
    rows = at_chunk(tables.scenarios, tables.chunk_tokens)
    require_parity(rows, vary=["tier", "store", "connector"])
    figure, axes = plt.subplots(figsize=(7.6, 5.2))
    names, looks = labels(rows), styles(rows)
    for scenario, line in rows.groupby("scenario", sort=False):
        line = line.sort_values("load")
        style = looks[scenario]
        _error_bars(axes, line, "tps_per_user", "rps_per_gpu", style["color"])
        rate = line.iloc[-1]["hit_rate"]
        hits = "; hit rate -" if pd.isna(rate) else f"; hit rate {rate:.0%}"
        axes.plot(line["tps_per_user"], line["rps_per_gpu"], label=names[scenario] + hits, **style)
        _hollow(axes, line, "tps_per_user", "rps_per_gpu", style)
    axes.set(
        xlabel="TPS/user (answer tokens per second of a request, median)",
        ylabel="RPS/GPU (requests per second, median)",
    )
    axes.set_title(_title(rows, f"DRAM against SSD, chunk {tables.chunk_tokens} tokens"), fontsize=10)
    axes.set_ylim(bottom=0)
    _legend(
        axes,
        rows,
        note=f"{name_loads(axes, rows)};\nhit rate: at the highest load",
        beside=axes,
    )
    return figure


def draw_chunk(tables: Tables) -> Figure:
    """Hit rate and RPS/GPU against chunk size at the highest load, and loaded GB/s against hit rate, one line per scenario family.

    The last is left out where no engine timed its loads.
    """
    rows = tables.scenarios[tables.scenarios["tier"] != "none"]
    rows = rows[rows["load"] == rows["load"].max()]
    families = [
        name.removesuffix(f"-{chunk}")
        for name, chunk in zip(rows["scenario"], rows["chunk_tokens"], strict=True)
    ]
    rows = rows.assign(scenario=families)
    sizes = rows.groupby("scenario")["chunk_tokens"].transform("nunique")
    rows = rows[sizes > 1]
    if rows.empty:
        return _empty("No store was measured at more than one chunk size")
    require_parity(rows, vary=["tier", "store", "connector", "chunk_tokens"])
    timed = bool(rows["load_gbps"].notna().any())
    figure, axes_of = plt.subplots(1, 2 + timed, figsize=(10.6 + 5.4 * timed, 4.6))
    left, right = axes_of[:2]
    names, looks = labels(rows), _styles_by_connector(rows)
    panels = [(left, "chunk_tokens", "hit_rate"), (right, "chunk_tokens", "rps_per_gpu")]
    if timed:
        panels.append((axes_of[2], "hit_rate", "load_gbps"))
    for family, line in rows.groupby("scenario", sort=False):
        line = line.sort_values("chunk_tokens")
        style = looks[family]
        for axes, x, y in panels:
            _error_bars(axes, line, x, y, style["color"])
            axes.plot(line[x], line[y], label=names[family], **style)
            _hollow(axes, line, x, y, style)
        for _, row in line[line["load_gbps"].notna()].iterrows():
            place = (row["hit_rate"], row["load_gbps"])
            largest = row["chunk_tokens"] == line["chunk_tokens"].max()
            axes_of[2].annotate(
                row["chunk_tokens"],
                place,
                (-7 if largest else 7, 0),
                textcoords="offset points",
                fontsize=8,
                ha="right" if largest else "left",
                va="center",
            )
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(sorted(rows["chunk_tokens"].unique()))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.minorticks_off()
        axes.set_xlabel("chunk (tokens)")
    left.yaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10], min_n_ticks=3))
    left.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    left.set(ylabel="hit rate (prompt tokens not computed, median)", title="What larger chunks lose")
    right.set(ylabel="RPS/GPU (median)", title="What they do to throughput")
    right.set_ylim(0, right.get_ylim()[1] * 1.05)
    if timed:
        _trade_axes(axes_of[2])
    figure.suptitle(_title(rows, f"Chunk size, {rows['load'].max()} clients"), fontsize=11)
    _legend(right, rows)
    figure.tight_layout()
    return figure


def _trade_axes(axes: Axes) -> None:
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set(
        xlabel="hit rate (median); numbers are chunks in tokens",
        ylabel="GB/s of loads (median)",
        title="The trade: hits against throughput",
    )
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())


def draw_stores(tables: Tables) -> Figure:
    """GB/s against value size for SET, warm GET and cold GET, a row per number of connections, a line per scenario.

    Grey lines: the limits at the same connections; the device is none for a warm GET.
    """
    if tables.stores.empty:
        return _empty("No store was profiled (profile.scenarios is empty)")
    stores = tables.stores.assign(
        value_mib=tables.stores["value_bytes"] / 2**20,
        valid=(tables.stores["operation"] != "get_cold") | tables.stores["cold"].astype(bool),
    )
    panels = [
        ("set", "SET", ("memcpy", "loopback_set", "device_set", "fio_write")),
        ("get_warm", "GET, warm (no restart)", ("memcpy", "loopback_get")),
        (
            "get_cold",
            "GET, cold (restart, page cache dropped)",
            ("memcpy", "loopback_get", "device_get", "fio_read"),
        ),
    ]
    counts = sorted(map(int, stores["connections"].unique()))
    figure, grid = plt.subplots(
        len(counts), 3, figsize=(12.5, 1.2 + 3.1 * len(counts)), sharex=True, sharey=True, squeeze=False
    )
    for connections, row in zip(counts, grid, strict=True):
        for axes, (operation, title, limits) in zip(row, panels, strict=True):
            _draw_limits(axes, tables.limits, connections, limits, list(stores["value_bytes"]))
            chosen = (stores["connections"] == connections) & (stores["operation"] == operation)
            _draw_stores_panel(axes, stores[chosen], labels(stores), styles(stores))
            axes.set_title(title if connections == counts[0] else "", fontsize=11)
        row[0].set_ylabel(f"{connections} connection{'s' * (connections > 1)}\nGB/s (median)")
    _value_size_axes(grid[0, 0], sorted(stores["value_mib"].unique()))
    for axes in grid[-1]:
        axes.set_xlabel("value (MiB)")
    figure.suptitle("Each store alone, no engine and no GPU: throughput against value size", fontsize=12)
    figure.tight_layout()
    _legend(grid[0, 0], stores, hollow="page cache not dropped", beside=figure)
    return figure


def _draw_stores_panel(axes: Axes, rows: pd.DataFrame, names: dict[str, str], looks: dict) -> None:
    for scenario, line in rows.groupby("scenario", sort=False):
        line = line.sort_values("value_bytes")
        style = looks[scenario]
        _error_bars(axes, line, "value_mib", "gbps", style["color"])
        axes.plot(line["value_mib"], line["gbps"], label=names[scenario], **style)
        _hollow(axes, line, "value_mib", "gbps", style)


def _draw_limits(
    axes: Axes, limits: pd.DataFrame, connections: int, wanted: Sequence[str], sizes: Sequence[int]
) -> None:
    """The wanted limits at those connections, those that were measured, as grey lines without markers.

    Those of fio are its best sequential figure, level over all value sizes.
    """
    for limit in wanted if len(limits) else ():
        line = limits[limits["limit"] == limit]
        if limit.startswith("fio_"):
            ends = [] if line.empty else [min(sizes), max(sizes)]
            line = pd.DataFrame({"value_bytes": ends, "gbps": line["gbps"].max()})
        else:
            line = line[line["connections"] == connections].sort_values("value_bytes")
        text, dashes = LIMITS[limit]
        if len(line):
            axes.plot(
                line["value_bytes"] / 2**20,
                line["gbps"],
                label=text,
                color="#666666",
                linestyle=dashes,
                zorder=1.5,
            )


def _value_size_axes(axes: Axes, sizes: Sequence[float]) -> None:
    """Logarithmic axes for GB/s against MiB, with plain numbers, for all panels that share them."""

    def plain(value: float, _: int) -> str:
        return f"{value:g}"

    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes)
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(FuncFormatter(plain))
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(plain))


def draw_transport_medium(tables: Tables) -> Figure:
    """The 2x2 {in process, RESP} x {RAM, SSD}: TTFT and RPS/GPU at the highest load."""
    compared = at_chunk(tables.scenarios, tables.chunk_tokens)
    rows = compared[
        (compared["load"] == compared["load"].max()) & compared["connector"].isin(["inprocess", "resp"])
    ]
    if rows.empty:
        return _empty("No scenario with connector inprocess or resp at this chunk size")
    require_parity(rows, vary=["tier", "store", "connector"])
    figure, panels = plt.subplots(1, 2, figsize=(10, 4.4))
    recompute = compared[(compared["tier"] == "none") & (compared["load"] == rows["load"].max())]
    for axes, column, name in (
        (panels[0], "ttft_p50_ms", "TTFT p50 (ms)"),
        (panels[1], "rps_per_gpu", "RPS/GPU"),
    ):
        for position, (_, row) in enumerate(rows.iterrows()):
            colour = COLOURS.get(row["store"], "#999999")
            face = colour if row["valid"] else "none"
            axes.bar(position, row[column], color=face, edgecolor=colour, linewidth=1.5, width=0.6)
            low, high = row[f"{column}_low"], row[f"{column}_high"]
            if pd.notna(low):
                span = [[max(0, row[column] - low)], [max(0, high - row[column])]]
                axes.errorbar(position, row[column], yerr=span, color="#333333", capsize=4)
            top = row[column] if pd.isna(high) else max(high, row[column])
            known = pd.notna(row[column])
            axes.annotate(
                f"{row[column]:.3g}" if known else "-",
                (position, top if known else 0),
                xytext=(0, 4),
                textcoords="offset points",
                ha="center",
                fontsize=9,
                bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
            )
        stores = list(rows["store"])
        names = [
            f"{'in process' if row['connector'] == 'inprocess' else 'RESP'}\n{MEDIUM.get(row['store'], '?')}\n"
            f"({row['store'] if stores.count(row['store']) == 1 else row['scenario']})"
            for _, row in rows.iterrows()
        ]
        axes.set_xticks(range(len(rows)), names)
        axes.grid(axis="x", visible=False)
        if len(recompute):
            axes.axhline(
                recompute.iloc[0][column],
                color="#000000",
                linestyle=":",
                label="no cache below HBM (recompute)",
            )
            axes.legend(fontsize=8, loc="best")
        axes.set_ylabel(f"{name}, median")
        axes.margins(y=0.18)
    figure.suptitle(
        _title(rows, f"Transport and medium, chunk {tables.chunk_tokens}, {rows['load'].max()} clients"),
        fontsize=11,
    )
    figure.tight_layout()
    return figure


DRAWINGS: dict[str, Callable[[Tables], Figure]] = {
    "tier_tradeoff": draw_tier_tradeoff,
    "chunk": draw_chunk,
    "stores": draw_stores,
    "transport_medium": draw_transport_medium,
    "layers": lambda tables: draw_layers(tables.layers),
    "latency": lambda tables: draw_latency(tables.latency, COLOURS, MARKERS),
}


def at_chunk(scenarios: pd.DataFrame, chunk_tokens: int) -> pd.DataFrame:
    """Rows of scenarios with one chunk size, and those without a cache. Raises UserError when there is none."""
    uncached = scenarios["tier"] == "none"
    there = sorted(scenarios[~uncached]["chunk_tokens"].unique())
    if there and chunk_tokens not in there:
        sizes = ", ".join(map(str, there))
        raise UserError(f"figures.chunk_tokens: no scenario has chunk {chunk_tokens}; there are {sizes}")
    return scenarios[uncached | (scenarios["chunk_tokens"] == chunk_tokens)]


def _title(rows: pd.DataFrame, text: str) -> str:
    first = rows.iloc[0]
    if first["engine"] != "replay":
        return under(f"{text}\n{first['model']}, {gpu_words(rows)}, engine {first['engine']}", rows)
    scaled = f", scaled from {first['gpu_scaled_from']}" if pd.notna(first["gpu_scaled_from"]) else ""
    told = f"engine replay: real stores and bytes; {first['model']} on a modelled {gpu_words(rows)}{scaled}"
    return under(f"{text}\n{told}", rows)


def styles(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Line styles by scenario: a colour and marker per store, a line per connector.

    Every further scenario of one store and connector has another marker and line, filled as well: hollow means invalid.
    """
    found, seen = {}, Counter()
    for _, row in rows.drop_duplicates("scenario").iterrows():
        store = row["store"] or "none"
        earlier = seen[store, row["connector"]]
        seen[store, row["connector"]] += 1
        marker, line = MARKERS.get(store, "v"), LINES.get(row["connector"], "-.")
        if earlier == 1:
            marker, line = SECOND_MARKERS.get(store, "v"), SECOND_LINE
        elif earlier:
            marker, line = FURTHER[(earlier - 2) % len(FURTHER)]
        found[row["scenario"]] = {
            "color": COLOURS.get(store, "#999999"),
            "marker": marker,
            "linestyle": line,
            "markersize": 6,
            "linewidth": 1.6,
        }
    return found


def _styles_by_connector(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """The same, where a store has several connectors with a marker for each of these."""
    found = styles(rows)
    connectors = rows.groupby("store")["connector"].nunique()
    for _, row in rows.drop_duplicates("scenario").iterrows():
        marker = CONNECTOR_MARKERS.get(row["connector"])
        if connectors[row["store"]] > 1 and marker:
            found[row["scenario"]] |= {"marker": marker, "markersize": 11 if marker == "*" else 6}
    return found


def _error_bars(axes: Axes, line: pd.DataFrame, x: str, y: str, colour: str) -> None:
    """95 % intervals of the columns that have one, as thin crosses behind the points."""
    style = {"color": colour, "alpha": 0.45, "linewidth": 3}
    for _, row in line.iterrows():
        if pd.notna(row[f"{y}_low"]):
            axes.plot([row[x]] * 2, [row[f"{y}_low"], row[f"{y}_high"]], **style)
        if pd.notna(row.get(f"{x}_low")):
            axes.plot([row[f"{x}_low"], row[f"{x}_high"]], [row[y]] * 2, **style)


def _hollow(axes: Axes, line: pd.DataFrame, x: str, y: str, style: dict) -> None:
    """Invalid cells: the marker without its filling."""
    invalid = line[~line["valid"].astype(bool)]
    axes.plot(
        invalid[x], invalid[y], linestyle="none", marker=style["marker"], markersize=8,
        markerfacecolor="white", markeredgecolor=style["color"], zorder=5,
    )  # fmt: skip


def _legend(
    axes: Axes,
    rows: pd.DataFrame,
    note: str = "",
    hollow: str = "invalid, see cells.csv",
    beside: Axes | Figure | None = None,
) -> None:
    """A legend of the axes' lines, in it or beside (to the right of) another panel or the whole figure."""
    handles, texts = axes.get_legend_handles_labels()
    if not rows["valid"].all():
        handles.append(Line2D([], [], linestyle="none", marker="o", markerfacecolor="white", color="#666666"))
        texts.append(f"hollow: {hollow}")
    if any(rows[column].notna().any() for column in rows if column.endswith("_low")):
        handles.append(Line2D([], [], color="#666666", alpha=0.45, linewidth=3))
        texts.append("95 % interval over repeats")
    right = 1.0 if isinstance(beside, Figure) else 1.02
    place = {"loc": "best"} if beside is None else {"loc": "center left", "bbox_to_anchor": (right, 0.5)}
    legend = (beside or axes).legend(
        handles, texts, fontsize=8, title=note or None, title_fontsize=8, handlelength=3, **place
    )
    legend.get_frame().set_alpha(0.85)


def _empty(text: str) -> Figure:
    figure, axes = plt.subplots(figsize=(7, 2))
    axes.axis("off")
    axes.text(0.5, 0.5, text, ha="center", va="center")
    return figure


if __name__ == "__main__":
    sys.exit(run_stage("figures", main))
