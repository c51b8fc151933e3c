"""One cell: scenario x load x repeat, measured on a fresh store, with its evidence."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from .chunks import chain_keys
from .connectors.registry import make_connector
from .engines.gpu import GpuModel, load_gpu
from .engines.replay import KeyedConversation, ReplayEngine, ReplayResult, ReplaySettings, Request
from .engines.tiers import RealTiers, Tier
from .errors import UserError
from .evidence import device_share, judge, quotient
from .geometry import Geometry, load_geometry
from .journal import canonical_digest
from .machine import environment
from .payload import Payload
from .stores.base import Counters, Store, StoreConfig, prepare_directory
from .stores.counters import block_device_bytes
from .stores.registry import make_store
from .workloads import Conversation, longest_context, repeat_seed
from .workloads.factory import make_workload

SCHEMA_VERSION = 1
_SPACE_FACTOR = 2.0  # a log-structured store holds a value twice while it compacts


@dataclass(frozen=True)
class CellSpec:
    """A cell's complete configuration.

    spec: the scenario's slice of the config. load: clients. repeat: from 1. logs: folder for servers' output.
    """

    spec: dict[str, Any]
    load: int
    repeat: int
    logs: Path

    @property
    def scenario(self) -> dict[str, Any]:
        """The scenario's own keys."""
        return self.spec["scenario"]

    @property
    def seed(self) -> int:
        """The workload's seed."""
        return repeat_seed(self.spec["seed"], self.repeat)

    @property
    def directory(self) -> Path:
        """Where this cell's stores put their files."""
        return Path(self.spec["data_dir"]) / f"{self.scenario['name']}-{self.repeat}"


@dataclass
class _Pair:
    """A store's counters before and after, and the block device's."""

    before: Counters | None = None
    after: Counters | None = None
    block: tuple[int, int] | None = None


def measure_cell(cell: CellSpec) -> dict[str, Any]:
    """Measure one cell and return its record (columns.yaml says what is in it).

    Raises UserError, StoreError or StoreDied; then nothing of the cell is left running or on disk.
    """
    started = time.perf_counter()
    geometry = load_geometry(Path(cell.spec["model"]), cell.spec["kv_dtype"])
    gpu = load_gpu(Path(cell.spec["gpu"]), geometry)
    conversations = make_workload(cell.spec["workload"], cell.seed)
    _check_context(cell, geometry, conversations)
    try:
        with contextlib.ExitStack() as stack:
            prepare_directory(cell.directory.parent)
            tiers, store, start_s = _start_tiers(cell, geometry, conversations, stack)
            measuring = time.perf_counter()
            pair = _Pair(before=store.counters() if store else None)
            block_before = block_device_bytes(cell.directory.parent) if store else None
            notes: list[str] = []
            result = _replay(cell, geometry, gpu, conversations, tiers)
            if store is not None:
                store.check_alive()
                pair.after = store.counters()
                notes = store.notes()
                block_after = block_device_bytes(cell.directory.parent)
                if block_before and block_after:
                    pair.block = (block_after[0] - block_before[0], block_after[1] - block_before[1])
            measured_s = time.perf_counter() - measuring
    finally:
        shutil.rmtree(cell.directory, ignore_errors=True)
    evidence = _evidence(cell, result, pair)
    verdict = judge(cell.scenario["tier"], evidence, cell.spec["evidence"]["device_share_min"])
    return {
        "schema_version": SCHEMA_VERSION,
        "record": "cell",
        "engine": cell.spec["engine"],
        "scenario": cell.scenario["name"],
        "load": cell.load,
        "repeat": cell.repeat,
        "seed": cell.seed,
        "spec_digest": canonical_digest(cell.spec),
        "spec": cell.spec,
        "model": geometry.name,
        "kv_bytes_per_token": geometry.kv_bytes_per_token,
        "chunk_bytes": geometry.chunk_bytes(cell.scenario["chunk_tokens"]),
        "gpu_model": gpu.as_record(),
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "valid": verdict.valid,
        "reasons": list(verdict.reasons),
        "served_from": verdict.served_from,
        "values": _values(result, evidence),
        "evidence": evidence,
        "store_before": pair.before.details if pair.before else {},
        "store_after": pair.after.details if pair.after else {},
        "notes": notes,
        "start_s": start_s,
        "measured_s": measured_s,
        "cell_s": time.perf_counter() - started,
        "requests": _samples(result),
        "environment": environment(Path(cell.spec["data_dir"])),
    }


def _check_context(cell: CellSpec, geometry: Geometry, conversations: Sequence[Conversation]) -> None:
    longest = longest_context(conversations)
    chunk = cell.scenario["chunk_tokens"]
    if chunk > longest:
        raise UserError(
            f"scenario {cell.scenario['name']}: chunk_tokens {chunk} exceeds the workload's longest context "
            f"({longest} tokens), so nothing would ever be cached; lower it"
        )
    if longest > geometry.max_context_tokens:
        raise UserError(
            f"workload: a context of {longest} tokens exceeds {geometry.name}'s {geometry.max_context_tokens}; "
            f"set workload.max_context_tokens"
        )


