"""What a model_type fixes and its config.json does not say, and which keys a plain decoder has."""

from __future__ import annotations

from dataclasses import dataclass

from ..base.documents import own_data
from ..base.errors import UserError
from .reading import ModelConfig


@dataclass(frozen=True)
class Family:
    """One architecture.

    mla: keys and values as one latent (DeepSeek-V2).
    pattern: which layers are of which kind when layer_types does not say (patterns.py). window_flag: sliding_window
    counts only with use_sliding_window: true. state: what layers without attention keep (states.STATES).
    weights: the total of the weights follows from the dimensions as in weights.parameters. The rest is for that: qk_norm
    head | whole (one for all heads), o_bias: attention_bias has one for the output, experts and expert_width: their keys,
    shared: how wide experts that every token passes are, gated: the MLP has a gate, norms: per layer, tied: transformers'
    default of tie_word_embeddings.
    """

    mla: bool = False
    pattern: str | None = None
    window_flag: bool = False
    state: str | None = None
    weights: bool = True
    qkv_bias: bool = False
    o_bias: bool = True
    qk_norm: str = ""
    output_gate: bool = False
    experts: str | None = None
    expert_width: str = "moe_intermediate_size"
    expert_bias: bool = False
    router_bias: bool = False
    shared: str = "n_shared_experts"
    gated: bool = True
    norms: int = 2
    tied: bool = False


_KV_ONLY = Family(weights=False)
_DATA = own_data(__file__)
FAMILIES = {
    model_type: Family(**{key: value for key, value in entry.items() if key != "model_types"})
    for entry in _DATA["families"]
    for model_type in entry["model_types"]
}
_PLAIN_KEYS = frozenset(_DATA["plain_keys"])
BY_HAND = "describe its layers by hand in a file and name that (config/models/README.md)"


def family_of(config: ModelConfig) -> Family:
    """What is known of a model's architecture.

    A model_type that is not known is taken for a plain decoder when every key it has is one of such a decoder and none
    says that a layer is anything but full attention: vLLM derives the KV of any model from num_hidden_layers,
    num_key_value_heads and head_dim alike (ModelArchConfigConvertorBase). Its weights are not derived.
    Raises UserError, naming the key and the mend, for anything else.
    """
    model_type = config.model_type
    known = ", ".join(sorted(FAMILIES))
    if model_type in FAMILIES:
        family = FAMILIES[model_type]
        _check_usual(config, family)
        return family
    if model_type is None:
        raise UserError(
            f"{config.where}: model_type None is unknown, so its KV bytes are too; known: {known}; copy the model's "
            f"config.json, or {BY_HAND}"
        )
    strange = _strange(config)
    if strange is not None:
        raise UserError(
            f"{config.where}: model_type {model_type!r} is unknown and has {strange}, so its KV bytes are unknown; known: "
            f"{known}; {BY_HAND}"
        )
    return _KV_ONLY


def _check_usual(config: ModelConfig, family: Family) -> None:
    """Refuse what a model of a known architecture has besides, when it changes what its layers keep."""
    altering = [key for key in _DATA["altering_keys"] if config.get(key)]
    if not family.mla:
        altering += [key for key in ("kv_lora_rank", "index_topk") if config.get(key)]
    if family.state is None:
        own = ("linear_attn_config", "mamba_d_state", "ssm_state_size", "ssm_cfg")
        altering += [key for key in own if config.get(key)]
    if altering:
        raise UserError(
            f"{config.where}: {altering[0]} is {config.get(altering[0])!r}, which is not known of model_type "
            f"{config.model_type!r} and changes what it keeps; {BY_HAND}"
        )


def _strange(config: ModelConfig) -> str | None:
    """The first key by which a model may be no plain decoder, None when there is none."""
    for key, value in config.values.items():
        if key not in _PLAIN_KEYS and value is not None and value is not False:
            return f"the key {key}"
    for key in ("is_encoder_decoder", "add_cross_attention"):
        if config.values.get(key):
            return f"{key}: true"
    for key in ("sliding_window", "sliding_window_pattern"):
        if config.values.get(key) and config.values.get("use_sliding_window") is not False:
            return f"{key}: {config.values[key]}"
    if set(config.values.get("layer_types") or []) - {"full_attention", "attention"}:
        return "layer_types other than full_attention"
    if config.get("num_hidden_layers") is None or config.get("num_attention_heads") is None:
        return "no num_hidden_layers or num_attention_heads"
    return None
