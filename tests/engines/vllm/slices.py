"""Slices of a config for engine vllm, and what is made of them."""

import sys
from pathlib import Path
from typing import Any

import psutil

from tests.record_factory import spec as replay_spec
from workflow.hyperkv.build.make_model import write_model_folder
from workflow.hyperkv.config.models.engines import Vllm
from workflow.hyperkv.engines.vllm import lmcache
from workflow.hyperkv.engines.vllm.cells import Measurement
from workflow.hyperkv.stores.held import Held
from workflow.plugin.lmcache_striped.deadline import Endpoint

DRAM = {"tier": "dram", "store": "dram", "connector": "inprocess", "dram_pool_bytes": 64 << 20}
VALKEY = {"tier": "dram", "store": "valkey", "connector": "redis", "dram_pool_bytes": None}
DEFAULTS = Vllm().model_dump()
ENDPOINT = Endpoint("127.0.0.1", 6666)
HELD = Held(Path("/data/kv"), 1 << 20, 1 << 30, 8)


def scenario(store: str, connector: str, **changes) -> dict:
    return {
        "name": "s",
        "tier": "dram" if store in ("dram", "valkey") else "ssd",
        "store": store,
        "connector": connector,
        "chunk_tokens": 256,
        "connections": 8,
        "dram_pool_bytes": None,
        "capacity_bytes": None,
        "save_decode_cache": True,
        "lmcache": {},
    } | changes


def offload(own: dict, ranks: int = 1) -> lmcache.Offload:
    return lmcache.offload(own, 4 << 30, HELD, [ENDPOINT], 5555, 8080, ranks)


def measured(spec: dict, tmp_path: Path, *keys) -> list[dict]:
    """Records of some points, measured in one job that has left no process."""
    with Measurement(spec, 1, tmp_path / "logs") as measurement:
        records = [measurement.measure(key).dump() for key in keys]
    assert not [child for child in psutil.Process().children(recursive=True) if child.status() != "zombie"]
    return records


def slice_of(folder: Path) -> dict[str, Any]:
    """The slice of a scenario with a DRAM pool, one load of two clients and two single requests."""
    write_model_folder(Path("config/models/tiny-llama.json"), folder / "model")
    base = replay_spec(folder, "dram")
    for unread in ("replay", "gpu", "active_conversations"):
        del base[unread]
    vllm = {"prefix_caching": False, "staging_bytes": 64 << 20, "ready_timeout_s": 30}
    loadgen = {"conversations_per_client": None, "warm_up_requests": 1}
    return base | {
        "engine": "vllm",
        "model": "config/models/tiny-llama.json",
        "scenario": {**base["scenario"], **DRAM, "name": "s", "vllm": {}, "lmcache": {}, "pair": "reference"},
        "loads": [2],
        "loop": "closed",
        "latency": {"prompt_tokens": [100], "prompts": 2},
        "vllm": DEFAULTS | vllm,
        "loadgen": {**loadgen, "request_timeout_s": 20, "timeout_s": 60},
        "engine_python": sys.executable,
        "loadgen_python": sys.executable,
        "made_model_dir": str(folder / "model"),
        "environment_records": {name: str(folder / f"{name}.json") for name in ("engine", "loadgen")},
    }
