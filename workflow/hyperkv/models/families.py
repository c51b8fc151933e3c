"""What a model_type fixes and its config.json does not say, and which keys a plain decoder has."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..base.errors import UserError
from .reading import ModelConfig


@dataclass(frozen=True)
class Family:
    """One architecture.

    mla: keys and values as one latent (DeepSeek-V2).
    pattern: which layers are of which kind when layer_types does not say (layers.PATTERNS). window_flag: sliding_window
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


_DEEPSEEK = Family(mla=True, experts="n_routed_experts", router_bias=True)
_QWEN2 = Family(qkv_bias=True, pattern="from_max_window", window_flag=True)
_QWEN3 = Family(qk_norm="head", pattern="from_max_window", window_flag=True)
_QWEN3_MOE = Family(qk_norm="head", experts="num_experts", window_flag=True)
_QWEN3_NEXT = Family(
    qk_norm="head",
    output_gate=True,
    experts="num_experts",
    pattern="full_interval",
    state="gated_delta",
    shared="shared_expert_intermediate_size",
)
_MIXTRAL = Family(experts="num_local_experts", expert_width="intermediate_size")
_GLM_MOE = Family(qk_norm="optional", o_bias=False, experts="n_routed_experts", router_bias=True)
_GEMMA = Family(tied=True)
_KV_ONLY = Family(weights=False)

FAMILIES = {
    "apertus": replace(_KV_ONLY, qk_norm="head"),
    "arcee": replace(_KV_ONLY, gated=False),
    "baichuan": _KV_ONLY,
    "bamba": Family(pattern="attention_indices", state="mamba2", weights=False),
    "bloom": _KV_ONLY,
    "chatglm": _KV_ONLY,
    "cohere": Family(norms=1, tied=True, qk_norm="optional"),
    "cohere2": Family(norms=1, tied=True, pattern="sliding_pattern_4"),
    "deepseek_v2": replace(_DEEPSEEK, router_bias=False),
    "deepseek_v3": _DEEPSEEK,
    "deepseek_v32": _DEEPSEEK,
    "dots1": Family(qk_norm="head", experts="n_routed_experts", router_bias=True, pattern="from_max_window"),
    "ernie4_5": Family(tied=True),
    "ernie4_5_moe": Family(experts="num_experts", router_bias=True, tied=True),
    "exaone4": Family(qk_norm="head", pattern="sliding_pattern_4"),
    "falcon": _KV_ONLY,
    "falcon_h1": Family(pattern="both", state="mamba2", weights=False),
    "falcon_mamba": Family(pattern="all_linear", state="mamba1", weights=False),
    "gemma": _GEMMA,
    "gemma2": Family(tied=True, norms=4, pattern="alternate"),
    "gemma3_text": Family(tied=True, norms=4, qk_norm="head", pattern="sliding_pattern_6"),
    "glm": Family(qkv_bias=True),
    "glm4": Family(norms=4, o_bias=False),
    "glm4_moe": _GLM_MOE,
    "glm4_moe_lite": _DEEPSEEK,
    "glm4v_moe_text": _GLM_MOE,
    "glm4v_text": Family(norms=4, o_bias=False),
    "glm_moe_dsa": _DEEPSEEK,
    "gpt2": _KV_ONLY,
    "gpt_bigcode": _KV_ONLY,
    "gpt_neox": _KV_ONLY,
    "gpt_oss": Family(
        experts="num_local_experts",
        expert_width="intermediate_size",
        expert_bias=True,
        router_bias=True,
        pattern="alternate",
    ),
    "gptj": _KV_ONLY,
    "granite": Family(),
    "granitemoe": _MIXTRAL,
    "granitemoehybrid": Family(pattern="all_linear", state="mamba2", weights=False),
    "hunyuan_v1_dense": Family(qk_norm="head"),
    "internlm2": Family(),
    "internlm3": Family(),
    "jamba": Family(pattern="attention_period", state="mamba1", weights=False),
    "kimi_k2": _DEEPSEEK,
    "kimi_linear": Family(mla=True, pattern="kimi_linear", state="kda", weights=False),
    "lfm2": Family(pattern="full_indices", state="short_conv", weights=False),
    "lfm2_moe": Family(pattern="full_indices", state="short_conv", weights=False),
    "llama": Family(),
    "llama4_text": Family(
        experts="num_local_experts", expert_width="intermediate_size", shared="one", pattern="chunked"
    ),
    "mamba": Family(pattern="all_linear", state="mamba1", weights=False),
    "mamba2": Family(pattern="all_linear", state="mamba2", weights=False),
    "mimo": replace(_QWEN2, window_flag=True),
    "minimax": Family(pattern="attention_types", state="lightning", weights=False),
    "minimax_m2": Family(
        pattern="listed_types",
        qk_norm="whole",
        experts="num_local_experts",
        expert_width="intermediate_size",
        router_bias=True,
    ),
    "minimax_text_01": Family(pattern="attention_types", state="lightning", weights=False),
    "ministral": Family(),
    "ministral3": Family(),
    "mistral": Family(),
    "mixtral": _MIXTRAL,
    "nemotron": Family(gated=False),
    "nemotron_h": Family(pattern="nemotron_h", state="mamba2", weights=False),
    "olmo": Family(),
    "olmo2": Family(qk_norm="whole"),
    "olmo3": Family(qk_norm="whole", pattern="sliding_every_4"),
    "olmoe": Family(qk_norm="whole", experts="num_experts", expert_width="intermediate_size"),
    "opt": _KV_ONLY,
    "persimmon": _KV_ONLY,
    "phi": _KV_ONLY,
    "phi3": Family(),
    "phimoe": _MIXTRAL,
    "qwen2": _QWEN2,
    "qwen2_5_vl": _QWEN2,
    "qwen2_5_vl_text": _QWEN2,
    "qwen2_moe": Family(
        qkv_bias=True,
        experts="num_experts",
        shared="shared_expert_intermediate_size",
        pattern="alternate_to_max_window",
        window_flag=True,
    ),
    "qwen2_vl": _QWEN2,
    "qwen2_vl_text": _QWEN2,
    "qwen3": _QWEN3,
    "qwen3_5_moe_text": _QWEN3_NEXT,
    "qwen3_5_text": replace(_QWEN3_NEXT, experts=None),
    "qwen3_moe": _QWEN3_MOE,
    "qwen3_next": _QWEN3_NEXT,
    "qwen3_vl_moe_text": _QWEN3_MOE,
    "qwen3_vl_text": _QWEN3,
    "seed_oss": Family(qkv_bias=True),
    "smollm3": Family(pattern="sliding_without_rope", window_flag=True, tied=True),
    "solar": Family(),
    "stablelm": _KV_ONLY,
    "starcoder2": Family(gated=False, tied=True),
}

