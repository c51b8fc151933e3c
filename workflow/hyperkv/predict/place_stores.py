"""Rule place_stores: where each measured store lies against break-even.

python -m workflow.hyperkv.predict.place_stores --break-even results/predict/break_even.csv --stores results/tables/stores.csv --limits results/profile/limits/limits.jsonl --out results/predict/placed_stores.csv
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ..base.cli import run_stage
from ..records import hardware
from ..records.frames import Asked, read_csv, read_jsonl
from .request_time import hit_ttft_s

COLUMNS = (
    "machine",
    "scenario",
    "tier",
    "store",
    "connector",
    "model",
    "gpu",
    "gpus_for_weights",
    "kv_dtype",
    "prompt_tokens",
    "chunk_bytes",
    "operation",
    "cold",
    "value_bytes",
    "connections",
    "gbps",
    "gbps_low",
    "gbps_high",
    "required_gbps",
    "share_of_required",
    "ttft_s",
    "prefill_s",
    "speedup",
    *hardware.COLUMNS,
)


def main(*, break_even: Path, stores: Path, limits: Path, asked: Asked = None, out: Path) -> None:
    """Write the table.

    Args:
        break_even: break_even.csv.
        stores: stores.csv.
        limits: limits.jsonl, of the machine that the stores were measured on.
        out: CSV file for the table.
    """
    measured = read_csv(stores, keep_default_na=False, na_values=[""])
    machine = machine_of(read_jsonl([limits], asked)[0]["environment"], measured)
    placed_stores_table(read_csv(break_even), measured, machine).to_csv(out, index=False)


def machine_of(environment: Mapping[str, Any], stores: pd.DataFrame) -> str:
    """What the stores were measured on: the limits' machine, or where that was another one, what the stores say."""
    told = set(stores["hardware"].dropna()) if "hardware" in stores else set()
    if told <= {hardware.hardware_words(environment)}:
        return hardware.machine_words(environment)
    return " and ".join(sorted(told))


def placed_stores_table(break_even: pd.DataFrame, stores: pd.DataFrame, machine: str) -> pd.DataFrame:
    """One row per store x row of break_even: the store's GET, measured alone, and the TTFT that it makes of a full hit.

    break_even, stores: those tables. machine: what the stores were measured on. GET cold where it was measured, else warm; at the value size nearest to the
    chunk's and the connections that are fastest there.
    """
    rows = []
    for _, points in stores.groupby("scenario", sort=False):
        nearest = {size: nearest_get(points, size) for size in break_even["chunk_bytes"].unique()}
        for row in break_even.to_dict("records"):
            point = nearest[row["chunk_bytes"]]
            if point is None:
                continue
            known = pd.notna(row["required_node_gbps"])
            required = row["required_node_gbps"] if known else row["required_gbps"]
            ttft_s = hit_ttft_s(row, point["gbps"])
            placed = {
                "machine": machine,
                "required_gbps": required,
                "share_of_required": point["gbps"] / required,
                "ttft_s": ttft_s,
                "speedup": row["prefill_s"] / ttft_s,
            }
            rows.append({**point, **row, **placed})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def nearest_get(points: pd.DataFrame, chunk_bytes: int) -> pd.Series | None:
    """The GET of one store that is nearest to a chunk of so many bytes; None when none was measured."""
    for operation in ("get_cold", "get_warm"):
        found = points[(points["operation"] == operation) & points["gbps"].notna()]
        if len(found):
            size = min(found["value_bytes"], key=lambda value: abs(math.log(value / chunk_bytes)))
            there = found[found["value_bytes"] == size]
            return there.loc[there["gbps"].idxmax()]
    return None


if __name__ == "__main__":
    sys.exit(run_stage("place_stores", main))
