"""Cells of engine `replay`: each load on a fresh store, with its evidence."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from ....plugin.lmcache_striped.file_counts import FileCounts
from ....plugin.lmcache_striped.gate import Gate
from ....plugin.lmcache_striped.gate_settings import warm_bytes
from ....plugin.lmcache_striped.shape import Device
from ...base.errors import UserError
from ...cells.cell import CellSpec, StoreWindow, frame, gate_evidence
from ...cells.samples import window_values
from ...models.geometry import Geometry
from ...models.gpu import GpuModel, load_gpu
from ...records.effective import Effective, asked_of
from ...records.evidence import Evidence, judge, shape_evidence
from ...records.kinds.cell import Cell, RequestColumns, Values
from ...records.scenario import gated
from ...workloads import Conversation, longest_context
from ...workloads.chunks import chain_keys
from ...workloads.context_limit import ContextLimit, check_context
from ...workloads.factory import make_workload, workload_notes
from .clients import Clients, by_conversation, by_request
from .engine import ReplayEngine
from .gating import Gating, curve_points
from .opening import once, real_tiers, start_tiers
from .request import KeyedConversation, ReplayResult, ReplaySettings, VirtualClock
from .tiers import RealTiers, Tier


class Measurement:
    """One scenario x repeat; a point is a load. A context manager, open while its points are measured."""

    def __init__(self, spec: dict[str, Any], repeat: int, logs: Path):
        self._spec, self._repeat, self._logs = spec, repeat, logs

    def __enter__(self) -> Measurement:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing is open between two cells."""

    def measure(self, key: int) -> Cell:
        """The record of the cell at load `key`."""
        return measure_cell(CellSpec(self._spec, key, self._repeat, self._logs))


def points(spec: dict[str, Any]) -> list[Any]:
    """What a job of this scenario measures, in order: its loads."""
    return list(spec["loads"])


def measure_cell(cell: CellSpec) -> Cell:
    """Measure one cell and return its record.

    Raises UserError, StoreError or StoreDied; then nothing of the cell is left running or on disk.
    """
    started = time.perf_counter()
    geometry = cell.geometry
    gpu = load_gpu(Path(cell.spec["gpu"]), geometry, cell.share.ranks)
    conversations = make_workload(cell.spec["workload"], cell.seed)
    _check_context(cell, geometry, conversations)
    with contextlib.ExitStack() as stack:
        cell = cell.with_folder(stack)
        each, start_s = start_tiers(cell, conversations, stack)
        clock = VirtualClock()
        below = [real_tiers(cell, conversations, levels) if levels else None for levels in each]
        gatings = [_gating(cell, gpu, tiers, clock) for tiers in below]
        measuring = time.perf_counter()
        window = StoreWindow([levels[-1].store for levels in each if levels], cell.data_dir)
        window.begin()
        result = _replay(cell, gpu, conversations, below, gatings, clock)
        window.end()
        measured_s = time.perf_counter() - measuring
    evidence = _evidence(cell, result, window, each, gatings)
    verdict = judge(cell.scenario["tier"], evidence, cell.spec["evidence"]["device_share_min"])
    ran = asked(cell, geometry)
    return Cell(
        **frame(cell, geometry),
        load=cell.load,
        gpu_model=gpu.as_record(),
        asked=ran,
        effective=ran,
        valid=verdict.valid,
        reasons=list(verdict.reasons),
        served_from=verdict.served_from,
        values=_values(cell, result, evidence),
        evidence=evidence,
        engine_counters={},
        engine_faults=[],
        store_before=window.details_before,
        store_after=window.details_after,
        notes=[
            *window.notes_of(evidence),
            *_connector_notes(each),
            *(gating.told for gating in gatings if gating is not None),
            *workload_notes(cell.spec["workload"]),
        ],
        start_s=start_s,
        measured_s=measured_s,
        cell_s=time.perf_counter() - started,
        requests=_samples(result),
    )


