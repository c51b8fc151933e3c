"""Models described by hand: the README's example, what every key does, and where such a model may be used."""

import copy
import json
from pathlib import Path

import pytest
import yaml

from tests import model_configs as models
from tests.helpers import refused
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.models.geometry import load_geometry
from workflow.hyperkv.models.gpu import load_gpu
from workflow.hyperkv.predict.predict_break_even import break_even_table, remarks

README = Path("config/models/README.md").read_text()
EXAMPLE = yaml.safe_load(README.split("```yaml\n")[1].split("```")[0])


def written(folder: Path, document, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump(document) if path.suffix == ".yaml" else json.dumps(document))
    return path


@pytest.mark.parametrize("name", ["mine.yaml", "mine.yml", "mine.json"])
def test_the_example_is_gpt_oss(tmp_path, name):
    path = tmp_path / name
    path.write_text(json.dumps(EXAMPLE))
    found, known = load_geometry(path), load_geometry(models.GPT_OSS_120B)
    assert found.name == "mine"
    for key in (
        "layers",
        "kv_bytes_per_token",
        "kv_dtype",
        "max_context_tokens",
        "attention_width",
        "by_kind",
    ):
        assert getattr(found, key) == getattr(known, key)
    assert found.kv_bytes(50_000) == known.kv_bytes(50_000)
    assert found.kv_bytes_per_token_on_gpu(4) == 18_432
    assert found.parameters == pytest.approx(known.parameters, rel=0.01)
    scaled = load_gpu(Path("config/gpus/h100.yaml"), found)
    own = load_gpu(Path("config/gpus/h100.yaml"), known)
    assert scaled.bounded == own.bounded
    assert scaled.prefill_tokens_per_s == pytest.approx(own.prefill_tokens_per_s, rel=0.01)


def test_linear_layers_and_indexers_by_hand(tmp_path):
    document = {
        "layers": [
            {"kind": "full", "count": 12, "kv_bytes_per_token": 2048},
            {"kind": "linear", "count": 36, "state_bytes": 1_097_728},
            {"kind": "index", "count": 12, "kv_bytes_per_token": 132},
        ],
        "max_context_tokens": 1000,
    }
    geometry = load_geometry(written(tmp_path, document))
    assert geometry.kv_bytes_per_token == 12 * (2048 + 132)
    assert geometry.kv_bytes(10) == 10 * geometry.kv_bytes_per_token + 36 * 1_097_728
    assert (geometry.layers, geometry.parameters, geometry.attention_width) == (48, None, None)
    assert "a state of 39,518,208 bytes" in geometry.offload_refusal
    assert geometry.kv_bytes_per_token_on_gpu(8) == geometry.kv_bytes_per_token
    assert load_geometry(tmp_path / "mine.yaml", "fp8").kv_bytes_per_token == 12 * (1024 + 132)
    own = load_geometry(written(tmp_path, {**document, "kv_dtype": "fp8"}))
    assert (own.kv_dtype, own.kv_bytes_per_token) == ("fp8", 12 * (2048 + 132))
    assert load_geometry(tmp_path / "mine.yaml", "bfloat16").kv_bytes_per_token == 12 * (4096 + 132)


def test_break_even_of_a_described_model(tmp_path):
    spec = {
        "models": [str(written(tmp_path, EXAMPLE))],
        "gpus": ["config/gpus/h100.yaml"],
        "prompt_tokens": [8192, 200_000],
        "kv_dtype": "auto",
        "chunk_tokens": 64,
    }
    row, in_fp8 = break_even_table(spec).to_dict("records")
    assert (row["model"], row["kv_bytes"]) == ("mine", 8192 * 73_728)
    assert row["held_bytes"] == (8192 + 128) * 36_864
    assert (row["kv_dtype"], in_fp8["kv_dtype"]) == ("bfloat16", "fp8")
    said = remarks(spec)
    assert said[0].startswith(
        "mine: left out 200,000 tokens, longer than its context of 131,072 (max_context_tokens"
    )
    assert said[1].startswith("mine: 18 layers slide over 128 tokens")


def test_what_the_gpus_time_needs_is_named_and_the_remedy_works(tmp_path):
    gpu = Path("config/gpus/h100.yaml")
    for key, change in (
        ("active_parameters", lambda document: document.pop("parameters")),
        ("attention_width", lambda document: document["layers"][0].pop("attention_width")),
    ):
        document = copy.deepcopy(EXAMPLE)
        change(document)
        with refused(f"{key} is not known"):
            load_gpu(gpu, load_geometry(written(tmp_path, document)))
    assert load_gpu(gpu, load_geometry(written(tmp_path, EXAMPLE))).scaled_from


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": []}, "layers is empty"),
        ({"layers": ["full"]}, r"layers\[0\]: is 'full'"),
        ({"layers": [{"kind": "round", "count": 1}]}, "kind is 'round'; choose full, sliding"),
        ({"layers": [{"kind": "full", "count": 1}]}, r"layers\[0\]: kv_bytes_per_token is missing"),
        ({"layers": [{"kind": "full", "kv_bytes_per_token": 2}]}, "count is missing"),
        ({"layers": [{"kind": "full", "count": "1", "kv_bytes_per_token": 2}]}, "count is '1'"),
        ({"layers": [{"kind": "sliding", "count": 1, "kv_bytes_per_token": 2}]}, "window_tokens is missing"),
        ({"layers": [{"kind": "linear", "count": 1}]}, "state_bytes is missing"),
        (
            {"layers": [{"kind": "full", "count": 1, "kv_bytes_per_tokens": 2}]},
            "no key kv_bytes_per_tokens; known",
        ),
        ({"max_context_tokens": None}, "max_context_tokens is missing"),
        ({"max_context_tokens": "128k"}, "max_context_tokens is '128k'"),
        ({"context": 1}, "no key context; known: active_expert_parameters, active_parameters"),
        ({"parameters": 1.5}, "parameters is 1.5"),
        (
            {"active_expert_parameters": 6 * 10**9},
            "active_expert_parameters 6,000,000,000 is wrong; .* part of the 5,130,000,000",
        ),
        ({"kv_dtype": "int4"}, "kv_dtype is 'int4'"),
    ],
)
def test_a_mistake_is_one_line_with_its_key(tmp_path, change, message):
    path = written(tmp_path, {**EXAMPLE, **change})
    with pytest.raises(UserError, match=message) as caught:
        load_geometry(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_broken_yaml_is_one_line(tmp_path):
    (tmp_path / "mine.yaml").write_text("layers: [")
    with refused(r"mine\.yaml is not YAML"):
        load_geometry(tmp_path / "mine.yaml")
