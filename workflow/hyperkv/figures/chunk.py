"""Figure chunk: what the chunk size does to hits and to throughput.

python -m workflow.hyperkv.figures.chunk --tables results/tables/scenarios.csv --svg F.svg --png F.png
"""

from __future__ import annotations

import sys
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ..base.cli import run_stage
from ..records.parity import require_parity
from ..records.repeats import at_common_load, load_words
from .axes import log_y, sizes_x
from .command import Picture, Table, draw_tables
from .looks import CONNECTOR_MARKERS
from .style import WIDTH, cell_links, draw_line, empty, labels, legend, note, styles, title


def main(*, tables: Table, picture: Picture) -> None:
    """Draw the figure.

    Args:
        tables: scenarios.csv.
    """
    draw_tables(draw_chunk, tables, picture)


def draw_chunk(scenarios: pd.DataFrame) -> Figure:
    """Hit rate and RPS/GPU against chunk size at the highest load that all have, and loaded GB/s against hit rate, one line per scenario family.

    scenarios: that table. The last panel is left out where no engine timed its loads. Raises UserError when they are not alike.
    """
    rows = _families(scenarios)
    if rows.empty:
        return empty("No store was measured at more than one chunk size")
    require_parity(rows, vary=["tier", "store", "connector", "pair", "chunk_tokens"])
    timed = bool(rows["load_gbps"].notna().any())
    figure, panels = plt.subplots(1, 2 + timed, figsize=(WIDTH, 4.6))
    places = (("chunk_tokens", "hit_rate"), ("chunk_tokens", "rps_per_gpu"), ("hit_rate", "load_gbps"))
    names, looks = labels(rows), _styles_by_connector(rows)
    for family, line in rows.groupby("scenario", sort=False):
        line = line.sort_values("chunk_tokens")
        for axes, (x, y) in zip(panels, places, strict=False):
            draw_line(axes, line, x, y, names[family], looks[family], line["link"])
        if timed:
            _name_chunks(panels[2], line)
    left, right = panels[:2]
    for axes in (left, right):
        sizes_x(axes, rows["chunk_tokens"].unique())
        axes.set_xlabel("chunk (tokens)")
    left.yaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10], min_n_ticks=3))
    left.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    left.set(ylabel="hit rate (median)", title="What larger chunks lose")
    right.set(ylabel="RPS/GPU (median)", title="What they do to throughput")
    right.set_ylim(0, right.get_ylim()[1] * 1.05)
    if timed:
        panels[2].xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        panels[2].set(
            xlabel="hit rate (median); numbers are chunks in tokens",
            ylabel="GB/s of loads (median)",
            title="The trade: hits against throughput",
        )
        log_y(panels[2])
    figure.suptitle(title(rows, f"Chunk size, {load_words(rows)}"), fontsize=11)
    figure.tight_layout()
    legend(right, rows, below=figure)
    return figure


def _families(scenarios: pd.DataFrame) -> pd.DataFrame:
    """Rows at their highest common load of families with several chunk sizes, the family's name in place of the scenario's."""
    rows = at_common_load(scenarios[scenarios["tier"] != "none"])
    named = zip(rows["scenario"], rows["chunk_tokens"], strict=True)
    families = [name.removesuffix(f"-{chunk}") for name, chunk in named]
    rows = rows.assign(link=cell_links(rows), scenario=families)
    return rows[rows.groupby("scenario")["chunk_tokens"].transform("nunique") > 1]


def _styles_by_connector(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Line styles by family; where a store has several connectors with a marker for each of these."""
    found = styles(rows)
    connectors = rows.groupby("store")["connector"].nunique()
    for _, row in rows.drop_duplicates("scenario").iterrows():
        marker = CONNECTOR_MARKERS.get(row["connector"])
        if connectors[row["store"]] > 1 and marker:
            found[row["scenario"]] |= {"marker": marker, "markersize": 11 if marker == "*" else 6}
    return found


def _name_chunks(axes: Axes, line: pd.DataFrame) -> None:
    for _, row in line[line["load_gbps"].notna()].iterrows():
        largest = row["chunk_tokens"] == line["chunk_tokens"].max()
        at, offset = (row["hit_rate"], row["load_gbps"]), (-7 if largest else 7, 0)
        note(axes, row["chunk_tokens"], at, offset, ha="right" if largest else "left", va="center")


if __name__ == "__main__":
    sys.exit(run_stage("draw_chunk", main))
