"""Figure before_after: the ladder's first step beside its last.

python -m workflow.hyperkv.figures.before_after --tables results/tables/ladder.csv --svg F.svg --png F.png
"""

from __future__ import annotations

import sys

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from ..base.cli import run_stage
from .command import Picture, Table, draw_tables
from .looks import colour_of, marker_of
from .style import draw_line, dtype_words, label, legend_beside, name_loads, pair_words, title

_BEFORE = {"color": "#5E3C99", "marker": "o"}
_AFTER = {"color": "#CC79A7", "marker": "s"}
_LAST = {"color": "#D55E00", "marker": "D"}


def main(*, tables: Table, picture: Picture) -> None:
    """Draw the figure.

    Args:
        tables: ladder.csv.
    """
    draw_tables(draw_before_after, tables, picture)


def draw_before_after(ladder: pd.DataFrame) -> Figure:
    """RPS/GPU against TPS/user of the first step and the last one, a point per load; and the last one of the first's KV dtype."""
    steps, beside = ladder[ladder["number"].notna()], ladder[ladder["number"].isna()]
    first = steps[steps["number"] == 0]
    like = steps[steps["kv_dtype"] == first.iloc[0]["kv_dtype"]]
    ends = [(first, "before", _BEFORE), (_last(like), "after", _AFTER)]
    if steps["number"].max() > like["number"].max():
        ends.append((_last(steps), "after", _LAST))
    lines, pairs = [], pair_words(ladder)
    for rows, word, look in ends:
        row = rows.iloc[0]
        how = f"{row['store']}, {row['connector']}{dtype_words(row)}{pairs[row['scenario']]}"
        name = f"{word}: {row['step']} ({how})"
        lines.append((rows, name, look))
    for _, rows in beside.groupby("scenario", sort=False):
        row = rows.iloc[0]
        look = {"color": colour_of(row["store"]), "marker": marker_of(row["store"]), "linestyle": ":"}
        lines.append((rows, label(row) + pairs[row["scenario"]], look))
    figure, axes = plt.subplots(figsize=(7.6, 5))
    for rows, name, look in lines:
        draw_line(axes, rows.sort_values("load"), "tps_per_user", "rps_per_gpu", name, look)
    axes.set(
        xlabel="TPS/user (answer tokens per second of a request, median)",
        ylabel="RPS/GPU (requests/s, median)",
    )
    axes.set_ylim(bottom=0)
    axes.set_title(title(steps, "Before and after tuning"), fontsize=10)
    drawn = pd.concat([rows for rows, *_ in lines])
    told = f"{name_loads(axes, drawn)};\nhollow: not all repeats valid"
    legend_beside(axes, *axes.get_legend_handles_labels(), told, handlelength=None)
    return figure


def _last(steps: pd.DataFrame) -> pd.DataFrame:
    return steps[steps["number"] == steps["number"].max()]


if __name__ == "__main__":
    sys.exit(run_stage("draw_before_after", main))
