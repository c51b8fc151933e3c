"""What a load of engine `vllm` proves: from AIPerf's records, vLLM's and the store's counters and LMCache's log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ....plugin.lmcache_striped.shape import Device
from ...cells.cell import CellSpec, StoreWindow, gate_evidence
from ...cells.samples import Sample
from ...connectors.gated import curve_in
from ...connectors.vllm_own import OFFLOADING
from ...machine.meters import Energy
from ...records.effective import Effective
from ...records.evidence import Evidence, not_saved, quotient, shape_evidence
from ...records.kinds.cell import Cell, RequestColumns, Single, Values
from ...records.scenario import gated
from ...stores.base import DIRECT
from ...stores.registry import bypasses_processes, has_store, store_class
from ...workloads import Conversation
from . import aiperf
from .lmcache import loads_ahead
from .lmcache_log import Transfers
from .running import asked, framed
from .single import in_process

SINGLE = "single"
_LMCACHES = "LMCache's server"
_WHOSE = {**dict.fromkeys(OFFLOADING, "vLLM's own offloading"), "mooncake": "Mooncake's client"}


def evidence_of(
    cell: CellSpec,
    requests: Sequence[aiperf.Request],
    counted: dict[str, int | None],
    log: Transfers,
    window: StoreWindow,
    io: tuple[int, int],
    energy: Energy,
) -> Evidence:
    """Totals of the run: tokens by source as vLLM counts them, bytes by the store's and the kernel's counters.

    Chunks are not compared byte by byte here (single requests prove that tokens come out right), and no connector inside
    vLLM tells of damaged ones.
    """
    token_bytes = cell.stored_bytes_per_token
    samples = [request.sample for request in requests if request.sample is not None]
    by_store = window.evidence(log.files)
    if cell.scenario.get("connector") in DIRECT:  # by LMCache's process
        by_store |= {"device_read_bytes": by_store["block_read_bytes"]}
    if has_store(cell.scenario) and store_class(cell.scenario["store"]).held_by_engine == "folder":
        by_store |= {"device_read_bytes": io[0], "device_write_bytes": io[1]}
        by_store |= {"served_bytes": counted["tier_read_bytes"], "taken_bytes": counted["tier_written_bytes"]}
    if bypasses_processes(cell.scenario):
        by_store |= {f"device_{way}_bytes": by_store[f"block_{way}_bytes"] for way in ("read", "write")}
    if counted.get("mooncake_disk_bytes") is not None:
        failed = [counted[name] or 0 for name in ("mooncake_failed_loads", "mooncake_failed_saves")]
        by_store |= {
            "served_bytes": counted["mooncake_loaded_bytes"],
            "taken_bytes": counted["mooncake_saved_bytes"],
            "store_errors": sum(failed),
        }
    return Evidence.of(
        sent_requests=len(requests),
        failed_requests=len(requests) - len(samples),
        queried_tokens=sum(sample.prompt_tokens for sample in samples),
        **(tokens := _tokens(cell, counted, window, token_bytes)),
        other_hit_tokens=_other_tokens(cell, tokens["store_hit_tokens"], log),
        retrieved_tokens=log.retrieved_tokens if in_process(cell) else None,
        saved_bytes=_saved_bytes(cell, counted, log),
        **by_store,
        **shape_evidence(log.shape, Device(**(cell.scenario.get("shape") or {}))),
        corrupt_chunks=None,
        damaged_chunks=None,
        dropped_chunks=log.dropped_chunks + _lost_chunks(cell, counted),
        first_use_chunks=log.first_use_chunks,
        **gate_evidence(log.gate),
        cpu_energy_j=energy.cpu,
        gpu_energy_j=energy.gpu,
    )


def _tokens(
    cell: CellSpec, counted: dict[str, int | None], window: StoreWindow, token_bytes: int
) -> dict[str, int | None]:
    """Prompt tokens by source, and the bytes of those that were loaded; all None where vLLM counts no tokens by source.

    A source that has none yet is not on its page.
    """
    sources = [counted[name] for name in ("external_hit_tokens", "hbm_hit_tokens", "computed_tokens")]
    if all(tokens is None for tokens in sources):
        names = ("hbm_hit_tokens", "dram_hit_tokens", "store_hit_tokens", "hit_tokens", "computed_tokens")
        return dict.fromkeys((*names, "loaded_bytes"))
    external, hbm, computed = (tokens or 0 for tokens in sources)
    from_store = _store_tokens(cell, external, counted, window)
    return {
        "hbm_hit_tokens": hbm,
        "dram_hit_tokens": external - from_store,
        "store_hit_tokens": from_store,
        "hit_tokens": hbm + external,
        "computed_tokens": computed,
        "loaded_bytes": (from_store if has_store(cell.scenario) else external) * token_bytes,
    }


def _other_tokens(cell: CellSpec, from_store: int | None, log: Transfers) -> int | None:
    """Of the tokens from the store those that another engine saved: the share of such chunks in all that were loaded, as connector
    striped counts them; None with one engine, and where nobody counts.
    """
    if cell.engines == 1 or from_store is None or (from_store and log.savers is None):
        return None
    return 0 if log.savers is None else round(from_store * log.savers.others / log.savers.loaded)


def _saved_bytes(cell: CellSpec, counted: dict[str, int | None], log: Transfers) -> int | None:
    """Bytes that the engine saved to its store: as LMCache's log has it inside vLLM, as its server or vLLM's offloading counts, which
    counts what the plugin dropped, too. All of them count first uses that the plugin did not save.
    """
    chunk_bytes = cell.scenario["chunk_tokens"] * cell.stored_bytes_per_token
    not_saved = log.first_use_chunks * chunk_bytes
    if in_process(cell):
        return log.stored_tokens * cell.stored_bytes_per_token - not_saved
    if (values := counted["store_saved_chunks"]) is not None and has_store(cell.scenario):
        return values // cell.share.values_per_chunk * chunk_bytes - not_saved
    written = counted["tier_written_bytes"]
    return None if written is None else written - log.dropped_chunks * chunk_bytes - not_saved


def _lost_chunks(cell: CellSpec, counted: Mapping[str, int | None]) -> int:
    """Chunks that were computed and for which LMCache's server had no room; the plugin was never asked to save them."""
    return -(-(counted["lost_keys"] or 0) // cell.share.values_per_chunk)


def without_room(cell: CellSpec, counted: Mapping[str, int | None], log: Transfers) -> list[str]:
    """Lines that say where chunks had no room, and so were not saved."""
    pool = "dram_pool_bytes" if cell.scenario["dram_pool_bytes"] else "vllm.staging_bytes"
    return [
        *not_saved(_lost_chunks(cell, counted), f"LMCache's server had no room for them, raise {pool}"),
        *not_saved(
            log.dropped_chunks, f"as many as half of {pool} holds waited for the store, raise it or save less"
        ),
    ]


def _store_tokens(cell: CellSpec, external: int, counted: dict[str, int | None], window: StoreWindow) -> int:
    """Of the tokens that came from outside HBM those from the store and not from DRAM in front of it: a pool, or the buffer of an
    LMCache server, which may still hold what it is saving.

    By tier as LMCache's server or vLLM's own offloading counts them, at lookups, of which some may not be loaded; where they do
    not (servers before 0.5.5), by the chunks that the server loaded from its store, or by what the store served. What vLLM read
    from its lower tier once and served again is the host's.
    """
    if not has_store(cell.scenario):
        return 0
    if (read := counted.get("mooncake_disk_bytes")) is not None:
        return min(external, read // cell.stored_bytes_per_token)
    share, values, read = cell.share, counted["store_loaded_chunks"], counted["tier_read_bytes"]
    loaded = None if values is None else values // share.values_per_chunk * cell.scenario["chunk_tokens"]
    near, far = _hits_by_tier(counted)
    if near + far:
        tokens = min(far, external * far // (near + far))
        if read is not None:
            return min(tokens, read // cell.stored_bytes_per_token)
        return tokens if loaded is None or counted["store_hit_keys"] else min(tokens, loaded)
    if loaded is not None:
        return min(external, loaded)
    if not cell.scenario["dram_pool_bytes"]:
        return external
    served = window.evidence()["served_bytes"]
    return external if served is None else min(external, served // cell.stored_bytes_per_token)


def _hits_by_tier(counted: Mapping[str, int | None]) -> tuple[int, int]:
    """Tokens that lookups found in the host's memory and in the store; none where nobody counts them.

    An LMCache server credits its buffer with tokens up to the first chunk that is not in it, and the store with all behind: also with
    a chunk that the buffer was still saving and served. Its keys (0.5.6) tell where each was; without them (0.5.5) it is the chunks
    that were loaded from the store which bound the store's.
    """
    buffer, store = counted["dram_hit_tokens"] or 0, counted["store_hit_tokens"] or 0
    held, stored = counted["dram_hit_keys"] or 0, counted["store_hit_keys"] or 0
    if not buffer + store:
        return counted["host_hit_tokens"] or 0, counted["disk_hit_tokens"] or 0
    if not held + stored:
        return buffer, store
    far = (buffer + store) * stored // (held + stored)
    return buffer + store - far, far


def faults_in(
    cell: CellSpec,
    requests: Sequence[aiperf.Request],
    conversations: Sequence[Conversation],
    log: Transfers,
    evidence: Evidence,
    counted: Mapping[str, int | None],
) -> list[str]:
    """Why a cell is invalid beside the general rules: turns not sent, hits not loaded, faults in the logs."""
    found = []
    if missing := aiperf.missing_turns(requests, conversations):
        found.append(f"{len(missing)} turns were not sent, first {missing[0]}")
    if errors := [request.failed for request in requests if request.failed]:
        found.append(f"first failed request: {errors[0]}")
    external, stored, retrieved = _outside(evidence), evidence.store_hit_tokens, evidence.retrieved_tokens
    told = from_buffer(cell, evidence)
    if cell.scenario["tier"] == "ssd" and external and stored is not None and told:
        share = stored / external * min(1.0, evidence.device_share or 0.0)
        if share < cell.spec["evidence"]["device_share_min"]:
            found.append(
                f"{told[0]}, so that the device read {share:.0%} of what hits asked for; dram_pool_bytes makes a pool of it, whose "
                "hits are DRAM's"
            )
    if retrieved is not None and external is not None and retrieved < external:
        found.append(f"vLLM counts {external} tokens as loaded, LMCache loaded {retrieved}")
    if log.savers is not None and stored is not None:
        loaded = log.savers.loaded // cell.share.values_per_chunk * cell.scenario["chunk_tokens"]
        if loaded < stored:
            found.append(
                f"vLLM counts {stored} tokens as loaded from the store, connector striped loaded {loaded}"
            )
        if log.savers.others and len(cell.salts) > 1:
            found.append(
                f"an engine loaded {log.savers.others} values that another saved, and shared is false"
            )
    loads, saves = (counted.get(f"tier_{word}_failures") or 0 for word in ("load", "save"))
    if loads or saves:
        found.append(f"vLLM's offloading failed to load {loads} times and to save {saves} times")
    if log.faults:
        found.append(
            f"errors and time-outs in LMCache's log: {len(log.faults)}, the first: {log.faults[0][:200]}"
        )
    return found


def _outside(evidence: Evidence) -> int | None:
    """Tokens that came from below HBM."""
    return (
        None
        if evidence.dram_hit_tokens is None or evidence.store_hit_tokens is None
        else evidence.dram_hit_tokens + evidence.store_hit_tokens
    )


def from_buffer(cell: CellSpec, evidence: Evidence) -> list[str]:
    """A line when hits came from a buffer before the store, which still had what it was saving; none with a DRAM pool."""
    found = evidence.dram_hit_tokens
    if not found or not has_store(cell.scenario) or cell.scenario["dram_pool_bytes"]:
        return []
    return [
        f"{found} of {_outside(evidence)} hit tokens came from the buffer of {_WHOSE.get(cell.scenario['connector'], _LMCACHES)}"
    ]


def of_gate(cell: CellSpec, log: Transfers) -> list[str]:
    """Lines when a gate left chunks to be computed that were there, and when no single requests told it how long computing takes."""
    found = []
    if log.gate is not None and log.gate.left_chunks:
        found.append(
            f"the gate left {log.gate.left_chunks} of {log.gate.present_chunks} chunks to be computed"
        )
    if gated(cell.scenario) and not curve_in(cell.directory / "engine").exists():
        found.append(
            "no single requests (latency.prompt_tokens) told the gate how long computing takes: it learned that from what it saw"
        )
    return found


def engine_figures(cell: CellSpec, evidence: Evidence, log: Transfers) -> dict[str, float | None]:
    """What the requests' samples do not tell: hits from below HBM, over the whole run, and LMCache's own GB/s."""
    timed = log.retrieve_s and not loads_ahead(cell.scenario)
    loaded, saved = evidence.loaded_bytes, evidence.saved_bytes
    return {
        "external_hit_rate": quotient(_outside(evidence), evidence.queried_tokens),
        "load_gbps": loaded / log.retrieve_s / 1e9 if timed and loaded is not None else None,
        "save_gbps": saved / log.store_s / 1e9 if saved and log.store_s else None,
        "save_stall_s": None,
        "gpu_busy_share": None,
    }


def joules_per_mtoken(evidence: Evidence, samples: Sequence[Sample]) -> float | None:
    """Of all that is known of the machine's energy, over prompt and answer tokens; None when nothing is."""
    known = [joules for joules in (evidence.cpu_energy_j, evidence.gpu_energy_j) if joules is not None]
    tokens = sum(sample.prompt_tokens + sample.answer_tokens for sample in samples)
    return sum(known) * 1e6 / tokens if known and tokens else None


def columns_of(requests: Sequence[aiperf.Request], window_s: float) -> RequestColumns:
    """The requests that were answered, in order of arrival; vLLM tells sources of tokens of all of them together only."""
    answered = [(request, request.sample) for request in requests if request.sample is not None]
    unknown: dict[str, Any] = dict.fromkeys(RequestColumns.model_fields, [None] * len(answered))
    return RequestColumns.model_validate(
        unknown
        | {
            "conversation": [request.conversation for request, _ in answered],
            "turn": [request.turn for request, _ in answered],
            **{
                name: [getattr(sample, name) for _, sample in answered]
                for name in ("prompt_tokens", "answer_tokens", "hit_tokens")
            },
            **{
                name: [round(getattr(sample, name), 6) for _, sample in answered]
                for name in ("arrival_s", "first_token_s", "finish_s")
            },
            "in_window": [sample.arrival_s < window_s for _, sample in answered],
        }
    )


def lost(cell: CellSpec, key: Any, reason: str) -> Cell | Single:
    """The record of a point of `cell` that could not be measured: invalid, its figures unknown."""
    about = {**framed(cell), "valid": False, "reasons": [reason], "start_s": 0.0, "cell_s": 0.0}
    about |= {"asked": asked(cell), "effective": Effective()}
    if key == SINGLE:
        return Single(**about, samples=[])
    return Cell(
        **about,
        load=key,
        gpu_model=None,
        served_from="nothing",
        values=Values.model_validate({**dict.fromkeys(Values.model_fields), "requests": 0}),
        evidence=Evidence.unknown(),
        engine_counters={},
        engine_faults=[],
        store_before={},
        store_after={},
        notes=[],
        measured_s=0.0,
        requests=columns_of([], 0.0),
    )
