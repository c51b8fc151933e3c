"""Words of pass-throughs that a key of the configuration sets are refused with that key, however they are written."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.configs import BASE, one_line
from tests.engines.vllm.slices import DEFAULTS, offload, scenario
from tests.workflow_helpers import changed
from workflow.hyperkv.base.deadline import Endpoint
from workflow.hyperkv.base.documents import own_data
from workflow.hyperkv.engines.vllm import lmcache, owned_words
from workflow.hyperkv.engines.vllm.command import command, variables
from workflow.hyperkv.engines.vllm.owned_words import flag_faults, lmcache_faults, variable_faults
from workflow.hyperkv.models.geometry import load_geometry


def refused(changes: dict) -> str:
    return one_line(changed(BASE, changes))


@pytest.mark.parametrize(
    ("flags", "word", "key"),
    [
        (["--kv-cache-dtype", "fp8"], "--kv-cache-dtype", "kv_dtype"),
        (["--kv_cache_dtype=fp8"], "--kv_cache_dtype", "kv_dtype"),
        (["--block-size", 32], "--block-size", "vllm.block_tokens"),
        (["--dtype", "float16"], "--dtype", "bfloat16"),
        (["--max-model-len", "4096"], "--max-model-len", "workload.max_context_tokens"),
        (["--max-model", "4096"], "--max-model", "workload.max_context_tokens"),
        (["--kv-transfer-config", "{}"], "--kv-transfer-config", "connector"),
        (["--kv-transfer-config.kv_role", "kv_both"], "--kv-transfer-config", "connector"),
        (["-tp", 2], "-tp", "vllm.tensor_parallel"),
        (["-tp=2"], "-tp", "vllm.tensor_parallel"),
        (["--tensor-parallel-size", 2], "--tensor-parallel-size", "vllm.tensor_parallel"),
        (["--tensor_parallel_size=2"], "--tensor_parallel_size", "vllm.tensor_parallel"),
        (["--data-parallel-size", 2], "--data-parallel-size", "one engine"),
        (["-dp", 2], "-dp", "one engine"),
        (["--pipeline-parallel-size", 2], "--pipeline-parallel-size", "one engine"),
        (["-pp", 2], "-pp", "one engine"),
        (["--no-enable-prefix-caching"], "--no-enable-prefix-caching", "vllm.prefix_caching"),
        (["--num-gpu-blocks-override", 10], "--num-gpu-blocks-override", "vllm.hbm_kv_bytes"),
        (["--kv-cache-memory-bytes", "8G"], "--kv-cache-memory-bytes", "vllm.hbm_kv_bytes"),
        (["--kv-offloading-size", 8], "--kv-offloading-size", "dram_pool_bytes"),
        (["--hf-overrides", "{}"], "--hf-overrides", "vllm.model_dir"),
        (["--config", "mine.yaml"], "--config", "vllm.flags"),
        (["--port=8000"], "--port", "free port"),
        (["--async-scheduling", "--max-num-seqs", 8, "--block-size", 8], "--block-size", "vllm.block_tokens"),
        (["--disable-hybrid-kv-cache-manager"], "--disable-hybrid-kv-cache-manager", "block's bytes"),
        (["--no-disable-hybrid-kv-cache-manager"], "--no-disable-hybrid-kv-cache-manager", "block's bytes"),
        (["--disable_hybrid"], "--disable_hybrid", "block's bytes"),
        (["-n2"], "-n2", "one engine"),
        (["-r1"], "-r1", "one engine"),
        (["-t", 2], "-t", "vllm.tensor_parallel"),
        (["--mamba-block-size", 8], "--mamba-block-size", "block's bytes"),
        (["--mamba-cache-dtype=float32"], "--mamba-cache-dtype", "bytes of KV"),
        (["--mamba_cache_mode", "all"], "--mamba_cache_mode", "block's bytes"),
        (["--mamba-ssm-cache-dtype", "float32"], "--mamba-ssm-cache-dtype", "bytes of KV"),
        (["--prefix-cache-retention-interval", 8], "--prefix-cache-retention-interval", "LRU"),
    ],
)
def test_vllms_words_are_refused_for_all_scenarios_and_for_one(flags, word, key):
    for where in ("vllm", "scenarios.none.vllm"):
        said = refused({f"{where}.flags": flags})
        assert said.startswith(f"config: {where}.flags: {word} is ")
        assert key in said


@pytest.mark.parametrize(
    ("keys", "word", "key"),
    [
        ({"chunk_size": 64}, "chunk_size", "chunk_tokens"),
        ({"save_decode_cache": False}, "save_decode_cache", "save_decode_cache"),
        ({"local_cpu": True}, "local_cpu", "dram_pool_bytes"),
        ({"max_local_cpu_size": 5}, "max_local_cpu_size", "dram_pool_bytes"),
        ({"remote_url": "redis://x:1"}, "remote_url", "store"),
        ({"save_unfull_chunk": True}, "save_unfull_chunk", "chunk_tokens"),
        ({"gds_path": "/mnt"}, "gds_path", "store"),
        ({"enable_pd": True}, "enable_pd", "one engine"),
        ({"remote_config_url": "http://x"}, "remote_config_url", "fetched"),
        ({"app_id": "x"}, "app_id", "fetched"),
        ({"hit_miss_ratio": 0.5}, "hit_miss_ratio", "counted"),
        ({"enable_xpyd": True}, "enable_xpyd", "one engine"),
        ({"internal_api_server_host": "0.0.0.0"}, "internal_api_server_host", "on loopback"),
        ({"runtime_plugin_locations": ["/p"]}, "runtime_plugin_locations", "other programs"),
        ({"chunk-size": 64}, "chunk-size", "chunk_tokens"),
        ({"use_layerwise": True}, "use_layerwise", "all layers"),
        ({"use_layerwise": False}, "use_layerwise", "all layers"),
        ({"audit_actual_remote_url": "redis://x:1"}, "audit_actual_remote_url", "store"),
        ({"extra_config": {"audit_backend_enabled": True}}, "extra_config.audit_backend_enabled", "store"),
        ({"extra_config": {"audit_exclude_cmds": "put"}}, "extra_config.audit_exclude_cmds", "store"),
        ({"extra_config": {"fallback_policy": "local_cpu"}}, "extra_config.fallback_policy", "store"),
        ({"extra_config": {"valkey_username": "x"}}, "extra_config.valkey_username", "store"),
        ({"priority_limit": 1}, "priority_limit", "saved"),
        ({"internal_api_server_enabled": True}, "internal_api_server_enabled", "other programs"),
        ({"extra_config": {"save_only_first_rank": True}}, "extra_config.save_only_first_rank", "every GPU"),
        (
            {"extra_config": {"first_rank_max_local_cpu_size": 1}},
            "extra_config.first_rank_max_local_cpu_size",
            "every GPU",
        ),
        (
            {"extra_config": {"remote_enable_mla_worker_id_as0": True}},
            "extra_config.remote_enable_mla_worker_id_as0",
            "every GPU",
        ),
        ({"extra_config": {"Save_Chunk_Meta": True}}, "extra_config.Save_Chunk_Meta", "connector"),
        ({"extra_config": {"resp_num_threads": 3}}, "extra_config.resp_num_threads", "connections"),
        ({"extra_config": {"save_chunk_meta": True}}, "extra_config.save_chunk_meta", "connector"),
        (
            {"extra_config": {"remote_storage_plugin.striped.endpoints": "a"}},
            "extra_config.remote_storage_plugin.striped.endpoints",
            "store",
        ),
    ],
)
def test_lmcaches_words_are_refused_with_any_engine(keys, word, key):
    said = refused({"scenarios.dram.lmcache": keys})
    assert said.startswith(f"config: scenarios.dram.lmcache: {word} is ")
    assert key in said


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"chunk_size=64": True}, "lmcache: 'chunk_size=64' is not a key"),
        ({"max_workers 4": True}, "lmcache: 'max_workers 4' is not a key"),
        ({"CHUNK_SIZE": 64}, "lmcache: 'CHUNK_SIZE' is not a key; LMCache's are lower-case"),
        ({"--chunk-size": 64}, "lmcache: '--chunk-size' is not a key"),
        ({"extra_config": {"a=1": 2}}, "lmcache.extra_config: 'a=1' is not a key"),
        ({"extra_config": '{"save_chunk_meta": true}'}, "lmcache.extra_config: .* is wrong; write a mapping"),
        ({"extra_config": ["save_chunk_meta"]}, "lmcache.extra_config: .* is wrong; write a mapping"),
        ({"extra_config": 5}, "lmcache.extra_config: 5 is wrong; write a mapping"),
        ({"extra_config": "true"}, "lmcache.extra_config: true is wrong; write a mapping"),
    ],
)
@pytest.mark.parametrize("connector", ["inprocess", "mp"])
def test_keys_of_lmcache_are_plain_and_extra_config_is_a_mapping(keys, words, connector):
    said = refused(
        {
            "experiment.scenarios": ["none"],
            "scenarios.dram.connector": connector,
            "scenarios.dram.lmcache": keys,
        }
    )
    assert re.match(rf"config: scenarios\.dram\.{words}", said), said


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({"chunk_size": 64}, "chunk_tokens"),
        ({"chunk-size": 64}, "chunk_tokens"),
        ({"chunk": 64}, "chunk_tokens"),
        ({"l1_size_gb": 64}, "dram_pool_bytes"),
        ({"l1_size": 64}, "dram_pool_bytes"),
        ({"l2_adapter": "{}"}, "store"),
        ({"eviction_policy": "ARC"}, "LRU"),
        ({"port": 1}, "free port"),
        ({"lmcache.mp.save_decode_cache": False}, "save_decode_cache"),
        ({"lmcache.mp.lazy_offload": True}, "workflow"),
        ({"enable_dedup_content": True}, "looked up"),
        ({"enable_dedup": True}, "looked up"),
        ({"eviction_ratio": 0.5}, "dram_pool_bytes"),
        ({"run_script_api_enabled": True}, "other programs"),
    ],
)
def test_options_of_lmcaches_server_too(keys, key):
    ((word, why),) = lmcache_faults(keys, served=True)
    assert word == next(iter(keys))
    assert key in why


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("LMCACHE_CHUNK_SIZE", "chunk_tokens"),
        ("LMCACHE_SAVE_DECODE_CACHE", "save_decode_cache"),
        ("LMCACHE_MAX_LOCAL_CPU_SIZE", "dram_pool_bytes"),
        ("LMCACHE_CONFIG_FILE", "workflow"),
        ("LMCACHE_LOG_LEVEL", "logs"),
        ("VLLM_LOGGING_LEVEL", "logs"),
        ("VLLM_LOOPBACK_IP", "on loopback"),
        ("VLLM_NIXL_SIDE_CHANNEL_HOST", "on loopback"),
        ("LMCACHE_INTERNAL_API_SERVER_HOST", "on loopback"),
        ("VLLM_CPU_KVCACHE_SPACE", "vllm.hbm_kv_bytes"),
        ("PYTHONHASHSEED", "every process"),
        ("VLLM_MLA_DISABLE", "bytes of KV"),
        ("VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE", "block's bytes"),
        ("LMCACHE_REMOTE_CONFIG_URL", "fetched"),
        ("LMCACHE_ENABLE_ASYNC_LOADING", "set by the scenario's lmcache.enable_async_loading"),
        ("LMCACHE_EXTRA_CONFIG", "lmcache.extra_config"),
        ("LMCACHE_NUMA_MODE", "write it in the scenario's lmcache, as numa_mode"),
        ("LMCACHE_KEY_OF_NEXT_YEAR", "write it in the scenario's lmcache, as key_of_next_year"),
    ],
)
def test_variables_that_say_the_same_are_refused(name, key):
    said = refused({"vllm.environment": {name: "1"}})
    assert said.startswith(f"config: vllm.environment: {name} is ")
    assert key in said


@pytest.mark.parametrize(
    "flags",
    [
        ["--compilation-config", '{"mode": 0}'],
        ["-O3"],
        ["--attention-backend", "FLASH_ATTN"],
        ["--async-scheduling"],
        ["--quantization", "fp8"],
        ["--tokenizer-mode", "slow"],
        ["--model-impl", "transformers"],
        ["-q", "awq"],
        ["-qawq"],
        ["-dc", "{}"],
        ["--mamba-backend", "triton"],
        ["--prefix-caching-hash-algo", "sha256"],
        ["--cudagraph-capture-sizes", 1, 2, -1],
        ["--speculative-config", '{"method": "ngram"}'],
    ],
)
def test_other_words_pass(flags):
    assert list(flag_faults(flags)) == []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["@more.txt"], "'@more.txt' is wrong: it names a file of options"),
        (["--chat-template", "@more.txt"], "'@more.txt' is wrong: it names a file"),
        (["--chat-template=@more.txt"], "'--chat-template=@more.txt' is wrong: it names a file"),
        ([" --dtype", "half"], "--dtype is not to be set"),
        (["--async-scheduling "], "'--async-scheduling ' is wrong: there are blanks"),
        (["--tokenizer-mode= slow"], "'--tokenizer-mode= slow' is wrong: there are blanks"),
        (["--tokenizer-mode="], "'--tokenizer-mode=' is wrong: it is empty"),
        ([""], "'' is wrong: it is empty"),
        (["--tokenizer-mode", ""], "'' is wrong: it is empty"),
        (["--tokenizer-mode", "  "], "'  ' is wrong: it is empty"),
        (["--chat-template=--dtype"], "'--chat-template=--dtype' is wrong: it begins as an option does"),
        (["--chat-template=-q"], "'--chat-template=-q' is wrong: it begins as an option does"),
        (["--chat-template", "--dtype"], "--dtype is not to be set"),
        (["--"], "'--' is wrong: it begins as an option does"),
        (["-"], "'-' is wrong: it begins as an option does"),
        (["--async-scheduling --quantization fp8"], "is wrong: it begins as an option does"),
        (["other-model"], "'other-model' is a value without an option"),
        (["--tokenizer-mode=slow", "other-model"], "'other-model' is a value without an option"),
    ],
)
def test_a_word_is_an_option_or_the_value_of_one(flags, words):
    for where in ("vllm", "scenarios.none.vllm"):
        assert re.match(
            rf"config: {re.escape(where)}\.flags: .*{words}", said := refused({f"{where}.flags": flags})
        ), said


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("--chunk-size=64", "begins as an option does"),
        ("-x", "begins as an option does"),
        ("", "it is empty"),
        (" 4", "blanks"),
        ("4 ", "blanks"),
        ("@file", "file of options"),
    ],
)
def test_a_value_for_lmcaches_server_is_no_option(value, words):
    said = refused({"scenarios.dram.connector": "mp", "scenarios.dram.lmcache": {"otlp_endpoint": value}})
    assert re.match(rf"config: scenarios\.dram\.lmcache\.otlp_endpoint: .* is wrong: .*{words}", said), said


# Of LMCache's names, those that change neither what is saved, loaded or compared nor who may come in.
FREE = {
    "config": """blocking_timeout_secs chunk_statistics_auto_exit_target_unique_chunks chunk_statistics_auto_exit_timeout_hours
        chunk_statistics_auto_start_statistics chunk_statistics_strategy enable_async_loading enable_chunk_statistics
        enable_kv_events enable_lazy_memory_allocator extra_config lazy_memory_expand_trigger_ratio lazy_memory_initial_ratio
        lazy_memory_safe_size lazy_memory_step_ratio local_cpu_use_hugepages lookup_timeout_ms numa_mode pin_check_interval_sec
        pin_timeout_sec pre_caching_hash_algorithm py_enable_gc use_gpu_connector_v3""",
    "extra_config": """allocation_attempt_delay_secs chunk_statistics_async_preprocess_chunks
        chunk_statistics_async_queue_capacity chunk_statistics_file_max_count chunk_statistics_file_output_dir
        chunk_statistics_file_rotation_size chunk_statistics_mem_bf_expected_chunks
        chunk_statistics_mem_bf_false_positive_rate connection_timeout disk_io_threads enable_cache_usage_details_in_response
        force_store_wait get_blocking_failed_threshold gpu_to_numa_mapping lookup_backoff_time max_alloc_attempts ping_interval
        ping_timeout request_timeout transfer_timeout use_exists_sync waiting_time_for_recovery""",
    "server": """disable_grpc_metrics enable_extra_logging enable_gc_monitor enable_tracing event_bus_queue_size
        extra_logging_interval gc_monitor_min_pause_ms gc_monitor_top_objects grpc_server_workers hash_algorithm instance_id
        kv_event_log_size l1_align_bytes l1_read_ttl_seconds l1_use_hugepages l1_use_lazy l1_write_ttl_seconds
        l2_prefetch_max_in_flight lookup_hash_log_dir lookup_hash_log_max_files lookup_hash_log_rotation_interval
        lookup_hash_log_rotation_max_size max_cpu_workers max_gpu_workers max_workers metrics_sample_rate otlp_endpoint
        periodic_notifier_interval_ms session_ttl_seconds trace_level trace_output worker_reap_timeout_seconds
        worker_registration_grace_seconds""",
}


@pytest.mark.parametrize("kind", FREE)
def test_every_name_that_lmcache_reads_is_refused_or_known_to_be_harmless(kind):
    names = yaml.safe_load(Path("tests/data/lmcache-0.5-keys.yaml").read_text())[kind]
    passed = {
        name
        for name in names
        if not list(
            lmcache_faults(
                {"extra_config": {name: 1}} if kind == "extra_config" else {name: 1}, served=kind == "server"
            )
        )
    }
    assert passed == set(FREE[kind].split())
    assert len(names) > len(passed)


@pytest.mark.parametrize("name", owned_words.FREE_LMCACHE_VARIABLES)
def test_variables_that_are_no_keys_pass(name):
    assert list(variable_faults({name: "1"})) == []


def test_what_shipped_configurations_say_passes():
    for path in Path("config").glob("*.yaml"):
        raw = yaml.safe_load(path.read_text()) or {}
        settings = [
            raw.get("vllm") or {},
            *((own or {}).get("vllm") or {} for own in (raw.get("scenarios") or {}).values()),
        ]
        for each in settings:
            assert not [*flag_faults(each.get("flags", [])), *variable_faults(each.get("environment", {}))], (
                path
            )


GEOMETRY = load_geometry(Path("config/models/llama-3.1-8b.json"))
OURS = command(
    "python",
    Path("model"),
    DEFAULTS | {"hbm_kv_bytes": 1 << 30, "flags": []},
    GEOMETRY,
    "fp8",
    4096,
    8000,
    {"kv_connector": "x"},
)


REPLACED = ("--max-num-batched-tokens", "--max-num-seqs", "--gpu-memory-utilization")


@given(
    st.sampled_from([word for word in OURS if word.startswith("--") and word not in REPLACED]),
    st.sampled_from(["-", "_"]),
)
def test_every_option_that_the_workflow_gives_vllm_is_its_own(option, joint):
    word = "--" + option[2:].replace("-", joint)
    assert [found for found, _ in flag_faults([word, "x"])] == [word]
    assert [found for found, _ in flag_faults([f"{word}=x"])] == [word]


@pytest.mark.parametrize("own", [scenario("valkey", "mp"), scenario("dram", "mp", dram_pool_bytes=1 << 30)])
def test_every_option_that_the_workflow_gives_lmcaches_server_is_its_own(own):
    for option in (word for word in offload(own).server if word.startswith("--")):
        assert list(lmcache_faults({option[2:].replace("-", "_"): 1}, served=True)), option


@pytest.mark.parametrize(
    "own",
    [
        scenario("dram", "inprocess", dram_pool_bytes=1 << 30),
        scenario("files", "inprocess"),
        scenario("valkey", "resp"),
        scenario("kvrocks", "striped", processes=1),
    ],
)
def test_every_key_that_the_workflow_writes_for_lmcache_is_its_own(own):
    written = lmcache.inprocess_config(own, 1 << 30, Path("/kv"), [Endpoint("127.0.0.1", 6666)])
    inner = written.pop("extra_config")
    for key in written:
        assert list(lmcache_faults({key: 1}, served=False)), key
    for key in inner:
        assert list(lmcache_faults({"extra_config": {key: 1}}, served=False)), key


def test_every_variable_that_the_workflow_gives_is_its_own_but_those_that_only_keep_it_quiet():
    given_ours = variables(DEFAULTS | {"device": "cpu"}, Path("x"), Path("y"))
    free = {name for name in given_ours if not list(variable_faults({name: "1"}))}
    assert free == {
        "VLLM_NO_USAGE_STATS",
        "DO_NOT_TRACK",
        "LMCACHE_TRACK_USAGE",
        "LMCACHE_DISABLE_BANNER",
        "HF_HUB_OFFLINE",
    }


def test_no_word_stands_twice_and_every_one_says_why():
    tables = own_data(owned_words.__file__)
    for name in tables.keys() - {"free_lmcache_variables"}:
        words = [word for group in tables[name].values() for word in group]
        assert len(words) == len(set(words)), name
        assert all(why and not why.endswith(".") for why in tables[name])
