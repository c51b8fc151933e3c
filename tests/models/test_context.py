"""The longest context, as vLLM derives it."""

import json
from pathlib import Path

import pytest

from tests import model_configs as models
from tests.helpers import refused
from workflow.hyperkv.models.geometry import load_geometry
from workflow.hyperkv.predict.predict_break_even import break_even_table, remarks

LLAMA = {**json.loads(Path("config/models/llama-3.1-8b.json").read_text()), "max_position_embeddings": 32_768}
ORIGINAL = "original_max_position_embeddings"
YARN = {"type": "yarn", "factor": 4.0, ORIGINAL: 32768}
DEFAULT = {"rope_type": "default"}


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({}, 32_768),
        ({"rope_scaling": None}, 32_768),
        ({"rope_scaling": YARN}, 131_072),
        ({"rope_scaling": {"rope_type": "yarn", **YARN}}, 131_072),
        ({"rope_parameters": {"rope_type": "yarn", **YARN, "rope_theta": 1e6}}, 131_072),
        ({"rope_scaling": YARN, "max_position_embeddings": 40_960}, 131_072),
        ({"rope_scaling": YARN, "max_position_embeddings": 131_072}, 131_072),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, 131_072),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0}, "original_max_position_embeddings": 8192}, 32_768),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, 131_072),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2}}, 65_536),
        ({"rope_scaling": {"type": "linear", "factor": None}}, 32_768),
        ({"rope_scaling": {**YARN, "rope_type": "llama3", "type": "llama3"}}, 32_768),
        ({"rope_scaling": {"type": "longrope", "factor": 32, "short_factor": [1]}}, 32_768),
        ({"rope_scaling": {"type": "su", "factor": 32}}, 32_768),
        ({"rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}}, 32_768),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}, 32_768),
        (
            {
                "rope_parameters": {
                    "sliding_attention": DEFAULT,
                    "full_attention": {"rope_type": "yarn", **YARN},
                }
            },
            131_072,
        ),
        ({"model_max_length": 131_072}, 131_072),
        ({"model_max_length": 8_192}, 8_192),
        ({"max_seq_len": 16_384}, 16_384),
        ({"seq_length": 4_096, "max_position_embeddings": None}, 4_096),
        ({"n_positions": 1_024, "max_position_embeddings": None}, 1_024),
        ({"max_sequence_length": 2_048}, 2_048),
    ],
)
def test_longest_context(extra, expected):
    assert load_geometry({**LLAMA, **extra}).max_context_tokens == expected


def test_gemma_3_and_phi_are_extended_already():
    assert load_geometry(models.GEMMA_3_27B).max_context_tokens == 131_072
    phi = {**models.PHI_4, "max_position_embeddings": 131_072, "rope_scaling": {"type": "yarn", "factor": 8}}
    assert load_geometry(phi).max_context_tokens == 131_072


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"rope_scaling": {**YARN, "factor": "4"}}, "rope_scaling.factor is '4'"),
        ({"rope_scaling": {**YARN, ORIGINAL: "32k"}}, f"{ORIGINAL} is '32k'"),
        ({"rope_scaling": "yarn"}, "rope_scaling is 'yarn'"),
        ({"max_seq_len": "long"}, "max_seq_len is 'long'"),
        ({"max_position_embeddings": None}, "max_position_embeddings is missing"),
    ],
)
def test_what_is_malformed_is_one_line_with_its_key(extra, message):
    with refused(message):
        load_geometry({**LLAMA, **extra})


def test_no_row_of_break_even_vanishes_without_a_word(tmp_path):
    path = tmp_path / "qwen.json"
    spec = {
        "models": [str(path)],
        "gpus": ["config/gpus/h100.yaml"],
        "prompt_tokens": [8192, 65_536, 200_000],
        "kv_dtype": "auto",
        "chunk_tokens": 64,
    }
    path.write_text(json.dumps({**models.QWEN2_5_7B, "rope_scaling": YARN}))
    assert break_even_table(spec)["prompt_tokens"].tolist() == [8192, 65_536] * 2
    assert remarks(spec) == [
        "qwen: left out 200,000 tokens, longer than its context of 131,072 (rope_scaling yarn: 4 x 32,768)."
    ]
    path.write_text(json.dumps(models.QWEN2_5_7B))
    assert break_even_table(spec)["prompt_tokens"].tolist() == [8192] * 2
    assert remarks(spec) == [
        "qwen: left out 65,536, 200,000 tokens, longer than its context of 32,768 (max_position_embeddings 32,768)."
    ]


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        (models.BLOOM | {"seq_length": 4096}, 4096),
        (models.FALCON_40B | {"max_position_embeddings": 8192}, 8192),
    ],
)
def test_a_family_whose_config_json_has_no_length_has_vllm_s_2048_unless_it_says_another(config, tokens):
    assert load_geometry(config).max_context_tokens == tokens
