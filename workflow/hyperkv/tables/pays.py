"""Rule write_pays: for which models and GPUs loading KV from a tier of this machine beats computing it.

python -m workflow.hyperkv.tables.pays --break-even results/predict/break_even.csv --placed-stores results/predict/placed_stores.csv --out results/tables/pays.csv --text results/tables/pays.txt
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from ..base.cli import run_stage
from ..predict.request_time import hit_ttft_s, rest_s
from ..records.frames import read_csv
from .methods.dictionary import table_of
from .methods.pays_text import PAIR, TOO_MANY, pays_text

PROMPT_TOKENS = (8192, 32768)
TIERS = ("dram", "ram_over_resp", "ssd")
MOST_GPUS = 8  # of one machine


def main(*, break_even: Path, placed_stores: Path, out: Path, text: Path) -> None:
    """Write the table and the answer.

    Args:
        break_even: break_even.csv.
        placed_stores: placed_stores.csv.
        out: CSV file for the table.
        text: text file for the answer.
    """
    table = pays_table(read_csv(break_even), read_csv(placed_stores))
    table.to_csv(out, index=False)
    text.write_text(pays_text(table))


def pays_table(break_even: pd.DataFrame, placed_stores: pd.DataFrame) -> pd.DataFrame:
    """One row per model x GPU x KV format x prompt length x tier: time to compute the prompt over time to load it.

    break_even, placed_stores: those tables. dram is pinned memory of the engine, modelled: the copy to the GPU and what else a hit takes;
    ram_over_resp and ssd take the fastest store that was measured there. The interval is that of the store's GB/s. verdict: pays, loses or
    undecided (the interval holds 1); of a model that more than 8 such GPUs hold, too many GPUs.
    """
    asked = break_even[break_even["prompt_tokens"].isin(PROMPT_TOKENS)]
    placed = dict(list(placed_stores.groupby(PAIR))) if len(placed_stores) else {}
    rows = [
        row
        for _, pair in asked.iterrows()
        for row in _rows(pair, placed.get(tuple(pair[PAIR]), placed_stores.head(0)))
    ]
    return table_of("pays", rows)


def _rows(pair: pd.Series, stores: pd.DataFrame) -> Iterator[dict[str, Any]]:
    common = {
        "machine": stores.iloc[0]["machine"] if len(stores) else None,
        "gpu_derived": pd.notna(pair["assumption"]),
        "model_scaled": pd.notna(pair["scaled_from"]),
        "recompute_s": pair["prefill_s"],
        **{key: pair[key] for key in (*PAIR, "gpus_for_weights", "kv_bytes")},
    }
    remote = stores[(stores["tier"] == "dram") & (stores["connector"] != "inprocess")]
    for tier, found in zip(TIERS, (None, remote, stores[stores["tier"] == "ssd"]), strict=True):
        if found is None:
            row = common | {"tier": tier, "load_s": rest_s(pair)}
            row |= dict.fromkeys(("speedup", "speedup_low", "speedup_high"), pair["prefill_s"] / rest_s(pair))
        elif found.empty:
            continue
        else:
            best = found.loc[found["gbps"].idxmax()]
            row = common | {"tier": tier, "load_s": best["ttft_s"]}
            row |= {key: best[key] for key in ("scenario", "gbps", "gbps_low", "gbps_high")}
            row |= {
                "speedup" + suffix: pair["prefill_s"] / hit_ttft_s(pair, best["gbps" + suffix])
                for suffix in ("", "_low", "_high")
            }
        yield row | {"verdict": _verdict(row)}


def _verdict(row: dict[str, Any]) -> str:
    if row["gpus_for_weights"] > MOST_GPUS:
        return TOO_MANY
    low, high = (row["speedup"] if pd.isna(row[key]) else row[key] for key in ("speedup_low", "speedup_high"))
    return "pays" if low > 1 else "loses" if high < 1 else "undecided"


if __name__ == "__main__":
    sys.exit(run_stage("pays", main))
