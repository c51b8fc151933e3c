"""KV format of a checkpoint (`auto`), as vLLM reads it."""

import json
from pathlib import Path

import pytest

from tests import model_configs as models
from tests.helpers import refused
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.models.geometry import load_geometry

LLAMA = json.loads(Path("config/models/llama-3.1-8b.json").read_text())
SCHEME = {"dynamic": False, "num_bits": 8, "type": "float"}
OLDER = {
    "producer": {"name": "modelopt", "version": "0.23"},
    "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"},
}


@pytest.mark.parametrize(
    ("quantization", "expected"),
    [
        ({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}, "fp8"),
        ({"quant_method": "modelopt", "kv_cache_quant_algo": "fp8"}, "fp8"),
        ({"quant_method": "modelopt_fp4", "quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8"}, "fp8"),
        ({"quant_method": "modelopt", "quantization": {"kv_cache_quant_algo": "FP8"}}, "fp8"),
        ({"quant_method": "modelopt", "kv_cache_scheme": SCHEME}, "fp8"),
        ({"quant_method": "modelopt", "kv_cache_scheme": SCHEME | {"dynamic": True}}, "bfloat16"),
        ({"quant_method": "modelopt", "kv_cache_quant_algo": None}, "bfloat16"),
        ({"quant_method": "modelopt", "kv_cache_quant_algo": "INT8"}, "bfloat16"),
        (OLDER, "fp8"),
        ({**OLDER, "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": None}}, "bfloat16"),
        ({**OLDER, "quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8"}}, "fp8"),
        ({"quant_method": "compressed-tensors", "kv_cache_scheme": SCHEME}, "fp8"),
        ({"quant_method": "compressed_tensors", "kv_cache_scheme": SCHEME}, "fp8"),
        ({"quant_method": "compressed-tensors", "kv_cache_scheme": None}, "bfloat16"),
        ({"quant_method": "compressed-tensors", "format": "pack-quantized"}, "bfloat16"),
        ({"quant_method": "quark", "export": {"kv_cache_group": ["*k_proj"]}}, "bfloat16"),
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, "bfloat16"),
        ({"quant_method": "fp8", "kv_cache_quant_algo": "FP8"}, "bfloat16"),
        ({"quant_method": "awq", "bits": 4}, "bfloat16"),
        ({"quant_method": "gptq", "bits": 4}, "bfloat16"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bfloat16"),
        ({"quant_method": "mxfp4"}, "bfloat16"),
        ({}, "bfloat16"),
        (None, "bfloat16"),
    ],
)
def test_auto_takes_what_the_checkpoint_brings(quantization, expected):
    geometry = load_geometry({**LLAMA, "torch_dtype": "float32", "quantization_config": quantization})
    assert geometry.kv_dtype == expected
    assert geometry.kv_bytes_per_token == (65_536 if expected == "fp8" else 131_072)
    assert geometry.checkpoint_kv_dtype == ("fp8" if expected == "fp8" else None)
    asked = load_geometry({**LLAMA, "quantization_config": quantization}, "bfloat16")
    assert (asked.kv_dtype, asked.checkpoint_kv_dtype) == ("bfloat16", geometry.checkpoint_kv_dtype)


def test_where_a_multimodal_models_scheme_may_be():
    config = models.MISTRAL_SMALL_3_1
    scheme = {"quant_method": "compressed-tensors", "kv_cache_scheme": SCHEME}
    for found in (
        {**config, "quantization_config": scheme},
        {**config, "compression_config": scheme},
        {**config, "text_config": {**config["text_config"], "quantization_config": scheme}},
    ):
        assert load_geometry(found).kv_bytes_per_token == 163_840 // 2


def test_mla_does_not_look_at_a_scheme_of_compressed_tensors_but_at_modelopts():
    scheme = {"quant_method": "compressed-tensors", "kv_cache_scheme": SCHEME}
    assert load_geometry({**models.DEEPSEEK_V3, "quantization_config": scheme}).kv_bytes_per_token == 70_272
    modelopt = {"quant_method": "modelopt_fp4", "kv_cache_quant_algo": "FP8"}
    assert load_geometry({**models.DEEPSEEK_V3, "quantization_config": modelopt}).kv_bytes_per_token == 35_136


def test_modelopts_older_file_beside_the_config(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    assert load_geometry(tmp_path).kv_bytes_per_token == 131_072
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(OLDER))
    assert load_geometry(tmp_path).kv_bytes_per_token == 65_536
    assert load_geometry(tmp_path / "config.json").kv_dtype == "fp8"
    (tmp_path / "config.json").write_text(
        json.dumps({**LLAMA, "quantization_config": {"quant_method": "fp8"}})
    )
    assert load_geometry(tmp_path).kv_dtype == "bfloat16"
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    (tmp_path / "hf_quant_config.json").write_text("{")
    with pytest.raises(UserError, match=r"hf_quant_config\.json is not JSON"):
        load_geometry(tmp_path)


@pytest.mark.parametrize(
    "quantization",
    [
        {"quant_method": "modelopt_fp4", "kv_cache_quant_algo": "NVFP4"},
        {"quant_method": "compressed-tensors", "kv_cache_scheme": SCHEME | {"num_bits": 4}},
        {"quant_method": "compressed-tensors", "kv_cache_scheme": SCHEME | {"type": "int"}},
    ],
)
def test_a_format_that_is_not_counted_is_refused_and_the_remedy_works(quantization):
    config = {**LLAMA, "quantization_config": quantization}
    with refused("set kv_dtype"):
        load_geometry(config)
    assert load_geometry(config, "fp8").kv_bytes_per_token == 65_536
    assert load_geometry(config, "bfloat16").checkpoint_kv_dtype is not None
