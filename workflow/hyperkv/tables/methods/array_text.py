"""Which device pays, as text."""

from __future__ import annotations

from typing import Any

import pandas as pd
from tabulate import tabulate

from ...records.templates import filled

CURVE = ["base", "latency_us", "load"]
_HEADS = ["GB/s", "TTFT p50 (ms)", "over recompute", "RPS/GPU", "over recompute", "USD/1M tokens", "verdict"]


def array_text(table: pd.DataFrame) -> str:
    """A verdict and a small table for every curve: a store behind devices of one latency at one load."""
    shaped = table[table["role"] == "shaped"]
    curves = [
        {"verdict": verdict(curve), "grid": _grid(curve, table)}
        for _, curve in shaped.groupby(CURVE, sort=False, dropna=False)
    ]
    return filled(__file__, curves=curves)


def verdict(curve: pd.DataFrame) -> str:
    """One sentence of a curve's rows: from how many GB/s on the device pays, measured and predicted."""
    first, good = curve.iloc[0], curve[curve["valid_repeats"] > 0]
    who = (
        f"{first['base']}{latency_words(first)}, {first['load']:g} client{'' if first['load'] == 1 else 's'}"
    )
    if good.empty:
        return f"{who}: no device was held; the table says why."
    gains = good["ttft_gain"].dropna()
    low, high = good["read_gbps"].min(), good["read_gbps"].max()
    if pd.notna(found := first["break_even_ttft_gbps"]):
        told = f"first tokens come earlier than by recompute from {found:.2g} GB/s on"
    elif gains.empty:
        told = "first tokens are not compared with recompute's, of which no valid cell is there"
    elif (gains >= 1).all():
        told = f"first tokens come earlier than by recompute from {low:g} GB/s on, the slowest device"
    else:
        told = f"first tokens come later than by recompute up to {high:g} GB/s, the fastest device"
    predicted = first["predicted_gbps"]
    beside = f" (predicted {predicted:.2g}, each request alone)" if pd.notna(predicted) else ""
    requests = first["break_even_rps_gbps"]
    more = f"; as many requests per second from {requests:.2g} GB/s on" if pd.notna(requests) else ""
    return f"{who}: {told}{beside}{more}."


def latency_words(row: pd.Series) -> str:
    """', 80 us' of a row whose device waits."""
    return f", {row['latency_us']:g} us" if pd.notna(row["latency_us"]) else ""


def _grid(curve: pd.DataFrame, table: pd.DataFrame) -> str:
    beside = table[(table["load"] == curve.iloc[0]["load"]) & (table["role"] != "shaped")]
    rows = [*_rows(curve.sort_values("read_gbps")), *_rows(beside)]
    return tabulate(rows, ["", *_HEADS], tablefmt="plain", disable_numparse=True)


def _rows(rows: pd.DataFrame) -> list[list[str]]:
    return [
        [
            row["role"] if row["role"] == "shaped" else row["scenario"],
            _number(row["read_gbps"] if row["role"] == "shaped" else row["store_read_gbps"]),
            _number(row["ttft_p50_ms"]),
            _spread(row, "ttft_gain"),
            _number(row["rps_per_gpu"]),
            _spread(row, "rps_gain"),
            _number(row["usd_per_million_tokens"]),
            ("" if pd.isna(row["verdict"]) else row["verdict"])
            if row["valid_repeats"]
            else f"not held: {row['reasons']}"[:80],
        ]
        for _, row in rows.iterrows()
    ]


def _number(value: Any) -> str:
    return "-" if pd.isna(value) else f"{value:.3g}"


def _spread(row: pd.Series, name: str) -> str:
    if pd.isna(row[name]):
        return "-"
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return f"{row[name]:.2f}" + (f" [{low:.2f}, {high:.2f}]" if pd.notna(low) else "")
