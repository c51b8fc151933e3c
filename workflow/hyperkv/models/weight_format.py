"""The number format of a model's weights, and the bytes that they take: an estimate from what its config.json says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .reading import ModelConfig
from .weights import Parameters

SERVED_BITS = 16


@dataclass(frozen=True)
class WeightFormat:
    """bits: of a quantized weight, its share of the scales included. experts_only: the rest is in bfloat16."""

    name: str
    bits: float
    experts_only: bool = False

    def bytes_of(self, weights: Parameters) -> int:
        """Bytes of all weights; embedding and head are in bfloat16."""
        quantized = weights.experts if self.experts_only else weights.total - weights.looked_up
        return math.ceil((quantized * self.bits + (weights.total - quantized) * SERVED_BITS) / 8)


SERVED = WeightFormat("bf16", SERVED_BITS)


def weight_format(config: ModelConfig) -> WeightFormat:
    """The format of the checkpoint's weights by its quantization_config; bfloat16 where that is not clear, which is the most.

    mxfp4: experts, 4 bits and 8 of scale per 32 (OCP Microscaling 1.0), the rest is left out of it by gpt-oss. fp8: 8 bits.
    awq, gptq: `bits`, and per group a scale of 16 bits and a zero. compressed-tensors: the bits of its only group. modelopt:
    FP8, or NVFP4 with 8 bits of scale per 16. bitsandbytes: 8, or 4 and 32 bits of scale per 64.
    """
    places = (("quantization_config", True), ("quantization_config", False), ("compression_config", True))
    section = next((found for key, outer in places if (found := config.section(key, outer))), {})
    method = str(section.get("quant_method") or "").lower().replace("_", "-")
    nested = section.get("quantization")
    algorithm = str((nested if isinstance(nested, Mapping) else section).get("quant_algo") or "").lower()
    if method == "mxfp4":
        return WeightFormat("mxfp4", 4.25, experts_only=True)
    if method in ("fp8", "fbgemm-fp8") or (algorithm == "fp8" and method in ("", "modelopt")):
        return WeightFormat("fp8", 8)
    if algorithm == "nvfp4":
        return WeightFormat("nvfp4", 4.5)
    if method in ("awq", "gptq"):
        return _grouped(method, section.get("bits") or section.get("w_bit"), section)
    if method == "compressed-tensors":
        return _compressed(section.get("config_groups"))
    if method == "bitsandbytes" and section.get("load_in_4bit") is True:
        return WeightFormat("bitsandbytes 4 bit", 4.5)
    if method == "bitsandbytes" and section.get("load_in_8bit") is True:
        return WeightFormat("bitsandbytes 8 bit", 8)
    return SERVED


def _grouped(name: str, bits: Any, section: Mapping[str, Any]) -> WeightFormat:
    if not _is_width(bits):
        return SERVED
    size = section.get("group_size") or section.get("q_group_size")
    scale = (SERVED_BITS + bits) / size if isinstance(size, int) and size > 0 else 0
    return WeightFormat(f"{name} {bits} bit", bits + scale)


def _compressed(groups: Any) -> WeightFormat:
    """The weights of compressed-tensors, when it has one group of layers."""
    group = next(iter(groups.values())) if isinstance(groups, Mapping) and len(groups) == 1 else None
    weights = group.get("weights") if isinstance(group, Mapping) else None
    if not isinstance(weights, Mapping):
        return SERVED
    return _grouped("compressed-tensors", weights.get("num_bits"), weights)


def _is_width(bits: Any) -> bool:
    return isinstance(bits, int) and not isinstance(bits, bool) and 1 <= bits < SERVED_BITS
