"""What one prompt takes on an idle engine, computed or loaded: the one formula of every TTFT and of all GB/s that are predicted.

  computed  step_s of the whole prompt
  loaded    bytes / store's GB/s + bytes / host-device GB/s + step_s of what is computed all the same, one token at least
            + what vLLM and LMCache spend on a hit, one after the other: loading is overlapped with nothing (engines/replay)

Break-even is the store's GB/s at which both take alike. What an engine and a connector spend per request and per chunk besides is not
in it: real break-even is higher. `python -m workflow.hyperkv.predict.fit_singles` fitted REQUEST_S and HIT_S_PER_PIECE to the runs in FITTED.
"""

from __future__ import annotations

import math
from typing import Any

from ..models.geometry import Geometry
from ..models.gpu import GpuModel
from ..models.gpus import kv_copies, kv_pieces

REQUEST_S = 0.0066
"""Seconds of any request outside the engine's steps: the client, HTTP, the scheduler. Not in break-even: both sides have it."""
TEXT_S = 3e-6
"""Seconds per token of a prompt that comes as text, until the engine knows of it; single requests come as tokens. Fitted to recompute's first tokens
under load (docs/predict.md)."""
HIT_S_PER_PIECE = 2.92e-8
"""Seconds per prompt token that is loaded and not computed, and per piece in which it is copied (gpus.kv_pieces), beside its bytes."""
FITTED = (
    "results/reference/h200/2026-11-29-documents",
    "results/reference/h200/2026-11-29-mixture",
    "results/reference/h200/2026-11-29-newest",
)
"""Qwen3-32B with fp8 KV, Qwen3-30B-A3B and Llama-3.1-8B in bf16 on H200: recompute and the pool of LMCache's server."""


def hit_s(tokens: int, pieces: int) -> float:
    """Seconds that a hit of so many tokens takes beside its bytes and its step. pieces: as in times_of."""
    return HIT_S_PER_PIECE * pieces * tokens


def times_of(
    gpu: GpuModel, prompt: int, loaded: int, loaded_bytes: int, pieces: int, held: int = 0
) -> dict[str, Any]:
    """kv_bytes that are loaded, and seconds: prefill_s of the prompt computed; step_s, copy_s and hit_s of its hit.

    prompt, loaded, held: tokens of it, of those loaded, and of those that HBM has already. pieces: in which KV of a token is copied
    (gpus.kv_pieces); 0 where vLLM and LMCache have no part in it.
    """
    computed = max(1, prompt - held - loaded)
    return {
        "kv_bytes": loaded_bytes,
        "prefill_s": gpu.step_s([(prompt - held, held)], []),
        "step_s": gpu.step_s([(computed, prompt - computed)], []),
        "copy_s": gpu.copy_s(loaded_bytes),
        "hit_s": hit_s(loaded, pieces),
    }


def times_of_full_hit(gpu: GpuModel, geometry: Geometry, prompt: int) -> dict[str, Any]:
    """times_of a prompt of which a store has all, for the GPUs of `gpu` together.

    kv_bytes: what LMCache loads of it (Geometry.stored_bytes), sliding layers in full, and copies of heads where there are more GPUs than these.
    """
    size = round(geometry.stored_bytes(prompt) * kv_copies(geometry, gpu.gpus))
    return times_of(gpu, prompt, prompt, size, kv_pieces(geometry, gpu.gpus))


def rest_s(times: Any) -> Any:
    """Seconds of a hit beside its store's. times: of times_of, or a row or rows of break_even.csv, which have these columns."""
    return times["step_s"] + times["copy_s"] + times["hit_s"]


def hit_ttft_s(times: Any, gbps: Any) -> Any:
    """Seconds of a hit from a store of so many GB/s. times: as in rest_s."""
    return times["kv_bytes"] / (gbps * 1e9) + rest_s(times)


def required_gbps(kv_bytes: float, prefill_s: float, beside_s: float) -> float:
    """GB/s at which loading kv_bytes and then spending beside_s takes prefill_s; infinite when beside_s alone takes that."""
    return kv_bytes / (prefill_s - beside_s) / 1e9 if prefill_s > beside_s else math.inf


def break_even_gbps(times: Any) -> float:
    """GB/s at which a hit takes as long as computing; infinite when none are enough. times: of times_of, or a row of break_even.csv."""
    return required_gbps(times["kv_bytes"], times["prefill_s"], rest_s(times))
