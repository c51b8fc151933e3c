"""A file of config/gpus (config/gpus/README.md says how one's own GPU is described)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from .faults import fault
from .values import Number, Section, Whole, key, optional

_SCALED_BY = ("active_parameters", "attention_width", "layers", "kv_bytes_per_token")


class GpuModel(Section):
    """Figures by model, named as its file in config/models without .json."""

    active_parameters: Whole = optional(unit="weights", ge=1_000_000)
    """Weights that a token is multiplied with; scale_from needs it."""
    attention_width: Whole = optional(unit="multiply-adds", ge=64)
    """Layers x heads x (query-key + value dimensions); scale_from needs it."""
    layers: Whole = optional(unit="layers", ge=1, le=1000)
    """Layers; scale_from needs it."""
    kv_bytes_per_token: Whole = optional(unit="bytes", ge=64)
    """KV cache of a token, all layers; scale_from needs it."""
    prefill_tokens_per_s: Number = key(unit="tokens/s", ge=10, le=100_000_000)
    """Prompt tokens computed per second, attention left aside."""
    prefill_attention_s_per_token2: Number = optional(unit="s", ge=0, le=1e-7)
    """Attention of a prompt, per token and token of context before it."""
    prefill_min_s: Number = optional(unit="s", ge=0, le=1)
    """Least time of a step that computes a prompt."""
    decode_base_s: Number = optional(unit="s", ge=0, le=1)
    """Least time of a step that decodes, the weights read once."""
    decode_per_sequence_s: Number = optional(unit="s", ge=0, le=0.005)
    """Time per sequence and step besides."""
    decode_per_context_token_s: Number = optional(unit="s", ge=0, le=5e-6)
    """Time per token of context that a step reads."""

    @model_validator(mode="after")
    def _plausible(self) -> GpuModel:
        token_s, step_s = 1 / self.prefill_tokens_per_s, self.decode_base_s or 0
        if step_s and token_s > step_s:
            raise fault(
                f"{self.prefill_tokens_per_s:g} is wrong; a prompt's token would take longer ({token_s:.3g} s) than a step that "
                f"reads all weights (decode_base_s {step_s:g}); it is in tokens per second, not per ms",
                "prefill_tokens_per_s",
            )
        return self


class Gpu(Section):
    """A GPU. Times in seconds, as workflow/hyperkv/models/gpu.py adds them up to a step."""

    name: Annotated[str, Field(max_length=100, pattern=r"^[^\n]+$")] = key(unit="text")
    """What tables and figures call it."""
    assumption: str = optional(unit="text")
    """What was not measured; figures that have it are marked."""
    source: str = optional(unit="text")
    """Where the figures are from."""
    host_device_gbps: Number = key(unit="GB/s", ge=0.1, le=2000)
    """Copies between pinned host memory and the GPU, 10^9 bytes/s."""
    memory_gb: Number = optional(unit="GB", ge=1, le=2000)
    """The GPU's memory, 10^9 bytes; without it that of config/published_gpus.yaml."""
    scale_from: str = optional(unit="name")
    """The model, one of `models`, whose figures are scaled for models that are not there; without it only
    these can be used."""
    expert_efficiency: Number = optional(unit="share", ge=0.05, le=1)
    """How fast weights of experts that tokens are routed to are multiplied, of the rate of all others, where a mixture's
    figures are scaled; without it as fast."""
    models: Annotated[dict[str, GpuModel], Field(min_length=1)] = Field()

    @model_validator(mode="after")
    def _scaled(self) -> Gpu:
        if self.scale_from is None:
            return self
        if self.scale_from not in self.models:
            raise fault(
                f"{self.scale_from!r} is not in models; choose {' or '.join(self.models)}", "scale_from"
            )
        for size in _SCALED_BY:
            if getattr(self.models[self.scale_from], size) is None:
                raise fault("missing; scale_from needs it", f"models.{self.scale_from}.{size}")
        return self
