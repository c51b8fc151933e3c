"""Figure pays: for which models and GPUs loading KV from a tier of this machine beats computing it.

python -m workflow.hyperkv.figures.pays --tables results/tables/pays.csv --svg F.svg --png F.png
"""

from __future__ import annotations

import sys
from itertools import product

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from ..base.cli import run_stage
from ..records.hardware import short_gpu
from ..tables.methods.pays_text import PAIR, PROFILED, cheapest, fastest, pair_anchor, too_many_gpus
from .command import Picture, Table, draw_tables
from .style import WIDTH, empty

COLOURS = {"ssd": "#D55E00", "ram_over_resp": "#56B4E9", "dram": "#DDEAF4"}
NOTHING, TOO_MANY = "white", "#E6E6E6"
HIGH = 0.34  # inches of a cell


def main(*, tables: Table, picture: Picture) -> None:
    """Draw the figure.

    Args:
        tables: pays.csv.
    """
    draw_tables(draw_pays, tables, picture)


def draw_pays(pays: pd.DataFrame) -> Figure:
    """A panel per KV format and prompt length; a cell per model and GPU: the cheapest tier that pays, and how many times faster."""
    if pays.empty:
        return empty("no model has a context of 8,192 tokens")
    models, gpus = list(dict.fromkeys(pays["model"])), list(dict.fromkeys(pays["gpu"]))
    formats = list(dict.fromkeys(pays["kv_dtype"]))
    prompts = sorted(pays["prompt_tokens"].unique())
    figure, grid = plt.subplots(
        len(formats), len(prompts), squeeze=False, sharex=True, sharey=True,
        figsize=(WIDTH, 1.5 + (0.5 + HIGH * len(models)) * len(formats)),
    )  # fmt: skip
    for (row, kv_dtype), (column, prompt) in product(enumerate(formats), enumerate(prompts)):
        rows = pays[(pays["kv_dtype"] == kv_dtype) & (pays["prompt_tokens"] == prompt)]
        _panel(grid[row, column], rows, models, gpus)
        grid[row, column].set_title(f"prompt of {prompt:,} tokens, KV in {kv_dtype}", fontsize=10)
    figure.suptitle(
        "Times faster to load a prompt's KV than to compute it, from the cheapest tier that is faster",
        fontsize=11,
    )
    figure.tight_layout()
    figure.legend(
        handles=_handles(pays),
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=2,
        fontsize=9,
        frameon=False,
    )
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, models: list[str], gpus: list[str]) -> None:
    axes.grid(False)
    axes.set_xlim(0, len(gpus))
    axes.set_ylim(len(models), 0)
    axes.tick_params(length=0)
    axes.set_yticks([number + 0.5 for number in range(len(models))], models, fontsize=9)
    derived = set(rows[rows["gpu_derived"]]["gpu"])
    names = [short_gpu(gpu).replace(" ", "\n") + (" *" if gpu in derived else "") for gpu in gpus]
    axes.set_xticks([number + 0.5 for number in range(len(gpus))], names, fontsize=8)
    pairs = dict(list(rows.groupby(["model", "gpu"])))
    for (row, model), (column, gpu) in product(enumerate(models), enumerate(gpus)):
        if (model, gpu) not in pairs:
            continue
        colour, text = _cell(pairs[model, gpu])
        link = f"#{pair_anchor(*pairs[model, gpu].iloc[0][PAIR])}"
        square = Rectangle((column, row), 1, 1, facecolor=colour, edgecolor="white", linewidth=1.5)
        square.set_url(link)
        axes.add_patch(square)
        axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=8.5)


def _cell(pair: pd.DataFrame) -> tuple[str, str]:
    """Colour and words; a question mark: whether SSD pays is not decided."""
    if many := too_many_gpus(pair):
        return TOO_MANY, many
    row = cheapest(pair)
    if row is None:
        return NOTHING, "-"
    words = f"{row['speedup']:.1f} x" + (" ?" if _any_open(pair) else "")
    return COLOURS[row["tier"]], words


def _handles(pays: pd.DataFrame) -> list[Patch]:
    def measured(tier: str) -> str:
        found = fastest(pays[pays["tier"] == tier])
        return f"{found} measured alone" if found else f"none in the profile ({PROFILED})"

    machine = pays["machine"].dropna()
    where = f" of {machine.iloc[0]}" if len(machine) else ""
    told = [
        Patch(color=COLOURS["ssd"], label=f"SSD{where}: {measured('ssd')}"),
        Patch(color=COLOURS["ram_over_resp"], label=f"RAM over RESP: {measured('ram_over_resp')}"),
        Patch(color=COLOURS["dram"], label="only pinned DRAM (modelled: the copy to the GPU)"),
    ]
    if pays.groupby(PAIR)["verdict"].agg(lambda own: set(own) <= {"loses", "undecided"}).any():
        told.append(
            Patch(facecolor=NOTHING, edgecolor="#999999", label="- computing is faster than every tier")
        )
    if too_many_gpus(pays):
        told.append(Patch(color=TOO_MANY, label="that many GPUs hold the weights: more than one machine"))
    notes = ["one prompt on an idle engine; without what a connector spends on a request"]
    notes += ["* derived from published figures, not measured"] if pays["gpu_derived"].any() else []
    notes += ["? the SSD's interval holds 1: undecided"] if _any_open(pays) else []
    return told + [Patch(color="none", label=note) for note in notes]


def _any_open(pays: pd.DataFrame) -> bool:
    return bool(((pays["tier"] == "ssd") & (pays["verdict"] == "undecided")).any())


if __name__ == "__main__":
    sys.exit(run_stage("draw_pays", main))
