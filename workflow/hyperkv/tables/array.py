"""Rule write_array: which device pays: a store behind devices of stated GB/s, beside recompute, DRAM and this machine's own disk.

python -m workflow.hyperkv.tables.array --spec '{...}' --cells results/sweep/*/*.jsonl --cost results/tables/cost.csv --out results/tables/array.csv --text results/tables/array.txt
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..base.cli import run_stage
from ..base.options import Spec
from ..models.gpu import gpu_of_record
from ..predict.request_time import required_gbps, rest_s, times_of
from ..records import hardware
from ..records.frames import Asked, Cells, read_cells, read_csv
from ..records.repeats import counted, spreads, used
from ..records.stats import median, spread
from .cells import cells_table
from .ladder import GAINS, gain
from .methods.array_text import array_text
from .methods.dictionary import table_of

VALUES = (
    "ttft_p50_ms", "ttft_p95_ms", "rps_per_gpu", "hit_rate", "store_read_gbps", "shaped_read_gbps", "shaped_read_share"
)  # fmt: skip
_COST = "usd_per_million_tokens"
_COST_COLUMNS = [_COST, f"{_COST}_low", f"{_COST}_high"]
CURVE = ["base", "latency_us", "load"]


def main(*, spec: Spec, cells: Cells, cost: Path, asked: Asked = None, out: Path, text: Path) -> None:
    """Write the table and the verdict.

    Args:
        spec: JSON: {"devices": {shaped scenario: its base}}.
        cost: cost.csv.
        out: CSV file for the table.
        text: text file for the verdict.
    """
    table = array_table(spec["devices"], read_cells(cells, asked, "cell"), read_csv(cost))
    table.to_csv(out, index=False)
    text.write_text(array_text(table))


def array_table(
    devices: Mapping[str, str], records: Sequence[dict[str, Any]], cost: pd.DataFrame
) -> pd.DataFrame:
    """One row per load of every scenario behind a device, of its store as it is, of other SSDs, of the DRAM pool and of recompute.

    devices: the scenarios behind a device, each with the name of what was put behind it. cost: that table. Medians are over
    valid repeats when there are any; gains pair repeats in which both are valid.
    """
    cells, rows = cells_table(records), []
    shapes = {record["scenario"]: record["spec"]["scenario"].get("shape") or {} for record in records}
    if not devices or cells.empty:
        return table_of("array", [])
    at_load = cost[cost["at"] == "load"].set_index(["scenario", "load"])
    for (scenario, load), own in cells.groupby(["scenario", "load"], sort=False):
        if (role := _role(own.iloc[0], devices)) is None:
            continue
        counting = used(own)
        row = {**counting.iloc[0], **counted(own), **spreads(counting, VALUES), **hardware.joined(counting)}
        row |= {"role": role, "base": devices.get(scenario, scenario if role == "store" else None)}
        row |= shapes[scenario]
        if (scenario, load) in at_load.index:
            row |= at_load.loc[(scenario, load), _COST_COLUMNS].to_dict()
        row |= _gains(own, cells[(cells["tier"] == "none") & (cells["load"] == load)])
        rows.append(row | {"verdict": _verdict(row)})
    return _with_break_even(table_of("array", rows), records)


def _role(row: pd.Series, devices: Mapping[str, str]) -> str | None:
    if row["scenario"] in devices:
        return "shaped"
    if row["tier"] == "none":
        return "recompute"
    if row["tier"] == "ssd":
        return "disk"
    if row["scenario"] in devices.values():
        return "store"
    return "dram" if row["store"] == "dram" else None


def _gains(own: pd.DataFrame, recompute: pd.DataFrame) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, (column, lower_is_better) in GAINS.items():
        row |= spread(name, gain(own, recompute, column, lower_is_better))
    return row


def _verdict(row: Mapping[str, Any]) -> str | None:
    if row["role"] == "recompute":
        return None
    low, high = row["ttft_gain_low"], row["ttft_gain_high"]
    if pd.isna(low):
        return "undecided"
    return "pays" if low > 1 else "loses" if high < 1 else "undecided"


def _with_break_even(table: pd.DataFrame, records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The table with where each curve of valid points crosses recompute, and where it is predicted to."""
    shaped, valid = table[table["role"] == "shaped"], table["valid_repeats"] > 0
    for (_, _, load), curve in shaped.groupby(CURVE, dropna=False):
        recompute = table[(table["role"] == "recompute") & (table["load"] == load) & valid]
        good = curve[curve["valid_repeats"] > 0].sort_values("read_gbps")
        for name, (column, lower_is_better) in GAINS.items():
            if recompute.empty:
                continue
            ratio = recompute.iloc[0][column] / good[column]
            gains = ratio if lower_is_better else 1 / ratio
            found = crossing(list(zip(good["read_gbps"], gains, strict=True)))
            table.loc[curve.index, f"break_even_{name.removesuffix('_gain')}_gbps"] = found
        names = set(curve["scenario"])
        own = [each for each in records if each["scenario"] in names and each["load"] == load]
        table.loc[curve.index, "predicted_gbps"] = median([_predicted_gbps(each) for each in own])
    return table


def _predicted_gbps(record: Mapping[str, Any]) -> float | None:
    """GB/s at which a record's requests, with the hits that they had, take alike to load and to compute, each alone on an idle engine.

    Only engine replay has a modelled GPU, and it spends nothing on a hit besides.
    """
    if record["gpu_model"] is None:
        return None
    gpu, requests = gpu_of_record(record["gpu_model"]), record["requests"]
    loaded, compute_s, beside_s = 0, 0.0, 0.0
    columns = (requests[name] for name in ("prompt_tokens", "hbm_hit_tokens", "hit_tokens", "loaded_bytes"))
    for prompt, held, hits, size in zip(*columns, strict=True):
        if not (hit := hits - held):
            continue
        loaded += size
        times = times_of(gpu, prompt, hit, size, 0, held)
        compute_s += times["prefill_s"]
        beside_s += rest_s(times)
    return required_gbps(loaded, compute_s, beside_s) if loaded and compute_s > beside_s else None


def crossing(points: Sequence[tuple[float, float]]) -> float | None:
    """GB/s at which a gain becomes 1 and stays above; on straight lines between points over the logarithm of GB/s.

    points: (GB/s, gain), GB/s rising. None where the last one does not gain, or all do: nothing is extrapolated.
    """
    known = [(gbps, value) for gbps, value in points if pd.notna(value)]
    below = [number for number, (_, value) in enumerate(known) if value < 1]
    if not below or below[-1] == len(known) - 1:
        return None
    (low, under), (high, over) = known[below[-1]], known[below[-1] + 1]
    share = (1 - under) / (over - under)
    return math.exp(math.log(low) + share * (math.log(high) - math.log(low)))


if __name__ == "__main__":
    sys.exit(run_stage("array", main))
