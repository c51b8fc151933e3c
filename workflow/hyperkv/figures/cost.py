"""Figure cost: what every scenario costs at the same SLO, and which prices that hangs on.

python -m workflow.hyperkv.figures.cost --tables results/tables/cost.csv results/tables/cost_sensitivity.csv --spec '{"chunk_tokens": 64}' --svg F.svg --png F.png
"""

from __future__ import annotations

import sys
import textwrap
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ..base.cli import run_stage
from ..base.options import Spec
from ..records.hardware import gpu_words
from ..records.parity import require_parity
from ..records.stats import interval_word
from ..records.subtitles import under
from ..tables.methods.cost_model import PARTS, compared_rows, cost_anchor
from .command import Picture, TwoTables, draw_tables
from .looks import TIER_COLOURS
from .style import NO_LOADS, WIDTH, at_chunk, draw_interval, empty, labels, note, styles

PART_COLOURS = {
    "gpu": "#999999",
    "server": "#CCBB44",
    "dram": TIER_COLOURS["dram"],
    "ssd": TIER_COLOURS["ssd"],
    "power": "#E69F00",
}
PART_WORDS = {"gpu": "GPU", "server": "server", "dram": "DRAM", "ssd": "SSD", "power": "power"}
_LEAST_PERCENT = 1.0


def main(*, tables: TwoTables, spec: Spec, picture: Picture) -> None:
    """Draw the figure.

    Args:
        tables: cost.csv and cost_sensitivity.csv.
        spec: JSON: {"chunk_tokens": size that is compared}.
    """
    draw_tables(draw_cost, tables, picture, spec["chunk_tokens"])


def draw_cost(cost: pd.DataFrame, sensitivity: pd.DataFrame, chunk_tokens: int) -> Figure:
    """Dollars per million tokens by scenario, stacked by part; and how far each price's range moves them.

    cost, sensitivity: rows of cost.csv and cost_sensitivity.csv. Scenarios of one chunk size, at the SLO; of an open loop
    at its highest load. Raises UserError when they are not alike.
    """
    if (own := at_chunk(cost, chunk_tokens)).empty:
        return empty(NO_LOADS)
    rows = pd.concat(compared_rows(own))
    require_parity(rows, vary=["tier", "store", "connector", "pair"])
    high = 1.2 + 0.42 * max(len(rows), 4)
    figure, (left, right) = plt.subplots(2, 1, figsize=(WIDTH, high + 5), height_ratios=(high, 5))
    _draw_shares(left, rows)
    _draw_sensitivity(right, rows, sensitivity)
    first = rows.sort_values("at", ascending=False, kind="stable").iloc[0]
    modelled = "engine replay: real stores and bytes, modelled GPU" if first["engine"] == "replay" else ""
    title = (
        f"What a million tokens cost, {_compared_at(first)}, chunk {chunk_tokens} tokens\n"
        f"{first['model']} on {gpu_words(rows)}; {modelled or 'engine ' + first['engine']}; prices of config/prices.yaml or the configuration"
    )
    figure.suptitle(under(title, rows), fontsize=11)
    figure.tight_layout()
    return figure


def _compared_at(row: pd.Series) -> str:
    if row["at"] != "slo":
        return f"load {row['load']:g} of an open loop"
    bound = "" if pd.isna(row["slo_ttft_p95_ms"]) else f" and TTFT p95 up to {row['slo_ttft_p95_ms']:g} ms"
    return f"each at the most clients that keep {row['slo_tps_per_user']:.0f} TPS/user{bound}"


def _draw_shares(axes: Axes, rows: pd.DataFrame) -> None:
    names = labels(rows)
    top = rows[["usd_per_million_tokens", "usd_per_million_tokens_high"]].max().max()
    for position, (_, row) in enumerate(rows.iterrows()):
        total, begin = row["usd_per_million_tokens"], 0.0
        if pd.isna(total):
            note(axes, textwrap.fill(f"no cost: {row['reasons']}", 80), (0, position), (4, 0), va="center")
            continue
        for part in PARTS:
            width = total * row[f"{part}_share"]
            look: dict[str, Any] = {"color": PART_COLOURS[part], "edgecolor": "white", "linewidth": 0.5}
            axes.barh(position, width, left=begin, height=0.62, url=f"#{cost_anchor(row)}", **look)
            begin += width
        end = draw_interval(axes, row, "usd_per_million_tokens", position, capsize=3, linewidth=1.2)
        note(axes, _row_note(row), (end, position), (6, 0), va="center")
    axes.set_yticks(range(len(rows)), [names[name] for name in rows["scenario"]], fontsize=9)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlim(0, 1.75 * top if top > 0 else 1)
    repeats = rows["repeats"].max()
    several = f", median and {interval_word(repeats)} over repeats" if repeats > 1 else ""
    axes.set_xlabel(f"USD per million tokens (prompt and answer){several}")
    axes.set_title("Cost by part", fontsize=10)
    handles = [Patch(color=PART_COLOURS[part], label=PART_WORDS[part]) for part in PARTS]
    # Below the label in points, since the height of the axes goes by the number of bars.
    below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "borderaxespad": 5}
    axes.legend(handles=handles, fontsize=8, ncols=len(PARTS), frameon=False, **below)


