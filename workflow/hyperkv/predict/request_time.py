"""What vLLM spends on a request beside the GPU. `python -m workflow.hyperkv.predict.fit_singles` fitted both figures to the runs in FITTED."""

from __future__ import annotations

REQUEST_S = 0.0058
"""Seconds of any request outside the engine's steps: the client, HTTP, the scheduler."""
HIT_S_PER_TOKEN = 1.55e-6
"""Seconds per prompt token that is loaded and not computed, beside its bytes: the book-keeping of vLLM and LMCache. KV in fp8 and a model of
32B, of which none is in the fit, take the same."""
FITTED = ("results/reference/h100/2026-11-28-server", "results/reference/h200/2026-11-29-newest")
"""Llama-3.1-8B, bf16, recompute and the engine's own pool: an H100 with vLLM 0.25 and LMCache 0.5.0 inside it, an H200 with vLLM 0.33 and
LMCache's server."""


def hit_s(tokens: int) -> float:
    """Seconds that a hit of so many tokens takes beside its bytes and its step."""
    return HIT_S_PER_TOKEN * tokens
