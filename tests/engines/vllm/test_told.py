"""What vLLM and LMCache tell of themselves, from what real ones wrote."""

import pytest

from workflow.hyperkv.engines.vllm.told import lmcache_facts, unknown_keys, vllm_facts

# vLLM 0.32.0 on a CPU, a tiny Llama of 4,096 bytes a token.
CPU = {
    "vllm_config": {
        "cache_config": {
            "block_size": 64,
            "cache_dtype": "auto",
            "num_gpu_blocks_override": 4096,
            "enable_prefix_caching": False,
            "num_gpu_blocks": 4096,
            "kv_cache_size_tokens": 260259,
            "kv_cache_memory_bytes": 1073741824,
        },
        "parallel_config": {
            "pipeline_parallel_size": 1,
            "tensor_parallel_size": 1,
            "prefill_context_parallel_size": 1,
            "data_parallel_size": 1,
        },
        "kv_transfer_config": {
            "kv_connector": "LMCacheMPConnector",
            "kv_connector_extra_config": {"lmcache.mp.port": 5711},
        },
    }
}
CPU_LOG = [
    "(EngineCore pid=15156) INFO 11-28 11:09:19 [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: model='m'",
    "(EngineCore pid=15156) INFO 11-28 11:09:30 [kv_cache_utils.py:2619] Overriding num_gpu_blocks=4096 with num_gpu_blocks_override=4096",
    "(EngineCore pid=15156) INFO 11-28 11:09:30 [kv_cache_utils.py:2327] CPU KV cache size: 260,259 tokens, Maximum concurrency for 7,180 tokens per request: 36.25x",
]
GPU_LOG = [
    "(EngineCore pid=1) INFO [core.py:93] Initializing a V1 LLM engine (v0.25.0) with config: model='m'",
    "(Worker_TP0 pid=2) INFO [gpu_worker.py:538] Available KV cache memory: 50.00 GiB",
    "(Worker_TP1 pid=3) INFO [gpu_worker.py:538] Available KV cache memory: 50.50 GiB",
]


def gpu(**cache) -> dict:
    told = {"block_size": 16, "cache_dtype": "fp8", "num_gpu_blocks": 51200, "enable_prefix_caching": True}
    parallel = {"tensor_parallel_size": 2, "pipeline_parallel_size": 1, "data_parallel_size": 1}
    return {"vllm_config": {"cache_config": told | cache, "parallel_config": parallel}}


def test_a_cpu_build_tells_all():
    assert vllm_facts(CPU, CPU_LOG) == {
        "block_tokens": 64,
        "prefix_caching": False,
        "gpus": 1,
        "kv_bytes_per_token": 4096,
        "vllm": "0.32.0",
    }


def test_two_gpus_hold_half_of_a_token_each_and_the_one_with_less_room_decides():
    found = vllm_facts(gpu(), GPU_LOG)
    assert found["gpus"] == 2
    assert found["kv_dtype"] == "fp8"
    assert found["kv_bytes_per_token"] == 2 * 50 * 2**30 / (51200 * 16) == 131072


def test_blocks_that_were_overridden_are_not_those_that_the_memory_holds():
    line = "INFO [kv_cache_utils.py:2084] Overriding num_gpu_blocks=51200 with num_gpu_blocks_override=100"
    assert vllm_facts(gpu(num_gpu_blocks=100), [*GPU_LOG, line])["kv_bytes_per_token"] == 131072


@pytest.mark.parametrize(
    ("word", "format"),
    [("fp8", "fp8"), ("fp8_e4m3", "fp8"), ("fp8_e5m2", "fp8"), ("bfloat16", "bfloat16"), ("auto", None)],
)
def test_the_format_is_the_configurations_word(word, format):
    assert vllm_facts(gpu(cache_dtype=word), []).get("kv_dtype") == format


def test_offloading_tells_its_chunk_and_its_pool():
    info = gpu()
    extra = {"block_size": 256, "cpu_bytes_to_use": 1 << 30}
    info["vllm_config"]["kv_transfer_config"] = {
        "kv_connector": "OffloadingConnector",
        "kv_connector_extra_config": extra,
    }
    found = vllm_facts(info, [])
    assert (found["chunk_tokens"], found["buffer_bytes"]) == (256, 1 << 30)


@pytest.mark.parametrize("info", [{}, {"vllm_config": "VllmConfig(model='m')"}, {"vllm_config": {}}])
def test_a_vllm_that_tells_nothing_is_not_guessed(info):
    assert vllm_facts(info, []) == {}


def test_lmcaches_server_tells_its_chunk_and_its_buffer():
    memory = {"memory_config": {"size_in_bytes": 268435456, "use_lazy": False}}
    config = {"mp": {"chunk_size": 64}, "storage_manager": {"l1_manager_config": memory}}
    assert lmcache_facts(config, []) == {"chunk_tokens": 64, "buffer_bytes": 256 << 20}


def test_lmcache_in_vllm_tells_in_its_log():
    line = (
        "\x1b[32;20m[2026-11-28 11:08:00,620] LMCache INFO:\x1b[0m LMCache Configuration: {'chunk_size': 256, 'local_cpu': True, "
        "'max_local_cpu_size': '40.0 GB', 'local_disk': None, 'save_decode_cache': True, 'extra_config': {'a': 1}} (config.py:803)"
    )
    assert lmcache_facts({}, [line]) == {"chunk_tokens": 256, "buffer_bytes": 40 << 30}
    assert lmcache_facts({}, [line], ranks=2)["buffer_bytes"] == 80 << 30
    assert lmcache_facts({}, []) == {}


@pytest.mark.parametrize(
    "extra",
    [
        "{'chunk_size': 64, 'a': {'max_local_cpu_size': 1.0}}",
        "{'s': '}{', 'chunk_size': 64}",
        '{"it\'s": {}}',
    ],
)
def test_a_key_inside_extra_config_is_not_lmcache_s_own(extra):
    own = "'chunk_size': 256, 'max_local_cpu_size': 40.0"
    for inside in (f"'extra_config': {extra}, {own}", f"{own}, 'extra_config': {extra}"):
        line = f"LMCache INFO: LMCache Configuration: {{{inside}}} (config.py:803)"
        assert lmcache_facts({}, [line]) == {"chunk_tokens": 256, "buffer_bytes": 40 << 30}


def test_lmcache_0_5_0_tells_in_other_words():
    line = (
        "(Worker_TP0 pid=6636) [2026-11-28 12:25:35,471] LMCache INFO: Creating LMCacheEngine with config: {'chunk_size': 256, "
        "'local_cpu': False, 'max_local_cpu_size': 4.0, 'local_cpu_use_hugepages': False, 'reserve_local_cpu_size': 0.0}"
    )
    assert lmcache_facts({}, [line], ranks=2) == {"chunk_tokens": 256, "buffer_bytes": 8 << 30}


def test_keys_that_lmcache_went_on_without_are_named():
    lines = [
        "LMCache WARNING: Unknown config key: chunksize, ignoring (config_base.py:602)",
        "LMCache WARNING: Unknown configuration key: locl_cpu (source: file) (config_base.py:212)",
    ]
    assert unknown_keys(lines) == ["chunksize", "locl_cpu"]
    assert unknown_keys(["LMCache INFO: all is well"]) == []
