"""Shipped models by the numbers, and every config.json that cannot be read as one line."""

import json

import pytest

from tests.helpers import refused
from tests.model_configs import SHIPPED, model
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.models.geometry import load_geometry

LLAMA = model("llama-3.1-8b")


def without(config: dict, key: str) -> dict:
    return {k: v for k, v in config.items() if k != key}


@pytest.mark.parametrize(
    ("name", "layers", "kv_bytes", "max_context", "weights", "active"),
    [
        ("llama-3.1-8b", 32, 131_072, 131_072, 8_030_261_248, 8_030_261_248 - 128_256 * 4096),
        ("llama-3.2-1b", 16, 32_768, 131_072, 1_235_814_400, 1_235_814_400),
        ("qwen3-8b", 36, 147_456, 40_960, 8_190_735_360, 8_190_735_360 - 151_936 * 4096),
        ("deepseek-v3", 61, 70_272, 163_840, 671_026_419_200, 36_625_618_432),
    ],
)
def test_shipped_models(name, layers, kv_bytes, max_context, weights, active):
    geometry = load_geometry(path := SHIPPED / f"{name}.json")
    assert (geometry.name, geometry.layers, geometry.kv_dtype) == (name, layers, "bfloat16")
    assert geometry.kv_bytes_per_token == load_geometry(path, "float16").kv_bytes_per_token == kv_bytes
    assert load_geometry(path, "fp8").kv_bytes_per_token == kv_bytes // 2
    assert load_geometry(path, "float32").kv_bytes_per_token == kv_bytes * 2
    assert geometry.chunk_bytes(256) == 256 * kv_bytes
    assert geometry.max_context_tokens == max_context
    assert (geometry.parameters, geometry.active_parameters) == (weights, active)


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
        with refused(what):
            load_geometry(tmp_path / "bad.json")


def test_unknown_kv_dtype():
    with pytest.raises(UserError, match="kv_dtype 'fp4' is unknown; choose auto, bfloat16"):
        load_geometry(LLAMA, "fp4")
