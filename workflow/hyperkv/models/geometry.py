"""How many bytes of KV cache a context costs and how many weights a token passes, from a model's config.json.

Read as vLLM and transformers read it (models/): the KV format that the checkpoint brings, the context that RoPE scaling
reaches, the language model inside a multimodal one, and the layers by kind. A model that is not known can be described by
hand (config/models/README.md). What is not understood is refused: no number is guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.errors import UserError
from .context import longest_context
from .described import described, is_described
from .families import family_of
from .kv_format import KV_DTYPE_BYTES as KV_DTYPE_BYTES
from .kv_format import checkpoint_kv_dtype, resolved_kv_dtype
from .layers import Layers, layers_of
from .reading import ModelConfig, model_config, read_document
from .weight_format import SERVED, WeightFormat, weight_format
from .weights import Parameters, weights_of


@dataclass(frozen=True)
class Geometry:
    """What the cache has to know of a model.

    kv_bytes_per_token: of the whole model while no layer's window is full, every layer that keeps tokens: what LMCache
    keeps of each token of a chunk, since it keeps sliding layers in full. by_kind: the layers. kv_dtype: the format that is
    counted; checkpoint_kv_dtype: the one that the checkpoint brings, None when it brings none.
    parameters, active_parameters: None where the architecture's weights are not known. active_expert_parameters: those
    of the active ones that are of experts which a token is routed to.
    attention_width: multiply-adds per pair of tokens in a forward pass, layers * heads * (query-key + value dimensions),
    of the layers that look at all tokens before: the time of attention over a context is proportional to it. MLA computes
    prompts in its expanded form: qk_nope + qk_rope and v dimensions (arXiv 2405.04434, section 2.1), sparse MLA in the
    latent's. None where a description by hand does not tell it. Layers that look at some tokens only: bounded_attention.
    weight_bytes: of all weights, an estimate from the format that the checkpoint brings, weight_format (models/weight_format.py).
    context_source: the keys that max_context_tokens follows from. attention_heads: what tensor parallelism divides; None of
    a description by hand.
    """

    name: str
    layers: int
    kv_bytes_per_token: int
    kv_dtype: str
    parameters: int | None
    active_parameters: int | None
    max_context_tokens: int
    attention_width: int | None
    by_kind: tuple[Layers, ...] = ()
    context_source: str = ""
    checkpoint_kv_dtype: str | None = None
    attention_heads: int | None = None
    weight_format: str = SERVED.name
    quantized_bytes: int | None = None
    active_expert_parameters: int = 0

    def chunk_bytes(self, chunk_tokens: int) -> int:
        """Bytes of KV in one chunk of `chunk_tokens` tokens, as LMCache keeps it."""
        return self.kv_bytes_per_token * chunk_tokens

    @property
    def weight_bytes(self) -> int | None:
        """Bytes of all weights as the checkpoint brings them, None where they are not known."""
        if self.quantized_bytes is not None or self.parameters is None:
            return self.quantized_bytes
        return SERVED.bytes_of(Parameters(self.parameters, self.parameters))

    @property
    def kv_heads(self) -> int | None:
        """What tensor parallelism divides of the KV, the least of all layers; None where every GPU holds all of it (MLA)."""
        heads = [part.kv_heads for part in self.by_kind if part.kv_bytes_per_token and part.kind != "index"]
        return min((count for count in heads if count is not None), default=None)

    def kv_bytes(self, tokens: int) -> int:
        """Bytes that an engine has to hold for one context of so many tokens: sliding layers their window, linear ones a state.

        Of chunked attention the whole chunk, which is the most it ever is.
        """
        return sum(part.held_bytes(tokens) for part in self.by_kind)

    def stored_bytes(self, tokens: int) -> int:
        """Bytes of a prompt as LMCache stores and loads it: sliding layers in full, and the state of linear ones once."""
        return self.kv_bytes_per_token * tokens + (self.state_bytes if tokens else 0)

    @property
    def state_bytes(self) -> int:
        """Bytes of state per sequence, all linear layers."""
        return sum(part.count * part.state_bytes for part in self.by_kind)

    @property
    def bounded_attention(self) -> tuple[Layers, ...]:
        """The layers whose attention is bounded: sliding, chunked and sparse ones."""
        return tuple(part for part in self.by_kind if part.attended_tokens is not None)

    def kv_bytes_per_token_on_gpu(self, tensor_parallel: int) -> int:
        """kv_bytes_per_token of one of so many GPUs: KV heads are divided, and repeated where there are fewer than GPUs.

        MLA's latent and an indexer's keys are on every GPU as a whole (vLLM's ModelConfig.get_num_kv_heads).
        Raises UserError when the heads cannot be divided so, or are not known.
        """
        return sum(part.count * _on_gpu(self.name, part, tensor_parallel) for part in self.by_kind)

    @property
    def offload_notes(self) -> tuple[str, ...]:
        """What LMCache keeps of this model that an engine alone would not, and what it cannot keep."""
        return tuple(note for part in self.by_kind if (note := _note(part, self)) is not None)

    @property
    def offload_refusal(self) -> str | None:
        """Why KV of this model cannot be kept outside the GPU and counted; None when it can.

        LMCache inside vLLM has one group of layers only: vLLM turns its hybrid KV cache manager off for it and then does
        not start with a linear layer (LMCacheConnectorV1 is no SupportsHMA; VllmConfig). LMCache's server keeps states
        with mamba_cache_mode align, one snapshot per block (validate_kv_cache_groups), and vLLM's own offloading in blocks
        padded to a state: bytes that are not counted here.
        """
        linear = sum(part.count for part in self.by_kind if part.kind == "linear")
        if not linear:
            return None
        return (
            f"{linear} layers of {self.name} keep a state of {self.state_bytes:,} bytes per sequence instead of tokens; "
            f"LMCache inside vLLM cannot store it, and what its server stores of it is not counted here"
        )


def load_geometry(source: str | Path | Mapping[str, Any], kv_dtype: str = "auto") -> Geometry:
    """Geometry of the model described by a Hugging Face config.json: a file, its folder, or its content; or by hand.

    kv_dtype: auto (the format that the checkpoint brings, else what the workflow serves in, bfloat16; the same for both
    engines: models/kv_format.py) | bfloat16 | float16 | float32 | fp8.
    name: the file's stem, or the folder's name when the file is called config.json.
    Errors: UserError naming the file and the key, for a missing or malformed file, a missing or malformed
    key, and an architecture whose bytes per token are not known here.
    """
    if isinstance(source, Mapping):
        document, where = source, "config"
        name = str(source.get("_name_or_path") or source.get("model_type") or "described")
    else:
        document, where, name = read_document(source)
    if is_described(document):
        return _described(document, where, name, kv_dtype)
    config = model_config(document, where)
    family = family_of(config)
    dtype = resolved_kv_dtype(config, kv_dtype, family.mla)
    by_kind = layers_of(config, family, dtype)
    context = longest_context(config)
    return _geometry(
        name,
        config.count("num_hidden_layers"),
        by_kind,
        dtype,
        weights_of(config, family, by_kind),
        max_context_tokens=context.tokens,
        context_source=context.source,
        checkpoint_kv_dtype=checkpoint_kv_dtype(config, family.mla)
        if kv_dtype == "auto"
        else _brought(config),
        attention_heads=config.count("num_attention_heads"),
        form=weight_format(config),
    )


def _geometry(
    name: str,
    layers: int,
    by_kind: tuple[Layers, ...],
    dtype: str,
    weights: Parameters | None,
    form: WeightFormat = SERVED,
    **rest: Any,
) -> Geometry:
    widths = [
        None if part.attention_width is None else part.count * part.attention_width
        for part in by_kind
        if part.attended_tokens is None
    ]
    if not any(part.kv_bytes_per_token for part in by_kind):
        raise UserError(
            f"{name}: no layer keeps tokens, so there is no KV cache to keep; choose another model"
        )
    return Geometry(
        name=name,
        layers=layers,
        kv_bytes_per_token=sum(part.count * part.kv_bytes_per_token for part in by_kind),
        kv_dtype=dtype,
        parameters=weights.total if weights else None,
        active_parameters=weights.active if weights else None,
        active_expert_parameters=weights.active_experts if weights else 0,
        weight_format=form.name,
        quantized_bytes=None if weights is None or form == SERVED else form.bytes_of(weights),
        attention_width=None
        if any(part.attention_width is None for part in by_kind)
        else sum(width or 0 for width in widths),
        by_kind=by_kind,
        **rest,
    )


def _described(document: Mapping[str, Any], where: str, name: str, kv_dtype: str) -> Geometry:
    found = described(document, where, kv_dtype)
    layers = sum(part.count for part in found.by_kind if part.kind != "index")
    return _geometry(
        name,
        layers,
        found.by_kind,
        found.kv_dtype,
        found.parameters,
        max_context_tokens=found.max_context_tokens,
        context_source=f"max_context_tokens {found.max_context_tokens:,}",
    )


def _brought(config: ModelConfig) -> str | None:
    """The checkpoint's KV format where another one is asked for: what is not counted here does not matter then."""
    try:
        return checkpoint_kv_dtype(config, family_of(config).mla)
    except UserError:
        return "another"


def _on_gpu(name: str, part: Layers, gpus: int) -> int:
    if gpus == 1 or not part.kv_bytes_per_token or part.kind == "index":
        return part.kv_bytes_per_token
    if part.kv_heads is None:
        return part.kv_bytes_per_token
    if part.kv_heads % gpus and gpus % part.kv_heads:
        raise UserError(f"{name}: {part.kv_heads} KV heads cannot be divided among {gpus} GPUs")
    return part.kv_bytes_per_token // part.kv_heads * max(1, part.kv_heads // gpus)


def _note(part: Layers, geometry: Geometry) -> str | None:
    """What is to be said of one kind of layers outside the GPU."""
    size = part.count * part.kv_bytes_per_token
    if part.kind in ("sliding", "chunked") and (part.window_tokens or 0) < geometry.max_context_tokens:
        what = "slide over" if part.kind == "sliding" else "attend in chunks of"
        return (
            f"{part.count} layers {what} {part.window_tokens:,} tokens; LMCache keeps them in full, {size:,} of "
            f"{geometry.kv_bytes_per_token:,} bytes per token"
        )
    if part.kind == "index":
        return f"{part.count} layers have a sparse indexer whose keys, {size:,} bytes per token, are kept as well"
    return geometry.offload_refusal if part.kind == "linear" else None
