"""config.json of models that people serve, the keys that geometry reads, as published with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

BF16 = {"torch_dtype": "bfloat16", "tie_word_embeddings": False}


def shipped(name: str) -> dict[str, Any]:
    """A model of config/models."""
    return json.loads((Path(__file__).parents[1] / "config" / "models" / f"{name}.json").read_text())


def every(count: int, period: int, word: str, other: str = "full_attention") -> list[str]:
    """layer_types with every period-th layer `other`."""
    return [word if (layer + 1) % period else other for layer in range(count)]


PHI_4 = shipped("phi-4")
GLM_4_5_AIR = shipped("glm-4.5-air")
GLM_4_6 = {
    **GLM_4_5_AIR,
    "first_k_dense_replace": 3,
    "hidden_size": 5120,
    "intermediate_size": 12288,
    "max_position_embeddings": 202752,
    "moe_intermediate_size": 1536,
    "n_routed_experts": 160,
    "num_hidden_layers": 92,
    "use_qk_norm": True,
}
DEEPSEEK_V3: dict[str, Any] = {
    **BF16,
    "model_type": "deepseek_v3",
    "attention_bias": False,
    "first_k_dense_replace": 3,
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "kv_lora_rank": 512,
    "max_position_embeddings": 163840,
    "moe_intermediate_size": 2048,
    "moe_layer_freq": 1,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_attention_heads": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 61,
    "num_key_value_heads": 128,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]},
    "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096},
    "v_head_dim": 128,
    "vocab_size": 129280,
}
DEEPSEEK_V3_2 = {
    **DEEPSEEK_V3,
    "model_type": "deepseek_v32",
    "index_head_dim": 128,
    "index_n_heads": 64,
    "index_topk": 2048,
}
KIMI_K2 = shipped("kimi-k2")
GLM_5 = {
    **DEEPSEEK_V3_2,
    "model_type": "glm_moe_dsa",
    "hidden_size": 6144,
    "index_n_heads": 32,
    "intermediate_size": 12288,
    "max_position_embeddings": 202752,
    "num_attention_heads": 64,
    "num_hidden_layers": 78,
    "num_key_value_heads": 64,
    "q_lora_rank": 2048,
    "qk_nope_head_dim": 192,
    "quantization_config": None,
    "rope_scaling": None,
    "v_head_dim": 256,
    "vocab_size": 154880,
}
MISTRAL_SMALL_3_1 = shipped("mistral-small-3.1")
MINISTRAL_3_14B: dict[str, Any] = {
    "model_type": "mistral3",
    "dtype": "bfloat16",
    "quantization_config": {"quant_method": "fp8", "activation_scheme": "static"},
    "text_config": {
        "head_dim": 128,
        "hidden_size": 5120,
        "intermediate_size": 16384,
        "max_position_embeddings": 262144,
        "model_type": "ministral3",
        "num_attention_heads": 32,
        "num_hidden_layers": 40,
        "num_key_value_heads": 8,
        "rope_parameters": {
            "factor": 16.0,
            "original_max_position_embeddings": 16384,
            "rope_theta": 1000000000.0,
            "rope_type": "yarn",
        },
        "sliding_window": None,
        "vocab_size": 131072,
    },
}
GPT_OSS_120B = shipped("gpt-oss-120b")
GPT_OSS_20B = {
    **GPT_OSS_120B,
    "layer_types": every(24, 2, "sliding_attention"),
    "num_hidden_layers": 24,
    "num_local_experts": 32,
}
GEMMA_3_27B = shipped("gemma-3-27b")
GEMMA_3_4B = {
    **GEMMA_3_27B,
    "text_config": {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    },
}
GEMMA_2_9B: dict[str, Any] = {
    "model_type": "gemma2",
    "torch_dtype": "float32",
    "head_dim": 256,
    "hidden_size": 3584,
    "intermediate_size": 14336,
    "max_position_embeddings": 8192,
    "num_attention_heads": 16,
    "num_hidden_layers": 42,
    "num_key_value_heads": 8,
    "sliding_window": 4096,
    "vocab_size": 256000,
}
LLAMA_4_SCOUT: dict[str, Any] = {
    "model_type": "llama4",
    "torch_dtype": "bfloat16",
    "text_config": {
        "attention_chunk_size": 8192,
        "head_dim": 128,
        "hidden_size": 5120,
        "interleave_moe_layer_step": 1,
        "intermediate_size": 8192,
        "intermediate_size_mlp": 16384,
        "max_position_embeddings": 10485760,
        "model_type": "llama4_text",
        "no_rope_layers": [],
        "num_attention_heads": 40,
        "num_experts_per_tok": 1,
        "num_hidden_layers": 48,
        "num_key_value_heads": 8,
        "num_local_experts": 16,
        "rope_scaling": {
            "factor": 16.0,
            "original_max_position_embeddings": 8192,
            "rope_type": "llama3",
        },
        "vocab_size": 202048,
    },
}
LLAMA_4_MAVERICK = {
    **LLAMA_4_SCOUT,
    "text_config": {
        **LLAMA_4_SCOUT["text_config"],
        "interleave_moe_layer_step": 2,
        "max_position_embeddings": 1048576,
        "num_local_experts": 128,
        "rope_scaling": None,
    },
}
QWEN3_NEXT_80B = shipped("qwen3-next-80b")
QWEN2_5_7B: dict[str, Any] = {
    **BF16,
    "model_type": "qwen2",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "max_position_embeddings": 32768,
    "max_window_layers": 28,
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "sliding_window": 131072,
    "use_sliding_window": False,
    "vocab_size": 152064,
}
QWEN2_5_7B_1M = {
    **QWEN2_5_7B,
    "dual_chunk_attention_config": {"chunk_size": 262144, "local_size": 8192},
    "max_position_embeddings": 1010000,
    "sliding_window": 32768,
}
QWEN3_30B_A3B: dict[str, Any] = {
    **BF16,
    "model_type": "qwen3_moe",
    "attention_bias": False,
    "decoder_sparse_step": 1,
    "head_dim": 128,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "max_position_embeddings": 40960,
    "max_window_layers": 48,
    "mlp_only_layers": [],
    "moe_intermediate_size": 768,
    "num_attention_heads": 32,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 48,
    "num_key_value_heads": 4,
    "sliding_window": None,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
QWEN3_235B = {
    **QWEN3_30B_A3B,
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "max_window_layers": 94,
    "moe_intermediate_size": 1536,
    "num_attention_heads": 64,
    "num_hidden_layers": 94,
}
MINIMAX_M2: dict[str, Any] = {
    **BF16,
    "model_type": "minimax_m2",
    "attn_type_list": [1] * 62,
    "head_dim": 128,
    "hidden_size": 3072,
    "intermediate_size": 1536,
    "max_position_embeddings": 196608,
    "num_attention_heads": 48,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 62,
    "num_key_value_heads": 8,
    "num_local_experts": 256,
    "use_qk_norm": True,
    "vocab_size": 200064,
}
ERNIE_4_5_21B: dict[str, Any] = {
    "model_type": "ernie4_5_moe",
    "torch_dtype": "bfloat16",
    "hidden_size": 2560,
    "intermediate_size": 12288,
    "max_position_embeddings": 131072,
    "moe_intermediate_size": 1536,
    "moe_k": 6,
    "moe_layer_end_index": 27,
    "moe_layer_interval": 1,
    "moe_layer_start_index": 1,
    "moe_num_experts": 64,
    "moe_num_shared_experts": 2,
    "num_attention_heads": 20,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "tie_word_embeddings": True,
    "use_bias": False,
    "vocab_size": 103424,
}
OLMO_2_7B: dict[str, Any] = {
    **BF16,
    "model_type": "olmo2",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "max_position_embeddings": 4096,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "vocab_size": 100352,
}
OLMO_3_32B: dict[str, Any] = {
    **BF16,
    "model_type": "olmo3",
    "hidden_size": 5120,
    "intermediate_size": 27648,
    "layer_types": every(64, 4, "sliding_attention"),
    "max_position_embeddings": 65536,
    "num_attention_heads": 40,
    "num_hidden_layers": 64,
    "num_key_value_heads": 8,
    "rope_scaling": {
        "factor": 8.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "yarn",
    },
    "sliding_window": 4096,
    "vocab_size": 100278,
}
GRANITE_3_3_8B: dict[str, Any] = {
    "model_type": "granite",
    "torch_dtype": "bfloat16",
    "hidden_size": 4096,
    "intermediate_size": 12800,
    "max_position_embeddings": 131072,
    "num_attention_heads": 32,
    "num_hidden_layers": 40,
    "num_key_value_heads": 8,
    "tie_word_embeddings": True,
    "vocab_size": 49159,
}
COMMAND_R: dict[str, Any] = {
    "model_type": "cohere",
    "torch_dtype": "float16",
    "hidden_size": 8192,
    "intermediate_size": 22528,
    "max_position_embeddings": 8192,
    "model_max_length": 131072,
    "num_attention_heads": 64,
    "num_hidden_layers": 40,
    "num_key_value_heads": 64,
    "use_qk_norm": False,
    "vocab_size": 256000,
}
COMMAND_R7B: dict[str, Any] = {
    "model_type": "cohere2",
    "torch_dtype": "bfloat16",
    "head_dim": 128,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 132096,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "sliding_window": 4096,
    "sliding_window_pattern": 4,
    "vocab_size": 256000,
}
STARCODER2_15B: dict[str, Any] = {
    "model_type": "starcoder2",
    "torch_dtype": "float32",
    "hidden_size": 6144,
    "intermediate_size": 24576,
    "max_position_embeddings": 16384,
    "num_attention_heads": 48,
    "num_hidden_layers": 40,
    "num_key_value_heads": 4,
    "sliding_window": 4096,
    "tie_word_embeddings": False,
    "use_bias": True,
    "vocab_size": 49152,
}
PHI_3_5_MOE: dict[str, Any] = {
    **BF16,
    "model_type": "phimoe",
    "attention_bias": True,
    "hidden_size": 4096,
    "intermediate_size": 6400,
    "max_position_embeddings": 131072,
    "num_attention_heads": 32,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "num_local_experts": 16,
    "original_max_position_embeddings": 4096,
    "rope_scaling": {"long_mscale": 1.24, "original_max_position_embeddings": 4096, "type": "longrope"},
    "sliding_window": 131072,
    "vocab_size": 32064,
}
MINITRON_8B: dict[str, Any] = {
    **BF16,
    "model_type": "nemotron",
    "head_dim": 128,
    "hidden_size": 4096,
    "intermediate_size": 16384,
    "max_position_embeddings": 4096,
    "num_attention_heads": 48,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "vocab_size": 256000,
}
NEMOTRON_NANO_9B_V2: dict[str, Any] = {
    **BF16,
    "model_type": "nemotron_h",
    "conv_kernel": 4,
    "head_dim": 128,
    "hidden_size": 4480,
    "hybrid_override_pattern": "M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-",
    "intermediate_size": 15680,
    "mamba_head_dim": 80,
    "mamba_num_heads": 128,
    "max_position_embeddings": 131072,
    "n_groups": 8,
    "num_attention_heads": 40,
    "num_hidden_layers": 56,
    "num_key_value_heads": 8,
    "sliding_window": None,
    "ssm_state_size": 128,
    "vocab_size": 131072,
}
JAMBA_MINI: dict[str, Any] = {
    **BF16,
    "model_type": "jamba",
    "attn_layer_offset": 4,
    "attn_layer_period": 8,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "mamba_d_conv": 4,
    "mamba_d_state": 16,
    "mamba_expand": 2,
    "max_position_embeddings": 262144,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "sliding_window": None,
    "vocab_size": 65536,
}
GPT2: dict[str, Any] = {
    "model_type": "gpt2",
    "n_ctx": 1024,
    "n_embd": 768,
    "n_head": 12,
    "n_layer": 12,
    "n_positions": 1024,
    "vocab_size": 50257,
}
QWEN2_VL_7B: dict[str, Any] = {
    **{key: value for key, value in QWEN2_5_7B.items() if key != "model_type"},
    "model_type": "qwen2_vl",
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    "sliding_window": 32768,
    "vision_config": {"depth": 32},
}
QWEN3_VL_30B: dict[str, Any] = {
    "model_type": "qwen3_vl_moe",
    "text_config": {
        **{key: value for key, value in QWEN3_30B_A3B.items() if "window" not in key},
        "dtype": "bfloat16",
        "max_position_embeddings": 262144,
        "model_type": "qwen3_vl_moe_text",
        "rope_scaling": {"mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default"},
    },
    "tie_word_embeddings": False,
}
KIMI_VL: dict[str, Any] = {
    "model_type": "kimi_vl",
    "torch_dtype": "bfloat16",
    "text_config": {
        **{
            key: value
            for key, value in DEEPSEEK_V3.items()
            if key not in ("quantization_config", "rope_scaling")
        },
        "first_k_dense_replace": 1,
        "hidden_size": 2048,
        "intermediate_size": 11264,
        "max_position_embeddings": 131072,
        "moe_intermediate_size": 1408,
        "n_routed_experts": 64,
        "n_shared_experts": 2,
        "num_attention_heads": 16,
        "num_experts_per_tok": 6,
        "num_hidden_layers": 27,
        "q_lora_rank": None,
        "vocab_size": 163840,
    },
}
