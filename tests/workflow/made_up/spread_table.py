"""Rule write_spread: how far the repeats of a cell lie apart."""

import sys
from pathlib import Path

import pandas as pd

from workflow.hyperkv.base.cli import run_stage
from workflow.hyperkv.records.frames import Out, read_parquet, write_table


def main(*, cells: Path, out: Out) -> None:
    """Write the table."""
    write_table(spread_table(read_parquet(cells)), out)


def spread_table(cells: pd.DataFrame) -> pd.DataFrame:
    """A row per scenario and load: the highest less the lowest RPS/GPU of its repeats, over their mean."""
    found = cells.groupby(["scenario", "load"], sort=False)["rps_per_gpu"]
    return ((found.max() - found.min()) / found.mean()).rename("rps_spread").reset_index()


if __name__ == "__main__":
    sys.exit(run_stage("write_spread", main))
