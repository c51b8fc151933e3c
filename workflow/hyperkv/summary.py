"""Stage summary: the short table at the end of a run.

python -m workflow.hyperkv.summary --tables results/tables --out results/tables/summary.txt
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from .cli import run_stage

HEADERS = (
    "scenario",
    "load",
    "RPS/GPU",
    "TPS/user",
    "TTFT p50 ms",
    "TTFT p95 ms",
    "hit rate",
    "served from",
    "valid",
)


def main() -> None:
    """Parse the command line and write the summary."""
    parser = argparse.ArgumentParser(prog="python -m workflow.hyperkv.summary", description=__doc__)
    parser.add_argument("--tables", required=True, type=Path, help="folder of the tables")
    parser.add_argument("--out", required=True, type=Path, help="text file")
    arguments = parser.parse_args()
    scenarios = pd.read_csv(arguments.tables / "scenarios.csv", keep_default_na=False, na_values=[""])
    time = pd.read_csv(arguments.tables / "sweep_time.csv")
    arguments.out.write_text(summary_text(scenarios, time))


def summary_text(scenarios: pd.DataFrame, time: pd.DataFrame) -> str:
    """The table of medians over repeats, the reasons of invalid cells and the sweep's time, as text."""
    engines = ", ".join(dict.fromkeys(scenarios["engine"]))
    rows = [
        [
            row["scenario"],
            row["load"],
            _number(row["rps_per_gpu"], 2),
            _number(row["tps_per_user"], 0),
            _number(row["ttft_p50_ms"], 1),
            _number(row["ttft_p95_ms"], 1),
            "-" if pd.isna(row["hit_rate"]) else f"{row['hit_rate']:.0%}",
            row["served_from"],
            "yes" if row["valid"] else f"NO ({row['valid_repeats']}/{row['repeats']})",
        ]
        for _, row in scenarios.iterrows()
    ]
    table = tabulate(
        rows, headers=HEADERS, disable_numparse=True, colalign=("left", *["right"] * 6, "left", "left")
    )
    invalid = [
        f"  {row['scenario']} load {row['load']}: {row['reasons']}"
        for _, row in scenarios.iterrows()
        if not row["valid"]
    ]
    first = time.iloc[0]
    parts = [
        f"Engine: {engines}{_REPLAY_NOTE if 'replay' in engines else ''}. Medians over repeats.",
        table,
        *(["Invalid cells, drawn hollow:", *invalid] if invalid else []),
        (
            f"Sweep: {first['cells']:.0f} cells in {first['jobs_s']:.0f} s of jobs, {first['jobs_over_cells']:.2f} x the "
            f"cells' own time ({first['cells_s']:.0f} s, of it {first['server_starts_s']:.0f} s server starts)."
        ),
    ]
    return "\n".join(parts) + "\n"


_REPLAY_NOTE = " (real stores and bytes, modelled GPU time)"


def _number(value: float, digits: int) -> str:
    return "-" if pd.isna(value) else f"{value:.{digits}f}"


if __name__ == "__main__":
    sys.exit(run_stage("summary", main))
