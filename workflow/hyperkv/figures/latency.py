"""The figure of single requests: TTFT against the prompt's length, computed and from every tier."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from ..records.effective import USUAL_KV_DTYPES
from ..records.hardware import gpu_words
from ..records.subtitles import under

_DASHES = ("-", "--", "-.", (0, (1, 1.2)), (0, (5, 1, 1, 1, 1, 1)))
_FURTHER_MARKERS = ("v", "*", "<", "h")
_PANELS = {"loaded": "the same prompt again, from the tier", "saved": "first time: computed and saved"}


def draw_latency(table: pd.DataFrame, colours: Mapping[str, str], markers: Mapping[str, str]) -> Figure:
    """latency.csv as two panels over one curve of recompute: loading a prompt, and computing and saving it.

    colours, markers: by store. Scenarios of one store differ in dashes, more of them than there are dashes in markers, too.
    Requests that do not prove themselves have hollow markers.
    """
    if table.empty:
        figure, axes = plt.subplots(figsize=(8, 3))
        axes.text(0.5, 0.5, "No single requests were measured (latency.prompt_tokens is empty)", ha="center")
        axes.set_axis_off()
        return figure
    figure, panels = plt.subplots(1, 2, figsize=(11, 5), sharey=True)
    computed = table[table["pass"] == "computed"]
    labels = _labels(table[table["pass"] != "computed"])
    for axes, (kind, title) in zip(panels, _PANELS.items(), strict=True):
        for number, (_, rows) in enumerate(computed.groupby("scenario", sort=False)):
            words = f"recompute, no tier{_dtype(rows.iloc[0])}"
            _line(axes, rows, words, "#000000", "x", _DASHES[number % len(_DASHES)])
        used: dict[str, int] = {}
        for scenario, words in labels.items():
            rows = table[(table["scenario"] == scenario) & (table["pass"] == kind)]
            store = rows.iloc[0]["store"]
            turn, place = divmod(used.setdefault(store, 0), len(_DASHES))
            used[store] += 1
            own = (markers[store], *_FURTHER_MARKERS)
            _line(axes, rows, words, colours[store], own[turn % len(own)], _DASHES[place])
        axes.set_title(title, fontsize=11)
        axes.set_xlabel("prompt (tokens)")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        lengths = sorted(table["prompt_tokens"].unique())
        axes.xaxis.set_major_locator(FixedLocator(lengths))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    panels[0].set_ylabel("TTFT of one request on an idle engine (s)")
    first = table.iloc[0]
    title = (
        f"{first['engine']}, {first['model']}'s shape, {gpu_words(table)}: medians over {int(table['prompts'].min())} or more prompts"
        f"{'; hollow: not proved' if not table['valid'].all() else ''}"
    )
    figure.suptitle(under(title, table), fontsize=11, y=0.97, va="bottom")
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="upper center",
        bbox_to_anchor=(0.5, 0.02),
        ncols=2,
        fontsize=9,
        handlelength=4,
    )
    return figure


def _labels(rows: pd.DataFrame) -> dict[str, str]:
    """Each scenario's words in the legend; those that would be the same have the scenario's name behind them."""
    words = {
        name: line_label(row)
        for name, row in rows.drop_duplicates("scenario").set_index("scenario").iterrows()
    }
    shared = [word for word, count in Counter(words.values()).items() if count > 1]
    return {name: f"{word} ({name})" if word in shared else word for name, word in words.items()}


def line_label(row: pd.Series) -> str:
    """A scenario in the legend: store, connector, chunk and where its bytes are meant to lie."""
    medium = "SSD" if row["tier"] == "ssd" else "RAM" if row["store"] in ("dram", "valkey") else "tmpfs"
    return f"{row['store']} ({medium}), {row['connector']}, chunk {row['chunk_tokens']:g}{_dtype(row)}"


def _dtype(row: pd.Series) -> str:
    return "" if row["kv_dtype"] in USUAL_KV_DTYPES else f", {row['kv_dtype']}"


def _line(axes: Axes, rows: pd.DataFrame, label: str, colour: str, marker: str, dashes: object) -> None:
    rows = rows.sort_values("prompt_tokens")
    valid = rows["valid"].astype(bool)
    low, high = rows["ttft_s"] - rows["ttft_s_low"], rows["ttft_s_high"] - rows["ttft_s"]
    axes.errorbar(
        rows["prompt_tokens"],
        rows["ttft_s"],
        yerr=[low.fillna(0).clip(lower=0), high.fillna(0).clip(lower=0)],
        label=label,
        color=colour,
        marker=marker,
        markerfacecolor=colour if valid.any() else "white",
        linestyle=dashes,
        linewidth=1.4,
        markersize=5,
        capsize=2,
    )
    hollow = rows[~valid]
    axes.plot(
        hollow["prompt_tokens"],
        hollow["ttft_s"],
        linestyle="none",
        color=colour,
        marker=marker,
        markerfacecolor="white",
        markersize=5,
        zorder=3,
    )
