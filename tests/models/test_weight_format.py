"""The bytes of a model's weights by the format that its checkpoint brings, and how many GPUs that makes."""

import json
from pathlib import Path

import pytest

from tests.predict.specs import BREAK_EVEN
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.models.geometry import load_geometry
from workflow.hyperkv.models.gpu_memory import gpus_for_model, gpus_for_weights, require_weights_fit
from workflow.hyperkv.predict.predict_break_even import break_even_table, remarks

MODELS = Path("config/models")
LLAMA = json.loads((MODELS / "llama-3.1-8b.json").read_text())
PARAMETERS, LOOKED_UP = 8_030_261_248, 2 * 128256 * 4096


def quantized(**section):
    return load_geometry({**LLAMA, "quantization_config": section})


@pytest.mark.parametrize(
    ("section", "name", "bits"),
    [
        ({"quant_method": "fp8"}, "fp8", 8),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "awq 4 bit", 4 + 20 / 128),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, "gptq 8 bit", 8),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8", 8),
        ({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4"}}, "nvfp4", 4.5),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 8}}},
            },
            "compressed-tensors 8 bit",
            8,
        ),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes 4 bit", 4.5),
        ({"quant_method": "gptq"}, "bf16", 16),
        ({"quant_method": "something"}, "bf16", 16),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": {}, "b": {}}}, "bf16", 16),
    ],
)
def test_bytes_follow_the_checkpoints_format(section, name, bits):
    geometry = quantized(**section)
    assert (geometry.weight_format, geometry.parameters) == (name, PARAMETERS)
    assert geometry.weight_bytes == pytest.approx(((PARAMETERS - LOOKED_UP) * bits + LOOKED_UP * 16) / 8)


@pytest.mark.parametrize(
    ("model", "billions"),
    [("gpt-oss-120b", 65.2), ("kimi-k2", 1028), ("llama-3.1-8b", 16.06), ("deepseek-v3", 673)],
)
def test_models_weigh_what_their_files_do(model, billions):
    """gpt-oss-120b's files: 60.8 GiB, of which experts in mxfp4 are the most."""
    assert load_geometry(MODELS / f"{model}.json").weight_bytes / 1e9 == pytest.approx(billions, rel=0.005)


@pytest.mark.parametrize(
    ("model", "memory_gb", "gpus"),
    [
        ("gemma-3-27b", 24, 4),
        ("kimi-k2", 80, 16),
        ("gpt-oss-120b", 80, 1),
        ("llama-3.1-70b", 24, 8),
        ("phi-4", 12, 5),
    ],
)
def test_the_gpus_are_as_many_as_vllm_can_share_the_model_among(model, memory_gb, gpus):
    geometry = load_geometry(MODELS / f"{model}.json")
    assert gpus_for_weights(geometry, memory_gb) <= gpus == gpus_for_model(geometry, memory_gb)


def test_break_even_has_that_number_and_says_where_there_is_none(tmp_path):
    (tmp_path / "few.json").write_text(
        json.dumps({**LLAMA, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 128})
    )
    (tmp_path / "small.yaml").write_text(
        Path("config/gpus/l4.yaml")
        .read_text()
        .replace("memory_gb: 24", "memory_gb: 4")
        .replace("L4 24GB", "small")
    )
    models = [str(tmp_path / "few.json"), str(MODELS / "gemma-3-27b.json")]
    spec = BREAK_EVEN | {"models": models, "gpus": ["config/gpus/l4.yaml", str(tmp_path / "small.yaml")]}
    rows = break_even_table(spec).groupby(["model", "gpu"], sort=False)["gpus_for_weights"].first()
    assert list(rows)[2:] == [4, 16]
    assert rows.iloc[1] > 2
    assert [line for line in remarks(spec) if "of small hold its weights" in line and line.startswith("few")]
    assert not [line for line in remarks(spec) if "of l4 hold its weights" in line]


def test_the_refusal_names_the_format():
    with pytest.raises(UserError, match=r"65 GB of gpt-oss-120b's weights in mxfp4 and .*; set it to 4$"):
        require_weights_fit(
            Path("config/gpus/l4.yaml"), load_geometry(MODELS / "gpt-oss-120b.json"), 1, 1 << 30
        )
    require_weights_fit(
        Path("config/gpus/h100.yaml"), load_geometry(MODELS / "gpt-oss-120b.json"), 1, 1 << 30
    )