def asked(cell: CellSpec, geometry: Geometry) -> Effective:
    """What the scenario asks for, which is what this engine does."""
    settings, per_token = cell.spec["replay"], geometry.kv_bytes_per_token
    return asked_of(cell.scenario, settings, geometry.kv_dtype, per_token, cell.share.ranks)


def _check_context(cell: CellSpec, geometry: Geometry, conversations: Sequence[Conversation]) -> None:
    longest = longest_context(conversations)
    chunk = cell.scenario["chunk_tokens"]
    if chunk > longest:
        raise UserError(
            f"scenario {cell.scenario['name']}: chunk_tokens {chunk} exceeds the workload's longest context "
            f"({longest} tokens), so nothing would ever be cached; lower it"
        )
    check_context(cell.spec["workload"], longest, ContextLimit.of(geometry))


def _gating(cell: CellSpec, gpu: GpuModel, tiers: RealTiers | None, clock: VirtualClock) -> Gating | None:
    """The scenario's gate before its store, with the modelled GPU's curve and the config's SLO; None without one."""
    if tiers is None or not gated(cell.scenario):
        return None
    chunk_tokens, slo_ms = cell.scenario["chunk_tokens"], cell.spec["slo"]["ttft_ms"]
    gate = Gate(
        cell.scenario["gate"],
        chunk_tokens,
        clock,
        curve_points(gpu, cell.spec["replay"]["max_num_batched_tokens"]),
        tiers.chunk_bytes,
        warm_bytes() if cell.scenario["page_cache"] == "keep" else 0,
        slo_s=None if slo_ms is None else slo_ms / 1e3,
    )
    return Gating(gate, tiers, chunk_tokens)


def damaged_chunks(tiers: Sequence[Tier]) -> int | None:
    """Loads that a connector took for a miss because the chunk's stripes did not prove it; None where none tells."""
    told = [getattr(tier.connector, "damaged_chunks", None) for tier in tiers]
    known = [count for count in told if count is not None]
    return sum(known) if known else None


def _file_counts(tiers: Sequence[Tier]) -> FileCounts | None:
    """What connector direct read from files, and what it did not; None for the others."""
    return getattr(tiers[-1].connector, "file_counts", None) if tiers else None


def _shape(tiers: Sequence[Tier]) -> dict[str, float | None]:
    """What the store's connector counted of its calls, and how far they were held to a shaped device."""
    if not tiers:
        return shape_evidence(None, Device())
    shape = tiers[-1].connector.shape
    return shape_evidence(shape.counts, shape.device)


def _connector_notes(each: Sequence[Sequence[Tier]]) -> list[str]:
    return [
        line
        for tier in once(each)
        for name in ("notes", "bound_notes")
        for line in getattr(tier.connector, name, [])
    ]


def _replay(
    cell: CellSpec,
    gpu: GpuModel,
    conversations: Sequence[Conversation],
    below: Sequence[RealTiers | None],
    gatings: Sequence[Gating | None],
    clock: VirtualClock,
) -> ReplayResult:
    settings, scenario = cell.spec["replay"], cell.scenario
    block = settings["block_tokens"]
    own = ReplaySettings(
        block_tokens=block,
        hbm_blocks=settings["hbm_kv_bytes"] // (cell.share.hbm_bytes_per_token * block),
        chunk_tokens=scenario["chunk_tokens"],
        max_num_batched_tokens=settings["max_num_batched_tokens"],
        max_num_seqs=settings["max_num_seqs"],
        staging_bytes=settings["staging_bytes"],
        staging_full=settings["staging_full"],
        save_decode_cache=scenario["save_decode_cache"],
        prefix_caching=settings["prefix_caching"],
    )
    named = [_keyed(conversations, block, salt) for salt in cell.salts]
    engines = [
        ReplayEngine(keyed, gpu, own, tiers, gating, clock)
        for keyed, tiers, gating in zip(cycle(named), below, gatings)
    ]
    turns = [len(item.turns) for item in conversations]
    route = (by_request if cell.scenario.get("routing") == "request" else by_conversation)(cell.engines)
    active = cell.spec["active_conversations"]
    return Clients(engines, turns, int(cell.load), clock, active, route=route).run()


