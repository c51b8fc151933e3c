"""What the gate costs against the better of recompute and loading everything, cell by cell, in hindsight; no store, no GPU.

    python -m workflow.hyperkv.engines.replay.regret --out results/regret.csv --text results/regret.txt

A cell is a random device (GB/s, latency, noise, what is warm, a change of its speed in the middle), GPU, model, KV format, chunk and
number of clients, all drawn from a seed. Engine replay plays the same requests four times: nothing is loaded (none), everything
that is there (always), and what a gate finds worth it (ttft, throughput). Only the device is modelled besides: gate and engine are those
of a measured cell. Clients think for a moment between an answer and the next request, as they would behind a network; without it all
requests come at the end of a step, and a lookup of a microsecond costs the next whole one.

    regret of ttft        = TTFT of the gate / the lower TTFT of none and always - 1, of the median and of the 99th percentile
    regret of throughput  = 1 - requests/s within the SLO of the gate / the higher of none and always

The SLO of a cell is twice the lower median TTFT of none and always.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ....plugin.lmcache_striped.gate import THROUGHPUT, TTFT, Gate
from ...base.cli import run_stage
from ...base.errors import UserError
from ...models.geometry import Geometry, load_geometry
from ...models.gpu import GpuModel, load_gpu
from ...models.gpu_memory import gpus_for_model, memory_gb_of
from ...models.gpus import kv_share
from ...workloads import longest_context
from ...workloads.chunks import chain_keys
from ...workloads.multi_turn import MultiTurn, conversations
from .engine import ReplayEngine
from .gating import Gating, curve_points
from .modelled import Device, ModelTiers
from .request import KeyedConversation, ReplayResult, ReplaySettings, VirtualClock

GPUS, MODELS = Path("config/gpus"), Path("config/models")
NONE, ALWAYS = "none", "always"
REGRETS = ("ttft_p50_regret", "ttft_p99_regret", "throughput_slo_regret")
MOST = 0.05
REQUESTS = 1000
BLOCK_TOKENS, STEP_TOKENS, SEQUENCES = 16, 8192, 64
_MOST_GPUS, _LEAST_PARAMETERS = 8, 10**9
_THINK_S = 0.05
_STAGING_BYTES = 8 << 30
_SLO = 2.0


@dataclass(frozen=True)
class ModelCell:
    """One random cell. change: how many times faster the device is in the second half, 1 for as fast."""

    number: int
    seed: int
    gpu: Path
    model: Path
    kv_dtype: str
    gpus: int
    clients: int
    chunk_tokens: int
    prefix_caching: bool
    device: Device
    change: float
    workload: MultiTurn

    @property
    def geometry(self) -> Geometry:
        """The model's KV geometry."""
        return load_geometry(self.model, self.kv_dtype)

    @property
    def gpu_model(self) -> GpuModel:
        """The modelled GPUs."""
        return load_gpu(self.gpu, self.geometry, self.gpus)


