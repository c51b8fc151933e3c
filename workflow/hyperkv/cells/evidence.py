"""Whether a cell proves itself: pure rules from its evidence to valid, reasons and served_from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_EXCESS = 1.5


@dataclass(frozen=True)
class Verdict:
    """valid: may be drawn as a result. reasons: why not. served_from: where loaded bytes came from.

    served_from is "recompute" (no tier below HBM), "nothing" (a tier, but no byte was loaded), "ram" or "ssd".
    """

    valid: bool
    reasons: tuple[str, ...]
    served_from: str


def device_share(evidence: Mapping[str, Any]) -> float | None:
    """Bytes read from the block device per byte the engine loaded; None when either is unknown or 0."""
    return quotient(evidence.get("device_read_bytes"), evidence.get("loaded_bytes"))


def served_from_ram(share: float | None, least: float, moved: str = "loaded") -> str:
    """The reason when the device's share of what was moved is too small. moved: the word for that."""
    measured = "unknown" if share is None else f"{share:.0%} of bytes {moved}"
    return f"served from RAM: device reads {measured}, at least {least:.0%} needed"


def excess(evidence: Mapping[str, Any]) -> list[str]:
    """A note when the store read far more than it served: the excess is no proof that what it served came from there."""
    share = device_share(evidence)
    if share is None or share < _EXCESS:
        return []
    return [f"the store read {share:.1f} bytes from the device per byte loaded"]


def quotient(part: float | None, whole: float | None) -> float | None:
    """part / whole; None when either is unknown or the whole is 0."""
    return None if part is None or not whole else part / whole


def judge(tier: str, evidence: Mapping[str, Any], device_share_min: float) -> Verdict:
    """Apply the rules of a record to its evidence.

    tier: "none", "dram" or "ssd". evidence: queried_tokens, hit and computed tokens, loaded_bytes,
    served_bytes, device_read_bytes, failed_requests, corrupt_chunks, damaged_chunks, store_errors (None when unknown). device_share_min:
    share of loaded bytes that must have come from the device for an `ssd` cell.
    """
    share = device_share(evidence)
    served_from = _served_from(tier, evidence, share, device_share_min)
    reasons = []
    if evidence["failed_requests"]:
        reasons.append(f"{evidence['failed_requests']} requests failed")
    if evidence["corrupt_chunks"]:
        reasons.append(f"{evidence['corrupt_chunks']} chunks came back with wrong bytes")
    if evidence.get("damaged_chunks"):
        reasons.append(
            f"{evidence['damaged_chunks']} chunks were damaged in the store, and counted as misses"
        )
    if evidence.get("store_errors"):
        reasons.append(f"the store reports {evidence['store_errors']} background errors")
    accounted = evidence["hit_tokens"] + evidence["computed_tokens"]
    if accounted != evidence["queried_tokens"]:
        reasons.append(f"{accounted} tokens hit or computed of {evidence['queried_tokens']} queried")
    served = evidence.get("served_bytes")
    if served is not None and served < evidence["loaded_bytes"]:
        reasons.append(f"the store served {served:,} bytes, the engine loaded {evidence['loaded_bytes']:,}")
    if tier == "ssd" and served_from == "ram":
        reasons.append(served_from_ram(share, device_share_min))
    return Verdict(not reasons, tuple(reasons), served_from)


def _served_from(tier: str, evidence: Mapping[str, Any], share: float | None, least: float) -> str:
    if tier == "none":
        return "recompute"
    if not evidence["loaded_bytes"]:
        return "nothing"
    return "ssd" if tier == "ssd" and share is not None and share >= least else "ram"
