"""How many bytes of KV cache a token costs and how many weights it passes, from a model's config.json.

Only architectures whose cache is the same for every token and layer are known here; sliding windows,
sparse indexers and state-space layers are refused, because their bytes per token depend on the position.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import UserError

KV_DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4, "fp8": 1}


@dataclass(frozen=True)
class Parameters:
    """Weights of a model.

    total: every weight of the main model (embedding, layers, norms, head; multi-token-prediction modules
    excluded). active: those a token is multiplied with: without the experts it is not routed to and without
    the input embedding, which is a look-up (a tied embedding counts once, as the head). A token's forward
    pass costs about 2 * active FLOP besides attention over its context.
    """

    total: int
    active: int


@dataclass(frozen=True)
class Geometry:
    """What the cache has to know of a model; kv_bytes_per_token is for the whole model, all layers.

    attention_width: multiply-adds per pair of tokens in a forward pass, layers * heads * (query-key + value dimensions):
    the time of attention over a context is proportional to it. MLA computes prompts in its expanded form: qk_nope +
    qk_rope and v dimensions (arXiv 2405.04434, section 2.1). kv_heads: what tensor parallelism shares of the KV; None where every
    GPU holds all of it (MLA).
    """

    name: str
    layers: int
    kv_bytes_per_token: int
    kv_dtype: str
    parameters: int
    active_parameters: int
    max_context_tokens: int
    attention_width: int
    attention_heads: int
    kv_heads: int | None

    def chunk_bytes(self, chunk_tokens: int) -> int:
        """Bytes of KV in one chunk of `chunk_tokens` tokens."""
        return self.kv_bytes_per_token * chunk_tokens


@dataclass(frozen=True)
class _Family:
    """What a model_type fixes and its config.json does not say."""

    mla: bool = False
    qkv_bias: bool = False
    qk_norm: bool = False
    experts: str | None = None
    router_bias: bool = False


_FAMILIES = {
    "llama": _Family(),
    "mistral": _Family(),
    "mixtral": _Family(experts="num_local_experts"),
    "qwen2": _Family(qkv_bias=True),
    "qwen3": _Family(qk_norm=True),
    "qwen3_moe": _Family(qk_norm=True, experts="num_experts"),
    "deepseek_v2": _Family(mla=True, experts="n_routed_experts"),
    "deepseek_v3": _Family(mla=True, experts="n_routed_experts", router_bias=True),
}


@dataclass(frozen=True)
class _Config:
    """A config.json and where it came from, for messages that name both."""

    values: Mapping[str, Any]
    where: str

    def count(self, key: str, least: int = 1) -> int:
        if key not in self.values:
            raise UserError(
                f"{self.where}: {key} is missing; copy it from the model's Hugging Face config.json"
            )
        value = self.values[key]
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise UserError(f"{self.where}: {key} is {value!r}; write a whole number of at least {least}")
        return value

    def optional_count(self, key: str, default: int) -> int:
        return default if self.values.get(key) is None else self.count(key, least=0)

    def flag(self, key: str) -> bool:
        value = self.values.get(key, False)
        if not isinstance(value, bool):
            raise UserError(f"{self.where}: {key} is {value!r}; write true or false")
        return value


def load_geometry(source: str | Path | Mapping[str, Any], kv_dtype: str = "auto") -> Geometry:
    """Geometry of the model described by a Hugging Face config.json: a file, its folder, or its content.

    kv_dtype: auto (the config's own dtype) | bfloat16 | float16 | float32 | fp8.
    name: the file's stem, or the folder's name when the file is called config.json.
    Errors: UserError naming the file and the key, for a missing or malformed file, a missing or malformed
    key, and an architecture whose bytes per token are not known here.
    """
    if isinstance(source, Mapping):
        config, name = _Config(source, "config"), str(source.get("_name_or_path") or source.get("model_type"))
    else:
        config, name = _read(Path(source))
    parameters = _parameters(config)
    return Geometry(
        name=name,
        layers=config.count("num_hidden_layers"),
        kv_bytes_per_token=_kv_bytes_per_token(config, kv_dtype),
        kv_dtype=_resolve_dtype(config, kv_dtype),
        parameters=parameters.total,
        active_parameters=parameters.active,
        max_context_tokens=config.count("max_position_embeddings"),
        attention_width=_attention_width(config),
        attention_heads=config.count("num_attention_heads"),
        kv_heads=None if _family(config).mla else config.count("num_key_value_heads"),
    )


def kv_bytes_per_token(config: Mapping[str, Any], kv_dtype: str = "auto") -> int:
    """Bytes of KV cache per token, all layers, one copy (not one per tensor-parallel rank).

    Multi-head, grouped and multi-query attention: 2 * layers * kv_heads * head_dim * itemsize, with head_dim
    from the config or hidden_size / num_attention_heads. MLA (DeepSeek-V2, arXiv 2405.04434, section 2.1):
    layers * (kv_lora_rank + qk_rope_head_dim) * itemsize. Scales of fp8 caches are per tensor: not counted.
    Errors: UserError, as in load_geometry.
    """
    return _kv_bytes_per_token(_Config(config, "config"), kv_dtype)


def parameters(config: Mapping[str, Any]) -> Parameters:
    """Weights of the model, total and active per token (see Parameters), counted from its dimensions.

    Errors: UserError, as in load_geometry.
    """
    return _parameters(_Config(config, "config"))


def _read(path: Path) -> tuple[_Config, str]:
    file = path / "config.json" if path.is_dir() else path
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{file}: no such model config; name a Hugging Face config.json") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); name a readable config.json") from None
    except ValueError as error:
        raise UserError(f"{file}: not JSON ({error}); copy the model's config.json again") from None
    if not isinstance(values, dict):
        raise UserError(f"{file}: not a JSON object; copy the model's config.json again")
    return _Config(values, str(file)), file.parent.resolve().name if file.name == "config.json" else file.stem


def _family(config: _Config) -> _Family:
    values, known = config.values, ", ".join(sorted(_FAMILIES))
    model_type = values.get("model_type")
    if not isinstance(model_type, str) or model_type not in _FAMILIES:
        raise UserError(
            f"{config.where}: model_type {model_type!r} is unknown, so its KV bytes are too; known: {known}"
        )
    if values.get("sliding_window") is not None and values.get("use_sliding_window", True):
        raise UserError(
            f"{config.where}: sliding_window {values['sliding_window']!r} bounds a layer's KV cache, "
            "which is not modelled; use a model with full attention"
        )
    if set(values.get("layer_types") or []) - {"full_attention"}:
        raise UserError(
            f"{config.where}: layer_types has layers without full attention, which are not modelled; "
            "use a model with full attention in every layer"
        )
    return _FAMILIES[model_type]


def _head_dim(config: _Config) -> int:
    if config.values.get("head_dim") is not None:
        return config.count("head_dim")
    hidden, heads = config.count("hidden_size"), config.count("num_attention_heads")
    if hidden % heads:
        raise UserError(f"{config.where}: hidden_size {hidden} is no multiple of {heads} heads; add head_dim")
    return hidden // heads


def _resolve_dtype(config: _Config, kv_dtype: str) -> str:
    if kv_dtype != "auto":
        if kv_dtype not in KV_DTYPE_BYTES:
            raise UserError(f"kv_dtype {kv_dtype!r} is unknown; choose auto, {', '.join(KV_DTYPE_BYTES)}")
        return kv_dtype
    key = "torch_dtype" if "torch_dtype" in config.values else "dtype"
    dtype = str(config.values.get(key)).removeprefix("torch.")
    if dtype not in KV_DTYPE_BYTES:
        raise UserError(
            f"{config.where}: {key} is {config.values.get(key)!r}, so kv_dtype auto is undecided; "
            f"set kv_dtype to one of {', '.join(KV_DTYPE_BYTES)}"
        )
    return dtype


def _kv_bytes_per_token(config: _Config, kv_dtype: str) -> int:
    if _family(config).mla:
        elements = config.count("kv_lora_rank") + config.count("qk_rope_head_dim")
    else:
        elements = 2 * config.count("num_key_value_heads") * _head_dim(config)
    return config.count("num_hidden_layers") * elements * KV_DTYPE_BYTES[_resolve_dtype(config, kv_dtype)]


def _attention_width(config: _Config) -> int:
    if _family(config).mla:
        keys = ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
        dimensions = sum(config.count(key) for key in keys)
    else:
        dimensions = 2 * _head_dim(config)
    return config.count("num_hidden_layers") * config.count("num_attention_heads") * dimensions


def _parameters(config: _Config) -> Parameters:
    family = _family(config)
    hidden, layers = config.count("hidden_size"), config.count("num_hidden_layers")
    embedding = config.count("vocab_size") * hidden
    head = 0 if config.flag("tie_word_embeddings") else embedding
    attention = _mla_weights(config) if family.mla else _attention_weights(config, family)
    sparse = sum(_is_sparse(config, family, layer) for layer in range(layers))
    expert_total, expert_active = _expert_weights(config, family) if sparse else (0, 0)
    dense = _mlp_weights(config, config.count("intermediate_size")) if sparse < layers else 0
    rest = layers * (attention + 2 * hidden) + (layers - sparse) * dense + hidden
    return Parameters(
        total=embedding + head + rest + sparse * expert_total,
        active=embedding + rest + sparse * expert_active,
    )


def _attention_weights(config: _Config, family: _Family) -> int:
    hidden, head_dim = config.count("hidden_size"), _head_dim(config)
    query = config.count("num_attention_heads") * head_dim
    key_value = 2 * config.count("num_key_value_heads") * head_dim
    biases = (query + key_value) if family.qkv_bias else 0
    if config.flag("attention_bias"):
        biases = query + key_value + hidden
    return hidden * (2 * query + key_value) + biases + (2 * head_dim if family.qk_norm else 0)


def _mla_weights(config: _Config) -> int:
    hidden, heads = config.count("hidden_size"), config.count("num_attention_heads")
    latent, rope = config.count("kv_lora_rank"), config.count("qk_rope_head_dim")
    nope, value = config.count("qk_nope_head_dim"), config.count("v_head_dim")
    query_latent = config.optional_count("q_lora_rank", 0)
    query = heads * (nope + rope)
    down_up = query_latent * (hidden + query + 1) if query_latent else hidden * query
    key_value = hidden * (latent + rope) + latent * (heads * (nope + value) + 1)
    biases = (query_latent + latent + rope + hidden) if config.flag("attention_bias") else 0
    return down_up + key_value + heads * value * hidden + biases


def _mlp_weights(config: _Config, intermediate: int) -> int:
    hidden = config.count("hidden_size")
    return 3 * hidden * intermediate + ((2 * intermediate + hidden) if config.flag("mlp_bias") else 0)


def _is_sparse(config: _Config, family: _Family, layer: int) -> bool:
    if family.experts is None:
        return False
    if family.mla:
        first_sparse = config.count("first_k_dense_replace", least=0)
        return layer >= first_sparse and layer % (config.optional_count("moe_layer_freq", 1) or 1) == 0
    if layer in (config.values.get("mlp_only_layers") or []):
        return False
    return (layer + 1) % (config.optional_count("decoder_sparse_step", 1) or 1) == 0


def _expert_weights(config: _Config, family: _Family) -> tuple[int, int]:
    """(total, active) weights of one layer's experts, shared experts and router."""
    assert family.experts is not None
    experts, chosen = config.count(family.experts), config.count("num_experts_per_tok")
    width = "intermediate_size" if family.experts == "num_local_experts" else "moe_intermediate_size"
    expert = _mlp_weights(config, config.count(width))
    shared = config.optional_count("n_shared_experts", 0) * expert
    router = (config.count("hidden_size") + int(family.router_bias)) * experts
    return experts * expert + shared + router, min(chosen, experts) * expert + shared + router
