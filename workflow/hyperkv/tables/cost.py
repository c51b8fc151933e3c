"""Rule write_cost: what every scenario costs per million tokens, from the sweep's records and a table of prices.

python -m workflow.hyperkv.tables.cost --spec '{...}' --cells results/sweep/*/*.jsonl --out results/tables

Scenarios are compared where each keeps the same SLO (rows `slo`), at the highest number of clients that does, between
measured loads on a straight line and never beyond them; rows `load` are the measured loads as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from ..base.cli import run_stage
from ..base.options import Spec
from ..records.effective import FACTS
from ..records.frames import Asked, Cells, read_cells, write_table
from ..records.parity import require_one_configuration
from ..records.repeats import CLOSED, counted, known, loop_of, spreads
from ..records.stats import median
from .cells import cell_row, cells_table
from .methods.cost_model import (
    PARTS,
    Point,
    at_slo,
    compared_rows,
    endurance_years,
    usd_per_hour,
    usd_per_million,
)
from .methods.dictionary import table_of

IDENTITY = (
    "engine", "model", "gpu", "gpus", "scenario", "tier", "store", "connector", "chunk_tokens", "connections", "processes",
    "dram_pool_bytes", "gate", *FACTS, "workload", "comparable_digest",
)  # fmt: skip
SHARES = tuple(f"{part}_share" for part in PARTS)
_ROUNDED_S = 1e-6  # records round times to it, and the window ends with an answer
_POINT = (
    "tokens_per_s", "answer_tokens_per_s", "dram_bytes", "ssd_bytes", "written_bytes_per_s", "device_gbps"
)  # fmt: skip
_MEASURED = ("rps_per_gpu", "tps_per_user", "ttft_p95_ms")
_COSTS = ("usd_per_hour", "usd_per_million_tokens", "usd_per_million_answer_tokens", "endurance_years")
_SLO = ("slo_tps_per_user", "slo_ttft_p95_ms")
SUMMARISED = ("users_per_gpu", *_MEASURED, *_COSTS)


def main(*, spec: Spec, cells: Cells, asked: Asked = None, out: Path) -> None:
    """Write the tables.

    Args:
        spec: JSON: {"prices": {...}, "slo": {...}}.
        out: folder for the tables.
    """
    records = read_cells(cells, asked, "cell")
    require_one_configuration(cells_table(records), "cost")
    repeats = repeats_table(records, values_of(spec["prices"]), spec["slo"])
    write_table(repeats, [out / "cost_repeats.csv"])
    write_table(cost_table(repeats), [out / "cost.csv"])
    write_table(sensitivity_table(repeats, spec["prices"]), [out / "cost_sensitivity.csv"])


def values_of(prices: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The figure of every price, by name."""
    return {name: price["value"] for name, price in prices.items()}


def repeats_table(
    records: Sequence[Mapping[str, Any]], prices: Mapping[str, float], slo: Mapping[str, float | None]
) -> pd.DataFrame:
    """One row per cell (at `load`), then one per scenario x repeat at the SLO (at `slo`).

    Invalid cells have a row without costs, and no part in the SLO. Open loops and traces have no rows `slo`, since their
    load is not a number of users. slo: bounds; a tps_per_user of None is the highest that every repeat of every scenario
    reaches.
    """
    rows: list[dict[str, Any]] = []
    curves: dict[tuple[str, int], list[tuple[Mapping[str, Any], Point]]] = {}
    for record in records:
        point, reasons = point_of(record)
        row = _identity(record) | {"at": "load", "load": record["load"], "repeat": record["repeat"]}
        row |= {"valid": not reasons, "reasons": "; ".join(reasons)}
        users = record["load"] if loop_of(record) == CLOSED else None
        rows.append(row | _measures(point, prices, users, None if users is None else False))
        if users is not None and point is not None:
            curves.setdefault((record["scenario"], record["repeat"]), []).append((record, point))
    bounds = _bounds([[point for _, point in curve] for curve in curves.values()], slo)
    for (_, repeat), curve in curves.items():
        point, at_least = at_slo([point for _, point in curve], *bounds.values())
        row = _identity(curve[0][0]) | {"at": "slo", "load": None, "repeat": repeat, **bounds}
        row |= {
            "valid": point is not None,
            "reasons": "" if point else "no load that was measured keeps the SLO",
        }
        users = None if point is None else point.load
        rows.append(row | _measures(point, prices, users, None if point is None else at_least))
    return table_of("cost_repeats", rows)


