"""Slices of a config for engine vllm, and what is made of them."""

from pathlib import Path

import psutil

from workflow.hyperkv.base.deadline import Endpoint
from workflow.hyperkv.config.models.engines import Vllm
from workflow.hyperkv.engines.vllm import lmcache
from workflow.hyperkv.engines.vllm.cells import Measurement

VALKEY = {"tier": "dram", "store": "valkey", "connector": "redis", "dram_pool_bytes": None}
DEFAULTS = Vllm().model_dump()
ENDPOINT = Endpoint("127.0.0.1", 6666)


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
    return lmcache.offload(own, 4 << 30, Path("/data/kv"), [ENDPOINT], 5555, 8080, ranks)


def measured(spec: dict, tmp_path: Path, *keys) -> list[dict]:
    """Records of some points, measured in one job that has left no process."""
    with Measurement(spec, 1, tmp_path / "logs") as measurement:
        records = [measurement.measure(key).dump() for key in keys]
    assert not [child for child in psutil.Process().children(recursive=True) if child.status() != "zombie"]
    return records
