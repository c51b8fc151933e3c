"""Prometheus pages of vLLM 0.32 and of LMCache's server 0.5.6, shortened."""

from workflow.hyperkv.engines.vllm.metrics import changes, counters

ENGINE = """\
# HELP vllm:prompt_tokens_total Number of prefill tokens processed.
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="m"} 9000.0
# TYPE vllm:prompt_tokens_by_source_total counter
vllm:prompt_tokens_by_source_total{engine="0",model_name="m",source="local_compute"} 3112.0
vllm:prompt_tokens_by_source_total{engine="0",model_name="m",source="local_cache_hit"} 2944.0
vllm:prompt_tokens_by_source_total{engine="0",model_name="m",source="external_kv_transfer"} 2944.0
"""
TIERED = """\
# TYPE vllm:prompt_tokens_cached_by_source_total counter
vllm:prompt_tokens_cached_by_source_total{engine="0",model_name="m",source="device"} 2944.0
vllm:prompt_tokens_cached_by_source_total{engine="0",model_name="m",source="host"} 640.0
vllm:prompt_tokens_cached_by_source_total{engine="0",model_name="m",source="disk"} 2304.0
# TYPE vllm:kv_offload_tiering_read_bytes_total counter
vllm:kv_offload_tiering_read_bytes_total{engine="0",model_name="m",tier="1:FileSystemTierManager"} 4096.0
# TYPE vllm:kv_offload_tiering_write_bytes_total counter
vllm:kv_offload_tiering_write_bytes_total{engine="0",model_name="m",tier="1:FileSystemTierManager"} 8192.0
# TYPE vllm:kv_offload_tiering_promotion_job_failures_total counter
vllm:kv_offload_tiering_promotion_job_failures_total{engine="0",model_name="m",tier="1:FileSystemTierManager"} 1.0
"""
SERVER = """\
# TYPE lmcache_mp_lookup_hit_l1_tokens_total counter
lmcache_mp_lookup_hit_l1_tokens_total{cache_salt="",model_name="a"} 5888.0
lmcache_mp_lookup_hit_l1_tokens_total{cache_salt="",model_name="b"} 12.0
lmcache_mp_lookup_hit_l2_tokens_total{cache_salt="",model_name="a"} 64.0
# TYPE lmcache_mp_lookup_hit_l1_keys_total counter
lmcache_mp_lookup_hit_l1_keys_total{cache_salt="",model_name="a"} 93.0
lmcache_mp_lookup_hit_l2_keys_total{cache_salt="",model_name="a"} 1.0
# TYPE lmcache_mp_l1_allocation_failure_chunks_total counter
lmcache_mp_l1_allocation_failure_chunks_total{during="l1_store",model_name="a"} 388.0
lmcache_mp_l1_allocation_failure_chunks_total{during="l2_prefetch",model_name="a"} 7.0
"""


def test_tokens_by_source_and_by_tier():
    found = counters(ENGINE, SERVER)
    assert (found["computed_tokens"], found["hbm_hit_tokens"], found["external_hit_tokens"]) == (
        3112,
        2944,
        2944,
    )
    assert (found["dram_hit_tokens"], found["store_hit_tokens"]) == (5900, 64)
    assert (found["dram_hit_keys"], found["store_hit_keys"]) == (93, 1)
    assert found["prompt_tokens"] == 9000


def test_what_a_server_had_no_room_to_save_is_told_from_what_it_had_none_to_load():
    assert counters(ENGINE, SERVER)["lost_keys"] == 388


def test_vllm_s_own_offloading_tells_its_tiers_apart():
    found = counters(ENGINE + TIERED)
    assert (found["host_hit_tokens"], found["disk_hit_tokens"]) == (640, 2304)
    assert (found["tier_read_bytes"], found["tier_written_bytes"]) == (4096, 8192)
    assert (found["tier_load_failures"], found["tier_save_failures"]) == (1, None)


def test_what_no_page_has_is_unknown():
    assert counters(ENGINE)["store_hit_tokens"] is None
    assert counters("")["computed_tokens"] is None


def test_changes_of_a_counter_that_appeared_in_between():
    assert changes({"a": 3, "b": None, "c": 1}, {"a": 5, "b": 4, "c": None}) == {"a": 2, "b": 4, "c": None}
