"""Connectors `offloading`, `striped_tier` and `mooncake`: what vLLM's own are told in kv_connector_extra_config. Pure functions.

Keys of vLLM 0.25 and later (v1/kv_offload, kv_connector/v1/mooncake/store).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..stores.registry import has_store

OFFLOADING = ("offloading", "striped_tier")
_HOST = "workflow.hyperkv.connectors.host_offloading"


def behind_pool(scenario: Mapping[str, Any]) -> bool:
    """Whether a pool of vLLM's own offloading is in front of its store, and answers what it still has."""
    return scenario.get("connector") in OFFLOADING and has_store(scenario)


def variables(scenario: Mapping[str, Any], device: str, checkout: str) -> dict[str, str]:
    """Environment variables with which vLLM finds its copy of connectors.host_offloading. checkout: its folder of modules."""
    ours = device == "cpu" and scenario.get("connector") in OFFLOADING
    return {"PYTHONPATH": checkout} if ours else {}


def offloading_keys(
    scenario: Mapping[str, Any], pool_bytes: int, tier: Mapping[str, Any] | None, device: str
) -> dict[str, Any]:
    """Of the pool of vLLM's own offloading. tier: what is behind it, None for nothing. device: on a CPU the copy between vLLM's KV
    cache and the pool is ours.
    """
    keys: dict[str, Any] = {
        "cpu_bytes_to_use": pool_bytes,
        "block_size": scenario["chunk_tokens"],
        "offload_prompt_only": not scenario["save_decode_cache"],
    }
    if tier is not None:
        keys |= {"spec_name": "TieringOffloadingSpec", "secondary_tiers": [dict(tier)]}
    if device == "cpu":
        keys |= {"spec_name": "TieringOnHost", "spec_module_path": _HOST}
    return keys


def mooncake_keys(scenario: Mapping[str, Any]) -> dict[str, Any]:
    """Of the connector to a Mooncake store, whose addresses are in MOONCAKE_CONFIG_PATH."""
    return {"load_async": True, "save_decode_cache": scenario["save_decode_cache"]}
