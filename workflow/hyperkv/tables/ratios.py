"""Rule write_ratios: the baseline over every other scenario, paired by repeat.

python -m workflow.hyperkv.tables.ratios --spec '{...}' --cells results/tables/cells.parquet --out results/tables/ratios.csv
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..base.cli import run_stage
from ..base.options import Spec
from ..records.frames import Out, read_parquet, write_table
from ..records.parity import unlike
from ..records.stats import iso_tps_ratio, median_interval, spread

COLUMNS = (
    "baseline",
    "scenario",
    "at",
    "load",
    "metric",
    "ratio",
    "ratio_low",
    "ratio_high",
    "repeats",
    "unlike",
)


def main(*, spec: Spec, cells: Path, out: Out) -> None:
    """Write the table.

    Args:
        spec: JSON: {"figures": {"baseline": ..., "chunk_tokens": ...}}.
        cells: cells.parquet.
    """
    figures, found = spec["figures"], read_parquet(cells)
    baseline = figures["baseline"] or default_baseline(found, figures["chunk_tokens"])
    write_table(ratios_table(found, baseline), out)


def default_baseline(cells: pd.DataFrame, chunk_tokens: int) -> str | None:
    """The in-process DRAM scenario at the figures' chunk size, else any DRAM scenario, else None."""
    dram = cells[(cells["store"] == "dram") & (cells["connector"] == "inprocess")]
    preferred = dram[dram["chunk_tokens"] == chunk_tokens]
    for candidates in (preferred, dram):
        if len(candidates):
            return str(candidates.iloc[0]["scenario"])
    return None


def ratios_table(cells: pd.DataFrame, baseline: str | None) -> pd.DataFrame:
    """The baseline over every other scenario, paired by repeat: RPS/GPU and TTFT at equal load, RPS at equal TPS/user.

    Only valid cells count. A ratio that cannot be taken is empty, also where the two differ in more than where and how KV is
    kept: `unlike` then names the facts.
    """
    rows: list[dict[str, Any]] = []
    valid = cells[cells["valid"]]
    of_baseline = valid[valid["scenario"] == baseline]
    reference = of_baseline.set_index(["repeat", "load"])
    for scenario, group in valid[valid["scenario"] != baseline].groupby("scenario", sort=False):
        facts = unlike(of_baseline, group)
        common = {"baseline": baseline, "scenario": scenario, "unlike": ", ".join(facts) or None}
        other = group.set_index(["repeat", "load"])
        shared = reference.index.intersection(other.index)
        for load in sorted({load for _, load in shared}):
            pairs = [key for key in shared if key[1] == load]
            for metric in ("rps_per_gpu", "ttft_p50_ms"):
                found = [
                    None if facts else _quotient(reference.loc[key, metric], other.loc[key, metric])
                    for key in pairs
                ]
                rows.append(common | {"at": "load", "load": load, "metric": metric} | _summary(found))
        found = [
            None if facts else iso_tps_ratio(_curve(reference, repeat), _curve(other, repeat))
            for repeat in sorted({repeat for repeat, _ in shared})
        ]
        rows.append(common | {"at": "tps_per_user", "load": None, "metric": "rps_per_gpu"} | _summary(found))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _summary(ratios: Sequence[float | None]) -> dict[str, Any]:
    found = sum(ratio is not None for ratio in ratios)
    return {**spread("ratio", median_interval(ratios)), "repeats": found}


def _quotient(numerator: float, denominator: float) -> float | None:
    unknown = pd.isna(numerator) or pd.isna(denominator) or not denominator
    return None if unknown else float(numerator / denominator)


def _curve(cells: pd.DataFrame, repeat: int) -> list[tuple[float, float]]:
    rows = cells.loc[repeat].dropna(subset=["tps_per_user", "rps_per_gpu"])
    return [(float(x), float(y)) for x, y in zip(rows["tps_per_user"], rows["rps_per_gpu"], strict=True)]


if __name__ == "__main__":
    sys.exit(run_stage("ratios", main))
