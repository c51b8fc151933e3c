"""GPU files: the shipped ones, the README's example, and one line for every mistake before anything runs."""

import json
from pathlib import Path

import pytest
import yaml

from tests.configs import changed, one_line
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.config.checks.files import GPUS, check_gpu
from workflow.hyperkv.config.config import checked
from workflow.hyperkv.config.models.gpu import Gpu, GpuModel
from workflow.hyperkv.models.derive_gpu import published, render
from workflow.hyperkv.models.geometry import load_geometry
from workflow.hyperkv.models.gpu import load_gpu
from workflow.hyperkv.models.gpu_memory import memory_gb_of

EXAMPLE = (GPUS / "README.md").read_text().partition("```yaml\n")[2].partition("```")[0]
MODEL = "models.llama-3.1-8b"


def written(folder: Path, change=None) -> Path:
    """The README's example with dotted keys set; ... takes one away."""
    document = yaml.safe_load(EXAMPLE)
    for path, value in (change or {}).items():
        section, _, key = path.rpartition("/")
        target = document
        for name in filter(None, section.split("/")):
            target = target[name]
        if value is ...:
            del target[key]
        else:
            target[key] = value
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.mark.parametrize("path", sorted(GPUS.glob("*.yaml")), ids=str)
def test_the_shipped_files_are_good(path):
    check_gpu(path, "gpu")


def test_derived_files_are_good(tmp_path):
    for name in published():
        if name != "h100":
            (tmp_path / "gpu.yaml").write_text(render(name))
            check_gpu(tmp_path / "gpu.yaml", "gpu")


def test_the_readme_s_example_is_good_and_can_be_used(tmp_path):
    (tmp_path / "mine.yaml").write_text(EXAMPLE)
    check_gpu(tmp_path / "mine.yaml", "gpu")
    geometry = load_geometry("config/models/qwen3-8b.json")
    assert load_gpu(tmp_path / "mine.yaml", geometry).scaled_from == "llama-3.1-8b"
    checked(changed("gpu", str(tmp_path / "mine.yaml")))


def test_every_key_of_the_schema_is_in_the_example_or_optional():
    example = yaml.safe_load(EXAMPLE)
    assert set(Gpu.model_fields) - set(example) == {"source"}
    assert set(GpuModel.model_fields) == set(example["models"]["llama-3.1-8b"])


A = "models/llama-3.1-8b"
MISTAKES = {
    "no name": ({"name": ...}, "name is missing"),
    "no host link": ({"host_device_gbps": ...}, "host_device_gbps is missing"),
    "no models": ({"models": ...}, "models is missing"),
    "empty models": ({"models": {}}, "models: {} is wrong; it must be a mapping, not empty"),
    "unknown key": ({"host_gbps": 5}, "host_gbps is not a key; did you mean host_device_gbps"),
    "unknown figure": ({f"{A}/decode_s": 5}, f"{MODEL}.decode_s is not a key; did you mean decode_base_s"),
    "no prefill": ({f"{A}/prefill_tokens_per_s": ...}, f"{MODEL}.prefill_tokens_per_s is missing"),
    "no size": ({f"{A}/layers": ...}, f"{MODEL}.layers: missing; scale_from needs it"),
    "wrong scale_from": ({"scale_from": "llama"}, "scale_from: 'llama' is not in models; choose llama-3.1-8b"),
    "text for a number": ({"host_device_gbps": "fast"}, "host_device_gbps: 'fast' is wrong; it must be a number"),
    "a unit": ({"host_device_gbps": "25 GB/s"}, "(unit: GB/s)"),
    "bytes per second": ({"host_device_gbps": 2.5e10}, "at most 2000 (unit: GB/s)"),
    "ms for prefill_min_s": ({f"{A}/prefill_min_s": 15.5}, f"{MODEL}.prefill_min_s: 15.5 is wrong; .*at most 1 (unit: s)"),
    "ms for decode_base_s": ({f"{A}/decode_base_s": 1.63}, "at most 1 (unit: s)"),
    "ms per sequence": ({f"{A}/decode_per_sequence_s": 0.0088}, "at most 0.005 (unit: s)"),
    "ms per context token": ({f"{A}/decode_per_context_token_s": 4.2e-5}, "at most 5e-06 (unit: s)"),
    "ms of attention": ({f"{A}/prefill_attention_s_per_token2": 5.7e-7}, "at most 1e-07 (unit: s)"),
    "tokens per ms": ({f"{A}/prefill_tokens_per_s": 40.7}, "it is in tokens per second, not per ms"),
    "seconds per token": ({f"{A}/prefill_tokens_per_s": 2.5e-5}, "at least 10"),
    "parameters in billions": ({f"{A}/active_parameters": 8}, "at least 1000000 (unit: weights)"),
    "experts in percent": ({"expert_efficiency": 41}, "expert_efficiency: 41 is wrong; .*at most 1 (unit: share)"),
    "negative": ({f"{A}/decode_base_s": -0.01}, "at least 0"),
    "null": ({"name": None}, "name: null is wrong; it must be text"),
    "a name of digits": ({"name": 4090}, 'name: 4090 is wrong; it must be text .*write "4090"'),
    "a list of models": ({"models": [1]}, "models: [1] is wrong; it must be a mapping"),
}  # fmt: skip


@pytest.mark.parametrize("key", ["gpu", "break_even.gpus"])
@pytest.mark.parametrize(("change", "words"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_line_before_anything_runs(tmp_path, key, change, words):
    path = written(tmp_path, change)
    message = one_line(changed(key, str(path) if key == "gpu" else [str(path)]))
    assert message.startswith(f"config: {key}: {path}")
    for part in words.split(".*"):
        assert part in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty; config/gpus has config/gpus/a100-80gb.yaml"),
        (b"- 1\n", "is no mapping of keys"),
        (b"name: [", "is not YAML"),
        (b"\x80\x81\xff\x00", "is not text"),
        (b"no: 1\n", 'the key false is not text; write it in quotes, such as "no"'),
        (json.dumps({"fit": {"coefficients": {}}, "steps": []}).encode(), "is what calibrate wrote"),
        (None, "is a folder"),
    ],
)
def test_files_that_are_none(tmp_path, content, words):
    path = tmp_path / "mine.yaml"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    assert words in one_line(changed("gpu", str(path)))


def test_a_number_that_yaml_takes_for_text_is_one(tmp_path):
    """YAML 1.1 reads 7e-8, without a point, as text."""
    path = tmp_path / "mine.yaml"
    path.write_text(EXAMPLE.replace("7.0e-8", "7e-8"))
    assert isinstance(
        yaml.safe_load(path.read_text())["models"]["llama-3.1-8b"]["decode_per_context_token_s"], str
    )
    check_gpu(path, "gpu")
    geometry = load_geometry("config/models/llama-3.1-8b.json")
    assert load_gpu(path, geometry).decode_per_context_token_s == 7e-8


@pytest.mark.parametrize("word", [".nan", ".inf", "1.0e+999"])
def test_numbers_that_are_not_finite(tmp_path, word):
    path = tmp_path / "g.yaml"
    path.write_text(Path("config/gpus/l4.yaml").read_text().replace("memory_gb: 24", f"memory_gb: {word}"))
    with pytest.raises(UserError, match=r"^config: gpu: .*g\.yaml: memory_gb: \.(nan|inf) is wrong"):
        check_gpu(path, "gpu")
    with pytest.raises(UserError, match=r"memory_gb: \.(nan|inf) is wrong"):
        memory_gb_of(path)
