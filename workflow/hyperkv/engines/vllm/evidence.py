"""What a load of engine `vllm` proves: from AIPerf's records, vLLM's and the store's counters and LMCache's log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...cells.cell import CellSpec, StoreWindow, frame, per_byte
from ...cells.evidence import device_share
from ...cells.samples import window_values
from ...records.effective import Effective
from ...stores.registry import store_class
from ...workloads import Conversation
from . import aiperf
from .lmcache import loads_ahead
from .lmcache_log import Transfers
from .running import asked
from .single import in_process

SINGLE = "single"
_ENGINE_FIGURES = ("load_gbps", "save_gbps", "save_stall_s", "gpu_busy_share")


def evidence_of(
    cell: CellSpec,
    requests: Sequence[aiperf.Request],
    counted: dict[str, int | None],
    log: Transfers,
    window: StoreWindow,
    io: tuple[int, int],
) -> dict[str, Any]:
    """Totals of the run: tokens by source as vLLM counts them, bytes by the store's and the kernel's counters."""
    token_bytes = cell.share.stored_bytes_per_token
    external = counted["external_hit_tokens"] or 0
    hbm, computed = counted["hbm_hit_tokens"] or 0, counted["computed_tokens"] or 0
    from_store = _store_tokens(cell, external, counted, window)
    samples = [request.sample for request in requests if request.sample is not None]
    in_folder = _has_store(cell) and store_class(cell.scenario["store"]).held_by_engine == "folder"
    evidence: dict[str, Any] = {
        "sent_requests": len(requests),
        "failed_requests": len(requests) - len(samples),
        "queried_tokens": sum(sample.prompt_tokens for sample in samples),
        "hbm_hit_tokens": hbm,
        "dram_hit_tokens": external - from_store,
        "store_hit_tokens": from_store,
        "hit_tokens": hbm + external,
        "computed_tokens": computed,
        "retrieved_tokens": log.retrieved_tokens if in_process(cell) else None,
        "loaded_bytes": (from_store if _has_store(cell) else external) * token_bytes,
        "saved_bytes": log.stored_tokens * token_bytes if in_process(cell) else None,
        **window.evidence(),
        "corrupt_chunks": 0,
        "dropped_chunks": log.dropped_chunks,
    }
    if in_folder:
        evidence |= {"device_read_bytes": io[0], "device_write_bytes": io[1]}
    return evidence | {"device_share": device_share(evidence)} | per_byte(evidence)


def _has_store(cell: CellSpec) -> bool:
    return cell.scenario["tier"] != "none" and store_class(cell.scenario["store"]).held_by_engine != "pool"


def _store_tokens(cell: CellSpec, external: int, counted: dict[str, int | None], window: StoreWindow) -> int:
    """Of the tokens that came from outside HBM those from the store and not from the DRAM pool in front of it."""
    if not _has_store(cell):
        return 0
    # An LMCache server's buffer may still hold what it is saving.
    share = cell.share
    if (values := counted["store_loaded_chunks"]) is not None:
        return min(external, values // share.values_per_chunk * cell.scenario["chunk_tokens"])
    if not cell.scenario["dram_pool_bytes"]:
        return external
    served = window.evidence()["served_bytes"]
    return external if served is None else min(external, served // share.stored_bytes_per_token)


def faults_in(
    cell: CellSpec,
    requests: Sequence[aiperf.Request],
    conversations: Sequence[Conversation],
    log: Transfers,
    evidence: dict[str, Any],
) -> list[str]:
    """Why a cell is invalid beside the general rules: turns not sent, hits not loaded, faults in the logs."""
    found = []
    if missing := aiperf.missing_turns(requests, conversations):
        found.append(f"{len(missing)} turns were not sent, first {missing[0]}")
    if errors := [request.failed for request in requests if request.failed]:
        found.append(f"first failed request: {errors[0]}")
    external = evidence["dram_hit_tokens"] + evidence["store_hit_tokens"]
    if cell.scenario["tier"] == "ssd" and (told := from_buffer(cell, evidence)):
        share = evidence["store_hit_tokens"] / external * min(1.0, evidence["device_share"] or 0.0)
        if share < cell.spec["evidence"]["device_share_min"]:
            found.append(f"{told[0]}, so that the device read {share:.0%} of what hits asked for")
    if evidence["retrieved_tokens"] is not None and evidence["retrieved_tokens"] < external:
        found.append(
            f"vLLM counts {external} tokens as loaded, LMCache loaded {evidence['retrieved_tokens']}"
        )
    if log.faults:
        found.append(
            f"{len(log.faults)} lines of LMCache's errors and time-outs, first: {log.faults[0][:200]}"
        )
    return found


def from_buffer(cell: CellSpec, evidence: dict[str, Any]) -> list[str]:
    """A line when hits came from an LMCache server's buffer, which still had what it was saving; none with a DRAM pool."""
    found = evidence["dram_hit_tokens"]
    if not found or not _has_store(cell) or cell.scenario["dram_pool_bytes"]:
        return []
    return [
        f"{found} of {found + evidence['store_hit_tokens']} hit tokens came from the buffer of LMCache's server"
    ]


