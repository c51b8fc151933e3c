"""Random cells of a modelled device: GPU, model, load, chunk and device, all drawn from a seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...base.errors import UserError
from ...models.geometry import Geometry, load_geometry
from ...models.gpu import GpuModel, load_gpu
from ...models.gpu_memory import gpus_for_model, memory_gb_of
from ...models.gpus import MOST_GPUS
from ...workloads.multi_turn import MultiTurn
from .modelled import Device

GPUS, MODELS = Path("config/gpus"), Path("config/models")
WARM_BYTES = 8 << 30
_LEAST_PARAMETERS, _LEAST_PER_CLIENT = 10**9, 12


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
    def told(self) -> dict[str, Any]:
        """For a table."""
        device = self.device
        return {
            "cell": self.number,
            "gpu": self.gpu.stem,
            "gpus": self.gpus,
            "model": self.model.stem,
            "kv_dtype": self.geometry.kv_dtype,
            "clients": self.clients,
            "chunk_tokens": self.chunk_tokens,
            "prefix_caching": self.prefix_caching,
            "gbps": round(device.gbps, 2),
            "latency_us": round(device.chunk_s * 1e6),
            "call_us": round(device.call_s * 1e6),
            "noise": device.noise,
            "warm_bytes": device.warm_bytes,
            "change": self.change,
        }

    @property
    def gpu_model(self) -> GpuModel:
        """The modelled GPUs."""
        return load_gpu(self.gpu, self.geometry, self.gpus)


def draw(number: int, seed: int, requests: int) -> ModelCell:
    """The cell of this number, of about so many requests, or of as many as show more of its clients than how they begin."""
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
        warm_bytes=one_of(0, 0, WARM_BYTES),
    )
    turns = one_of(8, 16)
    workload = MultiTurn(
        conversations=max(requests, _LEAST_PER_CLIENT * clients) * 4 // (turns + 2),
        turns=(2, turns),
        prefix_tokens=(round(0.8 * prefix), round(1.2 * prefix)),
        answer_tokens=one_of((20, 60), (100, 230), (200, 500)),
        max_context_tokens=min(geometry.max_context_tokens, 32000),
    )
    chunk_tokens, change = one_of(16, 32, 64, 128, 256, 512), one_of(1.0, 1.0, 0.25, 0.5, 2.0, 4.0)
    return ModelCell(
        number,
        seed,
        gpu,
        model,
        kv_dtype,
        gpus,
        clients,
        chunk_tokens,
        one_of(False, False, True),
        device,
        change,
        workload,
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
            if served and count is not None and count <= MOST_GPUS:
                load_gpu(gpu, geometry, count)
                return gpu, model, kv_dtype, count
        except (UserError, AssertionError):
            continue
