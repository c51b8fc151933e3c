"""Rule write_summary: the short table at the end of a run.

python -m workflow.hyperkv.tables.summary --scenarios results/tables/scenarios.csv --sweep-time results/tables/sweep_time.csv --stores results/tables/stores.csv --notes '["..."]' --out results/tables/summary.txt
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd
from tabulate import tabulate

from ..base.cli import run_stage
from ..base.options import Files, read_by
from ..records.frames import read_csv
from ..records.hardware import measured_on, mixed
from ..records.templates import filled
from .methods.predicted_text import counts_words

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
STORES_HEADERS = (
    "scenario",
    "value MiB",
    "SET GB/s",
    "GET warm GB/s",
    "GET cold GB/s",
    "CPU s/GB of GET",
    "disk bytes per byte set",
)
STORES_VALUE_BYTES = (1 << 20, 16 << 20)
Notes = Annotated[Sequence[str], read_by(json.loads)]


def main(
    *,
    scenarios: Path,
    sweep_time: Path,
    stores: Path,
    layers: Files = (),
    layers_text: Path | None = None,
    predicted: Path | None = None,
    notes: Notes = (),
    out: Path,
) -> None:
    """Write the summary.

    Args:
        scenarios: scenarios.csv.
        sweep_time: sweep_time.csv.
        stores: stores.csv.
        layers: layers.csv.
        predicted: predicted.csv.
        layers_text: text of the layers, for after the tables.
        notes: JSON list: lines for the end.
        out: text file.
    """
    of_sweep = read_csv(scenarios, keep_default_na=False, na_values=[""])
    of_stores = read_csv(stores)
    parts = [
        summary_text(of_sweep, read_csv(sweep_time)),
        hardware_text([of_sweep, of_stores, *map(read_csv, layers)]),
        stores_text(of_stores),
        layers_text.read_text() if layers_text else "",
        predicted_text(read_csv(predicted)) if predicted else "",
        store_notes_text(of_sweep, of_stores),
        *(f"{note}\n" for note in notes),
    ]
    out.write_text("".join(parts))


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
    return filled(
        __file__,
        "sweep",
        engines=engines,
        table=table,
        invalid=scenarios[~scenarios["valid"].astype(bool)].to_dict("records"),
        time=time.iloc[0].to_dict(),
    )


def stores_text(stores: pd.DataFrame) -> str:
    """Each store alone, at the most connections and the measured value sizes nearest to 1 and 16 MiB; "" for no store.

    stores: rows of stores.csv.
    """
    if stores.empty:
        return ""
    connections = int(stores["connections"].max())
    chosen = stores[stores["connections"] == connections]
    rows, not_cold = [], False
    for scenario, of_scenario in chosen.groupby("scenario", sort=False):
        for size in _nearest(sorted(of_scenario["value_bytes"].unique()), STORES_VALUE_BYTES):
            point = of_scenario[of_scenario["value_bytes"] == size].set_index("operation")
            cold = "get_cold" in point.index
            unproven = cold and not bool(point.loc["get_cold", "cold"])
            not_cold |= unproven
            rows.append(
                [
                    scenario,
                    f"{size / 2**20:g}",
                    _number(point.loc["set", "gbps"], 2),
                    _number(point.loc["get_warm", "gbps"], 2),
                    (_number(point.loc["get_cold", "gbps"], 2) if cold else "-") + "*" * unproven,
                    _number(point.loc["get_cold" if cold else "get_warm", "store_cpu_s_per_gb"], 2),
                    _number(point.loc["set", "written_per_byte"], 2),
                ]
            )
    table = tabulate(rows, headers=STORES_HEADERS, disable_numparse=True, colalign=("left", *["right"] * 6))
    return filled(__file__, "stores", connections=connections, table=table, not_cold=not_cold)


def hardware_text(tables: Sequence[pd.DataFrame]) -> str:
    """What all was measured on, and a line for what is not alike; "" when the tables do not tell."""
    return filled(__file__, "hardware", lines=(measured_on(tables), mixed(tables)))


def predicted_text(predicted: pd.DataFrame) -> str:
    """How many predictions were within what is allowed, in one line; "" where none was compared."""
    counted = counts_words(predicted)
    return filled(__file__, "predicted", counted=counted) if counted else ""


def store_notes_text(scenarios: pd.DataFrame, stores: pd.DataFrame) -> str:
    """What stores say of themselves, each text once with the scenarios that it is of; "" when none says anything."""
    noted = pd.concat([scenarios[["scenario", "notes"]], stores[["scenario", "notes"]]]).dropna()
    of_text = noted.groupby("notes", sort=False)["scenario"].agg(list).to_dict()
    return filled(__file__, "store_notes", noted=of_text)


def _nearest(sizes: Sequence[int], wanted: Sequence[int]) -> list[int]:
    """Of `sizes`, the one nearest to each wanted size by ratio, each once."""
    found = [min(sizes, key=lambda size: abs(math.log(size / target))) for target in wanted]
    return list(dict.fromkeys(found))


def _number(value: float, digits: int) -> str:
    """'-' for what is not known, '<0.01' for what is more than 0 and would read as 0."""
    if pd.isna(value):
        return "-"
    least = 10.0**-digits
    return f"<{least:.{digits}f}" if 0 < value < least / 2 else f"{value:.{digits}f}"


if __name__ == "__main__":
    sys.exit(run_stage("summary", main))