def left_to_compute(log: Transfers) -> list[str]:
    """A line when the bound on loads left chunks to be computed that were there."""
    if not log.left_chunks:
        return []
    return [f"lookups left {log.left_chunks} chunks that were there to be computed, for want of room to load"]


def engine_figures(cell: CellSpec, evidence: dict[str, Any], log: Transfers) -> dict[str, float | None]:
    """What the requests' samples do not tell: hits from below HBM, over the whole run, and LMCache's own GB/s."""
    timed = log.retrieve_s and not loads_ahead(cell.scenario)
    asked = evidence["queried_tokens"]
    outside = evidence["dram_hit_tokens"] + evidence["store_hit_tokens"]
    saved = evidence["saved_bytes"]
    return {
        "external_hit_rate": outside / asked if asked else None,
        "load_gbps": evidence["loaded_bytes"] / log.retrieve_s / 1e9 if timed else None,
        "save_gbps": saved / log.store_s / 1e9 if saved and log.store_s else None,
        "save_stall_s": None,
        "gpu_busy_share": None,
    }


def columns_of(requests: Sequence[aiperf.Request], window_s: float) -> dict[str, list[Any]]:
    """One list per column, one entry per request that was answered, in order of arrival (columns.yaml)."""
    answered = [(request, request.sample) for request in requests if request.sample is not None]
    columns: dict[str, list[Any]] = {
        "conversation": [request.conversation for request, _ in answered],
        "turn": [request.turn for request, _ in answered],
        "client": [None for _ in answered],
        "prompt_tokens": [sample.prompt_tokens for _, sample in answered],
        "answer_tokens": [sample.answer_tokens for _, sample in answered],
        "hit_tokens": [sample.hit_tokens for _, sample in answered],
        "arrival_s": [round(sample.arrival_s, 6) for _, sample in answered],
        "first_token_s": [round(sample.first_token_s, 6) for _, sample in answered],
        "finish_s": [round(sample.finish_s, 6) for _, sample in answered],
        "in_window": [sample.arrival_s < window_s for _, sample in answered],
    }
    unknown = (
        "hbm_hit_tokens",
        "dram_hit_tokens",
        "store_hit_tokens",
        "computed_tokens",
        "loaded_bytes",
        "admitted_s",
        "loaded_s",
        "load_s",
    )
    return columns | {name: [None] * len(answered) for name in unknown}


def lost(cell: CellSpec, key: Any, reason: str) -> dict[str, Any]:
    """The record of a point of `cell` that could not be measured: invalid, its figures unknown."""
    cell = cell.at(0 if key == SINGLE else key)
    about = {**frame(cell, cell.geometry), "valid": False, "reasons": [reason], "start_s": 0.0, "cell_s": 0.0}
    about |= {"asked": asked(cell).record(), "effective": Effective().record()}
    if key == SINGLE:
        return {**about, "record": "single", "load": None, "samples": []}
    unknown = window_values([], 0.0) | dict.fromkeys(_ENGINE_FIGURES)
    window = StoreWindow(None, cell.data_dir)
    nothing = dict.fromkeys(
        (
            "sent_requests",
            "failed_requests",
            "queried_tokens",
            "hbm_hit_tokens",
            "dram_hit_tokens",
            "store_hit_tokens",
            "hit_tokens",
            "computed_tokens",
            "retrieved_tokens",
            "loaded_bytes",
            "saved_bytes",
            "corrupt_chunks",
            "dropped_chunks",
            "device_share",
            "write_amplification",
            "store_cpu_s_per_gb",
        )
    )
    return {
        **about,
        "gpu_model": None,
        "served_from": "nothing",
        "values": unknown | {"requests": 0, "window_s": None},
        "evidence": {**nothing, **window.evidence()},
        "engine_counters": {},
        "engine_faults": [],
        "store_before": {},
        "store_after": {},
        "notes": [],
        "measured_s": 0.0,
        "requests": columns_of([], 0.0),
    }
