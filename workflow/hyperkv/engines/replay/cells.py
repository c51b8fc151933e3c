"""Cells of engine `replay`: each load on a fresh store, with its evidence."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ....plugin.lmcache_striped.file_counts import FileCounts
from ....plugin.lmcache_striped.gate import Gate
from ....plugin.lmcache_striped.gate_settings import warm_bytes
from ....plugin.lmcache_striped.second_use import SecondUse
from ...base.errors import UserError
from ...cells.cell import CellSpec, StoreWindow, check_room, frame, gate_evidence, open_store
from ...cells.samples import Sample, window_values
from ...connectors.gated import gated
from ...connectors.registry import make_connector, options_of
from ...models.geometry import Geometry
from ...models.gpu import GpuModel, load_gpu
from ...records.effective import Effective, asked_of
from ...records.evidence import Evidence, judge, shape_evidence
from ...records.kinds.cell import Cell, RequestColumns, Values
from ...stores.registry import store_class
from ...workloads import Conversation, longest_context
from ...workloads.chunks import chain_keys
from ...workloads.context_limit import ContextLimit, check_context
from ...workloads.factory import make_workload, workload_notes
from ...workloads.payload import Payload
from ...workloads.working_set import working_set
from .engine import ReplayEngine
from .gating import Gating, curve_points
from .request import KeyedConversation, ReplayResult, ReplaySettings, Request, VirtualClock
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
    gpu = load_gpu(Path(cell.spec["gpu"]), geometry, cell.gpus)
    conversations = make_workload(cell.spec["workload"], cell.seed)
    _check_context(cell, geometry, conversations)
    with contextlib.ExitStack() as stack:
        cell = cell.with_folder(stack)
        levels, start_s = _start_tiers(cell, conversations, stack)
        tiers = _real_tiers(cell, conversations, levels) if levels else None
        store = levels[-1].store if levels else None
        clock = VirtualClock()
        gating = _gating(cell, gpu, tiers, clock)
        measuring = time.perf_counter()
        window = StoreWindow(store, cell.data_dir)
        window.begin()
        result = _replay(cell, gpu, conversations, tiers, gating, clock)
        window.end()
        measured_s = time.perf_counter() - measuring
    evidence = _evidence(cell, result, window, levels, gating)
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
        values=_values(result, evidence, cell.spec["slo"], cell.gpus),
        evidence=evidence,
        engine_counters={},
        engine_faults=[],
        store_before=window.details_before,
        store_after=window.details_after,
        notes=[
            *window.notes_of(evidence),
            *_connector_notes(levels),
            *([] if gating is None else [gating.told]),
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
    return asked_of(cell.scenario, settings, geometry.kv_dtype, per_token, cell.gpus)


def _check_context(cell: CellSpec, geometry: Geometry, conversations: Sequence[Conversation]) -> None:
    longest = longest_context(conversations)
    chunk = cell.scenario["chunk_tokens"]
    if chunk > longest:
        raise UserError(
            f"scenario {cell.scenario['name']}: chunk_tokens {chunk} exceeds the workload's longest context "
            f"({longest} tokens), so nothing would ever be cached; lower it"
        )
    check_context(cell.spec["workload"], longest, ContextLimit.of(geometry))


def saved_bytes(cell: CellSpec, conversations: Sequence[Conversation]) -> int:
    """What the scenario's store is given to keep: the working set of its workload."""
    chunk = cell.scenario["chunk_tokens"]
    return working_set(
        conversations, cell.share.stored_bytes(chunk), chunk, cell.scenario["save_decode_cache"]
    )


def _start_tiers(
    cell: CellSpec, conversations: Sequence[Conversation], stack: contextlib.ExitStack
) -> tuple[list[Tier], float]:
    """The tiers below HBM, the scenario's own store last, and the seconds spent starting them."""
    scenario = cell.scenario
    if scenario["tier"] == "none":
        return [], 0.0
    started = time.perf_counter()
    value_bytes = cell.share.stored_bytes(scenario["chunk_tokens"])
    saved = saved_bytes(cell, conversations)
    check_room(cell, saved)

    def tier(name: str, store: str, connector: str, capacity_bytes: int | None, bottom: bool) -> Tier:
        uses = SecondUse() if bottom and scenario.get("save") == "second_use" else None
        opened = open_store(cell, store, value_bytes, capacity_bytes, stack, bottom)
        if bottom:
            opened.require_room(saved)
        options = options_of(connector, scenario) if bottom else {}
        made = make_connector(connector, opened, scenario["connections"], scenario["timeout_s"], **options)
        evicts = scenario["page_cache"] == "evict"
        return Tier(name, opened, stack.enter_context(made), evicts, uses)

    own = store_class(scenario["store"])
    is_pool, pool_bytes = own.held_by_engine == "pool", scenario["dram_pool_bytes"]
    tiers = [] if is_pool or not pool_bytes else [tier("dram", "dram", "inprocess", pool_bytes, False)]
    bound = scenario[own.bound_key] if own.bound_key else None
    word = "dram" if is_pool else "store"
    tiers.append(tier(word, scenario["store"], scenario["connector"], bound, True))
    return tiers, time.perf_counter() - started


