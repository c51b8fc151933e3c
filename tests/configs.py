"""Small configurations, and what a test changes in them."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import workflow_helpers
from tests.workflow_helpers import merged
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.config.config import checked

BASE: dict[str, Any] = {
    "engine": "replay",
    "model": "config/models/llama-3.2-1b.json",
    "gpu": "config/gpus/h100.yaml",
    "workload": {"kind": "multi_turn", "conversations": 4, "turns": [2, 4], "prefix_tokens": [100, 200]},
    "experiment": {"scenarios": ["none", "dram", "files"]},
    "scenarios": {
        "none": {"tier": "none", "pair": "reference"},
        "dram": {
            "tier": "dram",
            "store": "dram",
            "connector": "inprocess",
            "chunk_tokens": [32, 64],
            "dram_pool_bytes": "64 MiB",
        },
        "files": {"tier": "ssd", "store": "files", "connector": "inprocess", "loads": [1]},
        "rocksdb": {"tier": "ssd", "store": "rocksdb", "connector": "resp", "settings": {"direct_io": "yes"}},
    },
    "profile": {"scenarios": ["dram", "files"], "value_bytes": ["1.5 KiB", 4096]},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """BASE with the value at a dotted path replaced."""
    return workflow_helpers.changed(BASE, {path: value})


def without(path: str) -> dict[str, Any]:
    """BASE without the key at a dotted path."""
    return changed(path, ...)


def with_kvrocks(**keys: Any) -> dict[str, Any]:
    """BASE with a scenario `kvrocks`."""
    return changed("scenarios.kvrocks", {"tier": "ssd", "store": "kvrocks", "connector": "resp"} | keys)


def with_striped(**keys: Any) -> dict[str, Any]:
    """BASE with a profiled scenario `striped`."""
    scenario = {"tier": "dram", "store": "valkey", "connector": "striped"} | keys
    config = changed("scenarios.striped", scenario)
    config["profile"]["scenarios"] = ["striped"]
    return config


def engine(**changes: Any) -> dict[str, Any]:
    """BASE with engine vllm on a GPU and one scenario of every kind, some keys changed."""
    config = deepcopy(BASE) | {"engine": "vllm", "latency": {"prompt_tokens": [1024]}}
    config["scenarios"]["valkey"] = {"tier": "dram", "store": "valkey", "connector": "resp"}
    config["experiment"] = {"scenarios": ["none", "dram", "files", "valkey"]}
    for path, value in changes.items():
        section, _, key = path.partition("__")
        config.setdefault(section, {})[key] = value
    return config


GPU: dict[str, Any] = merged(
    *(
        yaml.safe_load(Path("config", f"{name}.yaml").read_text())
        for name in ("config", "scenarios", "experiments/gpu")
    )
)


def model_file(folder: Path, content: dict[str, Any]) -> str:
    """A model's file."""
    path = folder / "model.json"
    path.write_text(json.dumps(content))
    return str(path)


def one_line(config: dict[str, Any]) -> str:
    """The mistake that a config is refused with."""
    with pytest.raises(UserError) as caught:
        checked(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)
