"""Stage ladder_figure: what every step of the ladder brings, and the first beside the last, as SVG and PNG.

python -m workflow.hyperkv.figures.ladder --figure ladder --table results/tables/ladder.csv --svg F.svg --png F.png
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..base.cli import run_stage
from ..records.effective import USUAL_KV_DTYPES
from ..records.hardware import gpu_words
from ..records.subtitles import under
from .figures import COLOURS, MARKERS, label, name_loads, read_table, save

_STEP = "#0072B2"
_BEFORE, _AFTER, _LAST = "#5E3C99", "#CC79A7", "#D55E00"
_PANELS = (
    ("ttft_p50_ms", "ttft_gain", "TTFT p50 (ms), lower is better"),
    ("rps_per_gpu", "rps_gain", "RPS/GPU (requests/s), higher is better"),
)


def main() -> None:
    """Parse the command line and draw one figure."""
    parser = argparse.ArgumentParser(prog="python -m workflow.hyperkv.figures.ladder", description=__doc__)
    parser.add_argument("--figure", required=True, choices=sorted(DRAWINGS), help="which figure")
    parser.add_argument("--table", required=True, type=Path, help="ladder.csv")
    parser.add_argument("--svg", required=True, type=Path)
    parser.add_argument("--png", required=True, type=Path)
    arguments = parser.parse_args()
    table = read_table(arguments.table)
    save(lambda: DRAWINGS[arguments.figure](table), arguments.svg, arguments.png)


def draw_ladder(table: pd.DataFrame) -> Figure:
    """TTFT and RPS/GPU of every step at the highest load, each with its gain over the one before and over the first."""
    rows = table[table["load"] == table["load"].max()]
    steps = rows[rows["number"].notna()].sort_values("number")
    beside = rows[rows["number"].isna()]
    figure, panels = plt.subplots(1, 2, figsize=(14, 1.6 + 0.6 * len(steps)), sharey=True)
    for axes, (column, gain, name) in zip(panels, _PANELS, strict=True):
        _draw_steps(axes, steps, column, gain)
        for _, row in beside.iterrows():
            colour = COLOURS.get(row["store"] or "none", "#999999")
            axes.axvline(row[column], color=colour, linestyle=":", label=label(row))
        axes.set_xlabel(f"{name}, median")
        axes.grid(axis="y", visible=False)
    panels[0].set_yticks(range(len(steps)), [_step_label(row) for _, row in steps.iterrows()])
    panels[0].invert_yaxis()
    if len(beside):
        panels[0].legend(fontsize=8, loc="lower right")
    clients = f"{int(rows['load'].max())} clients, {int(rows['repeats'].max())} repeats"
    note = "x: gain over the step above, paired by repeat, with its 95 % interval"
    figure.suptitle(_title(steps, f"Step by step, everything else equal: {clients}; {note}"), fontsize=11)
    figure.tight_layout()
    return figure


def _draw_steps(axes: Axes, steps: pd.DataFrame, column: str, gain: str) -> None:
    top = steps[[column, f"{column}_high"]].max().max()
    for place, (_, row) in enumerate(steps.iterrows()):
        face = _STEP if row["valid"] else "none"
        axes.barh(place, row[column], color=face, edgecolor=_STEP, height=0.6, linewidth=1.4)
        end = row[column]
        if pd.notna(row[f"{column}_low"]):
            span = [
                [max(0, row[column] - row[f"{column}_low"])],
                [max(0, row[f"{column}_high"] - row[column])],
            ]
            axes.errorbar(row[column], place, xerr=span, color="#333333", capsize=3)
            end = row[f"{column}_high"]
        axes.annotate(
            _gain_text(row, gain),
            (end, place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
        )
    axes.set_xlim(0, top * 1.75)


def _gain_text(row: pd.Series, gain: str) -> str:
    """'130: x1.8 [1.6, 2.0]; x3.1 in all'; without a gain only the value."""
    value = row["ttft_p50_ms" if gain == "ttft_gain" else "rps_per_gpu"]
    words = [f"{value:.3g}" if pd.notna(value) else "-"]
    if pd.notna(previous := row[f"{gain}_over_previous"]):
        low, high = row[f"{gain}_over_previous_low"], row[f"{gain}_over_previous_high"]
        interval = f" [{low:.2f}, {high:.2f}]" if pd.notna(low) else ""
        words.append(f"x{previous:.2f}{interval}")
    if pd.notna(first := row[f"{gain}_over_first"]) and row["number"] > 1:
        words.append(f"in all x{first:.2f}")
    if not row["valid"]:
        words.append(f"{int(row['valid_repeats'])} of {int(row['repeats'])} valid")
    return "; ".join(words)


def _step_label(row: pd.Series) -> str:
    rate = "" if pd.isna(row["hit_rate"]) else f", hits {row['hit_rate']:.0%}"
    return f"{row['step']}\n{row['connector']}, chunk {row['chunk_tokens']}{rate}"


def draw_before_after(table: pd.DataFrame) -> Figure:
    """RPS/GPU against TPS/user of the first step and the last one, a point per load; and the last one of the first's KV dtype."""
    steps = table[table["number"].notna()]
    first = steps[steps["number"] == 0]
    like = steps[steps["kv_dtype"] == first.iloc[0]["kv_dtype"]]
    ends = [(first, "before", _BEFORE, "o"), (_of(like, like["number"].max()), "after", _AFTER, "s")]
    if steps["number"].max() > like["number"].max():
        ends.append((_of(steps, steps["number"].max()), "after", _LAST, "D"))
    figure, axes = plt.subplots(figsize=(7.6, 5))
    for rows, word, colour, marker in ends:
        row = rows.iloc[0]
        dtype = "" if row["kv_dtype"] in USUAL_KV_DTYPES else f", {row['kv_dtype']}"
        name = f"{word}: {row['step']} ({row['store']}, {row['connector']}{dtype})"
        _draw_curve(axes, rows, name, colour, marker)
    beside = table[table["number"].isna()]
    for _, rows in beside.groupby("scenario", sort=False):
        store = rows.iloc[0]["store"] or "none"
        _draw_curve(
            axes, rows, label(rows.iloc[0]), COLOURS.get(store, "#999999"), MARKERS.get(store, "v"), ":"
        )
    axes.set(
        xlabel="TPS/user (answer tokens per second of a request, median)",
        ylabel="RPS/GPU (requests/s, median)",
    )
    axes.set_ylim(bottom=0)
    axes.set_title(_title(steps, "Before and after tuning"), fontsize=10)
    drawn = pd.concat([*(rows for rows, *_ in ends), beside])
    axes.legend(
        fontsize=8, title=f"{name_loads(axes, drawn)};\nhollow: not all repeats valid", title_fontsize=8,
        loc="center left", bbox_to_anchor=(1.02, 0.5),
    )  # fmt: skip
    return figure


