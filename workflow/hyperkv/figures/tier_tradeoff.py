"""Figure tier_tradeoff: what each tier serves, how fast each user gets it, and how long they wait for it.

python -m workflow.hyperkv.figures.tier_tradeoff --tables results/tables/scenarios.csv --spec '{"chunk_tokens": 64}' --svg F.svg --png F.png
"""

from __future__ import annotations

import sys

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from ..base.cli import run_stage
from ..base.options import Spec
from ..records.parity import require_parity
from ..records.repeats import load_unit
from ..tables.methods.told_apart import told_apart
from .axes import log_y, plain
from .command import Picture, Table, draw_tables
from .style import (
    NO_LOADS,
    WIDTH,
    at_chunk,
    cell_links,
    draw_line,
    empty,
    labels,
    legend,
    name_loads,
    styles,
    title,
)

_ONE_LOAD = 0.06  # clients to either side
_PANELS = (("tps_per_user", "rps_per_gpu"), ("load", "ttft_p50_ms"), ("load", "ttft_p95_ms"))


def main(*, tables: Table, spec: Spec, picture: Picture) -> None:
    """Draw the figure.

    Args:
        tables: scenarios.csv.
        spec: JSON: {"chunk_tokens": size that is compared}.
    """
    draw_tables(draw_tier_tradeoff, tables, picture, spec["chunk_tokens"])


def draw_tier_tradeoff(scenarios: pd.DataFrame, chunk_tokens: int) -> Figure:
    """RPS/GPU against TPS/user, and beside it TTFT p50 and p95 against load: one line per scenario, one point per load.

    scenarios: that table; of it the scenarios of one chunk size. The legend has the hit rate at the highest load. Raises
    UserError when they are not alike.
    """
    rows = at_chunk(scenarios, chunk_tokens)
    if rows.empty:
        return empty(NO_LOADS)
    require_parity(rows, vary=["tier", "store", "connector", "pair"])
    figure, panels = plt.subplot_mosaic("ab;ac", figsize=(WIDTH, 6), width_ratios=(1.25, 1))
    trade, *waits = panels.values()
    names, looks = labels(rows), styles(rows)
    beside = _beside(rows)
    for scenario, line in rows.groupby("scenario", sort=False):
        line = line.sort_values("load")
        rate = line.iloc[-1]["hit_rate"]
        name = names[scenario] + ("; hit rate -" if pd.isna(rate) else f"; hit rate {rate:.0%}")
        for axes, (x, y) in zip(panels.values(), _PANELS, strict=True):
            own = line.assign(load=line["load"] + beside[scenario]) if x == "load" else line
            draw_line(axes, own, x, y, name, looks[scenario], cell_links(line))
    trade.set(
        xlabel="TPS/user (answer tokens per second of a request, median)",
        ylabel="RPS/GPU (requests per second, median)",
    )
    trade.set_ylim(0, 1.04 * trade.get_ylim()[1])
    loads = sorted(rows["load"].unique())
    for axes, name in zip(waits, ("p50", "p95"), strict=True):
        axes.set_ylabel(f"TTFT {name} (ms)")
        log_y(axes)
        axes.set_xticks(loads)
        axes.xaxis.set_major_formatter(FuncFormatter(plain))
        if len(loads) == 1:  # what stands beside one another is of one load
            axes.set_xlim(loads[0] - _ONE_LOAD, loads[0] + _ONE_LOAD)
    waits[0].tick_params(labelbottom=False)
    waits[1].set_xlabel(load_unit(rows))
    figure.suptitle(title(rows, f"DRAM against SSD, chunk {chunk_tokens} tokens"), fontsize=11)
    told = f"left panel, {name_loads(trade, rows)}; hit rate: at the highest load"
    told = "\n".join(filter(None, [told, told_apart(rows)]))
    figure.tight_layout()
    legend(trade, rows, told, below=figure)
    return figure


def _beside(rows: pd.DataFrame) -> dict[str, float]:
    """Clients by which each scenario stands beside its load, so that intervals do not hide one another; 0 where there are none."""
    names, loads = list(rows["scenario"].unique()), rows["load"]
    step = 0.012 * (loads.max() - loads.min() or 1) if rows["ttft_p50_ms_low"].notna().any() else 0.0
    return {name: step * (place - (len(names) - 1) / 2) for place, name in enumerate(names)}


if __name__ == "__main__":
    sys.exit(run_stage("draw_tier_tradeoff", main))