def _real_tiers(cell: CellSpec, conversations: Sequence[Conversation], tiers: Sequence[Tier]) -> RealTiers:
    chunk_tokens = cell.scenario["chunk_tokens"]
    payload = Payload(cell.share.stored_bytes(chunk_tokens), cell.seed)
    return RealTiers(tiers, payload, longest_context(conversations) // chunk_tokens)


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
        return shape_evidence(None, False)
    shape = tiers[-1].connector.shape
    return shape_evidence(shape.counts, shape.device.is_stated)


def _connector_notes(tiers: Sequence[Tier]) -> list[str]:
    return [
        line
        for tier in tiers
        for name in ("notes", "bound_notes")
        for line in getattr(tier.connector, name, [])
    ]


def _replay(
    cell: CellSpec,
    gpu: GpuModel,
    conversations: Sequence[Conversation],
    tiers: RealTiers | None,
    gating: Gating | None,
    clock: VirtualClock,
) -> ReplayResult:
    settings, scenario = cell.spec["replay"], cell.scenario
    block = settings["block_tokens"]
    engine = ReplayEngine(
        [KeyedConversation(item, chain_keys(item.tokens, block)) for item in conversations],
        cell.load,
        gpu,
        ReplaySettings(
            block_tokens=block,
            hbm_blocks=settings["hbm_kv_bytes"] // (cell.share.hbm_bytes_per_token * block),
            chunk_tokens=scenario["chunk_tokens"],
            max_num_batched_tokens=settings["max_num_batched_tokens"],
            max_num_seqs=settings["max_num_seqs"],
            staging_bytes=settings["staging_bytes"],
            staging_full=settings["staging_full"],
            save_decode_cache=scenario["save_decode_cache"],
            prefix_caching=settings["prefix_caching"],
        ),
        tiers,
        cell.spec["active_conversations"],
        gating,
        clock,
    )
    return engine.run()


def _evidence(
    cell: CellSpec,
    result: ReplayResult,
    window: StoreWindow,
    tiers: Sequence[Tier],
    gating: Gating | None,
) -> Evidence:
    """Whole-run totals: tokens by source, bytes by counter, faults."""
    requests, totals = result.requests, result.totals
    first_uses = sum(tier.uses.first_uses for tier in tiers if tier.uses is not None)
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
        **gate_evidence(None if gating is None else gating.counts),
        cpu_energy_j=None,
        gpu_energy_j=None,
    )


def _values(result: ReplayResult, evidence: Evidence, slo: dict[str, float | None], gpus: int) -> Values:
    """The cell's figures, over requests that arrived in the measured window."""
    totals, loaded, saved = result.totals, evidence.loaded_bytes, evidence.saved_bytes
    return Values.model_validate(
        window_values([_sample(request) for request in result.requests], result.window_s, slo, gpus)
        | {
            "load_gbps": loaded / totals.load_s / 1e9 if totals.load_s and loaded is not None else None,
            "save_gbps": saved / totals.save_s / 1e9 if totals.save_s and saved is not None else None,
            "save_stall_s": totals.save_stall_s,
            "gpu_busy_share": totals.gpu_busy_s / max(_finish(r) for r in result.requests),
            "energy_j_per_mtoken": None,
        }
    )


def _sample(request: Request) -> Sample:
    external = sum(request.tier_hit_tokens.values())
    assert request.first_token_s is not None
    return Sample(
        arrival_s=request.arrival_s,
        first_token_s=request.first_token_s,
        finish_s=_finish(request),
        prompt_tokens=request.prompt_tokens,
        answer_tokens=request.answer_tokens,
        hit_tokens=request.hbm_hit_tokens + external,
        external_hit_tokens=external,
    )


def _finish(request: Request) -> float:
    assert request.finish_s is not None
    return request.finish_s


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
        hit_tokens=[_sample(r).hit_tokens for r in requests],
        dram_hit_tokens=[r.tier_hit_tokens.get("dram", 0) for r in requests],
        store_hit_tokens=[r.tier_hit_tokens.get("store", 0) for r in requests],
        in_window=[r.arrival_s < result.window_s for r in requests],
    )
