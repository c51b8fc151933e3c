"""What vLLM and LMCache count, read from their Prometheus pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

_BY_SOURCE = "vllm:prompt_tokens_by_source_total"
_FROM_DISK = ("vllm:prompt_tokens_cached_by_source_total", "disk")
_TOKENS = {
    "computed_tokens": "local_compute",
    "hbm_hit_tokens": "local_cache_hit",
    "external_hit_tokens": "external_kv_transfer",
}
# vLLM's own offloading, from 0.32 on.
_HELD = "vllm:kv_offload_tiering_"
_OFFLOADING = {
    "tier_read_bytes": f"{_HELD}read_bytes_total",
    "tier_written_bytes": f"{_HELD}write_bytes_total",
    "tier_failed_loads": f"{_HELD}promotion_job_failures_total",
    "tier_failed_saves": f"{_HELD}cascade_job_failures_total",
}
# vLLM's connector to Mooncake, and Mooncake's master.
_MOONCAKE = "vllm:mooncake_store_operation_"
_BY_MOONCAKE = {
    "mooncake_loaded_bytes": (f"{_MOONCAKE}bytes_total", "load_get"),
    "mooncake_saved_bytes": (f"{_MOONCAKE}bytes_total", "save_put"),
    "mooncake_failed_loads": (f"{_MOONCAKE}failed_keys_total", "load_get"),
    "mooncake_failed_saves": (f"{_MOONCAKE}failed_keys_total", "save_put"),
}
_FROM_MOONCAKES_FILES = ("file_cache_hit_bytes_total", None)
# LMCache's server only: the counters of LMCache in process come seconds late (see lmcache_log).
_LMCACHE = {
    "dram_hit_tokens": "lmcache_mp_lookup_hit_l1_tokens_total",
    "store_hit_tokens": "lmcache_mp_lookup_hit_l2_tokens_total",
    "store_loaded_chunks": "lmcache_mp_l2_prefetch_load_completed_chunks_total",
    # Requests: those that failed are done, too.
    "saves_begun": "lmcache_mp_l2_store_submitted_requests_total",
    "saves_done": "lmcache_mp_l2_store_completed_requests_total",
}


def samples(text: str) -> dict[tuple[str, str | None], float]:
    """(name, label `source` or `operation` or None) -> value of a Prometheus page, summed over all other labels."""
    found: dict[tuple[str, str | None], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, sample.labels.get("source") or sample.labels.get("operation"))
            found[key] = found.get(key, 0.0) + sample.value
    return found


def counters(engine_page: str, server_page: str = "") -> dict[str, int | None]:
    """Totals since the start, in tokens, bytes and failures; None for what no page has.

    engine_page: vLLM's /metrics, LMCache's own in process included. server_page: the LMCache server's.
    """
    engine, server = samples(engine_page), samples(server_page)
    found: dict[str, Any] = {name: engine.get((_BY_SOURCE, label)) for name, label in _TOKENS.items()}
    found["prompt_tokens"] = engine.get(("vllm:prompt_tokens_total", None))
    found["preemptions"] = engine.get(("vllm:num_preemptions_total", None))
    found["disk_hit_tokens"] = engine.get(_FROM_DISK)
    found |= {name: engine.get((key, None)) for name, key in _OFFLOADING.items()}
    found |= {name: engine.get(key) for name, key in _BY_MOONCAKE.items()}
    found["mooncake_disk_bytes"] = server.get(_FROM_MOONCAKES_FILES)
    found |= {name: server.get((key, None)) for name, key in _LMCACHE.items()}
    return {name: None if value is None else round(value) for name, value in found.items()}


def changes(before: Mapping[str, int | None], after: Mapping[str, int | None]) -> dict[str, int | None]:
    """What happened between two `counters`; a counter that appeared in between began at 0, None where unknown."""
    return {name: None if value is None else value - (before.get(name) or 0) for name, value in after.items()}
