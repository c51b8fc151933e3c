"""What the GPUs of a scenario with a tier cost: from prices and what a scenario needs to dollars per hour, and how long its SSD lasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd

from ...records.repeats import at_own_load

HOURS_PER_YEAR = 8766
PARTS = ("gpu", "server", "dram", "ssd", "power")


@dataclass(frozen=True)
class Point:
    """A scenario at one load: what its GPUs did together and what they needed.

    load: clients of all of them. gpus: how many they are. tokens_per_s: prompt and answer tokens of answered requests, answer_tokens_per_s: the latter alone.
    dram_bytes, ssd_bytes: what the tier must hold. written_bytes_per_s: to the block device; None where it is not known, or
    no SSD is there. device_gbps: what a shaped device is stated to read, None without one. Values that were not measured are None.
    """

    load: float
    rps_per_gpu: float
    tps_per_user: float | None
    ttft_p95_ms: float | None
    tokens_per_s: float
    answer_tokens_per_s: float
    dram_bytes: float
    ssd_bytes: float
    written_bytes_per_s: float | None
    device_gbps: float | None = None
    gpus: int = 1


def cost_anchor(row: Mapping[str, Any]) -> str:
    """The name of a row of cost.csv as a place of a page: 'cost-files-64-slo', or with its load."""
    return f"cost-{row['scenario']}-{'slo' if row['at'] == 'slo' else format(row['load'], 'g')}"


def compared_rows(cost: pd.DataFrame) -> list[pd.DataFrame]:
    """Of every scenario its rows at the SLO, else those at its highest load."""
    found = []
    for _, own in cost.groupby("scenario", sort=False):
        at_slo_rows = own[own["at"] == "slo"]
        found.append(at_slo_rows if len(at_slo_rows) else at_own_load(own))
    return found


def usd_per_hour(
    prices: Mapping[str, float],
    dram_bytes: float,
    ssd_bytes: float,
    written_bytes_per_s: float | None,
    gpus: int = 1,
    device_gbps: float | None = None,
) -> dict[str, float]:
    """Dollars per hour of so many GPUs, each with its share of a server, and one tier, by part (PARTS).

    Capacity is paid for by what is needed, not by whole modules. An SSD costs its capacity over the years of
    amortisation or what writing wears off it, whichever is more; a device of stated GB/s as many drives as read so fast together,
    if that is more still. prices: by name, in the units of the configuration.
    """
    hours = prices["amortisation_years"] * HOURS_PER_YEAR
    dram_gb, ssd_gb = dram_bytes / 1e9, ssd_bytes / 1e9
    drive_usd = prices["ssd_usd_per_gb"] * prices["ssd_capacity_gb"]
    written_tb_per_hour = (written_bytes_per_s or 0.0) * prices["ssd_write_amplification"] * 3600 / 1e12
    drives = max(ssd_gb / prices["ssd_capacity_gb"], (device_gbps or 0.0) / prices["ssd_read_gbps"])
    watts = (
        gpus * (prices["gpu_power_w"] + prices["server_power_w"])
        + dram_gb * prices["dram_power_w_per_gb"]
        + drives * prices["ssd_power_w"]
    )
    return {
        "gpu": gpus * prices["gpu_usd_per_hour"],
        "server": gpus * prices["server_usd"] / hours,
        "dram": dram_gb * prices["dram_usd_per_gb"] / hours,
        "ssd": max(drives * drive_usd / hours, written_tb_per_hour * drive_usd / prices["ssd_tbw_tb"]),
        "power": watts / 1000 * prices["pue"] * prices["usd_per_kwh"],
    }


def usd_per_million(dollars_per_hour: float, tokens_per_s: float) -> float | None:
    """Dollars per 10^6 tokens; None when no token was served."""
    return dollars_per_hour / 3600 / tokens_per_s * 1e6 if tokens_per_s else None


def endurance_years(prices: Mapping[str, float], written_bytes_per_s: float | None) -> float | None:
    """Years until one drive has taken the bytes that it is rated for; None when what is written is not known or nothing."""
    if not written_bytes_per_s:
        return None
    worn_bytes_per_s = written_bytes_per_s * prices["ssd_write_amplification"]
    return prices["ssd_tbw_tb"] * 1e12 / worn_bytes_per_s / 3600 / HOURS_PER_YEAR


def at_slo(
    points: Sequence[Point], tps_per_user: float | None, ttft_p95_ms: float | None
) -> tuple[Point | None, bool]:
    """The point at the highest load that keeps both bounds, and whether it keeps them at the highest load measured.

    points: of one scenario and repeat, at different loads, joined by straight lines; nothing is extrapolated. None for no
    bound; a point that lacks a bounded value does not keep it. (None, False) when no load keeps them.
    """
    known = [
        point
        for point in sorted(points, key=lambda point: point.load)
        if (tps_per_user is None or point.tps_per_user is not None)
        and (ttft_p95_ms is None or point.ttft_p95_ms is not None)
    ]
    for index in range(len(known) - 1, -1, -1):
        slacks = _slacks(known[index], tps_per_user, ttft_p95_ms)
        if all(slack >= 0 for slack in slacks):
            return known[index], index == len(known) - 1
        if not index:
            break
        below = _slacks(known[index - 1], tps_per_user, ttft_p95_ms)
        share = _last_kept(below, slacks)
        if share is not None:
            return _between(known[index - 1], known[index], share), False
    return None, False


def _slacks(point: Point, tps_per_user: float | None, ttft_p95_ms: float | None) -> list[float]:
    """By how much a point keeps each bound, as shares of it; negative when it does not."""
    found = []
    if tps_per_user is not None:
        assert point.tps_per_user is not None
        found.append(point.tps_per_user / tps_per_user - 1)
    if ttft_p95_ms is not None:
        assert point.ttft_p95_ms is not None
        found.append(1 - point.ttft_p95_ms / ttft_p95_ms)
    return found


def _last_kept(begin: Sequence[float], end: Sequence[float]) -> float | None:
    """The last place on a straight way from `begin` (0) to `end` (1) at which no slack is negative; None for none."""
    first, last = 0.0, 1.0
    for low, high in zip(begin, end, strict=True):
        if low < 0 and high < 0:
            return None
        if low >= 0 > high:
            last = min(last, low / (low - high))
        elif low < 0 <= high:
            first = max(first, low / (low - high))
    return last if first <= last else None


def _between(one: Point, other: Point, share: float) -> Point:
    """The point at `share` of the way from one to the other; what either does not know stays unknown."""

    def mixed(name: str) -> Any:
        low, high = getattr(one, name), getattr(other, name)
        return None if low is None or high is None else low + (high - low) * share

    return Point(
        **{field.name: mixed(field.name) for field in fields(Point) if field.name != "gpus"}, gpus=one.gpus
    )