def point_of(record: Mapping[str, Any]) -> tuple[Point | None, list[str]]:
    """What a cell did and needed, or None and the reasons why it tells nothing."""
    if not record["valid"]:
        return None, list(record["reasons"])
    values, evidence, requests = record["values"], record["evidence"], record["requests"]
    window_s, finish_s = values["window_s"], requests["finish_s"]
    end_s = window_s + _ROUNDED_S
    done = [index for index, at_s in enumerate(finish_s) if at_s is not None and at_s <= end_s]
    if not window_s or not done:
        return None, ["no request was answered in the measured window"]
    answers = sum(requests["answer_tokens"][index] for index in done)
    prompts = sum(requests["prompt_tokens"][index] for index in done)
    needed = _needed_bytes(record)
    if needed is None:
        return None, ["how many bytes the store holds is not known"]
    span_s = max(end for end in finish_s if end is not None) - min(requests["arrival_s"])
    scenario = record["spec"]["scenario"]
    device_gbps = (scenario.get("shape") or {}).get("read_gbps")
    written = evidence["device_write_bytes"] if scenario["tier"] == "ssd" else None
    if device_gbps is not None:
        written = evidence["saved_bytes"]
    if _medium(scenario) == "ssd" and written is None:
        return None, ["how many bytes were written to the device is not known"]
    return Point(
        load=record["load"],
        rps_per_gpu=values["rps_per_gpu"],
        tps_per_user=values["tps_per_user"],
        ttft_p95_ms=values["ttft_p95_ms"],
        tokens_per_s=(prompts + answers) / window_s,
        answer_tokens_per_s=answers / window_s,
        dram_bytes=needed["dram"],
        ssd_bytes=needed["ssd"],
        written_bytes_per_s=None if written is None else written / span_s,
        device_gbps=device_gbps,
        gpus=record["gpus"],
    ), []


def _needed_bytes(record: Mapping[str, Any]) -> dict[str, float] | None:
    """Bytes that the tier holds by medium: the DRAM pools' size, and a store's capacity or all that was saved to it. A store that is held
    to be a device is one.
    """
    scenario, evidence = record["spec"]["scenario"], record["evidence"]
    pools = record["spec"].get("engines", 1) * (scenario.get("dram_pool_bytes") or 0)
    needed = {"dram": float(pools), "ssd": 0.0}
    shaped = _medium(scenario) != scenario["tier"]
    if shaped and scenario["store"] == "dram":
        needed["dram"] = 0.0
    if scenario["tier"] == "none" or (scenario["store"] == "dram" and not shaped):
        return needed
    saved = evidence["saved_bytes"] if evidence["saved_bytes"] is not None else evidence["taken_bytes"]
    if saved is None:
        return None
    capacity = scenario.get("capacity_bytes")
    needed[_medium(scenario)] += saved if capacity is None else min(saved, capacity)
    return needed


def _medium(scenario: Mapping[str, Any]) -> str:
    """What the tier is bought as."""
    return "ssd" if (scenario.get("shape") or {}).get("read_gbps") else scenario["tier"]