# Keys of decoders whose layers all keep keys and values of every token, and of any config.json.
_PLAIN_TEXT = """
    _attn_implementation _name_or_path _source activation_function add_cross_attention architectures attention_bias
    attention_dropout attn_implementation auto_map bias bos_token_id chunk_size_feed_forward decoder_start_token_id
    decoder_sparse_step dtype embd_pdrop embedding_dropout eos_token_id finetuning_task first_k_dense_replace head_dim
    hidden_act hidden_activation hidden_dropout hidden_size id2label initializer_range intermediate_size is_decoder
    is_encoder_decoder label2id layer_norm_eps layer_norm_epsilon layer_types logit_scale lm_head_bias
    max_position_embeddings max_window_layers mlp_bias mlp_only_layers model_max_length model_type moe_intermediate_size
    moe_layer_freq moe_topk n_embd n_group n_head n_inner n_layer n_positions n_ctx n_routed_experts n_shared_experts
    norm_eps norm_epsilon norm_topk_prob num_attention_heads num_experts num_experts_per_tok num_hidden_layers
    num_key_value_heads num_kv_heads num_local_experts num_nextn_predict_layers original_max_position_embeddings
    output_attentions output_hidden_states output_router_logits pad_token_id partial_rotary_factor pretraining_tp
    problem_type qk_norm qkv_bias quantization_config resid_pdrop residual_dropout return_dict rms_norm_eps
    rope_parameters rope_scaling rope_theta rotary_dim rotary_pct router_aux_loss_coef routed_scaling_factor
    scoring_func sep_token_id shared_expert_intermediate_size sliding_window sliding_window_pattern tf_legacy_loss
    tie_encoder_decoder tie_word_embeddings tokenizer_class topk_group topk_method torch_dtype torchscript
    transformers_version unk_token_id use_bias use_bfloat16 use_cache use_qk_norm use_sliding_window vocab_size
    """
_PLAIN_KEYS = frozenset(_PLAIN_TEXT.split())
# Keys by which an architecture that is known keeps other KV than it usually does.
_ALTERS = (
    "add_cross_attention",
    "attention_k_eq_v",
    "block_configs",
    "compress_ratios",
    "cross_attention_layers",
    "is_encoder_decoder",
    "num_kv_shared_layers",
    "rswa_window",
    "use_cla",
)
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
    altering = [key for key in _ALTERS if config.get(key)]
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
