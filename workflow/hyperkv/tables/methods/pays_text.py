"""The answer of table pays in two sentences, and its grid of models and GPUs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd
from tabulate import tabulate

from ...records.hardware import short_gpu
from ...records.templates import filled

TIER_WORDS = {"ssd": "SSD", "ram_over_resp": "RAM over RESP", "dram": "DRAM"}
SHORT = {"ssd": "SSD", "ram_over_resp": "RAM", "dram": "DRAM"}
PAIR = ["model", "gpu", "kv_dtype", "prompt_tokens"]  # what a row of the grid and a cell of the figure is of
TOO_MANY = "too many GPUs"
PROFILED = "profile.scenarios"  # the key that says which stores are measured alone


def pays_text(table: pd.DataFrame, most_rows: int | None = None, most_columns: int | None = None) -> str:
    """The answer, and per model and GPU the cheapest tier that pays at the shortest prompt and the first KV format.

    table: pays.csv. most_rows, most_columns: of the grid, which leaves out the last models and GPUs past that, names apart.
    "" without rows: no model has a context of that length.
    """
    if table.empty:
        return ""
    shown = table[at_first(table)]
    models, gpus = shown["model"].unique()[:most_rows], shown["gpu"].unique()[:most_columns]
    grid = _grid(shown[shown["model"].isin(models) & shown["gpu"].isin(gpus)])
    return filled(
        __file__, answer=" ".join(answer(table)), caveat=caveat(table), grid=grid, at=words_at(shown)
    )


def at_first(table: pd.DataFrame) -> pd.Series:
    """Which rows are of the shortest prompt and the first KV format of their model."""
    first = table["model"].map(table.groupby("model")["kv_dtype"].first())
    return (table["prompt_tokens"] == table["prompt_tokens"].min()) & (table["kv_dtype"] == first)


def words_at(shown: pd.DataFrame) -> str:
    """'8,192 tokens, KV in bfloat16'."""
    return f"{shown['prompt_tokens'].min():,} tokens, KV in {' or '.join(dict.fromkeys(shown['kv_dtype']))}"


def answer(table: pd.DataFrame) -> list[str]:
    """Two sentences: for how many pairs of model and GPU each measured tier pays, and where most is gained, with its interval."""
    prompt = table["prompt_tokens"].min()
    at = table[(table["prompt_tokens"] == prompt) & (table["verdict"] != TOO_MANY)]
    measured = at[at["tier"].isin(("ssd", "ram_over_resp"))]
    if measured.empty:
        return [
            f"The profile measured no SSD and no RAM over RESP ({PROFILED}).",
            "Only DRAM is compared, and it is modelled.",
        ]
    told = [_tier_words(tier, measured[measured["tier"] == tier]) for tier in ("ssd", "ram_over_resp")]
    told.sort(key=lambda words: words.startswith("the profile"))
    prompt_words = f"On this machine loading the KV of {prompt:,} tokens is faster than computing it: "
    first = prompt_words + "; ".join(told) + "."
    ssd = at[at["tier"] == "ssd"]
    return [first, _most_words(ssd if len(ssd) else measured)]


def caveat(table: pd.DataFrame) -> str:
    """What the answer does not say, and which GPUs were measured."""
    measured = [short_gpu(gpu) for gpu in dict.fromkeys(table[~table["gpu_derived"]]["gpu"])]
    derived = f"all GPUs but {', '.join(measured)}" if measured else "all GPUs"
    return (
        "One prompt on an idle engine, without what a connector spends on a request; step times of "
        f"{derived} are derived from published figures."
    )


def _tier_words(tier: str, rows: pd.DataFrame) -> str:
    if rows.empty:
        return f"the profile measured no {TIER_WORDS[tier]} ({PROFILED})"
    first, *others = [
        f"{(own['verdict'] == 'pays').sum()} of {len(own)}{{}} with KV in {dtype}"
        for dtype, own in rows.groupby("kv_dtype", sort=False)
    ]
    counts = [first.format(" pairs of model and GPU"), *(text.format("") for text in others)]
    return f"from {TIER_WORDS[tier]} ({fastest(rows)}) for {', '.join(counts)}"


def _most_words(rows: pd.DataFrame) -> str:
    best = rows.loc[rows["speedup"].idxmax()]
    interval = (
        f" ({best['speedup_low']:.1f} to {best['speedup_high']:.1f})" if pd.notna(best["speedup_low"]) else ""
    )
    open_pairs = (rows["verdict"] == "undecided").sum()
    return (
        f"{TIER_WORDS[best['tier']]} gains most for {best['model']} on {short_gpu(best['gpu'])} with KV in {best['kv_dtype']}, "
        f"{best['speedup']:.1f} times{interval}; {open_pairs} of these {len(rows)} are undecided."
    )


def fastest(rows: pd.DataFrame) -> str:
    """'files, 0.83 GB/s': the fastest store that was measured among rows of one tier; "" where none was."""
    measured = rows[rows["gbps"].notna()]
    if measured.empty:
        return ""
    best = measured.loc[measured["gbps"].idxmax()]
    return f"{best['scenario']}, {best['gbps']:.2g} GB/s"


def too_many_gpus(pair: pd.DataFrame) -> str:
    """'16 GPUs' of a pair that one machine's GPUs do not hold; "" of another."""
    return f"{pair.iloc[0]['gpus_for_weights']:.0f} GPUs" if (pair["verdict"] == TOO_MANY).any() else ""


def times(row: Mapping[str, Any] | None) -> str:
    """'1.7 [1.5, 1.8]', how many times faster loading is, with a question mark where that is not decided; '-' of no row."""
    if row is None:
        return "-"
    known = row["speedup_low"] < row["speedup_high"]
    interval = f" [{row['speedup_low']:.1f}, {row['speedup_high']:.1f}]" if known else ""
    return f"{row['speedup']:.1f}{interval}{' ?' if row['verdict'] == 'undecided' else ''}"


def pair_anchor(model: str, gpu: str, kv_dtype: str, prompt_tokens: int) -> str:
    """The name of a pair's row as a place of a page: 'pays-llama-3.1-8b-h100-80gb-fp8-8192'."""
    words = f"pays {model} {short_gpu(gpu)} {kv_dtype} {prompt_tokens}"
    return re.sub(r"[^a-z0-9.]+", "-", words.lower())


def cheapest(pair: pd.DataFrame) -> Mapping[str, Any] | None:
    """Of one pair's rows the cheapest tier that pays, in the order SSD, RAM over RESP, DRAM; None where none does."""
    for tier in TIER_WORDS:
        for _, row in pair[(pair["tier"] == tier) & (pair["verdict"] == "pays")].iterrows():
            return row
    return None


def _grid(shown: pd.DataFrame) -> str:
    gpus = list(dict.fromkeys(shown["gpu"]))
    lines = [
        [model, *(_cell(own[own["gpu"] == gpu]) for gpu in gpus)]
        for model, own in shown.groupby("model", sort=False)
    ]
    return tabulate(lines, ["", *(short_gpu(gpu) for gpu in gpus)], tablefmt="plain", disable_numparse=True)


def _cell(pair: pd.DataFrame) -> str:
    if pair.empty:
        return ""
    if many := too_many_gpus(pair):
        return many
    row = cheapest(pair)
    return "-" if row is None else f"{SHORT[row['tier']]} {row['speedup']:.1f}"
