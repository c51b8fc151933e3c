"""Figure latency: how long a single prompt waits, computed or loaded from every tier.

python -m workflow.hyperkv.figures.latency --tables results/tables/latency.csv --svg F.svg --png F.png
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.typing import LineStyleType

from ..base.cli import run_stage
from ..records.hardware import gpu_words
from ..records.repeats import single_anchor
from ..records.subtitles import under
from .axes import log_y, sizes_x
from .command import Picture, Table, draw_tables
from .looks import colour_of, marker_of, medium_of, shade
from .style import dtype_words, empty, gate_words, labels, link_points, pair_words

_DASHES: tuple[LineStyleType, ...] = ("-", "--", "-.", (0, (1, 1.2)), (0, (5, 1, 1, 1, 1, 1)))
_FURTHER_MARKERS = ("v", "*", "<", "h")
_PANELS = {"loaded": "the same prompt again, from the tier", "saved": "first time: computed and saved"}


def main(*, tables: Table, picture: Picture) -> None:
    """Draw the figure.

    Args:
        tables: latency.csv.
    """
    draw_tables(draw_latency, tables, picture)


def draw_latency(latency: pd.DataFrame) -> Figure:
    """latency.csv as two panels over one curve of recompute: loading a prompt, and computing and saving it.

    Scenarios of one store differ in shades of its colour, in dashes and in markers. Requests that do not prove
    themselves have hollow markers.
    """
    if latency.empty:
        return empty("No single requests were measured (latency.prompt_tokens is empty)")
    figure, panels = plt.subplots(1, 2, figsize=(11, 5), sharey=True)
    computed = latency[latency["pass"] == "computed"]
    pairs = pair_words(latency)
    names = labels(latency[latency["pass"] != "computed"], _label, "{} ({})")
    for axes, (kind, title) in zip(panels, _PANELS.items(), strict=True):
        for number, (scenario, rows) in enumerate(computed.groupby("scenario", sort=False)):
            words = f"recompute, no tier{dtype_words(rows.iloc[0])}{pairs[scenario]}"
            _draw_line(axes, rows, words, colour_of(""), marker_of(""), _DASHES[number % len(_DASHES)])
        used: Counter[str] = Counter()
        for scenario, words in names.items():
            rows = latency[(latency["scenario"] == scenario) & (latency["pass"] == kind)]
            store = rows.iloc[0]["store"]
            turn, place = divmod(used[store], len(_DASHES))
            used[store] += 1
            own = (marker_of(store), *_FURTHER_MARKERS)
            look = shade(colour_of(store), used[store] - 1), own[(turn + place) % len(own)], _DASHES[place]
            _draw_line(axes, rows, words, *look)
        axes.set_title(title, fontsize=11)
        axes.set_xlabel("prompt (tokens)")
        log_y(axes)
        sizes_x(axes, latency["prompt_tokens"].unique(), lambda value, _: f"{value:,.0f}")
    panels[0].set_ylabel("TTFT of one request on an idle engine (s)")
    first = latency.iloc[0]
    text = (
        f"{first['engine']}, {first['model']}'s shape, {gpu_words(latency)}: "
        f"medians over {int(latency['prompts'].min())} or more prompts"
        f"{'; hollow: not proved' if not latency['valid'].all() else ''}"
    )
    figure.suptitle(under(text, latency), fontsize=11, y=0.97, va="bottom")
    below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.02), "ncols": 2}
    figure.legend(*panels[0].get_legend_handles_labels(), fontsize=9, handlelength=4, **below)
    return figure


def _label(row: pd.Series) -> str:
    where = f"{row['store']} ({medium_of(row)}), {row['connector']}"
    return f"{where}, chunk {row['chunk_tokens']:g}{dtype_words(row)}{gate_words(row)}"


def _draw_line(
    axes: Axes, rows: pd.DataFrame, label: str, colour: str, marker: str, dashes: LineStyleType
) -> None:
    rows = rows.sort_values("prompt_tokens")
    valid = rows["valid"].astype(bool)
    low, high = rows["ttft_s"] - rows["ttft_s_low"], rows["ttft_s_high"] - rows["ttft_s"]
    ends = [end.fillna(0).clip(lower=0) for end in (low, high)]
    face = colour if valid.any() else "white"
    look: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 5}
    line: dict[str, Any] = {"linestyle": dashes, "linewidth": 1.4, "capsize": 2, "markerfacecolor": face}
    axes.errorbar(rows["prompt_tokens"], rows["ttft_s"], yerr=ends, label=label, **line, **look)
    hollow = rows[~valid]
    look |= {"linestyle": "none", "markerfacecolor": "white", "zorder": 3}
    axes.plot(hollow["prompt_tokens"], hollow["ttft_s"], **look)
    pairs = zip(rows["scenario"], rows["prompt_tokens"], strict=True)
    link_points(axes, rows["prompt_tokens"], rows["ttft_s"], [f"#{single_anchor(*pair)}" for pair in pairs])


if __name__ == "__main__":
    sys.exit(run_stage("draw_latency", main))