def _draw_curve(axes: Axes, rows: pd.DataFrame, name: str, colour: str, marker: str, line: str = "-") -> None:
    rows = rows.sort_values("load")
    for _, row in rows.iterrows():
        for x, y in (("tps_per_user", "rps_per_gpu"), ("rps_per_gpu", "tps_per_user")):
            if pd.notna(row[f"{y}_low"]):
                ends = [row[f"{y}_low"], row[f"{y}_high"]]
                across = [row[x]] * 2
                pair = (across, ends) if x == "tps_per_user" else (ends, across)
                axes.plot(*pair, color=colour, alpha=0.35, linewidth=3)
    axes.plot(
        rows["tps_per_user"], rows["rps_per_gpu"], color=colour, marker=marker, linestyle=line, label=name
    )
    hollow = rows[~rows["valid"].astype(bool)]
    axes.plot(
        hollow["tps_per_user"], hollow["rps_per_gpu"], linestyle="none", marker=marker, color=colour,
        markerfacecolor="white", zorder=4,
    )  # fmt: skip


def _of(rows: pd.DataFrame, number: float) -> pd.DataFrame:
    return rows[rows["number"] == number]


def _title(rows: pd.DataFrame, text: str) -> str:
    first = rows.iloc[0]
    what = (
        "engine replay: real stores and bytes, modelled" if first["engine"] == "replay" else first["engine"]
    )
    return under(f"{text}\n{first['model']}, {what} {gpu_words(rows)}", rows)


DRAWINGS: dict[str, Callable[[pd.DataFrame], Figure]] = {
    "ladder": draw_ladder,
    "before_after": draw_before_after,
}

if __name__ == "__main__":
    sys.exit(run_stage("ladder_figure", main))
