"""Figure break_even: when loading a prompt's KV beats computing it.

python -m workflow.hyperkv.figures.break_even --tables results/predict/break_even.csv results/predict/placed_stores.csv --svg F.svg --png F.png
"""

from __future__ import annotations

import sys
import textwrap

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..base.cli import run_stage
from ..predict.break_even_text import required_words
from ..predict.request_time import rest_s
from ..records.hardware import short_gpu
from ..tables.methods.pays_text import PAIR, pair_anchor
from ..tables.pays import PROMPT_TOKENS
from .axes import log_y, sizes_x
from .command import Picture, TwoTables, draw_tables
from .style import WIDTH, labels, legend_below, link_points, styles, unique_legend

_LETTERS = {1: 112, 2: 56, 3: 42}  # that a panel is wide, by columns


def main(*, tables: TwoTables, picture: Picture) -> None:
    """Draw the figure.

    Args:
        tables: break_even.csv and placed_stores.csv.
    """
    draw_tables(draw_break_even, tables, picture)


def draw_break_even(break_even: pd.DataFrame, placed_stores: pd.DataFrame) -> Figure:
    """TTFT against prompt length for the first model and KV format, a panel per GPU: recompute, pinned DRAM and every store.

    break_even, placed_stores: those tables, the second perhaps without rows: no store was profiled.
    """
    model, kv_dtype = break_even.iloc[0][["model", "kv_dtype"]]
    rows, stores = (
        table[(table["model"] == model) & (table["kv_dtype"] == kv_dtype)]
        for table in (break_even, placed_stores)
    )
    gpus = list(dict.fromkeys(rows["gpu"]))
    columns = min(2 if len(gpus) <= 4 else 3, len(gpus))
    lines = -(-len(gpus) // columns)
    figure, grid = plt.subplots(
        lines, columns, figsize=(WIDTH, 1 + (3.5 if columns < 3 else 2.5) * lines), sharex=True, sharey=True, squeeze=False
    )  # fmt: skip
    for axes, gpu in zip(grid.flat, gpus, strict=False):
        _draw_gpu(axes, rows[rows["gpu"] == gpu], stores[stores["gpu"] == gpu], _LETTERS[columns])
    for axes in grid.flat[len(gpus) :]:
        axes.axis("off")
    for axes in grid[:, 0]:
        axes.set_ylabel("TTFT of one prompt (s)")
    for axes in grid.flat[len(gpus) - columns : len(gpus)]:
        axes.set_xlabel("prompt (tokens), all of it in the store")
        axes.tick_params(labelbottom=True)
    log_y(grid[0, 0])
    sizes_x(grid[0, 0], rows["prompt_tokens"].unique(), _tokens)
    figure.suptitle(
        f"Load or compute a prompt's KV: {model}, KV in {kv_dtype}, modelled on an idle GPU;\n"
        "without what a store's connector spends per request and per chunk",
        fontsize=11,
    )
    figure.tight_layout()
    handles, texts = unique_legend(grid.flat)
    if stores.empty:
        handles.append(Line2D([], [], linestyle="none"))
        texts.append("no store was profiled")
        told = ""
    else:
        told = (
            f"below the black line, loading wins; stores measured alone on {stores.iloc[0]['machine']}\n"
            "(GB/s of GET, page cache, value, connections)"
        )
    legend_below(figure, handles, texts, told)
    return figure


def _draw_gpu(axes: Axes, rows: pd.DataFrame, stores: pd.DataFrame, letters: int) -> None:
    prompts = rows["prompt_tokens"]
    links = {row["prompt_tokens"]: _link(row) for _, row in rows.iterrows()}
    link_points(axes, prompts, rows["prefill_s"], links.values())
    pinned_s = rest_s(rows)
    link_points(axes, prompts, pinned_s, links.values())
    axes.plot(prompts, rows["prefill_s"], color="black", linewidth=2.4, label="recompute (modelled)")
    axes.plot(
        prompts, pinned_s, color="#666666", linestyle=(0, (5, 2)), linewidth=1.8,
        label="pinned DRAM: no store (modelled)",
    )  # fmt: skip
    looks, names = styles(stores), labels(stores)
    for scenario, line in stores.groupby("scenario", sort=False):
        first = line.iloc[0]
        cold = "cold" if first["operation"] == "get_cold" and first["cold"] else "warm"
        value = f"{first['value_bytes'] / 2**20:g} MiB, {first['connections']} conn."
        text = f"{names[scenario]}: {first['gbps']:.2g} GB/s, {cold}, {value}"
        axes.plot(line["prompt_tokens"], line["ttft_s"], label=text, **{**looks[scenario], "markersize": 4})
        link_points(axes, line["prompt_tokens"], line["ttft_s"], line["prompt_tokens"].map(links))
    at = rows.iloc[(prompts - 8192).abs().argmin()]
    several = pd.notna(at["gpus_for_weights"]) and at["gpus_for_weights"] > 1
    count = f"{int(at['gpus_for_weights'])} x " if several else ""
    required = at["required_node_gbps" if several else "required_gbps"]
    steps = "step times measured" if pd.isna(at["assumption"]) else "step times not measured"
    if pd.notna(at["scaled_from"]):
        steps += f", scaled from {at['scaled_from']}"
    note = f"break-even at {at['prompt_tokens']:,} tokens: {required_words(required, ' GB/s')}"
    told = f"{count}{short_gpu(at['gpu'])}, {steps}"
    axes.set_title("\n".join([*textwrap.wrap(told, letters), note]), fontsize=9)


def _link(row: pd.Series) -> str:
    """The pair's row of table pays within the page, "" where that table has none."""
    return f"#{pair_anchor(*row[PAIR])}" if row["prompt_tokens"] in PROMPT_TOKENS else ""


def _tokens(value: float, _: int) -> str:
    return f"{value / 1024:g}k" if value >= 1024 else f"{value:g}"


if __name__ == "__main__":
    sys.exit(run_stage("draw_break_even", main))
