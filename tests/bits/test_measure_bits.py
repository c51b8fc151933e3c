"""Stage bits where its engine's environment is not: what is refused, and what it would be given."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.config.config import checked
from workflow.hyperkv.config.plan import bits_spec
from workflow.hyperkv.machine.probe import call


def test_without_the_engines_environment_it_says_so(tmp_path):
    spec = {"model": "config/models/smollm2-135m.json", "model_dir": None, "device": "cpu", "environment": {}}
    words = ["--spec", json.dumps(spec), "--out", str(tmp_path / "bits.jsonl")]
    found = call([sys.executable, "-m", "workflow.hyperkv.bits.measure_bits", *words])
    assert found.status == 2
    assert "hyperkv bits: error: formats need the engine's environment" in found.errors
    assert not (tmp_path / "bits.jsonl").exists()


def config(**own):
    full = {}
    for path in ("config/scenarios.yaml", "config/config.yaml", "config/experiments/pairs.yaml"):
        for key, value in yaml.safe_load(Path(path).read_text()).items():
            full[key] = full[key] | value if key in full and isinstance(value, dict) else value
    return checked(full | own)


def test_a_model_needs_weights_of_its_own():
    spec = json.loads(bits_spec(config()))
    assert spec["model_dir"] == "results/build/models/smollm2-135m-real"
    assert spec["environment"]["OMP_NUM_THREADS"] == "1"
    with pytest.raises(UserError, match=r"vllm\.model_dir: bits are measured with a model's own weights"):
        bits_spec(config(model="config/models/tiny-llama.json"))
