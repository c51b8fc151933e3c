"""Models that people serve, as vLLM reads their config.json: bytes, context, weights and layers by kind."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import model_configs as models
from tests.helpers import refused
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.models.geometry import load_geometry
from workflow.hyperkv.models.gpu import load_gpu

CONFIGS = {name: models.model(name) for name in models.NAMES}
# KV bytes per token in bf16, longest context, published weights in all and per token, in 10^9 (None: not counted here).
PUBLISHED = {
    "PHI_4": (204_800, 16_384, 14.7, 14.1),
    "GLM_4_5_AIR": (188_416, 131_072, 106, 12.8),
    "GLM_4_6": (376_832, 202_752, 355, 32),
    "DEEPSEEK_V3": (70_272, 163_840, 671, 37),
    "DEEPSEEK_V3_2": (78_324, 163_840, 671, 37),
    "KIMI_K2": (70_272, 131_072, 1_030, 32),
    "GLM_5": (100_152, 202_752, 744, 40),
    "MISTRAL_SMALL_3_1": (163_840, 131_072, 23.6, 23),
    "MINISTRAL_3_14B": (163_840, 262_144, 13.5, 12.8),
    "GPT_OSS_120B": (73_728, 131_072, 116.8, 5.1),
    "GPT_OSS_20B": (49_152, 131_072, 20.9, 3.6),
    "GEMMA_3_27B": (507_904, 131_072, 27.0, 27.0),
    "GEMMA_3_4B": (139_264, 131_072, 3.88, 3.88),
    "GEMMA_2_9B": (344_064, 8_192, 9.24, 9.24),
    "LLAMA_4_SCOUT": (196_608, 10_485_760, 107.8, 17),
    "LLAMA_4_MAVERICK": (196_608, 1_048_576, 400, 17),
    "QWEN3_NEXT_80B": (24_576, 262_144, 79.7, 3.6),
    "QWEN2_5_7B": (57_344, 32_768, 7.62, 7.07),
    "QWEN2_5_7B_1M": (57_344, 1_010_000, 7.62, 7.07),
    "QWEN3_30B_A3B": (98_304, 40_960, 30.5, 3.0),
    "QWEN3_235B": (192_512, 40_960, 235, 22),
    "MINIMAX_M2": (253_952, 196_608, 229, 10),
    "ERNIE_4_5_21B": (57_344, 131_072, 21.8, 3.3),
    "OLMO_2_7B": (524_288, 4_096, 7.30, 6.9),
    "OLMO_3_32B": (262_144, 65_536, 32.2, 31.7),
    "GRANITE_3_3_8B": (163_840, 131_072, 8.17, 8.17),
    "COMMAND_R": (1_310_720, 131_072, 35.0, 35.0),
    "COMMAND_R7B": (131_072, 132_096, 8.03, 8.03),
    "STARCODER2_15B": (81_920, 16_384, 15.96, 15.7),
    "PHI_3_5_MOE": (131_072, 131_072, 41.9, 6.6),
    "MINITRON_8B": (131_072, 4_096, 8.27, 7.2),
    "NEMOTRON_NANO_9B_V2": (16_384, 131_072, None, None),
    "JAMBA_MINI": (16_384, 262_144, None, None),
    "GPT2": (36_864, 1_024, None, None),
    "QWEN2_VL_7B": (57_344, 32_768, 7.62, 7.07),
    "QWEN3_VL_30B": (98_304, 262_144, 30.5, 3.0),
    "KIMI_VL": (31_104, 131_072, 16.0, 2.6),
    "MIXTRAL_8X7B": (131_072, 32_768, 46.7, 12.7),
    "DEEPSEEK_V2_LITE": (31_104, 163_840, 15.7, 2.5),
    "FALCON_40B": (122_880, 2_048, None, None),
    "FALCON_7B": (8_192, 2_048, None, None),
    "BLOOM": (4_014_080, 2_048, None, None),
}
LLAMA = models.model("llama-3.1-8b")
MISTRAL = {**LLAMA, "model_type": "mistral"}
SHIPPED = sorted(Path("config/models").glob("*.json"))


def test_every_config_has_its_published_values():
    assert CONFIGS.keys() == PUBLISHED.keys()


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_served_model_has_its_published_bytes_context_and_weights(name):
    size, context, total, active = PUBLISHED[name]
    geometry = load_geometry(CONFIGS[name])
    assert (geometry.kv_bytes_per_token, geometry.max_context_tokens) == (size, context)
    assert geometry.kv_dtype == "bfloat16"
    if total is None:
        assert geometry.parameters is None
        return
    assert geometry.parameters == pytest.approx(total * 1e9, rel=0.01)
    assert geometry.active_parameters == pytest.approx(active * 1e9, rel=0.06)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_model_can_be_scaled_to(path):
    assert load_gpu(Path("config/gpus/h100.yaml"), load_geometry(path)).prefill_tokens_per_s > 0


def kinds(config) -> list[tuple]:
    return [(part.kind, part.count, part.window_tokens) for part in load_geometry(config).by_kind]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (models.GPT_OSS_120B, [("full", 18, None), ("sliding", 18, 128)]),
        ({**models.GPT_OSS_120B, "layer_types": None}, [("full", 18, None), ("sliding", 18, 128)]),
        ({**models.GPT_OSS_120B, "sliding_window": None, "layer_types": None}, [("full", 36, None)]),
        (models.GEMMA_3_27B, [("full", 10, None), ("sliding", 52, 1024)]),
        (models.GEMMA_2_9B, [("full", 21, None), ("sliding", 21, 4096)]),
        (models.LLAMA_4_SCOUT, [("full", 12, None), ("chunked", 36, 8192)]),
        (models.COMMAND_R7B, [("full", 8, None), ("sliding", 24, 4096)]),
        ({**models.COMMAND_R7B, "sliding_window_pattern": 2}, [("full", 16, None), ("sliding", 16, 4096)]),
        (models.OLMO_3_32B, [("full", 16, None), ("sliding", 48, 4096)]),
        (models.STARCODER2_15B, [("sliding", 40, 4096)]),
        (models.QWEN3_NEXT_80B, [("full", 12, None), ("linear", 36, None)]),
        (models.DEEPSEEK_V3_2, [("full", 61, None), ("index", 61, None)]),
        ({**models.DEEPSEEK_V3_2, "index_topk_freq": 4}, [("full", 61, None), ("index", 16, None)]),
        (models.NEMOTRON_NANO_9B_V2, [("full", 4, None), ("linear", 27, None)]),
        (models.JAMBA_MINI, [("full", 4, None), ("linear", 28, None)]),
        ({**models.QWEN2_5_7B, "use_sliding_window": True}, [("full", 28, None)]),
        (
            {
                **models.QWEN2_5_7B,
                "use_sliding_window": True,
                "max_window_layers": 20,
                "sliding_window": 4096,
            },
            [("full", 20, None), ("sliding", 8, 4096)],
        ),
        ({**MISTRAL, "sliding_window": 4096}, [("sliding", 32, 4096)]),
        ({**MISTRAL, "sliding_window": 0}, [("full", 32, None)]),
        ({**MISTRAL, "sliding_window": [4096, None]}, [("full", 16, None), ("sliding", 16, 4096)]),
        (
            {**MISTRAL, "interleaved_sliding_window": [None, 512, 512, 512]},
            [("full", 8, None), ("sliding", 24, 512)],
        ),
        ({**models.MINIMAX_M2, "attn_type_list": None}, [("full", 62, None)]),
    ],
)
def test_layers_by_kind(config, expected):
    assert kinds(config) == expected


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({key: v for key, v in models.GPT_OSS_120B.items() if key != "sliding_window"}, "sliding_window"),
        ({**models.MINIMAX_M2, "attn_type_list": [0, *[1] * 61]}, "without attention"),
        ({**models.MINIMAX_M2, "attn_type_list": [1]}, "attn_type_list has 1 entries for 62"),
        ({**models.NEMOTRON_NANO_9B_V2, "hybrid_override_pattern": "M?"}, "hybrid_override_pattern"),
        ({**MISTRAL, "sliding_window": [4096] * 5}, "sliding_window has 5 entries"),
        ({**models.QWEN3_NEXT_80B, "linear_num_key_heads": None}, "linear_num_key_heads is missing"),
        ({**models.DEEPSEEK_V3_2, "index_head_dim": None}, "index_head_dim is missing"),
        ({**LLAMA, "model_type": "mamba", "state_size": 16, "conv_kernel": 4}, "no layer keeps tokens"),
    ],
)
def test_layers_that_are_not_understood_are_one_line(config, message):
    with refused(message.replace("?", r"\?")):
        load_geometry(config)


def test_bytes_of_a_context_by_hand():
    gpt = load_geometry(models.GPT_OSS_120B)
    assert gpt.kv_bytes(100) == 100 * 73_728
    assert gpt.kv_bytes(100_000) == 100_000 * 36_864 + 128 * 36_864
    assert gpt.stored_bytes(100_000) == 100_000 * 73_728 == gpt.chunk_bytes(100_000)
    gemma = load_geometry(models.GEMMA_3_27B)
    assert gemma.kv_bytes(131_072) == 8192 * (10 * 131_072 + 52 * 1024)
    scout = load_geometry(models.LLAMA_4_SCOUT)
    assert scout.kv_bytes(1_000_000) == 4096 * (12 * 1_000_000 + 36 * 8192)
    # A layer of Qwen3-Next: convolution 3 x 8192 and a 32 x 128 x 128 state, both in bf16.
    following = load_geometry(models.QWEN3_NEXT_80B)
    assert following.state_bytes == 36 * (3 * 8192 * 2 + 32 * 128 * 128 * 2)
    assert following.kv_bytes(1000) == 1000 * 24_576 + following.state_bytes
    assert following.kv_bytes(0) == 0
    # A layer of Nemotron-Nano: 128 x 80 x 128 state in float32, convolution over 10,240 + 2 x 8 x 128 in bf16.
    nano = load_geometry(models.NEMOTRON_NANO_9B_V2)
    assert nano.state_bytes == 27 * (128 * 80 * 128 * 4 + (10_240 + 2_048) * 3 * 2)
    # Sparse MLA: 1,152 bytes of latent and 132 of the indexer's key per layer; 8-bit latents carry scales, 656.
    sparse = models.DEEPSEEK_V3_2
    assert load_geometry(sparse).kv_bytes_per_token == 61 * (1_152 + 132)
    assert load_geometry(sparse, "fp8").kv_bytes_per_token == 61 * (656 + 132)


@pytest.mark.parametrize(
    ("config", "counts"),
    [
        ({"model_type": "falcon_h1", "mamba_d_ssm": 4096}, (32, 32)),
        ({"model_type": "bamba", "attn_layer_indices": [9, 18, 27]}, (3, 29)),
        ({"model_type": "granitemoehybrid", "layer_types": ["mamba", "attention"] * 16}, (16, 16)),
    ],
)
def test_state_space_models_keep_attention_and_state(config, counts):
    mamba = {"mamba_d_conv": 4, "mamba_d_state": 256, "mamba_expand": 2, "mamba_n_groups": 1}
    geometry = load_geometry({**LLAMA, **mamba, "mamba_n_heads": 64, **config})
    full, linear = geometry.by_kind
    inner = config.get("mamba_d_ssm", 8192)
    assert linear.state_bytes == 2 * (3 * (inner + 512) + inner * 256)
    assert (full.count, linear.count) == counts
    assert geometry.kv_bytes_per_token == full.count * 4096
    assert geometry.parameters is None


@given(st.sampled_from(sorted(CONFIGS)), st.integers(0, 1 << 20), st.integers(0, 1 << 20))
def test_bytes_of_a_context_grow_and_never_pass_those_of_every_token_kept(name, one, other):
    geometry = load_geometry(CONFIGS[name])
    fewer, more = sorted((one, other))
    assert geometry.kv_bytes(fewer) <= geometry.kv_bytes(more) <= geometry.stored_bytes(more)
    assert geometry.stored_bytes(more) <= geometry.kv_bytes_per_token * more + geometry.state_bytes


@given(st.sampled_from(sorted(CONFIGS)))
def test_eight_bits_halve_what_is_kept_in_sixteen_but_for_scales_and_states(name):
    full, half = (load_geometry(CONFIGS[name], dtype) for dtype in ("bfloat16", "fp8"))
    sparse = any(part.kind == "index" for part in full.by_kind)
    assert sparse or 2 * half.kv_bytes_per_token == full.kv_bytes_per_token
    assert half.state_bytes == full.state_bytes


@pytest.mark.parametrize(
    ("config", "gpus", "expected"),
    [
        (LLAMA, 2, 65_536),
        (LLAMA, 8, 16_384),
        (LLAMA, 16, 16_384),
        (models.DEEPSEEK_V3, 8, 70_272),
        (models.DEEPSEEK_V3_2, 8, 78_324),
        (models.GPT_OSS_120B, 4, 18_432),
        (models.QWEN3_NEXT_80B, 4, 12_288),
        (models.QWEN2_5_7B, 4, 14_336),
        (models.QWEN2_5_7B, 1, 57_344),
    ],
)
def test_bytes_on_one_of_several_gpus(config, gpus, expected):
    assert load_geometry(config).kv_bytes_per_token_on_gpu(gpus) == expected


def test_heads_that_cannot_be_divided_are_one_line():
    with pytest.raises(UserError, match="10 KV heads cannot be divided among 4 GPUs"):
        load_geometry(models.PHI_4).kv_bytes_per_token_on_gpu(4)


def test_what_can_be_kept_outside_the_gpu_is_said():
    assert load_geometry(LLAMA).offload_notes == ()
    assert load_geometry(models.PHI_3_5_MOE).offload_notes == ()
    (note,) = load_geometry(models.GPT_OSS_120B).offload_notes
    assert note.startswith(
        "18 layers slide over 128 tokens; LMCache keeps them in full, 36,864 of 73,728 bytes"
    )
    assert "attend in chunks of 8,192" in load_geometry(models.LLAMA_4_SCOUT).offload_notes[0]
    assert "sparse indexer" in load_geometry(models.DEEPSEEK_V3_2).offload_notes[0]
    for config in (LLAMA, models.GPT_OSS_120B, models.LLAMA_4_SCOUT, models.DEEPSEEK_V3_2):
        assert load_geometry(config).offload_refusal is None
    for config in (models.QWEN3_NEXT_80B, models.JAMBA_MINI, models.NEMOTRON_NANO_9B_V2):
        assert "a state of" in load_geometry(config).offload_refusal


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"kv_lora_rank": 512}, "kv_lora_rank"),
        ({"sliding_window": 4096}, "sliding_window: 4096"),
        ({"layer_types": ["full_attention", "sliding_attention"] * 16}, "layer_types"),
        ({"mamba_d_state": 16}, "mamba_d_state"),
        ({"linear_key_head_dim": 128}, "linear_key_head_dim"),
        ({"cross_attention_layers": [3]}, "cross_attention_layers"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder"),
        ({"attention_chunk_size": 8192}, "attention_chunk_size"),
        ({"a_new_idea": 3}, "a_new_idea"),
    ],
)
def test_an_unknown_architecture_with_a_key_that_no_plain_decoder_has_is_refused(extra, message):
    with pytest.raises(UserError, match=message) as caught:
        load_geometry({**LLAMA, "model_type": "brand_new", **extra})
    assert "config/models/README.md" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_kv_of_an_unknown_plain_decoder_is_derived_and_its_weights_are_not():
    geometry = load_geometry({**LLAMA, "model_type": "brand_new", "sliding_window": None, "new_idea": None})
    assert (geometry.kv_bytes_per_token, geometry.parameters) == (131_072, None)
    with refused(r"active_parameters is not known.*by hand with active_parameters"):
        load_gpu(Path("config/gpus/h100.yaml"), geometry)


FALCON = {**LLAMA, "model_type": "falcon", "multi_query": True}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({key: value for key, value in LLAMA.items() if key != "num_key_value_heads"}, 524_288),
        ({**LLAMA, "num_key_value_heads": None}, 524_288),
        ({**LLAMA, "num_key_value_heads": 1}, 16_384),
        ({**LLAMA, "head_dim": 64}, 65_536),
        ({**LLAMA, "head_dim": None}, 131_072),
        ({**models.GPT2, "model_type": "gpt_bigcode", "multi_query": True}, 3_072),
        (FALCON, 16_384),
        ({**FALCON, "new_decoder_architecture": True, "num_kv_heads": 8}, 131_072),
        (
            {**LLAMA, "model_type": "chatglm", "num_key_value_heads": None, "multi_query_group_num": 2},
            32_768,
        ),
    ],
)
def test_heads_by_their_names(config, expected):
    assert load_geometry(config).kv_bytes_per_token == expected


@pytest.mark.parametrize(
    ("model_type", "text", "size", "total"),
    [
        ("qwen3_5_moe", {"model_type": "qwen3_5_moe_text", "mamba_ssm_dtype": "float32"}, 20_480, 34.7e9),
        ("qwen3_5", {"model_type": "qwen3_5_text"}, 32_768, 9.0e9),
        ("llama4", {"model_type": "llama4_text"}, 196_608, 107.8e9),
    ],
)
def test_defaults_of_a_nested_part_are_those_of_the_published_models(model_type, text, size, total):
    geometry = load_geometry({"model_type": model_type, "text_config": text})
    assert geometry.kv_bytes_per_token == size
    assert geometry.parameters == pytest.approx(total, rel=0.02)


def test_a_nested_part_has_transformers_defaults_and_the_top_has_none():
    """A text_config of LLaVA that only says llama is a Llama of 7B with a context of 2,048."""
    nested = load_geometry({"model_type": "llava", "text_config": {"model_type": "llama"}})
    assert (nested.kv_bytes_per_token, nested.max_context_tokens) == (524_288, 2048)
    assert load_geometry(
        {"model_type": "llava", "text_config": {"vocab_size": 32064}}
    ).parameters == pytest.approx(6.74e9, rel=0.01)
    with pytest.raises(UserError, match="num_hidden_layers is missing"):
        load_geometry({"model_type": "llama", "num_attention_heads": 32, "head_dim": 128})


def test_other_names_of_the_nested_part():
    text = {**LLAMA, "model_type": "llama"}
    for config in (
        {"model_type": "internvl_chat", "llm_config": text},
        {"model_type": "deepseek_vl_v2", "language_config": text},
        {"model_type": "omni", "thinker_config": {"text_config": text}},
    ):
        assert load_geometry(config).kv_bytes_per_token == 131_072
