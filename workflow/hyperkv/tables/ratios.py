"""Rule write_ratios: the baseline over every other scenario, paired by repeat.

python -m workflow.hyperkv.tables.ratios --spec '{...}' --cells results/tables/cells.parquet --out results/tables/ratios.csv
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..base.cli import run_stage
from ..base.options import Spec
from ..records.frames import Out, read_parquet, write_table
from ..records.parity import unlike
from ..records.repeats import known
from ..records.stats import iso_tps_ratio, median_interval, spread
from .methods.dictionary import table_of


def main(*, spec: Spec, cells: Path, out: Out) -> None:
    """Write the table.

    Args:
        spec: JSON: {"figures": {"baseline": ..., "chunk_tokens": ...}}.
        cells: cells.parquet.
    """
    figures, found = spec["figures"], read_parquet(cells)
    write_table(ratios_table(found, figures["baseline"], figures["chunk_tokens"]), out)


def baseline_of(cells: pd.DataFrame, named: str | None, chunk_tokens: int | None) -> str | None:
    """The baseline of cells of one pair: the named one if it is among them, else LMCache's own DRAM pool, in process or its
    server's, at the figures' chunk size if it can be; with a real engine else recompute, with engine replay None."""
    if named in set(cells["scenario"]):
        return named
    for connector in ("inprocess", "mp"):
        dram = cells[(cells["store"] == "dram") & (cells["connector"] == connector)]
        for candidates in (dram[dram["chunk_tokens"] == chunk_tokens], dram):
            if len(candidates):
                return str(candidates.iloc[0]["scenario"])
    computed = cells[(cells["tier"] == "none") & (cells["engine"] != "replay")]
    return str(computed.iloc[0]["scenario"]) if len(computed) else None


def ratios_table(cells: pd.DataFrame, named: str | None, chunk_tokens: int | None = None) -> pd.DataFrame:
    """In each pair of vLLM and LMCache its baseline over every other scenario, paired by repeat: RPS/GPU and TTFT at equal load,
    RPS at equal TPS/user.

    Only valid cells count. A ratio that cannot be taken is empty, also where the two differ in more than where and how KV is
    kept: `unlike` then names the facts. named: figures.baseline. chunk_tokens: figures.chunk_tokens.
    """
    rows: list[dict[str, Any]] = []
    for _, own in cells.groupby("pair", sort=False, dropna=False):
        rows += _of_pair(own, baseline_of(own, named, chunk_tokens))
    return table_of("ratios", rows)


def _of_pair(cells: pd.DataFrame, baseline: str | None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    valid = cells[cells["valid"]]
    of_baseline = valid[valid["scenario"] == baseline]
    for scenario, group in valid[valid["scenario"] != baseline].groupby("scenario", sort=False):
        facts = unlike(of_baseline, group)
        common = {"baseline": baseline, "scenario": scenario, "loop": group.iloc[0]["loop"]}
        common["unlike"] = ", ".join(facts) or None
        pairs = of_baseline.merge(group, on=["repeat", "load"], suffixes=("", "_other"))
        for load, at_load in pairs.groupby("load"):
            for metric in ("rps_per_gpu", "ttft_p50_ms"):
                found = known(at_load[metric] / at_load[f"{metric}_other"].replace(0, math.nan))
                rows.append(common | {"at": "load", "load": load, "metric": metric} | _summary(found, facts))
        repeats = sorted(pairs["repeat"].unique())
        found = [
            iso_tps_ratio(*(_curve(cells, repeat) for cells in (of_baseline, group))) for repeat in repeats
        ]
        rows.append(common | {"at": "tps_per_user", "metric": "rps_per_gpu"} | _summary(found, facts))
    return rows


def _summary(ratios: Sequence[float | None], unlike: Sequence[str]) -> dict[str, Any]:
    found = [] if unlike else [ratio for ratio in ratios if ratio is not None]
    return {**spread("ratio", median_interval(found)), "repeats": len(found)}


def _curve(cells: pd.DataFrame, repeat: int) -> list[tuple[float, float]]:
    rows = cells[cells["repeat"] == repeat].dropna(subset=["tps_per_user", "rps_per_gpu"])
    return list(zip(rows["tps_per_user"].astype(float), rows["rps_per_gpu"].astype(float), strict=True))


if __name__ == "__main__":
    sys.exit(run_stage("ratios", main))
