"""Rule write_bits: what each format of stored KV costs in bytes, seconds and quality, and what it buys before an SSD of stated GB/s.

python -m workflow.hyperkv.tables.bits --spec '{...}' --bits results/bits/bits.jsonl --predicted results/predict/formats.csv --out results/tables/bits.csv
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from itertools import takewhile
from operator import eq
from pathlib import Path
from typing import Any

import pandas as pd

from ..base.cli import run_stage
from ..base.options import Spec
from ..records.frames import Asked, Out, read_csv, read_jsonl, write_table
from ..records.stats import median, median_interval, spread
from .cost import values_of
from .methods.cost_model import usd_per_hour, usd_per_million
from .methods.dictionary import table_of


def main(*, spec: Spec, bits: Path, predicted: Path, asked: Asked = None, out: Out) -> None:
    """Write the table.

    Args:
        spec: JSON: {"prices": {...}}.
        bits: records of stage bits.
        predicted: formats.csv.
    """
    write_table(bits_table(read_jsonl([bits], asked), read_csv(predicted), values_of(spec["prices"])), out)


def bits_table(
    records: Sequence[Mapping[str, Any]], predicted: pd.DataFrame, prices: Mapping[str, float]
) -> pd.DataFrame:
    """One row per format x GB/s of the predictions, and one of each format that has none."""
    rows: list[dict[str, Any]] = []
    found = {record["format"]: record for record in records}
    for record in records:
        about = quality(record, found[record["control"]])
        own = predicted[predicted["format"] == record["format"]]
        for row in own.to_dict("records") or [{}]:
            rows.append({**row, **about, "usd_per_million_tokens": _usd(row, prices) if row else None})
    return table_of("bits", rows)


def quality(record: Mapping[str, Any], control: Mapping[str, Any]) -> dict[str, Any]:
    """What a format takes of the real model's KV, and how its answers and texts differ from the control's. Null without them."""
    answers, texts = (list(zip(record[key], control[key], strict=False)) for key in ("answers", "texts"))
    forced = [
        eq(*pair)
        for own, known in (*answers, *texts)
        for pair in zip(own["forced"], known["forced"], strict=True)
    ]
    alike = [_equal_tokens(own["free"], known["free"]) for own, known in answers]
    ratios = [math.exp(own["loss"] - known["loss"]) for own, known in texts]
    own_bytes = record["stored_bytes"] / record["chunk_tokens"]
    return {
        "format": record["format"],
        "control": record["control"],
        "measured_model": record["model"],
        "bytes_per_token": own_bytes,
        "share": record["stored_bytes"] / record["kv_bytes"],
        "error": record["error"],
        "forced_tokens": len(forced) or None,
        "agreement": sum(forced) / len(forced) if forced else None,
        "answer_tokens": len(control["answers"][0]["free"]) if answers else None,
        "equal_tokens": median(alike),
        "equal_tokens_least": min(alike, default=None),
        **spread("perplexity_ratio", median_interval(ratios)),
        "reason": record["reason"],
    }


def _equal_tokens(own: Sequence[int], known: Sequence[int]) -> int:
    """Tokens from the beginning in which two answers are the same."""
    return sum(takewhile(bool, map(eq, own, known)))


def _usd(row: Mapping[str, Any], prices: Mapping[str, float]) -> float | None:
    """Of 10^6 tokens, on the drives that read the stated GB/s together."""
    gbps = None if pd.isna(row["stated_gbps"]) else row["stated_gbps"]
    parts = usd_per_hour(prices, 0.0, row["ssd_bytes"], row["written_bytes_per_s"], row["gpus"], gbps)
    return usd_per_million(sum(parts.values()), row["tokens_per_s"])


if __name__ == "__main__":
    sys.exit(run_stage("bits", main))
