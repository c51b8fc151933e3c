"""What one prompt takes on an idle engine, computed or loaded: the one formula of every TTFT and of all GB/s that are predicted.

  computed  step_s of the whole prompt
  loaded    bytes / store's GB/s + bytes / host-device GB/s + step_s of what is computed all the same, one token at least
            + what vLLM and LMCache spend on a hit, one after the other: loading is overlapped with nothing (engines/replay)

Break-even is the store's GB/s at which both take alike. What an engine and a connector spend per request and per chunk besides is not
in it: real break-even is higher. `python -m workflow.hyperkv.predict.fit_singles` fitted REQUEST_S and HIT_S_PER_TOKEN to the runs in FITTED.
"""

from __future__ import annotations

import math
from typing import Any

from ..models.geometry import Geometry
from ..models.gpu import GpuModel
from ..models.gpus import kv_copies

REQUEST_S = 0.0058
"""Seconds of any request outside the engine's steps: the client, HTTP, the scheduler. Not in break-even: both sides have it."""
HIT_S_PER_TOKEN = 1.55e-6
"""Seconds per prompt token that is loaded and not computed, beside its bytes: the book-keeping of vLLM and LMCache. KV in fp8 and a model of
32B, of which none is in the fit, take the same."""
FITTED = ("results/reference/h100/2026-11-28-server", "results/reference/h200/2026-11-29-newest")
"""Llama-3.1-8B, bf16, recompute and the engine's own pool: an H100 with vLLM 0.25 and LMCache 0.5.0 inside it, an H200 with vLLM 0.33 and
LMCache's server."""


def hit_s(tokens: int) -> float:
    """Seconds that a hit of so many tokens takes beside its bytes and its step."""
    return HIT_S_PER_TOKEN * tokens


def times_of(gpu: GpuModel, prompt: int, loaded: int, loaded_bytes: int, held: int = 0) -> dict[str, Any]:
    """kv_bytes that are loaded, and seconds: prefill_s of the prompt computed; step_s, copy_s and hit_s of its hit.

    prompt, loaded, held: tokens of it, of those loaded, and of those that HBM has already.
    """
    computed = max(1, prompt - held - loaded)
    return {
        "kv_bytes": loaded_bytes,
        "prefill_s": gpu.step_s([(prompt - held, held)], []),
        "step_s": gpu.step_s([(computed, prompt - computed)], []),
        "copy_s": gpu.copy_s(loaded_bytes),
        "hit_s": hit_s(loaded),
    }


def times_of_full_hit(gpu: GpuModel, geometry: Geometry, prompt: int) -> dict[str, Any]:
    """times_of a prompt of which a store has all, for the GPUs of `gpu` together.

    kv_bytes: what LMCache loads of it (Geometry.stored_bytes), sliding layers in full, and copies of heads where there are more GPUs than these.
    """
    size = round(geometry.stored_bytes(prompt) * kv_copies(geometry, gpu.gpus))
    return times_of(gpu, prompt, prompt, size)


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
