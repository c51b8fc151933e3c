"""Rule write_predicted: what is predicted of what was measured, beside it, with the error.

python -m workflow.hyperkv.tables.predicted --cells results/sweep/*/*.jsonl --stores results/tables/stores.csv --gpus config/gpus/h100.yaml --out results/tables/predicted.csv
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..base.cli import run_stage
from ..base.errors import UserError
from ..base.options import Files
from ..models.gpu import GpuModel
from ..predict.cell_hits import predicted_hit_rate
from ..predict.place_stores import nearest_get
from ..predict.request_time import break_even_gbps, required_gbps
from ..predict.single_requests import Request, gpu_file, model_of, origin, requests_of
from ..records import hardware
from ..records.effective import facts_of
from ..records.frames import Asked, Cells, Out, read_cells, read_csv, write_table
from ..records.stats import median, median_interval, spread
from .methods.dictionary import table_of
from .methods.over_recompute import measured_break_even, single_ratios
from .methods.predicted_text import (
    ALLOWED,
    BREAK_EVEN,
    HIT_RATE,
    OFF,
    TTFT_COMPUTED,
    TTFT_LOADED,
    UNITS,
    WITHIN,
)


class Group:
    """Single requests of one scenario and prompt length. about: columns that all its rows have; counting: those that proved themselves."""

    def __init__(
        self, records: Sequence[Mapping[str, Any]], requests: Sequence[Request], files: Sequence[Path]
    ):
        self.requests, self.about = requests, _about(records)
        self.about |= {"prompt_tokens": requests[0].prompt_tokens}
        self.counting = [request for request in requests if not request.faults]
        self.reason = "; ".join(dict.fromkeys(fault for request in requests for fault in request.faults))
        self.gpu: GpuModel | None = None
        try:
            file = gpu_file(records[0], files)
            self.gpu = model_of(records[0], file)
            self.about["gpu_from"] = origin(file, self.gpu)
        except UserError as error:
            self.reason = str(error)

    @property
    def longest(self) -> Request | None:
        """A request that counts, with the median of their TTFTs."""
        counting = sorted(self.counting, key=lambda request: request.ttft_s)
        return counting[len(counting) // 2] if counting else None


def main(*, cells: Cells, stores: Path, gpus: Files, asked: Asked = None, out: Out) -> None:
    """Write the table.

    Args:
        stores: stores.csv, of the stores that were measured alone.
        gpus: files of config/gpus: the GPUs that may be the one that vLLM ran on.
    """
    write_table(predicted_table(read_cells(cells, asked), read_csv(stores), gpus), out)


def predicted_table(
    records: Sequence[dict[str, Any]], stores: pd.DataFrame, gpus: Sequence[Path]
) -> pd.DataFrame:
    """One row per scenario and prompt length of single requests (TTFT, and break-even of the engine's own pool), and per scenario and load.

    stores: rows of stores.csv. gpus: their files.
    """
    singles = [record for record in records if record["record"] == "single"]
    cells = [record for record in records if record["record"] == "cell"]
    rows = list(_single_rows(singles, stores, gpus))
    gbps = {row["scenario"]: row["gbps"] for row in rows if row.get("gbps")}
    rows += _hit_rows(cells, gpus, gbps)
    return table_of("predicted", [row | _judged(row) for row in rows])


def _about(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    record = records[0]
    own = record["spec"]["scenario"]
    return {
        **{key: record[key] for key in ("engine", "model", "gpus", "scenario")},
        "gpu": hardware.gpu_of(record)["gpu"],
        **{key: own.get(key) for key in ("tier", "store", "connector", "chunk_tokens")},
        **{key: facts_of(record)[key] for key in ("kv_dtype", "pair")},
        **hardware.columns_of(records),
    }


def _single_rows(
    records: Sequence[Mapping[str, Any]], stores: pd.DataFrame, files: Sequence[Path]
) -> Iterator[dict[str, Any]]:
    found: dict[tuple[str, int], tuple[list[Mapping[str, Any]], list[Request]]] = {}
    for record in records:
        for request in requests_of(record):
            own = found.setdefault((record["scenario"], request.prompt_tokens), ([], []))
            own[0].append(record)
            own[1].append(request)
    groups = [Group(*own, files) for own in found.values()]
    ratios = single_ratios(records)
    for group in sorted(groups, key=lambda group: group.requests[0].scenario["tier"] != "none"):
        if group.requests[0].scenario["tier"] == "none":
            yield _ttft_row(group, TTFT_COMPUTED, None)
            continue
        try:
            gbps, told = _store_gbps(group, groups, stores)
        except UserError as error:
            yield _ttft_row(group, TTFT_LOADED, None) | {
                "predicted": None,
                "reason": group.reason or str(error),
            }
            continue
        basis = {"gbps": gbps, "gbps_from": told}
        yield basis | _ttft_row(group, TTFT_LOADED, gbps)
        if group.requests[0].is_of_pool:
            yield from ({**basis, **row} for row in _break_even_rows(group, ratios))


def _ttft_row(group: Group, quantity: str, gbps: float | None) -> dict[str, Any]:
    gpu, counting = group.gpu, group.counting
    return {
        **group.about,
        "quantity": quantity,
        "predicted": None
        if gpu is None
        else median([request.ttft_at(gpu, gbps) for request in counting or group.requests]),
        **spread("measured", median_interval([request.ttft_s for request in counting])),
        "samples": len(counting),
        "reason": group.reason if gpu is None or not counting else None,
    }


def _store_gbps(group: Group, groups: Sequence[Group], stores: pd.DataFrame) -> tuple[float | None, str]:
    """GB/s of the store that served single requests, None for the engine's own memory, and where they are from.

    The stated device, else the store measured alone, else the longest prompt that the same scenario loaded: what of its TTFT is not
    the GPU's, vLLM's and LMCache's. Raises UserError where nobody tells.
    """
    scenario = group.requests[0].scenario
    if group.requests[0].is_of_pool:
        return None, "no store: the engine's own pool"
    if scenario["dram_pool_bytes"] and not (scenario["tier"] == "ssd" and scenario["page_cache"] == "evict"):
        raise UserError("a DRAM pool stands before the store, and may have served it")
    if (stated := (scenario.get("shape") or {}).get("read_gbps")) is not None:
        return float(stated), "stated device"
    points = stores[stores["scenario"] == group.about["scenario"]] if len(stores) else stores
    if len(points):
        chunk_bytes = int(
            group.requests[0].loaded_bytes
            / max(group.requests[0].loaded_tokens, 1)
            * scenario["chunk_tokens"]
        )
        if (point := nearest_get(points, max(chunk_bytes, 1))) is not None:
            return float(point["gbps"]), "the store alone"
    own = [each for each in groups if each.about["scenario"] == group.about["scenario"] and each.longest]
    longest = max(own, key=lambda each: each.about["prompt_tokens"], default=None)
    if longest is None or longest is group or (request := longest.longest) is None or longest.gpu is None:
        raise UserError(
            "the run does not tell the store's GB/s: not measured alone, and no longer prompt was loaded"
        )
    gbps = required_gbps(request.loaded_bytes, request.ttft_s, request.ttft_at(longest.gpu, None))
    if math.isinf(gbps) or not gbps:
        raise UserError(
            "the run does not tell the store's GB/s: the longest prompt took no longer than without a store"
        )
    return gbps, f"its load of {request.prompt_tokens:,} tokens"


def _break_even_rows(group: Group, ratios: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """GB/s at which loading takes as long as computing, with what a hit of this pool takes; none where nothing was computed."""
    own = ratios[ratios["scenario"].eq(group.about["scenario"])]
    for row in own[own["prompt_tokens"].eq(group.about["prompt_tokens"])].to_dict("records"):
        if pd.isna(row["computed_s"]):
            continue
        gpu, (needs, _) = group.gpu, measured_break_even(ratios, row)
        found = [] if gpu is None else [break_even_gbps(each.times(gpu)) for each in group.counting]
        predicted = median([gbps for gbps in found if math.isfinite(gbps)])
        told = {**group.about, "quantity": BREAK_EVEN, "samples": len(group.counting), "predicted": predicted}
        if predicted is None or needs.median is None:
            told["reason"] = group.reason or "a hit takes as long as computing, without the bytes of a store"
        yield told | spread("measured", needs)


def _hit_rows(
    records: Sequence[Mapping[str, Any]], files: Sequence[Path], gbps: Mapping[str, float]
) -> Iterator[dict[str, Any]]:
    groups: dict[tuple[str, float], list[Mapping[str, Any]]] = {}
    for record in records:
        groups.setdefault((record["scenario"], record["load"]), []).append(record)
    for (scenario, load), own in groups.items():
        counting = [each for each in own if each["valid"] and each["values"]["hit_rate"] is not None]
        row = {**_about(own), "quantity": HIT_RATE, "load": load, "samples": len(counting)}
        row |= spread("measured", median_interval([each["values"]["hit_rate"] for each in counting]))
        if not counting:
            row["reason"] = "; ".join(dict.fromkeys(reason for each in own for reason in each["reasons"]))
        try:
            rates = [predicted_hit_rate(each, files, gbps.get(scenario)) for each in counting or own]
        except UserError as error:
            yield row | {"reason": row.get("reason") or str(error)}
            continue
        if rates[0] is not None:
            yield row | {"predicted": median(rates)}


def _judged(row: Mapping[str, Any]) -> dict[str, Any]:
    """Unit, error and verdict of a row."""
    quantity, predicted, measured = (
        row["quantity"],
        row.get("predicted"),
        row.get("measured"),
    )
    told: dict[str, Any] = {"unit": UNITS[quantity], "allowed": ALLOWED[quantity]}
    if predicted is None or measured is None:
        return told
    error = predicted / measured - 1 if measured else math.inf if predicted else 0.0
    return told | {"error": error, "verdict": WITHIN if abs(error) <= ALLOWED[quantity] else OFF}


if __name__ == "__main__":
    sys.exit(run_stage("predicted", main))
