"""What vLLM and LMCache count, read from their Prometheus pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

_BY_SOURCE = "vllm:prompt_tokens_by_source_total"
_CACHED_BY_SOURCE = "vllm:prompt_tokens_cached_by_source_total"
_TIERING = "vllm:kv_offload_tiering"
_MOONCAKE = "vllm:mooncake_store_operation"
# (name, source or operation) of vLLM's: where prompt tokens came from; from 0.32 on also which of its own offloading's tiers had them, the
# bytes that went to and from the lower ones, and what failed there; the same of its connector to Mooncake.
_VLLM = {
    "computed_tokens": (_BY_SOURCE, "local_compute"),
    "hbm_hit_tokens": (_BY_SOURCE, "local_cache_hit"),
    "external_hit_tokens": (_BY_SOURCE, "external_kv_transfer"),
    "host_hit_tokens": (_CACHED_BY_SOURCE, "host"),
    "disk_hit_tokens": (_CACHED_BY_SOURCE, "disk"),
    "tier_read_bytes": (f"{_TIERING}_read_bytes_total", None),
    "tier_written_bytes": (f"{_TIERING}_write_bytes_total", None),
    "tier_load_failures": (f"{_TIERING}_promotion_job_failures_total", None),
    "tier_save_failures": (f"{_TIERING}_cascade_job_failures_total", None),
    "prompt_tokens": ("vllm:prompt_tokens_total", None),
    "preemptions": ("vllm:num_preemptions_total", None),
    "mooncake_loaded_bytes": (f"{_MOONCAKE}_bytes_total", "load_get"),
    "mooncake_saved_bytes": (f"{_MOONCAKE}_bytes_total", "save_put"),
    "mooncake_failed_loads": (f"{_MOONCAKE}_failed_keys_total", "load_get"),
    "mooncake_failed_saves": (f"{_MOONCAKE}_failed_keys_total", "save_put"),
}
# LMCache's server only: the counters of LMCache in process come seconds late (see lmcache_log). Hits by tier from 0.5.5 on: tokens
# are DRAM's up to the first chunk that was not there; keys, from 0.5.6 on, are each counted where it was.
_SERVER = {
    "dram_hit_tokens": ("lmcache_mp_lookup_hit_l1_tokens_total", None),
    "store_hit_tokens": ("lmcache_mp_lookup_hit_l2_tokens_total", None),
    "dram_hit_keys": ("lmcache_mp_lookup_hit_l1_keys_total", None),
    "store_hit_keys": ("lmcache_mp_lookup_hit_l2_keys_total", None),
    "store_loaded_chunks": ("lmcache_mp_l2_prefetch_load_completed_chunks_total", None),
    "store_saved_chunks": ("lmcache_mp_l2_store_completed_objects_chunks_total", None),
    # Of chunks that were computed and for which its pool or buffer had no room.
    "lost_keys": ("lmcache_mp_l1_allocation_failure_chunks_total", "l1_store"),
    # Requests: those that failed are done, too.
    "saves_begun": ("lmcache_mp_l2_store_submitted_requests_total", None),
    "saves_done": ("lmcache_mp_l2_store_completed_requests_total", None),
    # Of Mooncake's master.
    "mooncake_disk_bytes": ("file_cache_hit_bytes_total", None),
}
_TOLD_APART = ("source", "operation", "during")


def samples(text: str) -> dict[tuple[str, str | None], float]:
    """(name, label `source`, `operation` or `during`, or None) -> value of a Prometheus page, summed over all other labels."""
    found: dict[tuple[str, str | None], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (
                sample.name,
                next((sample.labels[name] for name in _TOLD_APART if name in sample.labels), None),
            )
            found[key] = found.get(key, 0.0) + sample.value
    return found


def counters(engine_page: str, server_page: str = "") -> dict[str, int | None]:
    """Totals since the start, in tokens, bytes and failures; None for what no page has.

    engine_page: vLLM's /metrics, LMCache's own in process included. server_page: the LMCache server's, or that of Mooncake's master.
    """
    engine, server = samples(engine_page), samples(server_page)
    found: dict[str, Any] = {name: engine.get(key) for name, key in _VLLM.items()}
    found |= {name: server.get(key) for name, key in _SERVER.items()}
    return {name: None if value is None else round(value) for name, value in found.items()}


def changes(before: Mapping[str, int | None], after: Mapping[str, int | None]) -> dict[str, int | None]:
    """What happened between two `counters`; a counter that appeared in between began at 0, None where unknown."""
    return {name: None if value is None else value - (before.get(name) or 0) for name, value in after.items()}