def _keyed(conversations: Sequence[Conversation], block: int, salt: bytes) -> list[KeyedConversation]:
    return [KeyedConversation(item, chain_keys(item.tokens, block, salt)) for item in conversations]


def _evidence(
    cell: CellSpec,
    result: ReplayResult,
    window: StoreWindow,
    each: Sequence[Sequence[Tier]],
    gatings: Sequence[Gating | None],
) -> Evidence:
    """Whole-run totals: tokens by source, bytes by counter, faults."""
    requests, totals, tiers = result.requests, result.totals, once(each)
    first_uses = sum(own.uses.first_uses for levels in each for own in levels if own.uses is not None)
    others = sum(request.other_hit_tokens for request in requests)
    hits = {
        "hbm_hit_tokens": sum(request.hbm_hit_tokens for request in requests),
        "dram_hit_tokens": sum(request.tier_hit_tokens.get("dram", 0) for request in requests),
        "store_hit_tokens": sum(request.tier_hit_tokens.get("store", 0) for request in requests),
    }
    return Evidence.of(
        sent_requests=len(requests),
        failed_requests=sum(request.finish_s is None for request in requests),
        queried_tokens=sum(request.prompt_tokens for request in requests),
        **hits,
        hit_tokens=sum(hits.values()),
        other_hit_tokens=others if cell.engines > 1 else None,
        computed_tokens=sum(request.computed_tokens for request in requests),
        retrieved_tokens=None,
        loaded_bytes=sum(request.loaded_bytes for request in requests),
        saved_bytes=totals.saved_bytes - first_uses * cell.share.stored_bytes(cell.scenario["chunk_tokens"]),
        **window.evidence(_file_counts(tiers)),
        **_shape(tiers),
        corrupt_chunks=totals.corrupt_chunks,
        damaged_chunks=damaged_chunks(tiers),
        dropped_chunks=totals.dropped_chunks,
        first_use_chunks=first_uses,
        **gate_evidence(None if gatings[0] is None else gatings[0].counts),
        cpu_energy_j=None,
        gpu_energy_j=None,
    )


def _values(cell: CellSpec, result: ReplayResult, evidence: Evidence) -> Values:
    """The cell's figures, over requests that arrived in the measured window."""
    totals, loaded, saved = result.totals, evidence.loaded_bytes, evidence.saved_bytes
    return Values.model_validate(
        window_values(
            [request.sample for request in result.requests], result.window_s, cell.spec["slo"], cell.gpus
        )
        | {
            "load_gbps": loaded / totals.load_s / 1e9 if totals.load_s and loaded is not None else None,
            "save_gbps": saved / totals.save_s / 1e9 if totals.save_s and saved is not None else None,
            "save_stall_s": totals.save_stall_s,
            "gpu_busy_share": totals.gpu_busy_s
            / max(r.sample.finish_s for r in result.requests)
            / cell.engines,
            "energy_j_per_mtoken": None,
        }
    )


def _samples(result: ReplayResult) -> RequestColumns:
    """The requests in order of arrival; times in seconds of virtual time."""
    tokens = ("prompt_tokens", "answer_tokens", "hbm_hit_tokens", "computed_tokens", "loaded_bytes")
    times = ("arrival_s", "admitted_s", "loaded_s", "load_s", "first_token_s", "finish_s")
    requests = result.requests
    return RequestColumns(
        **{
            name: [getattr(r, name) for r in requests] for name in ("conversation", "turn", "client", *tokens)
        },
        **{name: [round(getattr(r, name), 6) for r in requests] for name in times},
        hit_tokens=[r.sample.hit_tokens for r in requests],
        dram_hit_tokens=[r.tier_hit_tokens.get("dram", 0) for r in requests],
        store_hit_tokens=[r.tier_hit_tokens.get("store", 0) for r in requests],
        in_window=[r.arrival_s < result.window_s for r in requests],
    )
