"""What layers without attention keep of a sequence, whatever its length: shapes of vLLM 0.32's MambaStateShapeCalculator."""

from __future__ import annotations

import math
from collections.abc import Callable

from .kv_format import KV_DTYPE_BYTES, SERVED_DTYPE
from .reading import ModelConfig

_ITEM = KV_DTYPE_BYTES[SERVED_DTYPE]


def state_bytes(config: ModelConfig, kind: str) -> int:
    """Bytes of one layer's state per sequence. kind: a key of STATES. Raises UserError naming a missing key.

    The convolution's part is kept in the dtype that is served, the recurrent part in that of the config's
    mamba_ssm_dtype or mamba_ssm_cache_dtype where the architecture has one (vLLM's models/config.py), else in the same.
    """
    return STATES[kind](config)


def _gated_delta(config: ModelConfig) -> int:
    """Qwen3-Next, Qwen3.5: gated_delta_net_state_shape."""
    keys, values = config.count("linear_num_key_heads"), config.count("linear_num_value_heads")
    key_dim, value_dim = config.count("linear_key_head_dim"), config.count("linear_value_head_dim")
    convolved = 2 * keys * key_dim + values * value_dim
    recurrent = values * value_dim * key_dim * _item(config, "mamba_ssm_dtype")
    return convolved * (config.count("linear_conv_kernel_dim") - 1) * _ITEM + recurrent


def _mamba2(config: ModelConfig) -> int:
    """Bamba, Falcon-H1, Granite 4, Nemotron-H: mamba2_state_shape."""
    item = _ITEM
    if config.model_type == "nemotron_h":
        heads, head_dim, groups, state, kernel = config.counts(
            "mamba_num_heads", "mamba_head_dim", "n_groups", "ssm_state_size", "conv_kernel"
        )
        inner, item = heads * head_dim, _item(config, "mamba_ssm_cache_dtype", "float32")
    elif config.model_type == "mamba2":
        heads, head_dim, groups, state, kernel = config.counts(
            "num_heads", "head_dim", "n_groups", "state_size", "conv_kernel"
        )
        inner = config.count("expand") * config.count("hidden_size")
    else:
        heads, groups, state, kernel = config.counts(
            "mamba_n_heads", "mamba_n_groups", "mamba_d_state", "mamba_d_conv"
        )
        inner = config.optional_count("mamba_d_ssm", 0) or math.prod(
            config.counts("mamba_expand", "hidden_size")
        )
        head_dim = inner // heads
    return (inner + 2 * groups * state) * (kernel - 1) * _ITEM + heads * head_dim * state * item


def _mamba1(config: ModelConfig) -> int:
    """Jamba, Mamba, Falcon-Mamba: mamba1_state_shape."""
    if config.model_type == "jamba":
        inner = config.count("mamba_expand") * config.count("hidden_size")
        state, kernel = config.count("mamba_d_state"), config.count("mamba_d_conv")
    else:
        inner = config.optional_count("intermediate_size", 0) or math.prod(
            config.counts("expand", "hidden_size")
        )
        state, kernel = config.count("state_size"), config.count("conv_kernel")
    return inner * (kernel - 1 + state) * _ITEM


def _lightning(config: ModelConfig) -> int:
    """MiniMax-Text-01: linear_attention_state_shape."""
    heads = config.count("num_attention_heads")
    head_dim = config.optional_count("head_dim", 0) or config.count("hidden_size") // heads
    return heads * head_dim * head_dim * _ITEM


def _kda(config: ModelConfig) -> int:
    """Kimi-Linear: kda_state_shape, its recurrent part in float32 (kda_state_dtype)."""
    section = ModelConfig(
        config.section("linear_attn_config") or {}, {}, f"{config.where}: linear_attn_config"
    )
    heads, head_dim = section.count("num_heads"), section.count("head_dim")
    kernel = section.optional_count("short_conv_kernel_size", 4)
    return 3 * heads * head_dim * (kernel - 1) * _ITEM + heads * head_dim * head_dim * 4


def _short_conv(config: ModelConfig) -> int:
    """LFM2: short_conv_state_shape."""
    width = config.optional_count("conv_dim", 0) or config.count("hidden_size")
    return width * (config.count("conv_L_cache") - 1) * _ITEM


STATES: dict[str, Callable[[ModelConfig], int]] = {
    "gated_delta": _gated_delta,
    "kda": _kda,
    "lightning": _lightning,
    "mamba1": _mamba1,
    "mamba2": _mamba2,
    "short_conv": _short_conv,
}


def _item(config: ModelConfig, key: str, default: str = SERVED_DTYPE) -> int:
    return KV_DTYPE_BYTES.get(str(config.get(key) or default), _ITEM)
