"""What LMCache's serdes make of KV: the bytes that its server writes, as measured, and its own formula."""

from pathlib import Path

import pytest

from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.models.geometry import load_geometry
from workflow.hyperkv.models.serde import serde_keys, stored_share

LLAMA = load_geometry(Path("config/models/llama-3.1-8b.json"))


def test_without_one_kv_is_stored_as_it_is():
    assert stored_share(None, LLAMA) == 1


def test_fp8_stores_half():
    """2,944 tokens of 4,096 bytes were 6,029,312 bytes in the files."""
    tiny = load_geometry(Path("config/models/tiny-llama.json"))
    assert 2944 * tiny.kv_bytes_per_token * stored_share("fp8", tiny) == 6_029_312


@pytest.mark.parametrize(
    ("serde", "slot"),
    [
        ("turboquant_k8v4", 196),
        ("turboquant_4bit_nc", 134),
        ("turboquant_k3v4_nc", 118),
        ("turboquant_3bit_nc", 102),
    ],
)
def test_turboquant_stores_slots_and_four_whole_layers(serde, slot):
    """Llama-3.1-8B: 32 layers of 8 heads of 128; a slot is a head's key and value."""
    of_token = 4 * 2 * 8 * 128 * 2 + 28 * 8 * slot
    assert LLAMA.kv_bytes_per_token * stored_share(serde, LLAMA) == pytest.approx(of_token)
    assert serde_keys(serde, LLAMA) == {"type": "turboquant", "preset": serde, "head_dim": 128}


@pytest.mark.parametrize(
    ("model", "kv_dtype", "words"),
    [
        ("llama-3.1-8b", "fp8", "shrinks KV of 16 bits, not fp8"),
        ("deepseek-v3", "bfloat16", "layers keep keys and values of equal heads"),
    ],
)
def test_kv_that_it_cannot_shrink_is_refused(model, kv_dtype, words):
    geometry = load_geometry(Path(f"config/models/{model}.json"), kv_dtype)
    with pytest.raises(UserError, match=words):
        stored_share("turboquant_k8v4", geometry)
