import json
from pathlib import Path

import pytest

from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.models.geometry import load_geometry

MODELS = Path(__file__).parents[2] / "config" / "models"
LLAMA = json.loads((MODELS / "llama-3.1-8b.json").read_text())

MIXTRAL_8X7B = {
    **LLAMA,
    "model_type": "mixtral",
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "sliding_window": None,
    "vocab_size": 32000,
}
QWEN3_30B_A3B = {
    **json.loads((MODELS / "qwen3-8b.json").read_text()),
    "model_type": "qwen3_moe",
    "hidden_size": 2048,
    "num_hidden_layers": 48,
    "num_key_value_heads": 4,
    "moe_intermediate_size": 768,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
}
QWEN2_5_7B = {
    **LLAMA,
    "model_type": "qwen2",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "sliding_window": 131072,
    "use_sliding_window": False,
    "vocab_size": 152064,
}
DEEPSEEK_V2_LITE = {
    **json.loads((MODELS / "deepseek-v3.json").read_text()),
    "model_type": "deepseek_v2",
    "first_k_dense_replace": 1,
    "hidden_size": 2048,
    "intermediate_size": 10944,
    "moe_intermediate_size": 1408,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "num_attention_heads": 16,
    "num_experts_per_tok": 6,
    "num_hidden_layers": 27,
    "q_lora_rank": None,
    "vocab_size": 102400,
}


def without(config: dict, key: str) -> dict:
    return {k: v for k, v in config.items() if k != key}


@pytest.mark.parametrize(
    ("model", "layers", "kv_bytes", "max_context"),
    [
        ("llama-3.1-8b", 32, 131_072, 131_072),
        ("llama-3.2-1b", 16, 32_768, 131_072),
        ("qwen3-8b", 36, 147_456, 40_960),
        ("deepseek-v3", 61, 70_272, 163_840),
    ],
)
def test_shipped_models(model, layers, kv_bytes, max_context):
    path = MODELS / f"{model}.json"
    geometry = load_geometry(path)
    assert (geometry.name, geometry.layers, geometry.kv_dtype) == (model, layers, "bfloat16")
    assert geometry.kv_bytes_per_token == load_geometry(path, "float16").kv_bytes_per_token == kv_bytes
    assert load_geometry(path, "fp8").kv_bytes_per_token == kv_bytes // 2
    assert load_geometry(path, "float32").kv_bytes_per_token == kv_bytes * 2
    assert geometry.chunk_bytes(256) == 256 * kv_bytes
    assert geometry.max_context_tokens == max_context


def test_a_256_token_chunk_of_llama_8b_is_32_mib():
    assert load_geometry(MODELS / "llama-3.1-8b.json").chunk_bytes(256) == 32 * 2**20


@pytest.mark.parametrize(
    ("config", "total"),
    [
        ("llama-3.1-8b", 8_030_261_248),
        ("llama-3.2-1b", 1_235_814_400),
        ("qwen3-8b", 8_190_735_360),
        ("deepseek-v3", 671.0e9),
        (MIXTRAL_8X7B, 46.70e9),
        (QWEN3_30B_A3B, 30.53e9),
        (QWEN2_5_7B, 7_615_616_512),
        (DEEPSEEK_V2_LITE, 15.71e9),
    ],
    ids=lambda value: value.get("model_type") if isinstance(value, dict) else None,
)
def test_parameters_match_the_published_totals(config, total):
    geometry = load_geometry(MODELS / f"{config}.json" if isinstance(config, str) else config)
    assert geometry.parameters == (total if isinstance(total, int) else pytest.approx(total, rel=0.001))


def test_active_parameters():
    deepseek = load_geometry(MODELS / "deepseek-v3.json")
    assert deepseek.active_parameters == pytest.approx(37e9, rel=0.02)
    assert deepseek.active_parameters == pytest.approx(36.6e9, rel=0.002)
    embedding = LLAMA["vocab_size"] * LLAMA["hidden_size"]
    llama = load_geometry(LLAMA)
    assert llama.active_parameters == llama.parameters - embedding
    tied = load_geometry(MODELS / "llama-3.2-1b.json")
    assert tied.active_parameters == tied.parameters
    assert load_geometry(QWEN3_30B_A3B).active_parameters == pytest.approx(3.3e9, rel=0.1)


