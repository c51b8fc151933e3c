"""The modelled GPU, or several that share a model: how long one step of an engine takes, from figures measured on the real one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..base.config_files import mapping_of
from ..base.errors import UserError
from .geometry import Geometry
from .gpus import kv_fraction, kv_values

SIZES = ("active_parameters", "attention_width", "layers", "kv_bytes_per_token")


@dataclass(frozen=True)
class BoundedAttention:
    """Layers that look at the last `tokens` tokens only, or with `chunked` at those of the current chunk of so many.

    prefill_s_per_token2 and decode_s_per_token: seconds per pair of tokens of a prompt, and per token that one decoding
    request looks at.
    """

    tokens: int
    chunked: bool
    prefill_s_per_token2: float
    decode_s_per_token: float

    def pairs(self, end: int) -> float:
        """Pairs of tokens in a context's first `end` tokens: each with those it looks at, half a triangle as in GpuModel."""
        whole, rest = divmod(end, self.tokens)
        if self.chunked:
            return whole * self.tokens**2 / 2 + rest**2 / 2
        return end**2 / 2 if not whole else self.tokens**2 / 2 + (end - self.tokens) * self.tokens

    def attended(self, context: int) -> int:
        """Tokens that the last one of a context looks at."""
        return context % self.tokens if self.chunked else min(context, self.tokens)


@dataclass(frozen=True)
class GpuModel:
    """Step time of one GPU, or of `gpus` together, serving one model.

    compute_s = new / prefill_tokens_per_s + prefill_attention_s_per_token2 * new * mean context, over prompts
                + pairs within reach * prefill_s_per_token2, over layers whose attention is bounded
    step_s    = max(compute_s, prefill_min_s [if a prompt is computed], decode_base_s [if anything decodes])
                + sequences * decode_per_sequence_s + context tokens * decode_per_context_token_s
                + tokens within reach * decode_s_per_token, over layers whose attention is bounded
    copy_s    = bytes / (host_device_gbps * 1e9)

    The weights are read once a step, whatever the step does: hence the maximum, not a sum. decode_base_s is
    that read, prefill_min_s what launching a step with a prompt costs at least. scaled_from: the measured model
    these figures were scaled from (see load_gpu), None when measured. host_device_gbps: of what
    is stored of the KV, over all links that it takes.
    """

    name: str
    prefill_tokens_per_s: float
    host_device_gbps: float
    prefill_attention_s_per_token2: float = 0.0
    prefill_min_s: float = 0.0
    decode_base_s: float = 0.0
    decode_per_sequence_s: float = 0.0
    decode_per_context_token_s: float = 0.0
    scaled_from: str | None = None
    bounded: tuple[BoundedAttention, ...] = ()
    gpus: int = 1

    def step_s(self, prefills: list[tuple[int, int]], decode_contexts: list[int]) -> float:
        """Seconds of one step.

        prefills: (new tokens, tokens already in context) per request that computes prompt tokens.
        decode_contexts: context length in tokens of each request that generates one token.
        """
        compute_s = sum(
            new / self.prefill_tokens_per_s + self.prefill_attention_s_per_token2 * new * (before + new / 2)
            for new, before in prefills
        )
        compute_s += sum(
            layers.prefill_s_per_token2 * (layers.pairs(before + new) - layers.pairs(before))
            for layers in self.bounded
            for new, before in prefills
        )
        least_s = max(self.prefill_min_s if prefills else 0.0, self.decode_base_s if decode_contexts else 0.0)
        return (
            max(compute_s, least_s)
            + len(decode_contexts) * self.decode_per_sequence_s
            + sum(decode_contexts) * self.decode_per_context_token_s
            + sum(
                layers.decode_s_per_token * layers.attended(context)
                for layers in self.bounded
                for context in decode_contexts
            )
        )

    def copy_s(self, size_bytes: int) -> float:
        """Seconds to copy stored KV between pinned host memory and the GPUs."""
        return size_bytes / (self.host_device_gbps * 1e9)

    def as_record(self) -> dict[str, Any]:
        """The figures, for the cell's record; what is bounded only where something is."""
        record = asdict(self)
        return record if record["bounded"] else {key: record[key] for key in record if key != "bounded"}


def load_gpu(path: Path, geometry: Geometry, gpus: int = 1) -> GpuModel:
    """The GPU file's figures for a model; scaled from `scale_from` when only other models were measured.

    Computing and reading weights scale with active parameters, attention with its width, launching with layers (but no
    less than reading the weights), reading a context with its KV bytes; what a sequence costs besides (sampling) stays.
    Checked on an H100, scaled from 8B: Llama-3.2-1B, prompts of 4,096 tokens and more within 13 %, attention within 3 %,
    launching a third too fast, decode figures within a factor of 2; Qwen3-32B, prompts of 8,200 and 16,392 tokens within 6 %. A mixture's prompt is
    modelled to read its active experts only, and to multiply with them at `expert_efficiency` of the rate of other weights: measured on an
    H200 of one mixture, Qwen3-30B-A3B in bf16, whose prompts of 8,200 and 24,584 tokens are within 6 %. Attention of sliding, chunked and sparse layers is scaled by its own width and
    bounded by its window, chunk or index_topk; that of linear layers is left out besides their weights.

    gpus: that share the model by tensor parallelism, ideally: computing and reading weights take 1 / gpus, a context is read
    and KV copied by each GPU as far as it holds it (gpus.py); launching and sampling stay. Their communication is left out.
    Whether they hold the weights is for require_weights_fit to say.

    Raises UserError naming the file and the key, and for a model whose weights or attention are not known.
    """
    document = document_of(path)
    try:
        measured: Mapping[str, Mapping[str, float]] = document["models"]
        common: dict[str, Any] = {
            "name": document["name"],
            "host_device_gbps": float(document["host_device_gbps"]),
        }
        if geometry.name in measured:
            return _shared(GpuModel(**common, **_figures(measured[geometry.name])), geometry, gpus)
        reference = document["scale_from"]
        figures = _figures(measured[reference])
        sizes = {name: float(measured[reference][name]) for name in SIZES}
        efficiency = float(document.get("expert_efficiency", 1.0))
    except (KeyError, TypeError) as error:
        raise UserError(f"gpu: {path} lacks {error}; see config/gpus/h100.yaml for the keys") from error
    except ValueError as error:
        raise UserError(f"gpu: {path}: {error}; write a number") from error
    ratios = {name: own / sizes[name] for name, own in _own_sizes(geometry).items()}
    slower = geometry.active_expert_parameters / sizes["active_parameters"] * (1 / efficiency - 1)
    ratios["computed"] = ratios["active_parameters"] + slower
    bounded = _bounded(geometry, figures, sizes)
    one = GpuModel(**common, **_scaled(figures, ratios), scaled_from=reference, bounded=bounded)
    launches = figures.get("prefill_min_s", 0.0) > figures.get("decode_base_s", 0.0)
    launch_s = figures["prefill_min_s"] * ratios["layers"] if launches else 0.0
    return _shared(one, geometry, gpus, launch_s)


