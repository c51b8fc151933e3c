"""Break-even as a table to read: a row per model, a column per GPU, at one prompt length."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pandas as pd
from tabulate import tabulate

from ..records.hardware import short_gpu
from ..records.templates import filled
from .request_time import HIT_S_PER_PIECE

PROMPT_TOKENS = 8192


def break_even_text(table: pd.DataFrame, remarks: Sequence[str] = ()) -> str:
    """The required GB/s at the prompt length nearest to 8,192 tokens, for one GPU and for as many as hold the weights.

    table: rows of break_even.csv, one prompt length for all models where they have one in common, each model's first KV format. remarks: what is left
    out and why, a line each, at the end. "" without rows and remarks.
    """
    if table.empty:
        return filled(__file__, grids=[], remarks=remarks)
    prompt = min(table["prompt_tokens"].unique(), key=lambda tokens: abs(tokens - PROMPT_TOKENS))
    first = table["model"].map(table.groupby("model")["kv_dtype"].first())
    rows = table[(table["prompt_tokens"] == prompt) & (table["kv_dtype"] == first)]
    grids = [
        _grid(rows, "per GPU", lambda row: required_words(row["required_gbps"])),
        _grid(rows, "of as many GPUs as hold the weights", _together),
        _grid(rows, "GPU step times", _origin),
    ]
    return filled(
        __file__,
        prompt_tokens=prompt,
        per_piece_ns=1e9 * HIT_S_PER_PIECE,
        grids=grids,
        remarks=remarks,
    )


def required_words(gbps: float, unit: str = "") -> str:
    """'5.8', with a unit behind it; 'never' where no GB/s are enough: the copy to the GPU and the engine take longer than computing."""
    return "never" if math.isinf(gbps) else f"{float(f'{gbps:.2g}'):g}{unit}"


def _grid(rows: pd.DataFrame, title: str, cell: Callable[[pd.Series], str]) -> str:
    """One block of aligned columns; models without this prompt length are not in it."""
    gpus = list(dict.fromkeys(rows["gpu"]))
    lines = [[title, "KV", *map(short_gpu, gpus)]]
    for model, own in rows.groupby("model", sort=False):
        cells = [cell(row) for _, row in own.set_index("gpu", drop=False).loc[gpus].iterrows()]
        lines.append([str(model), f"{own.iloc[0]['kv_bytes'] / 1e9:.2f} GB", *cells])
    return tabulate(
        lines, tablefmt="plain", disable_numparse=True, colalign=["left", *["right"] * (len(gpus) + 1)]
    )


def _together(row: pd.Series) -> str:
    if pd.isna(row["gpus_for_weights"]):
        return "-"
    return f"{required_words(row['required_node_gbps'])} ({int(row['gpus_for_weights'])})"


def _origin(row: pd.Series) -> str:
    words = ["scaled"] * pd.notna(row["scaled_from"]) + ["derived"] * pd.notna(row["assumption"])
    return ", ".join(words) or "measured"