@pytest.mark.parametrize(("kv_heads", "expected"), [(32, 524_288), (8, 131_072), (1, 16_384)])
def test_multi_head_grouped_and_multi_query_attention(kv_heads, expected):
    assert load_geometry({**LLAMA, "num_key_value_heads": kv_heads}).kv_bytes_per_token == expected


def test_head_dim_wins_over_the_quotient():
    assert load_geometry({**LLAMA, "head_dim": 64}).kv_bytes_per_token == 65_536
    assert load_geometry({**LLAMA, "head_dim": None}).kv_bytes_per_token == 131_072


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "torch.float16", None])
def test_kv_is_kept_in_what_the_workflow_serves_in_whatever_the_weights_are_saved_in(key, dtype):
    geometry = load_geometry({**without(LLAMA, "torch_dtype"), key: dtype})
    assert (geometry.kv_dtype, geometry.kv_bytes_per_token) == ("bfloat16", 131_072)


def test_a_model_folder_names_the_model(tmp_path):
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA))
    assert load_geometry(folder).name == load_geometry(folder / "config.json").name == "tiny"


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        (
            {**LLAMA, "model_type": "new", "ssm_cfg": {}},
            ("model_type", "'new'", "ssm_cfg", "known: ", "by hand"),
        ),
        ({**LLAMA, "model_type": "deepseek_v32"}, ("kv_lora_rank is missing",)),
        (without(LLAMA, "model_type"), ("model_type", "None", "by hand")),
        (
            {**LLAMA, "layer_types": ["full_attention", "sliding_attention"]},
            ("layer_types has 2 entries for 32",),
        ),
        ({**LLAMA, "layer_types": ["sliding_attention"] * 32}, ("layer_types", "without a sliding_window")),
        ({**LLAMA, "layer_types": ["linear_attention"] * 32}, ("layer_types", "'llama'", "by hand")),
        ({**LLAMA, "layer_types": ["warped_attention"] * 32}, ("'warped_attention'", "by hand")),
        ({**LLAMA, "layer_types": "full_attention"}, ("layer_types", "write a list")),
        ({**LLAMA, "num_key_value_heads": 5}, ("num_key_value_heads is 5", "divides 32 heads")),
        ({**LLAMA, "kv_lora_rank": 512}, ("kv_lora_rank is 512", "by hand")),
        ({**LLAMA, "num_kv_shared_layers": 15}, ("num_kv_shared_layers is 15", "by hand")),
        ({**LLAMA, "text_config": "none"}, ("text_config", "copy it")),
        ({**LLAMA, "quantization_config": "fp8"}, ("quantization_config", "copy it")),
        (without(LLAMA, "vocab_size"), ("vocab_size is missing",)),
        (without(LLAMA, "max_position_embeddings"), ("max_position_embeddings is missing",)),
        ({**LLAMA, "num_hidden_layers": "32"}, ("num_hidden_layers is '32'",)),
        ({**LLAMA, "num_hidden_layers": True}, ("num_hidden_layers is True",)),
        ({**LLAMA, "num_hidden_layers": 0}, ("num_hidden_layers is 0",)),
        ({**LLAMA, "tie_word_embeddings": "no"}, ("tie_word_embeddings is 'no'",)),
        ({**LLAMA, "num_attention_heads": 30}, ("hidden_size 4096", "add head_dim")),
        ({**LLAMA, "torch_dtype": "int4"}, ("torch_dtype is 'int4'", "set kv_dtype")),
    ],
)
def test_refusals_are_one_line_and_name_file_and_key(tmp_path, config, parts):
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(config))
    with pytest.raises(UserError) as error:
        load_geometry(path)
    message = str(error.value)
    assert "\n" not in message
    assert all(part in message for part in (str(path), *parts))


def test_missing_file_and_bad_files(tmp_path):
    with pytest.raises(UserError, match=r"there is no file .*none\.json"):
        load_geometry(tmp_path / "none.json")
    with pytest.raises(UserError, match=r"there is no file .*config\.json"):
        load_geometry(tmp_path)
    for content, what in ((b"{", "not JSON"), (b"\xff\xfe", "not text"), (b"[1]", "no mapping of keys")):
        (tmp_path / "bad.json").write_bytes(content)
        with pytest.raises(UserError, match=what) as error:
            load_geometry(tmp_path / "bad.json")
        assert "\n" not in str(error.value)


def test_unknown_kv_dtype():
    with pytest.raises(UserError, match="kv_dtype 'fp4' is unknown; choose auto, bfloat16"):
        load_geometry(LLAMA, "fp4")
