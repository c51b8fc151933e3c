"""How all figures are read, drawn and saved: tables, names, lines with their intervals and hollow points, legends, titles."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.ticker import LogFormatter, LogFormatterMathtext
from matplotlib.typing import LineStyleType

from ..base.errors import UserError
from ..records.effective import USUAL_KV_DTYPES
from ..records.frames import read_csv
from ..records.hardware import gpu_words
from ..records.repeats import cell_anchor, load_words
from ..records.stats import interval_word
from ..records.subtitles import under
from ..records.templates import size_words
from .looks import LINES, colour_of, marker_of, medium_of, shade

LEGEND: dict[str, Any] = {"fontsize": 8, "title_fontsize": 8, "handlelength": 3}
WIDTH = 11.0  # inches: shown 1,140 pixels wide, as the page does, a letter of 8 points is 11 pixels high
RECOMPUTE = "no cache below HBM (recompute)"
NO_LOADS = "No load was measured (experiment.loads, scenarios.<name>.loads)"
_SECOND_LINE: LineStyleType = (0, (4, 1.2, 1, 1.2))
_FURTHER: tuple[tuple[str, LineStyleType], ...] = (
    (">", (0, (8, 1.5))),
    ("*", (0, (1, 2.5))),
    ("<", (0, (3, 1, 1, 1, 1, 1))),
    ("h", (0, (6, 1, 1, 1))),
)


def read_table(path: Path) -> pd.DataFrame:
    """A table with empty words as "", so that tier `none` has a store and a connector to compare by."""
    words = ["store", "connector", "reasons"]
    table = read_csv(path, keep_default_na=False, na_values=[""], dtype=dict.fromkeys(words, str))
    present = [column for column in words if column in table]
    table[present] = table[present].fillna("")
    return table


def save(draw: Callable[[], Figure], svg: Path, png: Path | None = None, note: str = "") -> None:
    """Draw a figure in the house's style and write it; the same bytes for the same tables.

    png: the same as pixels, where they are wanted. note: what is not alike about its rows, for below the figure.
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
    if png is not None:
        figure.savefig(png, dpi=150, bbox_inches="tight")
    plt.close(figure)


def empty(text: str) -> Figure:
    """A figure that says why there is nothing to draw."""
    figure, axes = plt.subplots(figsize=(7, 2))
    axes.axis("off")
    axes.text(0.5, 0.5, text, ha="center", va="center")
    return figure


def at_chunk(scenarios: pd.DataFrame, chunk_tokens: int) -> pd.DataFrame:
    """Rows of scenarios with one chunk size, and those without a cache. Raises UserError when there is none."""
    uncached = scenarios["tier"] == "none"
    there = sorted(scenarios[~uncached]["chunk_tokens"].unique())
    if there and chunk_tokens not in there:
        sizes = ", ".join(map(str, there))
        raise UserError(f"figures.chunk_tokens: no scenario has chunk {chunk_tokens}; there are {sizes}")
    return scenarios[uncached | (scenarios["chunk_tokens"] == chunk_tokens)]


def label(row: pd.Series) -> str:
    """How a scenario is called in a legend: store, connector, medium, the DRAM pool, and gate."""
    where = f"{row['store']}, {row['connector']} ({medium_of(row)}){pool_words(row)}{gate_words(row)}"
    return RECOMPUTE if row["tier"] == "none" else where


def pool_words(row: pd.Series) -> str:
    """' behind DRAM of 8 GiB' where a pool stands before a store, and serves hits of its own; ' of 8 GiB' of one alone."""
    pool = row.get("dram_pool_bytes")
    if pd.isna(pool):
        return ""
    return f"{'' if row['store'] == 'dram' else ' behind DRAM'} of {size_words(pool)}"


def gate_words(row: pd.Series) -> str:
    """', gate ttft' where a gate decides how much of what is there is loaded."""
    return f", gate {row['gate']}" if pd.notna(row.get("gate")) else ""


def labels(
    rows: pd.DataFrame, words: Callable[[pd.Series], str] = label, named: str = "{}: {}"
) -> dict[str, str]:
    """Legend labels by scenario, with their pair where there are several; those that would be the same carry their scenarios'
    names as well."""
    pairs = pair_words(rows)
    found = {
        row["scenario"]: words(row) + pairs[row["scenario"]]
        for _, row in rows.drop_duplicates("scenario").iterrows()
    }
    known = Counter(found.values())
    return {name: text if known[text] == 1 else named.format(text, name) for name, text in found.items()}


