"""Figure tier_tradeoff: what each tier serves against how fast each user gets it.

python -m workflow.hyperkv.figures.tier_tradeoff --tables results/tables/scenarios.csv --spec '{"chunk_tokens": 64}' --svg F.svg --png F.png
"""

from __future__ import annotations

import sys

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from ..base.cli import run_stage
from ..base.options import Spec
from ..records.parity import require_parity
from .command import Picture, Table, draw_tables
from .style import at_chunk, draw_line, labels, legend, name_loads, styles, title


def main(*, tables: Table, spec: Spec, picture: Picture) -> None:
    """Draw the figure.

    Args:
        tables: scenarios.csv.
        spec: JSON: {"chunk_tokens": size that is compared}.
    """
    draw_tables(draw_tier_tradeoff, tables, picture, spec["chunk_tokens"])


def draw_tier_tradeoff(scenarios: pd.DataFrame, chunk_tokens: int) -> Figure:
    """RPS/GPU against TPS/user, one line per scenario, one point per load, hit rate at the highest load in the legend.

    scenarios: that table; of it the scenarios of one chunk size. Raises UserError when they are not alike.
    """
    rows = at_chunk(scenarios, chunk_tokens)
    require_parity(rows, vary=["tier", "store", "connector"])
    figure, axes = plt.subplots(figsize=(7.6, 5.2))
    names, looks = labels(rows), styles(rows)
    for scenario, line in rows.groupby("scenario", sort=False):
        line = line.sort_values("load")
        rate = line.iloc[-1]["hit_rate"]
        hits = "; hit rate -" if pd.isna(rate) else f"; hit rate {rate:.0%}"
        draw_line(axes, line, "tps_per_user", "rps_per_gpu", names[scenario] + hits, looks[scenario])
    axes.set(
        xlabel="TPS/user (answer tokens per second of a request, median)",
        ylabel="RPS/GPU (requests per second, median)",
    )
    axes.set_title(title(rows, f"DRAM against SSD, chunk {chunk_tokens} tokens"), fontsize=10)
    axes.set_ylim(bottom=0)
    note = f"{name_loads(axes, rows)};\nhit rate: at the highest load"
    legend(axes, rows, title=note, beside=axes)
    return figure


if __name__ == "__main__":
    sys.exit(run_stage("draw_tier_tradeoff", main))