def gpu_of_record(record: Mapping[str, Any]) -> GpuModel:
    """The modelled GPU that a cell's record has (as_record)."""
    bounded = tuple(BoundedAttention(**layers) for layers in record.get("bounded", ()))
    return GpuModel(**{**record, "bounded": bounded})


def document_of(path: Path) -> dict[str, Any]:
    """The content of a GPU's file. Raises UserError when it cannot be read."""
    return mapping_of(path, "gpu:", "choose a file of config/gpus")


def _shared(one: GpuModel, geometry: Geometry, gpus: int, launch_s: float | None = None) -> GpuModel:
    """The figures of so many GPUs. launch_s: of a step with a prompt; None takes prefill_min_s unless that is reading weights."""
    if gpus == 1:
        return one
    if launch_s is None:
        launch_s = one.prefill_min_s if one.prefill_min_s > one.decode_base_s else 0.0
    base_s, kept = one.decode_base_s / gpus, kv_fraction(geometry, gpus)
    bounded = tuple(
        replace(
            layers,
            prefill_s_per_token2=layers.prefill_s_per_token2 / gpus,
            decode_s_per_token=layers.decode_s_per_token * kept,
        )
        for layers in one.bounded
    )
    return replace(
        one,
        prefill_tokens_per_s=one.prefill_tokens_per_s * gpus,
        host_device_gbps=one.host_device_gbps * kv_values(geometry, gpus),
        prefill_attention_s_per_token2=one.prefill_attention_s_per_token2 / gpus,
        prefill_min_s=max(launch_s, base_s),
        decode_base_s=base_s,
        decode_per_context_token_s=one.decode_per_context_token_s * kept,
        bounded=bounded,
        gpus=gpus,
    )


def _own_sizes(geometry: Geometry) -> dict[str, int]:
    """What figures scale with, by its key in a GPU file."""

    def known(key: str, size: int | None) -> int:
        if size is None:
            raise UserError(
                f"model: {geometry.name}: {key} is not known, so the GPU's time cannot be scaled to it; describe the model "
                f"by hand with {key} (config/models/README.md), or take engine vllm"
            )
        return size

    unbounded = [part for part in geometry.by_kind if part.attended_tokens is None]
    return {
        "active_parameters": known("active_parameters", geometry.active_parameters),
        "attention_width": known("attention_width", geometry.attention_width),
        "layers": geometry.layers,
        "kv_bytes_per_token": sum(part.count * part.kv_bytes_per_token for part in unbounded),
    }


def _bounded(
    geometry: Geometry, figures: Mapping[str, float], sizes: Mapping[str, float]
) -> tuple[BoundedAttention, ...]:
    """The layers whose attention is bounded, scaled as the others are."""
    prefill = figures.get("prefill_attention_s_per_token2", 0.0) / sizes["attention_width"]
    decode = figures.get("decode_per_context_token_s", 0.0) / sizes["kv_bytes_per_token"]
    return tuple(
        BoundedAttention(
            part.attended_tokens,
            part.kind == "chunked",
            prefill * part.count * part.attention_width,
            decode * part.count * part.kv_bytes_per_token,
        )
        for part in geometry.bounded_attention
        if part.attended_tokens is not None and part.attention_width is not None
    )


def _scaled(figures: Mapping[str, float], ratios: Mapping[str, float]) -> dict[str, Any]:
    by = {
        "prefill_tokens_per_s": 1 / ratios["computed"],
        "prefill_attention_s_per_token2": ratios["attention_width"],
        "prefill_min_s": ratios["layers"],
        "decode_base_s": ratios["active_parameters"],
        "decode_per_context_token_s": ratios["kv_bytes_per_token"],
    }
    scaled = {name: value * by.get(name, 1.0) for name, value in figures.items()}
    least = (scaled.get("prefill_min_s", 0.0), scaled.get("decode_base_s", 0.0))
    return scaled | {"prefill_min_s": max(least)}


def _figures(entry: Mapping[str, float]) -> dict[str, Any]:
    required = {"prefill_tokens_per_s": entry["prefill_tokens_per_s"]}
    known = {name: value for name, value in entry.items() if name in GpuModel.__dataclass_fields__}
    return {name: float(value) for name, value in (required | known).items()}