def pair_words(rows: pd.DataFrame) -> dict[str, str]:
    """', pair current' by scenario where the rows are of several pairs of vLLM and LMCache, '' where they are not."""
    several = "pair" in rows and rows["pair"].nunique() > 1
    pairs = rows["pair"] if several else [None] * len(rows)
    return {
        name: "" if pd.isna(pair) else f", pair {pair}"
        for name, pair in zip(rows["scenario"], pairs, strict=True)
    }


def dtype_words(row: pd.Series) -> str:
    """', fp8' where a scenario's KV has an unusual format."""
    return "" if row["kv_dtype"] in USUAL_KV_DTYPES else f", {row['kv_dtype']}"


def title(rows: pd.DataFrame, text: str) -> str:
    """The text, and below it what the rows were measured with: model, GPU, engine, KV, workload."""
    first = rows.iloc[0]
    if first["engine"] != "replay":
        return under(f"{text}\n{first['model']}, {gpu_words(rows)}, engine {first['engine']}", rows)
    scaled = f", scaled from {first['gpu_scaled_from']}" if pd.notna(first["gpu_scaled_from"]) else ""
    told = f"engine replay: real stores and bytes; {first['model']} on a modelled {gpu_words(rows)}{scaled}"
    return under(f"{text}\n{told}", rows)


