"""How many GPUs hold a model: by the GPU's memory and what weights and KV take of it."""

from __future__ import annotations

import math
from pathlib import Path

from ..base.errors import UserError
from .derive_gpu import published
from .geometry import Geometry
from .gpu import document_of
from .gpus import divides

MEMORY_SHARE = 0.9


def memory_gb_of(path: Path) -> float | None:
    """Memory of the GPU of a file, 10^9 bytes: the file's `memory_gb`, else that of config/published_gpus.yaml; None for neither."""
    memory = document_of(path).get("memory_gb")
    if memory is None:
        memory = published().get(path.stem, {}).get("memory_gb")
    if memory is not None and (
        isinstance(memory, bool) or not isinstance(memory, int | float) or memory <= 0
    ):
        raise UserError(f"gpu: {path}: memory_gb is {memory!r}; write GB of memory, a number above 0")
    return memory


def gpus_for_weights(geometry: Geometry, memory_gb: float, kv_bytes: int = 0) -> int:
    """Least number of such GPUs whose memory, 90 % of it, holds the weights, as the checkpoint has them, and kv_bytes of KV."""
    assert geometry.weight_bytes is not None
    return math.ceil((geometry.weight_bytes + kv_bytes) / (MEMORY_SHARE * memory_gb * 1e9))


def gpus_for_model(geometry: Geometry, memory_gb: float, kv_bytes: int = 0) -> int | None:
    """The least of them by which vLLM can share the model, too; None when its heads come out even for no such number."""
    needed = gpus_for_weights(geometry, memory_gb, kv_bytes)
    most = geometry.attention_heads or max(needed, geometry.kv_heads or 1) * 2
    return next((count for count in range(needed, most + 1) if divides(geometry, count)), None)


def require_weights_fit(path: Path, geometry: Geometry, gpus: int, kv_bytes: int) -> None:
    """That `gpus` GPUs of a file hold the model and kv_bytes of its KV. Raises UserError with the number that does."""
    memory = memory_gb_of(path)
    if geometry.parameters is None:
        raise UserError(
            f"model: {geometry.name}: parameters is not known, so that it is not known whether the model fits; describe the "
            f"model by hand with parameters (config/models/README.md), or take engine vllm"
        )
    if memory is None:
        raise UserError(
            f"gpu: {path} lacks memory_gb, so that it is not known whether the model fits; write the GPU's memory there, in GB"
        )
    if gpus_for_weights(geometry, memory, kv_bytes) <= gpus:
        return
    enough = gpus_for_model(geometry, memory, kv_bytes)
    mend = "choose a `gpu` with more memory or a smaller model" if enough is None else f"set it to {enough}"
    weights_gb = (geometry.weight_bytes or 0) / 1e9
    raise UserError(
        f"vllm.tensor_parallel: {weights_gb:.0f} GB of {geometry.name}'s weights in {geometry.weight_format} and {kv_bytes / 1e9:.2f} GB of KV "
        f"(replay.hbm_kv_bytes) do not fit in {MEMORY_SHARE:.0%} of {gpus} x {memory:g} GB ({path}); {mend}"
    )
