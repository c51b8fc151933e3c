"""Whether a claim's value confirms it, refutes it or decides nothing, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from ...base.errors import UserError
from ...records.parity import SHARED, SHARED_BY_CACHING, require_parity
from ...records.stats import Interval
from .claim import PREDICTED_TABLES, Claim, Difference
from .measured import WITH_REPEATS, Measured, Unmeasured, Used, plain

CONFIRMED, REFUTED, UNDECIDED = "confirmed", "refuted", "undecided"
# What compared rows of a table must share, unless the claim is about it. Cells are held to require_parity as well.
ALWAYS = ("tier", "store", "connector")
PARITY = {
    "cells": ("load",),
    "cost_repeats": ("at", "load", "slo_tps_per_user", "slo_ttft_p95_ms"),
    "stores": ("operation", "cold", "connections", "value_bytes"),
    "layers": ("scenario", "operation", "connections", "value_bytes"),
    "latency": ("engine", "model", "gpu", "gpus", "prompt_tokens"),
    "hit_rates": ("case", "active_conversations", "clients", "save_decode_cache", "counted", "lookup", "tiers", "chunk_tokens"),
}  # fmt: skip
_NOTHING = Interval(None, None, None)


@dataclass(frozen=True)
class Judged:
    """A claim with its value and verdict. used: the rows behind the value."""

    claim: Claim
    verdict: str
    interval: Interval
    reason: str
    used: tuple[Used, ...]


def judge_claim(claim: Claim, tables: Mapping[str, pd.DataFrame], compared: int) -> Judged:
    """A claim's value and verdict. tables: by name; one that is not there was not measured.

    A value that was not measured, was only predicted, has no interval, or is made of rows that are not alike decides
    nothing, and the reason says which.
    """
    measured = Measured(tables, compared)
    used = measured.used
    try:
        quantity = measured.value(claim)
        _require_alike(claim, used)
    except Unmeasured as error:
        return _unmeasured(claim, str(error), tables, compared)
    except UserError as error:
        return Judged(claim, UNDECIDED, _NOTHING, f"not like for like: {error}", tuple(used))
    told = "; ".join(dict.fromkeys(part.words() for part in used))
    if claim.table in PREDICTED_TABLES:
        return Judged(claim, UNDECIDED, quantity.interval, f"predicted only: {told}", tuple(used))
    notes = [told]
    if quantity.samples is not None and len(used) > 1:
        notes.append("paired by repeat")
    if any((part.rows["engine"] == "replay").any() for part in used if "engine" in part.rows):
        notes.append("engine replay: the GPU is modelled")
    found = verdict(claim, quantity.interval)
    if quantity.interval.low is None:
        notes.insert(0, measured.no_interval())
    elif found == UNDECIDED:
        notes.insert(0, "the interval spans the condition's edge")
    elif not _is_bounded(claim, found, tables, compared):
        found = UNDECIDED
        capped = "higher loads may decide otherwise: the SLO was still kept at the highest that was measured"
        notes.insert(0, capped)
    return Judged(claim, found, quantity.interval, "; ".join(notes), tuple(used))


def verdict(claim: Claim, interval: Interval) -> str:
    """confirmed when the whole interval satisfies the condition, refuted when none of it does, else undecided."""
    if interval.low is None or interval.high is None:
        return UNDECIDED
    if claim.above_low(interval.low) and claim.below_high(interval.high):
        return CONFIRMED
    apart = not claim.above_low(interval.high) or not claim.below_high(interval.low)
    return REFUTED if apart else UNDECIDED


def _is_bounded(claim: Claim, found: str, tables: Mapping[str, pd.DataFrame], compared: int) -> bool:
    """Whether a verdict stays, however much better the scenarios do whose highest load still kept the SLO."""
    try:
        return verdict(claim, Measured(tables, compared, unbounded=True).value(claim).interval) == found
    except Unmeasured:
        return False


def _unmeasured(claim: Claim, reason: str, tables: Mapping[str, pd.DataFrame], compared: int) -> Judged:
    """A claim that nothing measured decides, with its predicted value where there is one."""
    measured = Measured(tables, compared)
    if isinstance(claim, Difference) and claim.predicted is not None:
        try:
            interval = measured.value(claim.predicted).interval
            reason = f"{reason}; the value is predicted"
            return Judged(claim, UNDECIDED, interval, reason, tuple(measured.used))
        except Unmeasured:
            pass
    return Judged(claim, UNDECIDED, _NOTHING, reason, ())


def _require_alike(claim: Claim, used: Sequence[Used]) -> None:
    """Refuse rows that differ in what the claim is not about. Raises UserError."""
    rows = pd.concat([part.rows for part in used], ignore_index=True)
    for column in (*ALWAYS, *PARITY.get(claim.table, ())):
        found = rows[column].dropna().unique() if column in rows and column not in claim.vary else ()
        if len(found) > 1:
            raise UserError(f"they differ in {column} ({', '.join(map(plain, found))})")
    if claim.table in WITH_REPEATS:
        if missing := [column for column in ("tier", *SHARED, *SHARED_BY_CACHING) if column not in rows]:
            raise UserError(f"{claim.table}.csv has no column {missing[0]} to compare by")
        require_parity(rows, claim.vary, who="claims")