def _start_tiers(
    cell: CellSpec, geometry: Geometry, conversations: Sequence[Conversation], stack: contextlib.ExitStack
) -> tuple[RealTiers | None, Store | None, float]:
    """The tiers below HBM, the store at the bottom, and the seconds spent starting them."""
    scenario = cell.scenario
    if scenario["tier"] == "none":
        return None, None, 0.0
    started = time.perf_counter()
    value_bytes = geometry.chunk_bytes(scenario["chunk_tokens"])
    tokens = sum(conversation.turns[-1].answer_end for conversation in conversations)
    longest = longest_context(conversations)
    _check_room(cell, tokens * geometry.kv_bytes_per_token)
    pool_bytes = scenario["dram_pool_bytes"]
    tiers = []
    if scenario["store"] != "dram" and pool_bytes:
        tiers.append(_open_tier("dram", "dram", "inprocess", cell, value_bytes, pool_bytes, stack))
    capacity = pool_bytes if scenario["store"] == "dram" else scenario["capacity_bytes"]
    name = "dram" if scenario["store"] == "dram" else "store"
    bottom = _open_tier(
        name,
        scenario["store"],
        scenario["connector"],
        cell,
        value_bytes,
        capacity,
        stack,
        scenario["settings"],
    )
    tiers.append(bottom)
    payload = Payload(value_bytes, cell.seed)
    return (
        RealTiers(tiers, payload, longest // scenario["chunk_tokens"]),
        bottom.store,
        time.perf_counter() - started,
    )


def _open_tier(
    name: str,
    store_name: str,
    connector_name: str,
    cell: CellSpec,
    value_bytes: int,
    capacity_bytes: int | None,
    stack: contextlib.ExitStack,
    settings: dict[str, Any] | None = None,
) -> Tier:
    config = StoreConfig(
        directory=cell.directory / store_name,
        value_bytes=value_bytes,
        log=cell.logs / f"{cell.scenario['name']}-{cell.repeat}-{store_name}.log",
        capacity_bytes=capacity_bytes,
        port=cell.scenario["port"] if name == "store" else 0,
        settings=settings or {},
        environment=cell.scenario["environment"] if name == "store" else {},
        ignored_settings=tuple(cell.scenario["ignored_settings"]),
    )
    store = stack.enter_context(make_store(store_name, config))
    timeout_s = cell.scenario["timeout_s"]
    connector = stack.enter_context(
        make_connector(connector_name, store, cell.scenario["connections"], timeout_s)
    )
    return Tier(name, store, connector, evict=cell.scenario["page_cache"] == "evict")


def _check_room(cell: CellSpec, working_set_bytes: int) -> None:
    """Refuse a cell whose working set cannot fit on the disk or in memory, before anything is measured."""
    if cell.scenario["tier"] == "ssd":
        free, needed = shutil.disk_usage(cell.directory.parent).free, working_set_bytes * _SPACE_FACTOR
        where, mend = (
            f"on the disk of {cell.directory.parent}",
            "choose another data_dir or a smaller workload",
        )
    else:
        needed = min(working_set_bytes, cell.scenario["dram_pool_bytes"] or working_set_bytes)
        free = psutil.virtual_memory().available
        where, mend = "in memory", "lower dram_pool_bytes or take a smaller workload"
    if needed > free:
        raise UserError(
            f"scenario {cell.scenario['name']}: about {needed / 1e9:.1f} GB needed {where}, {free / 1e9:.1f} GB "
            f"free; {mend}"
        )


def _replay(
    cell: CellSpec,
    geometry: Geometry,
    gpu: GpuModel,
    conversations: Sequence[Conversation],
    tiers: RealTiers | None,
) -> ReplayResult:
    settings, scenario = cell.spec["replay"], cell.scenario
    block = settings["block_tokens"]
    engine = ReplayEngine(
        [KeyedConversation(item, chain_keys(item.tokens, block)) for item in conversations],
        cell.load,
        gpu,
        ReplaySettings(
            block_tokens=block,
            hbm_blocks=settings["hbm_kv_bytes"] // (geometry.kv_bytes_per_token * block),
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
    )
    return engine.run()


def _evidence(cell: CellSpec, result: ReplayResult, pair: _Pair) -> dict[str, Any]:
    """Whole-run totals: tokens by source, bytes by counter, faults."""
    requests, totals = result.requests, result.totals
    hits = {
        "hbm_hit_tokens": sum(request.hbm_hit_tokens for request in requests),
        "dram_hit_tokens": sum(request.tier_hit_tokens.get("dram", 0) for request in requests),
        "store_hit_tokens": sum(request.tier_hit_tokens.get("store", 0) for request in requests),
    }
    counted = pair.after.minus(pair.before) if pair.before and pair.after else {}
    evidence: dict[str, Any] = {
        "sent_requests": len(requests),
        "failed_requests": sum(request.finish_s is None for request in requests),
        "queried_tokens": sum(request.prompt_tokens for request in requests),
        **hits,
        "hit_tokens": sum(hits.values()),
        "computed_tokens": sum(request.computed_tokens for request in requests),
        "loaded_bytes": sum(request.loaded_bytes for request in requests),
        "saved_bytes": totals.saved_bytes,
        "served_bytes": counted.get("served_bytes"),
        "taken_bytes": counted.get("taken_bytes"),
        "store_hits": counted.get("hits"),
        "store_misses": counted.get("misses"),
        "device_read_bytes": counted.get("device_read_bytes"),
        "device_write_bytes": counted.get("device_write_bytes"),
        "block_read_bytes": pair.block[0] if pair.block else None,
        "block_write_bytes": pair.block[1] if pair.block else None,
        "store_cpu_s": counted.get("cpu_s"),
        "store_rss_bytes": counted.get("rss_bytes"),
        "store_page_faults": counted.get("page_faults"),
        "corrupt_chunks": totals.corrupt_chunks,
        "dropped_chunks": totals.dropped_chunks,
        "store_errors": pair.after.details.get("background_errors") if pair.after else None,
    }
    moved = evidence["loaded_bytes"] + evidence["saved_bytes"]
    return evidence | {
        "device_share": device_share(evidence),
        "write_amplification": quotient(evidence["device_write_bytes"], evidence["saved_bytes"]),
        "store_cpu_s_per_gb": quotient(evidence["store_cpu_s"], moved / 1e9),
    }


def _values(result: ReplayResult, evidence: dict[str, Any]) -> dict[str, float | None]:
    """The cell's figures, over requests that arrived in the measured window; see columns.yaml."""
    window = [request for request in result.requests if request.arrival_s < result.window_s]
    finished = sum(_finish(request) <= result.window_s for request in window)
    ttft_ms = [1e3 * (_first(request) - request.arrival_s) for request in window]
    itl_ms = [1e3 * (_finish(r) - _first(r)) / (r.answer_tokens - 1) for r in window if r.answer_tokens > 1]
    busy_s = sum(_finish(request) - request.arrival_s for request in window)
    prompt = sum(request.prompt_tokens for request in window)
    hits = sum(request.hbm_hit_tokens + sum(request.tier_hit_tokens.values()) for request in window)
    external = sum(sum(request.tier_hit_tokens.values()) for request in window)
    totals = result.totals
    return {
        "requests": len(window),
        "window_s": result.window_s,
        "rps_per_gpu": finished / result.window_s if result.window_s else None,
        "tps_per_user": sum(request.answer_tokens for request in window) / busy_s if busy_s else None,
        "ttft_p50_ms": _percentile(ttft_ms, 50),
        "ttft_p95_ms": _percentile(ttft_ms, 95),
        "itl_p50_ms": _percentile(itl_ms, 50),
        "hit_rate": hits / prompt if prompt else None,
        "external_hit_rate": external / prompt if prompt else None,
        "load_gbps": evidence["loaded_bytes"] / totals.load_s / 1e9 if totals.load_s else None,
        "save_gbps": evidence["saved_bytes"] / totals.save_s / 1e9 if totals.save_s else None,
        "save_stall_s": totals.save_stall_s,
        "gpu_busy_share": totals.gpu_busy_s / max(_finish(r) for r in result.requests),
    }


def _first(request: Request) -> float:
    assert request.first_token_s is not None
    return request.first_token_s


def _finish(request: Request) -> float:
    assert request.finish_s is not None
    return request.finish_s


def _percentile(values: list[float], percent: float) -> float | None:
    return float(np.percentile(values, percent)) if values else None


def _samples(result: ReplayResult) -> dict[str, list[Any]]:
    """One list per column, one entry per request, in order of arrival; times in seconds of virtual time."""
    columns: dict[str, list[Any]] = {
        name: [getattr(request, name) for request in result.requests]
        for name in ("conversation", "turn", "client", "prompt_tokens", "answer_tokens", "hbm_hit_tokens")
    }
    columns["dram_hit_tokens"] = [r.tier_hit_tokens.get("dram", 0) for r in result.requests]
    columns["store_hit_tokens"] = [r.tier_hit_tokens.get("store", 0) for r in result.requests]
    for name in ("computed_tokens", "loaded_bytes"):
        columns[name] = [getattr(request, name) for request in result.requests]
    for name in ("arrival_s", "admitted_s", "loaded_s", "load_s", "first_token_s", "finish_s"):
        columns[name] = [round(getattr(request, name), 6) for request in result.requests]
    columns["in_window"] = [request.arrival_s < result.window_s for request in result.requests]
    return columns
