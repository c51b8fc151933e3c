"""What the requests of a cell of engine vllm do, played by engine replay with a modelled device in the store's place: no GPU, no store.

A pool is that of the scenario's connector: of LMCache's server by its rule, which goes by the second (engines/replay/pools.py), any other the ideal LRU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...plugin.lmcache_striped.gate import OFF, Gate
from ..base.errors import UserError
from ..cells.cell import CellSpec
from ..cells.samples import window_values
from ..engines.replay.clients import replay
from ..engines.replay.gating import Gating, curve_points
from ..engines.replay.modelled import Device
from ..engines.replay.pooled import PooledTiers
from ..engines.replay.pools import PERIOD_S, RATIO, WATERMARK, LruPool, ServerPool
from ..engines.replay.request import KeyedConversation, ReplayResult, ReplaySettings, VirtualClock
from ..engines.vllm.command import settings_of
from ..engines.vllm.lmcache import SERVED, keeps_free, kept_share, save_queue_bytes
from ..engines.vllm.running import conversations_of, load_seed
from ..models.gpu import GpuModel
from ..models.gpu_memory import MEMORY_SHARE, memory_gb_of
from ..models.gpus import kv_pieces
from ..records.effective import buffer_bytes
from ..records.repeats import CLOSED, OPEN, TRACE, loop_as
from ..records.scenario import gated
from ..workloads import Conversation
from ..workloads.chunks import chain_keys
from .request_time import REQUEST_S, TEXT_S, hit_s
from .single_requests import of_pool

MEMORY_GBPS = 17.0
"""10^9 bytes/s of a store in memory, as LMCache gets it."""
_STEP_WORD, _STEP_TOKENS, _SEQUENCES = "--max-num-batched-tokens", 8192, 64
_MOMENTS = 4  # between two looks of LMCache's server, at which a load may begin


@dataclass(frozen=True)
class Play:
    """What is played.

    gpu, gpu_file: of the cell's model, and the GPU's file. gbps, write_gbps: 10^9 bytes/s of what is below a pool, where no shaped device is stated;
    without the second it writes as it reads. buffer_bytes: host memory between GPU and store, as the engine told it; None for what the scenario asks for.
    begins_s: when each conversation of an open loop began; None for times that are drawn.
    """

    cell: CellSpec
    gpu: GpuModel
    gpu_file: Path
    gbps: float
    write_gbps: float | None = None
    buffer_bytes: int | None = None
    begins_s: Sequence[float] | None = None

    def results(self) -> list[ReplayResult]:
        """The requests of the cell, played once; from each of a few moments on where LMCache's server looks at a pool once a second, since a document
        more or less depends on that; with so many draws of the times at which conversations of an open loop begin. Raises UserError.
        """
        drawn = self.loop == OPEN and self.begins_s is None
        moments = _MOMENTS if drawn or has_server_pool(self.cell.scenario) else 1
        return [self._result(number, -PERIOD_S * (number + 0.5) / moments) for number in range(moments)]

    def _result(self, number: int, since_s: float) -> ReplayResult:
        """number: of the draw. since_s: when LMCache's server looked at its pool before the first request."""
        cell, clock = self.cell, VirtualClock()
        settings, scenario = settings_of(cell.spec), cell.scenario
        block, chunk = settings["block_tokens"], scenario["chunk_tokens"]
        chunk_bytes = cell.share.stored_bytes(chunk)
        tiers = gating = None
        if scenario["tier"] != "none":
            pool, queue = self._pool(chunk_bytes, clock, since_s), save_queue_bytes(self._buffer_bytes)
            tiers = PooledTiers(self._device(), chunk_bytes, clock, pool, not of_pool(scenario), queue)
            slo_ms, curve = cell.spec["slo"]["ttft_ms"], curve_points(self.gpu, step_tokens(settings))
            slo_s = slo_ms and slo_ms / 1e3
            objective = scenario["gate"] if gated(scenario) else OFF
            gating = Gating(Gate(objective, chunk, clock, curve, chunk_bytes, 0, slo_s=slo_s), tiers, chunk)
        conversations = conversations_of(cell)
        keyed = [KeyedConversation(each, chain_keys(each.tokens, block)) for each in conversations]
        return replay(
            keyed,
            int(cell.load),
            self.gpu,
            ReplaySettings(
                block_tokens=block,
                hbm_blocks=self._hbm_bytes(settings) // (cell.share.hbm_bytes_per_token * block),
                chunk_tokens=chunk,
                max_num_batched_tokens=step_tokens(settings),
                max_num_seqs=_SEQUENCES,
                staging_bytes=1 << 50,
                save_decode_cache=scenario["save_decode_cache"],
                prefix_caching=settings["prefix_caching"],
                like_vllm=True,
                text_s=TEXT_S,
            ),
            tiers,
            gating=gating,
            clock=clock,
            think_s=lambda client: REQUEST_S,
            begins_s=self._begins(conversations, number),
        )

    @property
    def loop(self) -> str:
        return loop_as("vllm", self.cell.spec["workload"]["kind"], self.cell.spec["loop"])

    def _begins(self, conversations: Sequence[Conversation], number: int) -> Sequence[float] | None:
        """When each conversation of an open loop or a trace begins, the first at 0."""
        if self.loop == TRACE:
            arrivals = [each.turns[0].arrival_s or 0.0 for each in conversations]
            return [arrival - arrivals[0] for arrival in arrivals]
        if self.loop == CLOSED or self.begins_s is not None:
            return self.begins_s
        rng = np.random.default_rng([self.cell.seed, load_seed(self.cell), number])
        after_s = rng.exponential(1 / self.cell.load, len(conversations) - 1)
        return [0.0, *np.cumsum(after_s).tolist()]

    def hit_rate(self) -> float:
        """Share of prompt tokens that hit in the measured window: the mean of the results. Raises UserError."""
        return float(np.mean([_hit_rate(result) for result in self.results()]))

    def _pool(self, chunk_bytes: int, clock: VirtualClock, since_s: float) -> LruPool:
        scenario, staging = self.cell.scenario, settings_of(self.cell.spec)["staging_bytes"]
        pool = scenario["dram_pool_bytes"] or 0
        if not has_server_pool(scenario):
            return LruPool(pool // chunk_bytes)
        room = self._buffer_bytes
        watermark = kept_share(room, staging) if keeps_free(scenario) else WATERMARK
        return ServerPool(
            room // chunk_bytes, clock, watermark, since_s, self._left(room, watermark, since_s)
        )

    @property
    def _buffer_bytes(self) -> int:
        staging = settings_of(self.cell.spec)["staging_bytes"]
        return self.buffer_bytes or buffer_bytes(self.cell.scenario, staging)

    def _left(self, room: int, watermark: float, since_s: float) -> int:
        """Chunks that single requests and earlier loads left in the pool of LMCache's server, which keeps of many between watermark and a fifth less."""
        cell, chunk = self.cell, self.cell.scenario["chunk_tokens"]
        latency = cell.spec["latency"]
        emptied = cell.scenario["page_cache"] == "evict" and not of_pool(cell.scenario)
        alone = (
            0 if emptied else latency["prompts"] * sum(tokens // chunk for tokens in latency["prompt_tokens"])
        )
        most = int(room * watermark * (1 + RATIO * since_s / PERIOD_S)) // cell.share.stored_bytes(chunk)
        return min(alone, most) if cell.load == cell.spec["loads"][0] else most

    def _device(self) -> Device:
        """What is below the pool."""
        scenario, pieces = self.cell.scenario, kv_pieces(self.cell.geometry, self.cell.share.ranks)
        shape = scenario.get("shape") or {}
        read = shape.get("read_gbps") or self.gbps
        write = shape.get("write_gbps") or self.write_gbps or self.gbps
        return Device(read, write, chunk_s=hit_s(scenario["chunk_tokens"], pieces), call_s=0.0)

    def _hbm_bytes(self, settings: Mapping[str, Any]) -> int:
        """Bytes of KV on all GPUs: as bounded, else what weights leave of their memory."""
        if settings["hbm_kv_bytes"] is not None:
            return settings["hbm_kv_bytes"]
        memory_gb, geometry = memory_gb_of(self.gpu_file), self.cell.geometry
        if memory_gb is None or geometry.weight_bytes is None:
            raise UserError(
                "config: vllm.hbm_kv_bytes: neither it nor the GPU's memory_gb and the model's parameters are known; set it"
            )
        return int(self.cell.gpus * MEMORY_SHARE * memory_gb * 1e9) - geometry.weight_bytes


def has_server_pool(scenario: Mapping[str, Any]) -> bool:
    """Whether a scenario's pool is that of LMCache's server."""
    return scenario.get("connector") in SERVED and bool(scenario["dram_pool_bytes"])


def step_tokens(settings: Mapping[str, Any]) -> int:
    """Tokens that a step of engine vllm holds at most. settings: the engine's."""
    words = [str(word) for word in settings["flags"]]
    return int(words[words.index(_STEP_WORD) + 1]) if _STEP_WORD in words else _STEP_TOKENS


def _hit_rate(result: ReplayResult) -> float:
    return window_values([each.sample for each in result.requests], result.window_s)["hit_rate"] or 0.0
