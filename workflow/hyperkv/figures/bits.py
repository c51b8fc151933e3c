"""Figure bits: what each format of stored KV loses in quality, and what it gains before an SSD.

python -m workflow.hyperkv.figures.bits --tables results/tables/bits.csv --svg F.svg --png F.png
"""

from __future__ import annotations

import sys
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, PercentFormatter

from ..base.cli import run_stage
from ..records.hardware import short_gpu
from ..records.kinds.bits import CONTROLS
from .axes import log_y, plain, sizes_x
from .command import Picture, Table, draw_tables
from .style import WIDTH, empty, legend_below

_LOOKS = {
    "bf16": ("#000000", "o"),
    "vllm_fp8": ("#56B4E9", "D"),
    "fp8": ("#0072B2", "s"),
    "turboquant_k8v4": ("#009E73", "^"),
    "turboquant_4bit_nc": ("#E69F00", "v"),
    "turboquant_k3v4_nc": ("#D55E00", "<"),
    "turboquant_3bit_nc": ("#A0522D", ">"),
    "cachegen": ("#CC79A7", "P"),
}
_CONTROL = ("#999999", "x")
_NAMES = {
    "vllm_fp8": "fp8 in HBM and store (kv_dtype)",
    "fp8": "fp8 (serde)",
    "cachegen": "CacheGen",
    "rounded_2bit": "2 bits, a control",
}
_LEAST = 0.001  # of the places, so that none has its place on a logarithmic axis


def main(*, tables: Table, picture: Picture) -> None:
    """Draw the figure.

    Args:
        tables: bits.csv.
    """
    draw_tables(draw_bits, tables, picture)


def draw_bits(bits: pd.DataFrame) -> Figure:
    """Tokens that differ against bytes; TTFT of a full hit and requests/s against the SSD's GB/s.

    bits: that table. Formats whose seconds of decoding are not known have dashed lines and hollow points: at best.
    """
    shown = bits[bits["format"] != "vllm_bf16"]
    if shown["agreement"].isna().all():
        return empty("No model with weights was asked (vllm.model_dir)")
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(WIDTH, 5.0))
    _quality(left, shown.drop_duplicates("format"))
    stored = shown[~shown["format"].isin(CONTROLS) & shown["ttft_s"].notna()]
    for axes, column, what in (
        (middle, "ttft_s", "TTFT of one prompt (s)"),
        (right, "predicted_rps_per_gpu", "requests/s per GPU"),
    ):
        _speed(axes, stored, column)
        axes.set_ylabel(what)
    log_y(middle)
    first = stored.iloc[0]
    count = f"{int(first['gpus'])} x " if first["gpus"] > 1 else ""
    middle.set_title(f"One prompt of {int(first['prompt_tokens']):,} tokens, all in the store", fontsize=10)
    right.set_title("32 clients, the reference workload", fontsize=10)
    figure.suptitle(
        f"What a bit costs: quality measured with {first['measured_model']}; "
        f"speed modelled for {first['model']} on {count}{short_gpu(first['gpu'])}",
        fontsize=11,
    )
    figure.tight_layout()
    handles = [
        Line2D([], [], **_look(row), label=_name(row))
        for _, row in shown.drop_duplicates("format").iterrows()
    ]
    handles += [Line2D([], [], color="black", linestyle=":", label="computed, no store")]
    if stored["at_best"].astype(bool).any():
        handles.append(
            Line2D([], [], linestyle="--", marker="o", markerfacecolor="white", color="#666666",
                   label="dashed, hollow: seconds of decoding beside a GPU not known, taken as none")
        )  # fmt: skip
    legend_below(figure, handles, [str(handle.get_label()) for handle in handles])
    return figure


def _quality(axes: Axes, formats: pd.DataFrame) -> None:
    for _, row in formats[formats["agreement"].notna()].iterrows():
        look = _look(row) | {"linestyle": "none", "markerfacecolor": _look(row)["color"]}
        axes.plot(row["share"], max(1 - row["agreement"], _LEAST), **look)
    axes.set_yscale("log")
    axes.set_ylim(_LEAST / 1.6, 1.3)
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:.1%}" if value > _LEAST else "none")
    )
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlim(0, 1.08)
    axes.set_xlabel("bytes stored, of bf16's")
    axes.set_ylabel("tokens that are not bf16's")
    axes.set_title("What is lost", fontsize=10)


def _speed(axes: Axes, rows: pd.DataFrame, column: str) -> None:
    computed = rows[rows["stated_gbps"].isna()].iloc[0]
    axes.axhline(computed[column], color="black", linestyle=":")
    for _, line in rows[rows["stated_gbps"].notna()].groupby("format", sort=False):
        axes.plot(line["stated_gbps"], line[column], **_look(line.iloc[0]))
    sizes_x(axes, rows["stated_gbps"].dropna().unique(), plain)
    axes.set_xlabel("GB/s that the SSD reads")


def _look(row: pd.Series) -> dict[str, Any]:
    colour, marker = _LOOKS.get(row["format"], _CONTROL)
    at_best = pd.notna(row["at_best"]) and bool(row["at_best"])
    face = "white" if at_best else colour
    return {
        "color": colour,
        "marker": marker,
        "markersize": 6,
        "markerfacecolor": face,
        "linestyle": "--" if at_best else "-",
    }


def _name(row: pd.Series) -> str:
    name = _NAMES.get(row["format"], row["format"].replace("turboquant_", "TurboQuant "))
    return (
        name if pd.isna(row["perplexity_ratio"]) else f"{name}: perplexity {_change(row['perplexity_ratio'])}"
    )


def _change(ratio: float) -> str:
    return f"x {ratio:.3g}" if ratio > 2 else f"{ratio - 1:+.1%}"


if __name__ == "__main__":
    sys.exit(run_stage("draw_bits", main))
