"""Rule write_scenarios: one row per scenario and load, medians over repeats.

python -m workflow.hyperkv.tables.scenarios --cells results/tables/cells.parquet --out results/tables/scenarios.csv
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from ..base.cli import run_stage
from ..records import hardware
from ..records.frames import Out, read_parquet, write_table
from ..records.repeats import counted, said_once, spreads, used
from .methods.dictionary import table_of

SUMMARISED = (
    "rps_per_gpu", "goodput_rps", "tps_per_user", "ttft_p50_ms", "ttft_p95_ms", "itl_p50_ms", "hit_rate",
    "external_hit_rate", "load_gbps", "save_gbps", "device_share",
)  # fmt: skip


def main(*, cells: Path, out: Out) -> None:
    """Write the table.

    Args:
        cells: cells.parquet.
    """
    write_table(scenarios_table(read_parquet(cells)), out)


def scenarios_table(cells: pd.DataFrame) -> pd.DataFrame:
    """One row per scenario x load: median and interval over repeats, of valid cells when there are any."""
    rows = []
    for _, group in cells.groupby(["scenario", "load"], sort=False):
        counting = used(group)
        row = {
            **counting.iloc[0],
            **counted(group),
            **spreads(counting, SUMMARISED),
            **hardware.joined(counting),
        }
        row |= {"notes": said_once(group["notes"]), "served_from": said_once(counting["served_from"], "/")}
        rows.append(row)
    return table_of("scenarios", rows)


if __name__ == "__main__":
    sys.exit(run_stage("scenarios", main))
