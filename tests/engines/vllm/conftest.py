"""Cells of engine vllm on stand-ins of vLLM and AIPerf (tests/fake_engine)."""

import sys
from pathlib import Path

import pytest

from tests.record_factory import spec as replay_spec
from workflow.hyperkv.build.make_model import write_model_folder

ROOT = Path(__file__).parents[3]
DRAM = {"tier": "dram", "store": "dram", "connector": "inprocess", "dram_pool_bytes": 64 << 20}


@pytest.fixture
def fake_modules(monkeypatch):
    """The stand-ins are what `python -m vllm...` and `python -m aiperf` find."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests/fake_engine"))


@pytest.fixture
def spec(tmp_path, fake_modules):
    """The slice of a scenario with a DRAM pool, one load of two clients and two single requests."""
    write_model_folder(Path("config/models/tiny-llama.json"), tmp_path / "model")
    base = replay_spec(tmp_path, "dram")
    return {
        key: value for key, value in base.items() if key not in ("replay", "gpu", "active_conversations")
    } | {
        "engine": "vllm",
        "model": "config/models/tiny-llama.json",
        "scenario": {**base["scenario"], **DRAM, "name": "s", "vllm": {}, "lmcache": {}},
        "loads": [2],
        "loop": "closed",
        "latency": {"prompt_tokens": [100], "prompts": 2},
        "vllm": {
            "device": "cuda",
            "model_dir": None,
            "hbm_kv_bytes": None,
            "block_tokens": 16,
            "prefix_caching": False,
            "staging_bytes": 64 << 20,
            "flags": [],
            "environment": {},
            "ready_timeout_s": 30,
        },
        "loadgen": {
            "conversations_per_client": None,
            "warm_up_requests": 1,
            "request_timeout_s": 20,
            "timeout_s": 60,
        },
        "engine_python": sys.executable,
        "loadgen_python": sys.executable,
        "made_model_dir": str(tmp_path / "model"),
        "environment_records": [str(tmp_path / "engine.json"), str(tmp_path / "loadgen.json")],
    }