@dataclass(frozen=True)
class Outcome:
    """What came of a cell's requests, but for the first tenth of the measured window. ended: whether each was answered in it."""

    ttft_s: np.ndarray
    ended: np.ndarray
    window_s: float

    @classmethod
    def of(cls, result: ReplayResult) -> Outcome:
        """From an engine's requests."""
        window = [item for item in result.requests if item.arrival_s < result.window_s]
        window = window[len(window) // 10 :]
        ttft_s = np.array([(item.first_token_s or math.inf) - item.arrival_s for item in window])
        ended = np.array([(item.finish_s or math.inf) <= result.window_s for item in window])
        return cls(ttft_s, ended, result.window_s - window[0].arrival_s)

    def percentile_s(self, percent: float) -> float:
        """Of TTFT."""
        return float(np.percentile(self.ttft_s, percent))

    def rps(self, slo_s: float = math.inf) -> float:
        """Answers per second in the window, of which the first token came within slo_s."""
        return float(np.sum(self.ended & (self.ttft_s <= slo_s))) / self.window_s


def draw(number: int, seed: int, requests: int) -> ModelCell:
    """The cell of this number, of about so many requests."""
    rng = np.random.default_rng([seed, number])

    def between(low: float, high: float) -> float:
        return float(math.exp(rng.uniform(math.log(low), math.log(high))))

    def one_of(*values: Any) -> Any:
        return values[rng.integers(len(values))]

    gpu, model, kv_dtype, gpus = _machine(rng)
    geometry = load_geometry(model, kv_dtype)
    clients, prefix, gbps = round(between(1, 64)), between(500, 6000), between(0.5, 20)
    device = Device(
        gbps=gbps,
        write_gbps=gbps * rng.uniform(0.4, 1),
        chunk_s=between(20e-6, 2e-3),
        call_s=between(2e-4, 5e-3),
        noise=one_of(0.0, 0.03, 0.1),
        warm_gbps=2 * gbps,
        warm_bytes=one_of(0, 0, 8 << 30),
    )
    turns = one_of(8, 16)
    workload = MultiTurn(
        conversations=max(requests * 4 // (turns + 2), 2 * clients),
        turns=(2, turns),
        prefix_tokens=(round(0.8 * prefix), round(1.2 * prefix)),
        answer_tokens=one_of((20, 60), (100, 230), (200, 500)),
        max_context_tokens=min(geometry.max_context_tokens, 32000),
    )
    chunk_tokens, change = one_of(16, 32, 64, 128, 256, 512), one_of(1.0, 1.0, 0.25, 0.5, 2.0, 4.0)
    return ModelCell(
        number, seed, gpu, model, kv_dtype, gpus, clients, chunk_tokens, one_of(False, False, True), device, change, workload
    )


def _machine(rng: np.random.Generator) -> tuple[Path, Path, str, int]:
    """A GPU, a model, a KV format, and as many GPUs as hold the model; models for trying out on a CPU and those that replay
    cannot model are drawn again."""
    gpus, models = sorted(GPUS.glob("*.yaml")), sorted(MODELS.glob("*.json"))
    while True:
        gpu, model = gpus[rng.integers(len(gpus))], models[rng.integers(len(models))]
        kv_dtype = ("auto", "fp8")[rng.integers(2)]
        try:
            geometry = load_geometry(model, kv_dtype)
            count = gpus_for_model(geometry, memory_gb_of(gpu) or 0.0)
            served = geometry.offload_refusal is None and (geometry.parameters or 0) >= _LEAST_PARAMETERS
            if served and count is not None and count <= _MOST_GPUS:
                load_gpu(gpu, geometry, count)
                return gpu, model, kv_dtype, count
        except (UserError, AssertionError):
            continue


def play(cell: ModelCell, keyed: Sequence[KeyedConversation], mode: str, change_s: float = math.inf) -> Outcome:
    """Serve the cell's requests. mode: NONE, ALWAYS or a gate's objective. change_s: when the device's speed changes."""
    gpu, clock, chunk_tokens = cell.gpu_model, VirtualClock(), cell.chunk_tokens
    chunk_bytes = kv_share(cell.geometry, cell.gpus).stored_bytes(chunk_tokens)
    tiers = gating = None
    if mode != NONE:
        device = replace(cell.device, changes=((change_s, cell.change),))
        tiers = ModelTiers(device, chunk_bytes, clock, cell.number)
    if tiers is not None and mode != ALWAYS:
        gate = Gate(mode, chunk_tokens, clock, curve_points(gpu, STEP_TOKENS), chunk_bytes)
        gating = Gating(gate, tiers, chunk_tokens)
    blocks = -(-longest_context(item.conversation for item in keyed) // BLOCK_TOKENS)
    settings = ReplaySettings(
        block_tokens=BLOCK_TOKENS,
        hbm_blocks=blocks * max(4, cell.clients),
        chunk_tokens=chunk_tokens,
        max_num_batched_tokens=STEP_TOKENS,
        max_num_seqs=SEQUENCES,
        staging_bytes=max(_STAGING_BYTES, chunk_bytes),
        staging_full="drop",
        prefix_caching=cell.prefix_caching,
    )
    think = [np.random.default_rng([cell.seed, cell.number, client]) for client in range(cell.clients)]
    engine = ReplayEngine(
        keyed,
        cell.clients,
        gpu,
        settings,
        tiers,
        2 * cell.clients,
        gating,
        clock,
        lambda client: think[client].exponential(_THINK_S),
    )
    return Outcome.of(engine.run())


def regret_of(number: int, seed: int, requests: int = REQUESTS) -> dict[str, Any]:
    """A row: the cell, what came of it in all four modes, and the regrets."""
    cell = draw(number, seed, requests)
    keyed = [
        KeyedConversation(item, chain_keys(item.tokens, BLOCK_TOKENS))
        for item in conversations(cell.workload, cell.number)
    ]
    none = play(cell, keyed, NONE)
    half_s = none.window_s / 2
    outcomes = {NONE: none} | {mode: play(cell, keyed, mode, half_s) for mode in (ALWAYS, TTFT, THROUGHPUT)}
    hindsight = (none, outcomes[ALWAYS])
    slo_s = _SLO * min(outcome.percentile_s(50) for outcome in hindsight)
    best_rps = max(outcome.rps(slo_s) for outcome in hindsight)
    row: dict[str, Any] = {
        "cell": number,
        "gpu": cell.gpu.stem,
        "gpus": cell.gpus,
        "model": cell.model.stem,
        "kv_dtype": cell.kv_dtype,
        "clients": cell.clients,
        "chunk_tokens": cell.chunk_tokens,
        "gbps": round(cell.device.gbps, 2),
        "latency_us": round(cell.device.chunk_s * 1e6),
        "call_us": round(cell.device.call_s * 1e6),
        "noise": cell.device.noise,
        "warm_bytes": cell.device.warm_bytes,
        "change": cell.change,
        "requests": len(none.ttft_s),
        "slo_ms": 1e3 * slo_s,
    }
    for mode, outcome in outcomes.items():
        row |= {f"{mode}_ttft_p{percent}_ms": 1e3 * outcome.percentile_s(percent) for percent in (50, 99)}
        row |= {f"{mode}_rps": outcome.rps(), f"{mode}_slo_rps": outcome.rps(slo_s)}
    for percent in (50, 99):
        best_s = min(outcome.percentile_s(percent) for outcome in hindsight)
        row[f"ttft_p{percent}_regret"] = outcomes[TTFT].percentile_s(percent) / best_s - 1
    row["throughput_slo_regret"] = 1 - outcomes[THROUGHPUT].rps(slo_s) / best_rps if best_rps else 0.0
    return row


def regrets(numbers: Sequence[int], seed: int, workers: int = 1) -> pd.DataFrame:
    """A row per cell, see regret_of."""
    if workers == 1:
        return pd.DataFrame([regret_of(number, seed) for number in numbers])
    with ProcessPoolExecutor(workers) as pool:
        return pd.DataFrame(list(pool.map(partial(regret_of, seed=seed), numbers)))


def told(table: pd.DataFrame) -> str:
    """The distribution of regrets, a line each, and the cells where one is more than MOST."""
    names = ["TTFT, median (gate ttft)", "TTFT, 99th percentile (gate ttft)", "requests/s within the SLO (gate throughput)"]
    lines = [f"Regret over {len(table)} cells: median, 95th percentile, most, cells above {MOST:.0%}"]
    for name, column in zip(names, REGRETS, strict=True):
        values = table[column]
        figures = (f"{values.quantile(share):6.1%}" for share in (0.5, 0.95, 1.0))
        lines.append(f"  {name:45} {'  '.join(figures)}  {int((values > MOST).sum())}")
    for _, row in table[(table[list(REGRETS)] > MOST).any(axis=1)].iterrows():
        lines.append(
            f"  cell {row.cell}: {row.gpus} x {row.gpu}, {row.model} ({row.kv_dtype}), {row.clients} clients, chunk {row.chunk_tokens}, "
            f"{row.gbps} GB/s, {row.latency_us} us, change {row.change:g}: "
            + ", ".join(f"{row[column]:.1%}" for column in REGRETS)
        )
    return "\n".join(lines) + "\n"


def main(*, out: Path, text: Path | None = None, cells: int = 200, seed: int = 1, workers: int | None = None) -> None:
    """Play the cells.

    Args:
        out: CSV file, a row per cell.
        text: text file for the distribution, which is printed as well.
        cells: how many.
        seed: of all that is drawn.
        workers: processes, all cores if not given.
    """
    table = regrets(range(cells), seed, workers or os.cpu_count() or 1)
    out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(out, index=False)
    if text is not None:
        text.write_text(told(table))
    print(told(table), end="")


if __name__ == "__main__":
    sys.exit(run_stage("regret", main))
