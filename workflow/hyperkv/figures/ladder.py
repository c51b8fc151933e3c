"""Figure ladder: what every step of the ladder brings.

python -m workflow.hyperkv.figures.ladder --tables results/tables/ladder.csv --svg F.svg --png F.png
"""

from __future__ import annotations

import sys

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..base.cli import run_stage
from ..records.repeats import load_words
from ..records.stats import interval_word
from .command import Picture, Table, draw_tables
from .looks import colour_of
from .style import draw_interval, label, note, pair_words, title

_STEP = "#0072B2"
_PANELS = (
    ("ttft_p50_ms", "ttft_gain", "TTFT p50 (ms), lower is better"),
    ("rps_per_gpu", "rps_gain", "RPS/GPU (requests/s), higher is better"),
)


def main(*, tables: Table, picture: Picture) -> None:
    """Draw the figure.

    Args:
        tables: ladder.csv.
    """
    draw_tables(draw_ladder, tables, picture)


def draw_ladder(ladder: pd.DataFrame) -> Figure:
    """TTFT and RPS/GPU of every step at the highest load, each with its gain over the one before and over the first."""
    rows = ladder[ladder["load"] == ladder["load"].max()]
    steps = rows[rows["number"].notna()].sort_values("number")
    beside, pairs = rows[rows["number"].isna()], pair_words(rows)
    figure, panels = plt.subplots(1, 2, figsize=(14, 1.6 + 0.6 * len(steps)), sharey=True)
    for axes, (column, gain, name) in zip(panels, _PANELS, strict=True):
        _draw_steps(axes, steps, column, gain)
        for _, row in beside.iterrows():
            axes.axvline(
                row[column],
                color=colour_of(row["store"]),
                linestyle=":",
                label=label(row) + pairs[row["scenario"]],
            )
        axes.set_xlabel(f"{name}, median")
        axes.grid(axis="y", visible=False)
    panels[0].set_yticks(
        range(len(steps)), [_step_label(row) + pairs[row["scenario"]] for _, row in steps.iterrows()]
    )
    panels[0].invert_yaxis()
    if len(beside):
        panels[0].legend(fontsize=8, loc="lower right")
    repeats = int(rows["repeats"].max())
    clients = f"{load_words(rows)}, {repeats} repeats"
    note = f"x: gain over the step above, paired by repeat, with its {interval_word(repeats)}"
    figure.suptitle(title(steps, f"Step by step, everything else equal: {clients}; {note}"), fontsize=11)
    figure.tight_layout()
    return figure


def _draw_steps(axes: Axes, steps: pd.DataFrame, column: str, gain: str) -> None:
    top = steps[[column, f"{column}_high"]].max().max()
    for place, (_, row) in enumerate(steps.iterrows()):
        face = _STEP if row["valid"] else "none"
        axes.barh(place, row[column], color=face, edgecolor=_STEP, height=0.6, linewidth=1.4)
        end = draw_interval(axes, row, column, place, capsize=3)
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
        note(axes, _gain_text(row, gain), (end, place), (6, 0), va="center", bbox=box)
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


if __name__ == "__main__":
    sys.exit(run_stage("draw_ladder", main))
