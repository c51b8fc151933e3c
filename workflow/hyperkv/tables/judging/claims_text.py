"""The verdicts in words: what is confirmed, refuted and undecided, with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

import pandas as pd

_ORDER = ("refuted", "confirmed", "undecided")
_WIDTH = 118


def claims_text(table: pd.DataFrame) -> str:
    """claims.csv as text, refuted claims first. table: its rows; without any a line that says so."""
    if table.empty:
        return "No claims (config/claims.yaml has none).\n"
    counts = [f"{(table['verdict'] == verdict).sum()} {verdict}" for verdict in _ORDER]
    head = f"{len(table)} claims: {', '.join(counts)}."
    means = "Medians with 95 % bootstrap intervals over repeats; of three repeats that is their range."
    parts = [fill(f"{head} {means}", _WIDTH)]
    for verdict in _ORDER:
        for _, row in table[table["verdict"] == verdict].iterrows():
            parts.append("\n".join(_lines(row)))
    return "\n\n".join(parts) + "\n"


def value_words(row: pd.Series) -> str:
    """'1.6 [1.5, 1.7] ratio' of a row of claims.csv; 'no value' where there is none."""
    if pd.isna(row["value"]):
        return "no value"
    span = "" if pd.isna(row["low"]) else f" [{row['low']:.3g}, {row['high']:.3g}]"
    return f"{row['value']:.3g}{span} {row['unit']}"


def _lines(row: pd.Series) -> Sequence[str]:
    samples = f", {int(row['cells'])} samples" if row["cells"] else ""
    told = [
        f"{row['verdict'].upper()}: {row['statement']} ({row['claim']}; {row['source']})",
        f"{value_words(row)}; confirmed by {row['condition']}{samples}",
        row["reason"],
        *([f"measured on {row['machine']}; {row['run']}"] if row["machine"] else []),
    ]
    return [
        fill(text, _WIDTH, initial_indent="  " * bool(index), subsequent_indent="  ", break_long_words=False)
        for index, text in enumerate(told)
    ]
