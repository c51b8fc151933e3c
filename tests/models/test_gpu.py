"""The step formula by hand, and the figures of a GPU file for measured and scaled models."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests import model_configs as models
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.models.derive_gpu import SIZES
from workflow.hyperkv.models.geometry import load_geometry
from workflow.hyperkv.models.gpu import BoundedAttention, GpuModel, load_gpu

CONFIG = Path(__file__).parents[2] / "config"
SMALL = load_geometry(CONFIG / "models/llama-3.2-1b.json")
MODEL = GpuModel(
    "g",
    prefill_tokens_per_s=1000,
    host_device_gbps=2,
    prefill_attention_s_per_token2=0.001,
    prefill_min_s=0.3,
    decode_base_s=0.25,
    decode_per_sequence_s=0.125,
    decode_per_context_token_s=0.0625,
)
DOCUMENT = {
    "name": "G",
    "host_device_gbps": 50,
    "scale_from": "big",
    "models": {
        "big": {
            "active_parameters": 4 * SMALL.active_parameters,
            "attention_width": 8 * SMALL.attention_width,
            "layers": 2 * SMALL.layers,
            "kv_bytes_per_token": 16 * SMALL.kv_bytes_per_token,
            "prefill_tokens_per_s": 1000,
            "prefill_attention_s_per_token2": 0.0008,
            "decode_per_context_token_s": 0.0032,
            "decode_base_s": 0.008,
            "decode_per_sequence_s": 0.004,
            "prefill_min_s": 0.02,
        }
    },
}


@pytest.mark.parametrize(
    ("prefills", "decodes", "seconds"),
    [
        ([], [], 0),
        ([(100, 0)], [], 0.1 + 0.001 * 100 * 50),
        ([(100, 200), (10, 0)], [], 0.11 + 0.001 * (100 * 250 + 10 * 5)),
        ([(10, 0)], [], 0.3),
        ([], [8, 24], 0.25 + 2 * 0.125 + 32 * 0.0625),
        ([(10, 0)], [8], 0.3 + 0.125 + 0.5),
        ([(100, 0)], [8], 0.1 + 5 + 0.125 + 0.5),
    ],
)
def test_step(prefills, decodes, seconds):
    assert MODEL.step_s(prefills, decodes) == pytest.approx(seconds)


def test_copy():
    assert MODEL.copy_s(3_000_000_000) == pytest.approx(1.5)


def write(tmp_path, document):
    path = tmp_path / "gpu.yaml"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return path


def test_each_figure_is_scaled_by_what_it_depends_on(tmp_path):
    gpu = load_gpu(write(tmp_path, DOCUMENT), SMALL)
    assert gpu == GpuModel(
        "G",
        pytest.approx(4000),
        50,
        prefill_attention_s_per_token2=pytest.approx(0.0001),
        prefill_min_s=pytest.approx(0.01),
        decode_base_s=pytest.approx(0.002),
        decode_per_sequence_s=pytest.approx(0.004),
        decode_per_context_token_s=pytest.approx(0.0002),
        scaled_from="big",
    )


def test_experts_that_tokens_are_routed_to_are_computed_at_their_own_rate(tmp_path):
    """Of a quarter of the reference's weights a third are experts, at half the rate: 4 / 3 of the time; what reads weights stays."""
    mixture = replace(SMALL, active_expert_parameters=SMALL.active_parameters // 3)
    without, at_half = (
        load_gpu(write(tmp_path, DOCUMENT | own), mixture) for own in ({}, {"expert_efficiency": 0.5})
    )
    assert without == load_gpu(write(tmp_path, DOCUMENT), SMALL)
    assert at_half == replace(without, prefill_tokens_per_s=pytest.approx(3000))
    assert load_gpu(write(tmp_path, DOCUMENT | {"expert_efficiency": 0.5}), SMALL) == without


def test_a_mixture_on_an_h200_takes_as_long_as_it_was_measured_to():
    """Medians of results/reference/h200/2026-11-29-mixture, less what any request takes."""
    mixture = load_geometry(CONFIG / "models/qwen3-30b-a3b.json")
    assert mixture.active_expert_parameters == 48 * 8 * 3 * 2048 * 768
    gpu = load_gpu(CONFIG / "gpus/h200.yaml", mixture)
    assert gpu.step_s([(8200, 0)], []) == pytest.approx(0.171, rel=0.06)
    assert gpu.step_s([(24584, 0)], []) == pytest.approx(0.756, rel=0.06)


def test_a_scaled_step_takes_no_less_than_reading_the_weights(tmp_path):
    measured = DOCUMENT["models"]["big"] | {"prefill_min_s": 0.002}
    gpu = load_gpu(write(tmp_path, DOCUMENT | {"models": {"big": measured}}), SMALL)
    assert gpu.prefill_min_s == gpu.decode_base_s == pytest.approx(0.002)


def test_scaling_against_the_other_measured_model():
    """Llama-3.2-1B on an H100, scaled from 8B, against its own measurement."""
    path = CONFIG / "gpus/h100.yaml"
    measured = load_gpu(path, SMALL)
    scaled = load_gpu(path, replace(SMALL, name="another"))
    ratios = {
        key: getattr(scaled, key) / getattr(measured, key)
        for key, value in scaled.as_record().items()
        if isinstance(value, float) and key != "host_device_gbps"
    }
    assert ratios == {
        "prefill_tokens_per_s": pytest.approx(1.14, abs=0.01),
        "prefill_attention_s_per_token2": pytest.approx(0.98, abs=0.01),
        "prefill_min_s": pytest.approx(0.66, abs=0.01),
        "decode_base_s": pytest.approx(0.67, abs=0.01),
        "decode_per_sequence_s": pytest.approx(0.52, abs=0.01),
        "decode_per_context_token_s": pytest.approx(1.37, abs=0.01),
    }
    for prompt in (4096, 8192, 32768):
        seconds = scaled.step_s([(prompt, 0)], [])
        assert seconds == pytest.approx(measured.step_s([(prompt, 0)], []), rel=0.13)


def test_measured_is_not_scaled(tmp_path):
    document = DOCUMENT | {"models": {SMALL.name: DOCUMENT["models"]["big"]}}
    gpu = load_gpu(write(tmp_path, document), SMALL)
    assert gpu == GpuModel(
        "G",
        1000,
        50,
        prefill_attention_s_per_token2=0.0008,
        prefill_min_s=0.02,
        decode_base_s=0.008,
        decode_per_sequence_s=0.004,
        decode_per_context_token_s=0.0032,
    )
    assert gpu.as_record()["scaled_from"] is None


def test_the_shipped_file():
    path = CONFIG / "gpus/h100.yaml"
    document = yaml.safe_load(path.read_text())
    reference = document["scale_from"]
    measured = document["models"][reference]
    big = load_geometry(CONFIG / f"models/{reference}.json")
    for name, entry in document["models"].items():
        geometry = load_geometry(CONFIG / f"models/{name}.json")
        assert {key: entry[key] for key in SIZES} == {key: getattr(geometry, key) for key in SIZES}
    gpu = load_gpu(path, big)
    assert gpu.scaled_from is None
    assert gpu.prefill_tokens_per_s == measured["prefill_tokens_per_s"]
    assert gpu.host_device_gbps == document["host_device_gbps"]
    small = load_gpu(path, SMALL)
    if SMALL.name not in document["models"]:
        assert small.scaled_from == reference
    assert small.prefill_tokens_per_s > gpu.prefill_tokens_per_s


@pytest.mark.parametrize("key", ["name", "host_device_gbps", "scale_from", "models"])
def test_a_missing_key_is_named(tmp_path, key):
    with pytest.raises(UserError, match=key):
        load_gpu(write(tmp_path, {k: v for k, v in DOCUMENT.items() if k != key}), SMALL)


@pytest.mark.parametrize("key", ["active_parameters", "attention_width", "layers", "prefill_tokens_per_s"])
def test_a_missing_figure_is_named(tmp_path, key):
    figures = {k: v for k, v in DOCUMENT["models"]["big"].items() if k != key}
    with pytest.raises(UserError, match=key):
        load_gpu(write(tmp_path, DOCUMENT | {"models": {"big": figures}}), SMALL)


@pytest.mark.parametrize("document", ["", "[", DOCUMENT | {"host_device_gbps": "fast"}])
def test_a_malformed_file_is_named(tmp_path, document):
    with pytest.raises(UserError, match=r"gpu\.yaml"):
        load_gpu(write(tmp_path, document), SMALL)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.yaml"):
        load_gpu(tmp_path / "none.yaml", SMALL)


@given(st.integers(0, 5000), st.integers(1, 5000), st.integers(1, 3000), st.booleans())
def test_attention_within_a_window_is_no_more_than_over_all_and_the_same_in_parts(
    before, new, tokens, chunked
):
    layers = BoundedAttention(tokens, chunked, 1.0, 1.0)
    pairs = layers.pairs(before + new) - layers.pairs(before)
    assert 0 <= pairs <= new * (before + new / 2) + 1e-6
    assert pairs <= new * tokens
    if before + new <= tokens:
        assert pairs == pytest.approx(new * (before + new / 2))
    assert layers.attended(before + new) <= tokens


def test_a_window_bounds_what_attention_takes():
    """gpt-oss: 18 layers of 64 heads and 64 dimensions over all tokens, 18 over 128."""
    path, h100 = CONFIG / "gpus/h100.yaml", yaml.safe_load((CONFIG / "gpus/h100.yaml").read_text())
    measured = h100["models"][h100["scale_from"]]
    gpu = load_gpu(path, load_geometry(models.GPT_OSS_120B))
    share = 18 * 64 * 128 / measured["attention_width"]
    attention = measured["prefill_attention_s_per_token2"]
    assert gpu.prefill_attention_s_per_token2 == pytest.approx(share * attention)
    (sliding,) = gpu.bounded
    assert (sliding.tokens, sliding.prefill_s_per_token2) == (128, pytest.approx(share * attention))
    prompt = 100_000
    all_tokens = prompt / gpu.prefill_tokens_per_s + share * attention * prompt**2 / 2
    windows = share * attention * (128**2 / 2 + (prompt - 128) * 128)
    assert gpu.step_s([(prompt, 0)], []) == pytest.approx(all_tokens + windows)
    decode = measured["decode_per_context_token_s"] * 36_864 / measured["kv_bytes_per_token"]
    one, none = gpu.step_s([], [50_000]), gpu.decode_base_s + gpu.decode_per_sequence_s
    assert one - none == pytest.approx(decode * (50_000 + 128))
    assert gpu.as_record()["bounded"][0]["tokens"] == 128


def test_chunks_start_again_and_sparse_attention_looks_at_its_best():
    scout = load_gpu(CONFIG / "gpus/h100.yaml", load_geometry(models.LLAMA_4_SCOUT))
    (chunked,) = scout.bounded
    assert (chunked.tokens, chunked.chunked) == (8192, True)
    assert chunked.pairs(3 * 8192) == 3 * chunked.pairs(8192)
    sparse = load_gpu(CONFIG / "gpus/h100.yaml", load_geometry(models.DEEPSEEK_V3_2))
    assert [layers.tokens for layers in sparse.bounded] == [2048]
    dense = load_gpu(CONFIG / "gpus/h100.yaml", load_geometry(models.DEEPSEEK_V3))
    assert sparse.step_s([(131_072, 0)], []) < dense.step_s([(131_072, 0)], [])
    assert "bounded" not in dense.as_record()