def styles(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Line styles by scenario: a colour and marker per store, a line per connector.

    Every further scenario of one store has another shade of its colour, and of one connector as well another marker and line,
    filled as well: hollow means invalid.
    """
    found: dict[str, dict[str, Any]] = {}
    seen: Counter[tuple[str, str]] = Counter()
    of_store: Counter[str] = Counter()
    for _, row in rows.drop_duplicates("scenario").iterrows():
        earlier = seen[row["store"], row["connector"]]
        seen[row["store"], row["connector"]] += 1
        marker, line = marker_of(row["store"]), LINES.get(row["connector"], "-.")
        if earlier == 1:
            marker, line = marker_of(row["store"], second=True), _SECOND_LINE
        elif earlier:
            marker, line = _FURTHER[(earlier - 2) % len(_FURTHER)]
        found[row["scenario"]] = {
            "color": shade(colour_of(row["store"]), of_store[row["store"]]),
            "marker": marker,
            "linestyle": line,
            "markersize": 6,
            "linewidth": 1.6,
        }
        of_store[row["store"]] += 1
    return found


def cell_links(rows: pd.DataFrame) -> list[str]:
    """For each row of scenarios.csv the address of its cells within the page."""
    return [f"#{cell_anchor(*pair)}" for pair in zip(rows["scenario"], rows["load"], strict=True)]


def draw_line(
    axes: Axes,
    rows: pd.DataFrame,
    x: str,
    y: str,
    name: str,
    style: Mapping[str, Any],
    links: Sequence[str] = (),
) -> None:
    """One scenario's rows as a line, with the intervals of x and y behind it and its invalid points hollow.

    links: of the rows, where a point leads to in an SVG.
    """
    bar = {"color": style["color"], "alpha": 0.45, "linewidth": 3}
    for _, row in rows.iterrows():
        if pd.notna(row[f"{y}_low"]):
            axes.plot([row[x]] * 2, [row[f"{y}_low"], row[f"{y}_high"]], **bar)
        if pd.notna(row.get(f"{x}_low")):
            axes.plot([row[f"{x}_low"], row[f"{x}_high"]], [row[y]] * 2, **bar)
    axes.plot(rows[x], rows[y], label=name, **style)
    invalid = rows[~rows["valid"].astype(bool)]
    axes.plot(
        invalid[x], invalid[y], linestyle="none", marker=style["marker"], markersize=8,
        markerfacecolor="white", markeredgecolor=style["color"], zorder=5,
    )  # fmt: skip
    link_points(axes, rows[x], rows[y], links)


def link_points(axes: Axes, x: Iterable[float], y: Iterable[float], links: Iterable[str]) -> None:
    """Where points lead to in an SVG, "" nowhere: what is clicked on is larger than what is seen."""
    for across, up, link in zip(x, y, links, strict=False):
        if link and pd.notna(across) and pd.notna(up):
            axes.scatter(across, up, s=140, alpha=0, zorder=6).set_urls([link])


def draw_interval(
    axes: Axes, row: pd.Series, column: str, place: float, upright: bool = False, **look: Any
) -> float:
    """A median's interval at the end of its bar, which stands at `place`; the value at which bar and interval end."""
    value, low, high = (row[f"{column}{end}"] for end in ("", "_low", "_high"))
    if pd.isna(low):
        return value
    ends = [[max(0.0, value - low)], [max(0.0, high - value)]]
    at = {"x": place, "y": value, "yerr": ends} if upright else {"x": value, "y": place, "xerr": ends}
    axes.errorbar(**at, color="#333333", **look)
    return max(value, high)


def note(
    axes: Axes, text: str, at: tuple[float, float], offset: tuple[float, float] = (0, 4), **look: Any
) -> Annotation:
    """A text so many points beside a place."""
    return axes.annotate(text, at, offset, textcoords="offset points", **({"fontsize": 8} | look))


def name_loads(axes: Axes, rows: pd.DataFrame) -> str:
    """The legend's words for which point is which load, of lines of TPS/user against RPS/GPU.

    The more clients, the fewer TPS/user, mostly; where that is not so the line's points carry their number of clients.
    """
    told = f"points: {load_words(rows)}"
    if rows["load"].nunique() == 1:
        return told
    known = rows.dropna(subset=["tps_per_user", "rps_per_gpu"]).sort_values("load")
    turning = known.groupby("scenario").filter(lambda line: not line["tps_per_user"].is_monotonic_decreasing)
    for _, point in turning.iterrows():
        note(axes, f"{point['load']:g}", (point["tps_per_user"], point["rps_per_gpu"]), (0, -13), ha="center")
    return f"{told}, right to left{'' if turning.empty else ' where not numbered'}"


def legend(
    axes: Axes,
    rows: pd.DataFrame,
    title: str = "",
    hollow: str = "invalid, see cells.csv",
    below: Figure | None = None,
) -> None:
    """A legend of the axes' lines, in it or below the whole figure."""
    handles, texts = told(*axes.get_legend_handles_labels(), rows, hollow)
    drawn = (
        legend_below(below, handles, texts, title)
        if below
        else axes.legend(handles, texts, loc="best", **LEGEND)
    )
    drawn.get_frame().set_alpha(0.85)


def told(
    handles: list, texts: list[str], rows: pd.DataFrame, hollow: str = "invalid, see cells.csv"
) -> tuple[list, list[str]]:
    """A legend's handles and texts with what hollow points and bars behind the lines are, where there are any."""
    if not rows["valid"].all():
        handles.append(Line2D([], [], linestyle="none", marker="o", markerfacecolor="white", color="#666666"))
        texts.append(f"hollow: {hollow}")
    if any(rows[column].notna().any() for column in rows if column.endswith("_low")):
        handles.append(Line2D([], [], color="#666666", alpha=0.45, linewidth=3))
        texts.append(f"{interval_word(rows['repeats'].max())} over repeats")
    return handles, texts


def legend_beside(
    owner: Axes | Figure, handles: Sequence[Any], texts: Sequence[str], title: str = "", **look: Any
) -> Legend:
    """A legend to the right of a panel or of the whole figure."""
    place = {"loc": "center left", "bbox_to_anchor": (1.0 if isinstance(owner, Figure) else 1.02, 0.5)}
    return owner.legend(handles, texts, title=title or None, **{**LEGEND, **place, **look})


def legend_below(figure: Figure, handles: Sequence[Any], texts: Sequence[str], title: str = "") -> Legend:
    """A legend in two columns below the whole figure."""
    look: dict[str, Any] = LEGEND | {"fontsize": 9, "title_fontsize": 9, "ncols": 2, "alignment": "left"}
    place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0)}
    return figure.legend(handles, texts, title=title or None, **look, **place)


def unique_legend(panels: Iterable[Axes]) -> tuple[list, list[str]]:
    """Handles and texts of several panels, each text once."""
    found = {
        text: handle
        for axes in panels
        for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    return list(found.values()), list(found)
