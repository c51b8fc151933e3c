"""What vLLM says of its KV cache at start, from a model's geometry."""

import json
from pathlib import Path

import pytest

from tests import model_configs as models
from workflow.hyperkv.engines.vllm.command import block_bytes, hybrid_manager
from workflow.hyperkv.models.geometry import load_geometry

LLAMA = load_geometry(json.loads(Path("config/models/llama-3.1-8b.json").read_text()))
GPT = load_geometry(models.GPT_OSS_120B)
GEMMA = load_geometry(models.GEMMA_3_27B)
SCOUT = load_geometry(models.LLAMA_4_SCOUT)


@pytest.mark.parametrize(
    ("geometry", "device", "connector", "expected"),
    [
        (GPT, "cuda", None, True),
        (GPT, "cuda", "LMCacheConnectorV1", False),
        (GPT, "cuda", "LMCacheMPConnector", True),
        (GPT, "cuda", "OffloadingConnector", True),
        (GPT, "cpu", None, False),
        (SCOUT, "cuda", None, False),
    ],
)
def test_when_vllm_frees_what_is_out_of_a_window(geometry, device, connector, expected):
    assert hybrid_manager(geometry, device, connector) is expected


@pytest.mark.parametrize(
    ("geometry", "hybrid", "gpus", "expected"),
    [
        (LLAMA, True, 1, 16 * 131_072),
        (LLAMA, False, 2, 16 * 65_536),
        (GPT, False, 1, 16 * 73_728),
        (GPT, True, 1, 16 * 18 * 2_048),
        (GPT, True, 4, 16 * 18 * 512),
        (GEMMA, True, 1, 16 * 10 * 8_192),
        (load_geometry(models.DEEPSEEK_V3_2), True, 8, 16 * 78_324),
    ],
)
def test_a_block_is_a_groups_layers(geometry, hybrid, gpus, expected):
    assert block_bytes(geometry, 16, hybrid, gpus) == expected


def test_layers_of_two_kinds_of_almost_equal_number_are_padded_to_the_more():
    config = {**models.GPT_OSS_20B, "num_hidden_layers": 25, "layer_types": None}
    assert block_bytes(load_geometry(config), 16, hybrid=True) == 16 * 13 * 2_048
