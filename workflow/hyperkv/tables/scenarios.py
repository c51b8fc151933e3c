"""Rule write_scenarios: one row per scenario and load, medians over repeats.

python -m workflow.hyperkv.tables.scenarios --cells results/tables/cells.parquet --out results/tables/scenarios.csv
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from ..base.cli import run_stage
from ..records import hardware
from ..records.effective import FACTS
from ..records.frames import Out, read_parquet, write_table
from ..records.repeats import counted, said_once, spreads, used

SUMMARISED = (
    "rps_per_gpu",
    "goodput_rps",
    "tps_per_user",
    "ttft_p50_ms",
    "ttft_p95_ms",
    "itl_p50_ms",
    "hit_rate",
    "external_hit_rate",
    "load_gbps",
    "save_gbps",
    "device_share",
)
_IDENTITY = (
    "engine",
    "model",
    "gpu",
    "gpu_scaled_from",
    "gpus",
    "scenario",
    "tier",
    "store",
    "connector",
    "chunk_tokens",
    "connections",
    "stripe_bytes",
    "processes",
    "dram_pool_bytes",
    *FACTS,
    "workload",
    "chunk_bytes",
    "comparable_digest",
    "load",
)
_UNTOLD = {"gpus": 1} | dict.fromkeys((*FACTS, "workload"))


def main(*, cells: Path, out: Out) -> None:
    """Write the table.

    Args:
        cells: cells.parquet.
    """
    write_table(scenarios_table(read_parquet(cells)), out)


def scenarios_table(cells: pd.DataFrame) -> pd.DataFrame:
    """One row per scenario x load: median and 95 % interval over repeats, of valid cells when there are any.

    cells: of cells_table, or read from a cells.csv, which from before there was the column has one GPU each and tells no facts.
    """
    rows = []
    cells = cells.assign(**{name: value for name, value in _UNTOLD.items() if name not in cells})
    for _, group in cells.groupby(["scenario", "load"], sort=False):
        counting = used(group)
        row = {key: counting.iloc[0][key] for key in _IDENTITY} | counted(group)
        row |= {"notes": said_once(group["notes"]), "served_from": said_once(counting["served_from"], "/")}
        rows.append(row | spreads(counting, SUMMARISED) | hardware.joined(counting))
    return pd.DataFrame(rows)


if __name__ == "__main__":
    sys.exit(run_stage("scenarios", main))
