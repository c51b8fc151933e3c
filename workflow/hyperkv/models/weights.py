"""How many weights a model has and how many of them a token passes, counted from its dimensions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from .families import Family
from .layers import Layers, head_dim, index_layers, kv_heads
from .reading import ModelConfig


@dataclass(frozen=True)
class Parameters:
    """Weights of a model.

    total: every weight of the language model (embedding, layers, norms, head; multi-token-prediction modules, vision
    and audio encoders excluded). active: those a token is multiplied with: without the experts it is not routed to and
    without the input embedding, which is a look-up (a tied embedding counts once, as the head). A token's forward
    pass costs about 2 * active FLOP besides attention over its context.
    looked_up: embedding and head. experts: all layers' experts that tokens are routed to. Both are part of total.
    active_experts: those of them that a token is routed to, part of active.
    """

    total: int
    active: int
    looked_up: int = 0
    experts: int = 0
    active_experts: int = 0


def weights_of(config: ModelConfig, family: Family, by_kind: tuple[Layers, ...]) -> Parameters | None:
    """The weights; None for an architecture whose weights are not known. Raises UserError naming a missing key."""
    if not family.weights:
        return None
    hidden, layers = config.count("hidden_size"), config.count("num_hidden_layers")
    embedding = config.count("vocab_size") * hidden
    head = 0 if config.flag("tie_word_embeddings", default=family.tied) else embedding
    linear = sum(part.count for part in by_kind if part.kind == "linear")
    indexed = index_layers(config) if family.mla else 0
    sparse = sum(_is_sparse(config, family, layer) for layer in range(layers))
    experts = _expert_weights(config, family) if sparse else _Experts(0, 0, 0)
    wide = config.optional_count("intermediate_size_mlp", 0)
    dense = _mlp_weights(config, family, wide or config.count("intermediate_size")) if sparse < layers else 0
    rest = (
        (layers - linear) * (_mla_weights(config) if family.mla else _attention_weights(config, family))
        + (linear * _delta_weights(config) if linear else 0)
        + (indexed * _index_weights(config) if indexed else 0)
        + layers * family.norms * hidden
        + (layers - sparse) * dense
        + hidden
    )
    return Parameters(
        total=embedding + head + rest + sparse * (experts.routed + experts.rest),
        active=embedding + rest + sparse * (experts.active + experts.rest),
        looked_up=embedding + head,
        experts=sparse * experts.routed,
        active_experts=sparse * experts.active,
    )


def _attention_weights(config: ModelConfig, family: Family) -> int:
    hidden, dimension = config.count("hidden_size"), head_dim(config)
    query, key = config.count("num_attention_heads") * dimension, kv_heads(config) * dimension
    biases = (query + 2 * key) if family.qkv_bias else 0
    if config.flag("attention_bias") or config.flag("use_bias"):
        biases = query + 2 * key + (hidden if family.o_bias else 0)
    normed = family.qk_norm == "head" or (family.qk_norm == "optional" and config.flag("use_qk_norm"))
    norms = 2 * dimension if normed else (query + key if family.qk_norm == "whole" else 0)
    gate = hidden * query if family.output_gate else 0
    return hidden * (2 * query + 2 * key) + gate + biases + norms


def _mla_weights(config: ModelConfig) -> int:
    hidden, heads = config.count("hidden_size"), config.count("num_attention_heads")
    latent, rope = config.count("kv_lora_rank"), config.count("qk_rope_head_dim")
    nope, value = config.count("qk_nope_head_dim"), config.count("v_head_dim")
    query_latent = config.optional_count("q_lora_rank", 0)
    query = heads * (nope + rope)
    down_up = query_latent * (hidden + query + 1) if query_latent else hidden * query
    key_value = hidden * (latent + rope) + latent * (heads * (nope + value) + 1)
    biases = (query_latent + latent + rope + hidden) if config.flag("attention_bias") else 0
    return down_up + key_value + heads * value * hidden + biases


def _index_weights(config: ModelConfig) -> int:
    """DeepSeek-V3.2's indexer: queries from the query latent, one key and a weight per head from the hidden state."""
    hidden, heads, dimension = config.counts("hidden_size", "index_n_heads", "index_head_dim")
    return config.count("q_lora_rank") * heads * dimension + hidden * (dimension + heads) + 2 * dimension


def _delta_weights(config: ModelConfig) -> int:
    """Qwen3-Next's gated delta net: queries, keys, values and gate, two gates per head, convolution, output."""
    hidden, heads, head = config.counts("hidden_size", "linear_num_value_heads", "linear_value_head_dim")
    key, value = math.prod(config.counts("linear_num_key_heads", "linear_key_head_dim")), heads * head
    convolution = (2 * key + value) * config.count("linear_conv_kernel_dim")
    return hidden * (2 * key + 3 * value + 2 * heads) + convolution + 2 * heads + head


def _mlp_weights(config: ModelConfig, family: Family, width: int) -> int:
    hidden, matrices = config.count("hidden_size"), 3 if family.gated else 2
    biases = (matrices - 1) * width + hidden if config.flag("mlp_bias") or config.flag("use_bias") else 0
    return matrices * hidden * width + biases


def _is_sparse(config: ModelConfig, family: Family, layer: int) -> bool:
    """Whether a layer has experts."""
    if family.experts is None or config.optional_count(family.experts, 1) == 0:
        return False
    types = config.words("mlp_layer_types")
    if types is not None:
        return types[layer] == "sparse"
    if family.mla or config.get("first_k_dense_replace") is not None:
        first_sparse = config.count("first_k_dense_replace", least=0)
        return layer >= first_sparse and layer % (config.optional_count("moe_layer_freq", 1) or 1) == 0
    if config.get("moe_layers") is not None:
        return layer in (config.words("moe_layers") or [])
    if config.get("moe_layer_start_index") is not None:
        start, end = config.count("moe_layer_start_index", least=0), config.get("moe_layer_end_index")
        last = config.count("num_hidden_layers") - 1 if end in (None, -1) else int(end)
        return (
            start <= layer <= last
            and (layer + 1) % (config.optional_count("moe_layer_interval", 1) or 1) == 0
        )
    if layer in (config.words("mlp_only_layers") or []):
        return False
    step = config.get("interleave_moe_layer_step") or config.optional_count("decoder_sparse_step", 1) or 1
    return (layer + 1) % step == 0


class _Experts(NamedTuple):
    """Weights of one layer: of all experts that tokens are routed to, of those that a token is, of shared experts and router."""

    routed: int
    active: int
    rest: int


def _expert_weights(config: ModelConfig, family: Family) -> _Experts:
    assert family.experts is not None
    hidden = config.count("hidden_size")
    experts, chosen = config.count(family.experts), config.count("num_experts_per_tok")
    width = config.count(family.expert_width)
    expert = _mlp_weights(config, family, width) + ((2 * width + hidden) if family.expert_bias else 0)
    if family.shared == "one":
        shared = expert
    elif family.shared == "shared_expert_intermediate_size":
        width = config.optional_count(family.shared, 0)
        shared = _mlp_weights(config, family, width) + hidden if width else 0
    else:
        shared = config.optional_count(family.shared, 0) * expert
    router = (hidden + int(family.router_bias)) * experts
    return _Experts(experts * expert, min(chosen, experts) * expert, shared + router)
