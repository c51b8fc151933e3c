"""Two real vLLMs on a CPU before one store: what one has saved the other is asked for.

It runs in what `make test-engine` made.
"""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.workflow_helpers import merged
from workflow.hyperkv.config.config import checked
from workflow.hyperkv.config.plan import sweep_spec
from workflow.hyperkv.engines.vllm.cells import SINGLE, Measurement

pytestmark = pytest.mark.engine
FILES = ("config/scenarios.yaml", "config/config.yaml", "config/engine-cpu.yaml")
MODEL = "config/models/tiny-llama.json"
PROMPT_TOKENS = 256


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[str, Path]:
    """The engine's interpreter, and a model with random weights."""
    python = json.loads(Path("results/build/current/current.json").read_text())["python"]
    folder = tmp_path_factory.mktemp("two") / "model"
    words = ["--model", MODEL, "--out", folder, "--random-weights"]
    subprocess.run([python, "-m", "workflow.hyperkv.build.make_model", *words], check=True, timeout=120)
    return python, folder


def test_what_one_engine_saved_another_finds_with_its_bytes_and_answers_alike(made, tmp_path):
    python, model = made
    own = {"tier": "dram", "store": "valkey", "connector": "striped_mp", "loads": []}
    config = merged(
        *(yaml.safe_load(Path(file).read_text()) for file in FILES),
        {
            **{"model": MODEL, "data_dir": str(tmp_path / "data"), "scenarios": {"own": own}},
            "workload": {
                "kind": "multi_turn",
                "conversations": 2,
                "turns": [2, 2],
                "prefix_tokens": [64, 64],
            },
            "vllm": {"pairs": {"current": {"python": python}}},
            "experiment": {"scenarios": ["none", "own"], "engines": 2},
            "latency": {"prompt_tokens": [PROMPT_TOKENS]},
        },
    )
    spec = json.loads(sweep_spec(checked(config), "own")) | {"made_model_dir": str(model)}
    spec["latency"]["prompts"] = 1
    with Measurement(spec, 1, tmp_path / "logs") as measurement:
        record = measurement.measure(SINGLE).dump()
    assert (record["valid"], record["reasons"], record["gpus"]) == (True, [], 2)
    first, again = record["samples"]
    assert (first["cached_tokens"], again["cached_tokens"]) == (0, PROMPT_TOKENS - 1)
    assert again["tokens"][0] == first["tokens"][0]
    size = PROMPT_TOKENS * record["kv_bytes_per_token"]
    assert size <= again["served_bytes"] < 1.1 * size
    assert (
        "loaded 4 chunks, 4 of them saved by another"
        in (tmp_path / "logs/own-1-engine1-lmcache.log").read_text()
    )
