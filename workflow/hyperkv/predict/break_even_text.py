"""Break-even as a table to read: a row per model, a column per GPU, at one prompt length."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pandas as pd

PROMPT_TOKENS = 8192
NOTES = """\
One prompt on an idle engine, all of its KV in one store, loading overlapped with nothing; at a higher GB/s loading wins.
never: the copy to the GPU alone takes as long as computing.
A store needs more than this: what the engine and the connector spend per request and per chunk is not in it (measured
once: vLLM 0.25 with LMCache 0.5 on an H100, Llama-3.1-8B, 8,192 tokens, needed 6.7 to 6.9).
measured: step times of this model on this GPU. scaled: of another model on this GPU, by active parameters, attention
width and layers. derived: not measured on this GPU, its file says how (those that come along: of an H100, by published
compute, memory and link speeds; peak figures, so a GPU that throttles needs less).
Several GPUs share the computing of one prompt and the reading of weights with ideal scaling, and each receives the KV that
it holds: its heads, of MLA all of it. Launching a step takes what it takes on one. Left out: their communication, which
makes computing slower; that a prompt reads all of a mixture's experts, which makes short prompts slower to compute; what
quantized weights change of a step's time. The number of GPUs: the least that hold the weights in 90 % of their memory, in
the format that the checkpoint brings, and among which vLLM can share the model's heads.
"""


def break_even_text(table: pd.DataFrame, remarks: Sequence[str] = ()) -> str:
    """The required GB/s at the prompt length nearest to 8,192 tokens, for one GPU and for as many as hold the weights.

    table: rows of break_even.csv, one prompt length for all models where they have one in common, each model's first KV format. remarks: what is left
    out and why, a line each, at the end. "" without rows and remarks.
    """
    said = "".join(f"{line}\n" for line in remarks)
    if table.empty:
        return said
    prompt = min(table["prompt_tokens"].unique(), key=lambda tokens: abs(tokens - PROMPT_TOKENS))
    first = table["model"].map(table.groupby("model")["kv_dtype"].first())
    rows = table[(table["prompt_tokens"] == prompt) & (table["kv_dtype"] == first)]
    parts = [
        f"Store GB/s (10^9 bytes/s, into host memory) at which loading takes as long as computing, {prompt:,} tokens:",
        _grid(rows, "per GPU", lambda row: required_words(row["required_gbps"])),
        _grid(rows, "of as many GPUs as hold the weights", _together),
        _grid(rows, "GPU step times", _origin),
        NOTES,
    ]
    return "\n\n".join(parts) + (f"\n{said}" if said else "")


def required_words(gbps: float, unit: str = "") -> str:
    """'5.8', with a unit behind it; 'never' where no GB/s are enough: the copy to the GPU alone takes longer than computing."""
    return "never" if math.isinf(gbps) else f"{gbps:.2g}{unit}"


def _grid(rows: pd.DataFrame, title: str, cell: Callable[[pd.Series], str]) -> str:
    """One block of aligned columns; models without this prompt length are not in it."""
    gpus = list(dict.fromkeys(rows["gpu"]))
    lines = [[title, "KV", *(_short(gpu) for gpu in gpus)]]
    for model, own in rows.groupby("model", sort=False):
        cells = [cell(row) for _, row in own.set_index("gpu", drop=False).loc[gpus].iterrows()]
        lines.append([str(model), f"{own.iloc[0]['kv_bytes'] / 1e9:.2f} GB", *cells])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            text.ljust(widths[0]) if not column else text.rjust(widths[column])
            for column, text in enumerate(line)
        )
        for line in lines
    )


def _together(row: pd.Series) -> str:
    if pd.isna(row["gpus_for_weights"]):
        return "-"
    return f"{required_words(row['required_node_gbps'])} ({int(row['gpus_for_weights'])})"


def _origin(row: pd.Series) -> str:
    words = ["scaled"] * pd.notna(row["scaled_from"]) + ["derived"] * pd.notna(row["assumption"])
    return ", ".join(words) or "measured"


def _short(gpu: str) -> str:
    """'A100 80GB' of 'NVIDIA A100 80GB (derived)'."""
    return gpu.removeprefix("NVIDIA ").removesuffix(" (derived)")
