"""Figure transport_medium: what is lost to the way (in process; an index over RESP and bytes from files; RESP) and what to the
medium (RAM, SSD).

python -m workflow.hyperkv.figures.transport_medium --tables results/tables/scenarios.csv --spec '{"chunk_tokens": 64}' --svg F.svg --png F.png
"""

from __future__ import annotations

import sys

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..base.cli import run_stage
from ..base.options import Spec
from ..records.parity import require_parity
from ..records.repeats import at_common_load, cell_anchor, load_words
from ..records.templates import number
from .command import Picture, Table, draw_tables
from .looks import colour_of, medium_of
from .style import RECOMPUTE, at_chunk, draw_interval, empty, note, pair_words, title

_WAYS = {"inprocess": "in process", "direct": "direct", "resp": "RESP"}


def main(*, tables: Table, spec: Spec, picture: Picture) -> None:
    """Draw the figure.

    Args:
        tables: scenarios.csv.
        spec: JSON: {"chunk_tokens": size that is compared}.
    """
    draw_tables(draw_transport_medium, tables, picture, spec["chunk_tokens"])


def draw_transport_medium(scenarios: pd.DataFrame, chunk_tokens: int) -> Figure:
    """The 3x2 {in process, direct, RESP} x {RAM, SSD}: TTFT and RPS/GPU at the highest load that all have.

    scenarios: that table; of it the scenarios of one chunk size. Raises UserError when they are not alike.
    """
    compared = at_common_load(at_chunk(scenarios, chunk_tokens))
    rows = compared[compared["connector"].isin(_WAYS)]
    if rows.empty:
        return empty("No scenario with connector inprocess, direct or resp at this chunk size")
    rows = rows.sort_values("connector", key=lambda names: names.map(list(_WAYS).index), kind="stable")
    require_parity(rows, vary=["tier", "store", "connector", "pair"])
    figure, panels = plt.subplots(1, 2, figsize=(10, 4.4))
    recompute = compared[compared["tier"] == "none"]
    if "pair" in compared:
        recompute = recompute[recompute["pair"].isin(rows["pair"])].drop_duplicates("pair")
    else:
        recompute = recompute.head(1)
    pairs, computed = pair_words(rows), pair_words(recompute)
    corners = [(_WAYS[row["connector"]], medium_of(row), row["store"]) for _, row in rows.iterrows()]
    names = [
        f"{corner[0]}\n{corner[1]}\n"
        f"({corner[2] if corners.count(corner) == 1 else row['scenario']}){pairs[row['scenario']]}"
        for corner, (_, row) in zip(corners, rows.iterrows(), strict=True)
    ]
    for axes, column, name in (
        (panels[0], "ttft_p50_ms", "TTFT p50 (ms)"),
        (panels[1], "rps_per_gpu", "RPS/GPU"),
    ):
        for position, (_, row) in enumerate(rows.iterrows()):
            _draw_bar(axes, position, row, column)
        axes.set_xticks(range(len(rows)), names)
        axes.grid(axis="x", visible=False)
        for line, (_, row) in zip((":", "-."), recompute.iterrows(), strict=False):
            told = f"{RECOMPUTE}{computed[row['scenario']]}"
            axes.axhline(row[column], color="#000000", linestyle=line, label=told)
            axes.legend(fontsize=8, loc="best")
        axes.set_ylabel(f"{name}, median")
        axes.margins(y=0.18)
    text = f"Transport and medium, chunk {chunk_tokens}, {load_words(rows)}"
    figure.suptitle(title(rows, text), fontsize=11)
    figure.tight_layout()
    return figure


def _draw_bar(axes: Axes, position: int, row: pd.Series, column: str) -> None:
    """One bar with its interval and its number; hollow when invalid."""
    colour, value = colour_of(row["store"]), row[column]
    face = colour if row["valid"] else "none"
    (bar,) = axes.bar(position, value, color=face, edgecolor=colour, linewidth=1.5, width=0.6)
    bar.set_url(f"#{cell_anchor(row['scenario'], row['load'])}")
    top = draw_interval(axes, row, column, position, upright=True, capsize=4)
    box = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
    text, at = (number(value), top) if pd.notna(value) else ("-", 0)
    note(axes, text, (position, at), ha="center", fontsize=9, bbox=box)


if __name__ == "__main__":
    sys.exit(run_stage("draw_transport_medium", main))