def _row_note(row: pd.Series) -> str:
    """'0.0256 USD, 4 clients or more; drive 2.1 years'."""
    more = " or more" if str(row["users_at_least"]) == "True" else ""
    users = "" if pd.isna(row["users_per_gpu"]) else f", {row['users_per_gpu']:.2g} clients{more}"
    drive = "" if pd.isna(row["endurance_years"]) else f"; drive {row['endurance_years']:.2g} years"
    return f"{row['usd_per_million_tokens']:.3g}{users}{drive}"


def _draw_sensitivity(axes: Axes, rows: pd.DataFrame, sensitivity: pd.DataFrame) -> None:
    """The cheapest scenario of each caching tier: percent by which each price's range moves its cost."""
    known = rows[rows["usd_per_million_tokens"].notna() & (rows["tier"] != "none")]
    chosen = [own.loc[own["usd_per_million_tokens"].idxmin()] for _, own in known.groupby("tier", sort=False)]
    names, looks = labels(rows), styles(rows)
    ranges = {row["scenario"]: _ranges(sensitivity, row["scenario"]) for row in chosen}
    widest: dict[str, float] = {}
    for found in ranges.values():
        for price, ends in found.items():
            widest[price] = max(widest.get(price, 0.0), *(abs(end) for end in ends))
    prices = [
        name
        for name in sorted(widest, key=widest.__getitem__, reverse=True)
        if widest[name] >= _LEAST_PERCENT
    ]
    height = 0.8 / max(len(ranges), 1)
    for index, row in enumerate(chosen):
        colour, found = looks[row["scenario"]]["color"], ranges[row["scenario"]]
        for position, price in enumerate(prices):
            low, high = sorted(found.get(price, (0.0, 0.0)))
            axes.barh(
                position + (index - (len(chosen) - 1) / 2) * height, high - low, left=low, height=height * 0.9,
                color=colour, label=names[row["scenario"]] if not position else None,
            )  # fmt: skip
    axes.axvline(0, color="black", linewidth=1)
    axes.use_sticky_edges = False
    axes.margins(x=0.05)
    axes.set_yticks(range(len(prices)), [_price_words(sensitivity, price) for price in prices], fontsize=8)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("change of the cost (%) over the price's range")
    axes.set_title("Sensitivity of the cheapest scenario of each tier", fontsize=10, pad=8 + 14 * len(chosen))
    small = [price for price in widest if price not in prices]
    if prices:
        axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), borderaxespad=0.2, frameon=False)
    if small:
        text = f"under {_LEAST_PERCENT:g} %: {', '.join(small)}"
        axes.annotate(
            text, (0.5, -0.16), xycoords="axes fraction", ha="center", va="top", fontsize=8, wrap=True
        )


def _ranges(sensitivity: pd.DataFrame, scenario: str) -> dict[str, tuple[float, float]]:
    """By price the change of the cost in percent at its low and its high end."""
    own = sensitivity[(sensitivity["scenario"] == scenario) & (sensitivity["usd_per_million_tokens"] > 0)]
    return {
        row["price"]: tuple(
            100 * (row[end] / row["usd_per_million_tokens"] - 1) for end in ("usd_at_low", "usd_at_high")
        )
        for _, row in own.iterrows()
    }


def _price_words(sensitivity: pd.DataFrame, price: str) -> str:
    """'gpu_usd_per_hour\\n0.57 .. 2.95 (0.78)'."""
    row = sensitivity[sensitivity["price"] == price].iloc[0]
    return f"{price}\n{row['low']:g} to {row['high']:g} ({row['value']:g})"


if __name__ == "__main__":
    sys.exit(run_stage("draw_cost", main))