def _bounds(curves: Sequence[Sequence[Point]], slo: Mapping[str, float | None]) -> dict[str, float | None]:
    """The SLO that scenarios are compared at."""
    speed = slo["tps_per_user"]
    if speed is None:
        best = [
            max((p.tps_per_user for p in curve if p.tps_per_user is not None), default=None)
            for curve in curves
        ]
        speed = min((value for value in best if value is not None), default=None)
    return {"slo_tps_per_user": speed, "slo_ttft_p95_ms": slo["ttft_p95_ms"]}


def _identity(record: Mapping[str, Any]) -> dict[str, Any]:
    row = cell_row(record)
    return {key: row.get(key) for key in IDENTITY}


def _measures(
    point: Point | None, prices: Mapping[str, float], users: float | None, at_least: bool | None
) -> dict[str, Any]:
    """What is measured and what it costs; nothing of a point that is not there."""
    if point is None:
        return {}
    needs = (point.dram_bytes, point.ssd_bytes, point.written_bytes_per_s)
    parts = usd_per_hour(prices, *needs, point.gpus, point.device_gbps)
    total = sum(parts.values())
    values = asdict(point)
    return {
        **{name: values[name] for name in (*_MEASURED, *_POINT)},
        "users_per_gpu": None if users is None else users / point.gpus,
        "users_at_least": at_least,
        "usd_per_hour": total,
        "usd_per_million_tokens": usd_per_million(total, point.tokens_per_s),
        "usd_per_million_answer_tokens": usd_per_million(total, point.answer_tokens_per_s),
        "endurance_years": endurance_years(prices, point.written_bytes_per_s),
        **{f"{part}_share": value / total if total else None for part, value in parts.items()},
    }


def cost_table(repeats: pd.DataFrame) -> pd.DataFrame:
    """One row per scenario and load, and per scenario at the SLO: medians and intervals over valid repeats.

    Shares are means over repeats, so that they add up to 1.
    """
    rows = []
    for _, group in repeats.groupby(["scenario", "at", "load"], sort=False, dropna=False):
        valid = group[group["valid"]]
        row = {**group.iloc[0], **counted(group)}
        row["users_at_least"] = (
            bool(valid["users_at_least"].any()) if valid["users_at_least"].notna().any() else None
        )
        row |= spreads(valid, SUMMARISED)
        row |= {name: median(known(valid[name])) for name in _POINT}
        row |= {name: valid[name].mean() if len(valid) else None for name in SHARES}
        rows.append(row)
    return table_of("cost", rows)


def sensitivity_table(repeats: pd.DataFrame, prices: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """One row per scenario and price: the median cost with that price at the low and the high end of its range.

    At the SLO; of a scenario that has no row there, at its highest load. prices: value, low, high, unit, date, source.
    """
    rows = []
    for group in compared_rows(repeats[repeats["valid"].astype(bool)]):
        told = {
            name: price
            for name, price in prices.items()
            if name != "ssd_read_gbps" or group["device_gbps"].notna().any()
        }
        point = {key: group.iloc[0][key] for key in ("scenario", "at", "load")}
        for name, price in told.items():
            columns = {"usd_per_million_tokens": "value", "usd_at_low": "low", "usd_at_high": "high"}
            ends = {
                column: _median_cost(group, values_of(prices) | {name: price[end]})
                for column, end in columns.items()
            }
            rows.append({**price, **point, "price": name, **ends})
    return table_of("cost_sensitivity", rows)


def _median_cost(rows: pd.DataFrame, prices: Mapping[str, float]) -> float | None:
    costs = []
    for _, row in rows.iterrows():
        written = None if pd.isna(row["written_bytes_per_s"]) else row["written_bytes_per_s"]
        device_gbps = None if pd.isna(row["device_gbps"]) else row["device_gbps"]
        parts = usd_per_hour(prices, row["dram_bytes"], row["ssd_bytes"], written, row["gpus"], device_gbps)
        costs.append(usd_per_million(sum(parts.values()), row["tokens_per_s"]))
    return median(costs)


if __name__ == "__main__":
    sys.exit(run_stage("cost", main))
