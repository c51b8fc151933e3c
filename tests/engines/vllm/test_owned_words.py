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
from workflow.hyperkv.base.documents import own_data
from workflow.hyperkv.engines.vllm import lmcache, owned_words
from workflow.hyperkv.engines.vllm.command import command, variables
from workflow.hyperkv.engines.vllm.owned_words import flag_faults, lmcache_faults, variable_faults
from workflow.hyperkv.models.geometry import load_geometry
from workflow.hyperkv.stores.held import Held
from workflow.plugin.lmcache_striped.deadline import Endpoint


def refused(changes: dict) -> str:
    return one_line(changed(BASE, changes))


# The words of vLLM's command line by what the message says of them: a key of ours, or why nobody may set them.
VLLM_WORDS = {
    "kv_dtype": "--kv-cache-dtype fp8|--kv_cache_dtype=fp8",
    "vllm.block_tokens": "--block-size 32",
    "bfloat16": "--dtype float16",
    "workload.max_context_tokens": "--max-model-len 4096|--max-model 4096",
    "connector": "--kv-transfer-config {}|--kv-transfer-config.kv_role kv_both",
    "vllm.tensor_parallel": "-tp 2|-tp=2|-t 2|--tensor-parallel-size 2|--tensor_parallel_size=2",
    "one engine": "--data-parallel-size 2|-dp 2|--pipeline-parallel-size 2|-pp 2|-n2|-r1",
    "vllm.prefix_caching": "--no-enable-prefix-caching",
    "vllm.hbm_kv_bytes": "--num-gpu-blocks-override 10|--kv-cache-memory-bytes 8G",
    "dram_pool_bytes": "--kv-offloading-size 8",
    "vllm.model_dir": "--hf-overrides {}",
    "vllm.flags": "--config mine.yaml",
    "free port": "--port=8000",
    "block's bytes": "--disable-hybrid-kv-cache-manager|--no-disable-hybrid-kv-cache-manager|--disable_hybrid"
    "|--mamba-block-size 8|--mamba_cache_mode all",
    "bytes of KV": "--mamba-cache-dtype=float32|--mamba-ssm-cache-dtype float32",
    "LRU": "--prefix-cache-retention-interval 8",
}


@pytest.mark.parametrize("key", VLLM_WORDS)
def test_vllms_words_are_refused_for_all_scenarios_and_for_one(key):
    for flags in VLLM_WORDS[key].split("|"):
        word = re.split("[ =]|[.]kv", flags)[0]
        for where in ("vllm", "scenarios.none.vllm"):
            said = refused({f"{where}.flags": ["--async-scheduling", "--max-num-seqs", 8, *flags.split()]})
            assert said.startswith(f"config: {where}.flags: {word} is ")
            assert key in said


# Likewise LMCache's own keys; a dot is that of extra_config.
LMCACHE_KEYS = {
    "chunk_tokens": "chunk_size chunk-size save_unfull_chunk",
    "save_decode_cache": "save_decode_cache",
    "dram_pool_bytes": "local_cpu max_local_cpu_size",
    "store": "remote_url gds_path audit_actual_remote_url .audit_backend_enabled .audit_exclude_cmds .fallback_policy "
    ".valkey_username .remote_storage_plugin.striped.endpoints",
    "one engine": "enable_pd enable_xpyd",
    "fetched": "remote_config_url app_id",
    "counted": "hit_miss_ratio",
    "on loopback": "internal_api_server_host",
    "other programs": "runtime_plugin_locations internal_api_server_enabled",
    "all layers": "use_layerwise",
    "saved": "priority_limit",
    "every GPU": ".save_only_first_rank .first_rank_max_local_cpu_size .remote_enable_mla_worker_id_as0",
    "connector": ".Save_Chunk_Meta .save_chunk_meta",
    "connections": ".resp_num_threads",
}


@pytest.mark.parametrize("key", LMCACHE_KEYS)
@pytest.mark.parametrize("value", [True, False, 5, "x"])
def test_lmcaches_words_are_refused_with_any_engine(key, value):
    for word in LMCACHE_KEYS[key].split():
        keys = {"extra_config": {word[1:]: value}} if word[0] == "." else {word: value}
        said = refused({"scenarios.dram.lmcache": keys})
        inner = f"extra_config{word}" if word[0] == "." else word
        assert said.startswith(f"config: scenarios.dram.lmcache: {inner} is ")
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


OPTIONS = {
    "chunk_tokens": "chunk_size chunk-size chunk",
    "dram_pool_bytes": "l1_size_gb l1_size eviction_ratio",
    "store": "l2_adapter",
    "LRU": "eviction_policy",
    "free port": "port",
    "save_decode_cache": "lmcache.mp.save_decode_cache",
    "workflow": "lmcache.mp.lazy_offload",
    "looked up": "enable_dedup_content enable_dedup",
    "other programs": "run_script_api_enabled",
}


@pytest.mark.parametrize("key", OPTIONS)
def test_options_of_lmcaches_server_too(key):
    for option in OPTIONS[key].split():
        ((word, why),) = lmcache_faults({option: 64}, served=True)
        assert word == option
        assert key in why


VARIABLES = {
    "chunk_tokens": "LMCACHE_CHUNK_SIZE",
    "save_decode_cache": "LMCACHE_SAVE_DECODE_CACHE",
    "dram_pool_bytes": "LMCACHE_MAX_LOCAL_CPU_SIZE",
    "workflow": "LMCACHE_CONFIG_FILE",
    "logs": "LMCACHE_LOG_LEVEL VLLM_LOGGING_LEVEL",
    "on loopback": "VLLM_LOOPBACK_IP VLLM_NIXL_SIDE_CHANNEL_HOST LMCACHE_INTERNAL_API_SERVER_HOST",
    "vllm.hbm_kv_bytes": "VLLM_CPU_KVCACHE_SPACE",
    "every process": "PYTHONHASHSEED",
    "bytes of KV": "VLLM_MLA_DISABLE",
    "block's bytes": "VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE",
    "fetched": "LMCACHE_REMOTE_CONFIG_URL",
    "set by the scenario's lmcache.enable_async_loading": "LMCACHE_ENABLE_ASYNC_LOADING",
    "lmcache.extra_config": "LMCACHE_EXTRA_CONFIG",
    "write it in the scenario's lmcache, as numa_mode": "LMCACHE_NUMA_MODE",
    "write it in the scenario's lmcache, as key_of_next_year": "LMCACHE_KEY_OF_NEXT_YEAR",
}


@pytest.mark.parametrize("key", VARIABLES)
def test_variables_that_say_the_same_are_refused(key):
    for name in VARIABLES[key].split():
        said = refused({"vllm.environment": {name: "1"}})
        assert said.startswith(f"config: vllm.environment: {name} is ")
        assert key in said


def test_other_words_pass():
    every = (
        "--async-scheduling --attention-backend FLASH_ATTN --quantization fp8 --tokenizer-mode slow --model-impl x -q awq"
        ' -qawq -dc {} --mamba-backend triton -O3 --prefix-caching-hash-algo sha256 --compilation-config {"mode":0}'
        ' --speculative-config {"method":"ngram"}'
    )
    assert list(flag_faults([*every.split(), "--cudagraph-capture-sizes", 1, 2, -1])) == []


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
    asked = {name: {"extra_config": {name: 1}} if kind == "extra_config" else {name: 1} for name in names}
    passed = {name for name in names if not list(lmcache_faults(asked[name], served=kind == "server"))}
    assert passed == set(FREE[kind].split())
    assert len(names) > len(passed)


@pytest.mark.parametrize("name", owned_words.FREE_LMCACHE_VARIABLES)
def test_variables_that_are_no_keys_pass(name):
    assert list(variable_faults({name: "1"})) == []


def test_what_shipped_configurations_say_passes():
    for path in Path("config").glob("*.yaml"):
        raw = yaml.safe_load(path.read_text()) or {}
        for own in (raw, *(raw.get("scenarios") or {}).values()):
            settings = (own or {}).get("vllm") or {}
            faults = flag_faults(settings.get("flags", [])), variable_faults(settings.get("environment", {}))
            assert [*faults[0], *faults[1]] == [], path


GEOMETRY = load_geometry(Path("config/models/llama-3.1-8b.json"))
BOUNDED = DEFAULTS | {"hbm_kv_bytes": 1 << 30, "flags": []}
OURS = command("python", Path("model"), BOUNDED, GEOMETRY, "fp8", 4096, 8000, {"kv_connector": "x"})


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
    written = lmcache.inprocess_config(own, 1 << 30, Held(Path("/kv")), [Endpoint("127.0.0.1", 6666)])
    inner = written.pop("extra_config")
    for key in written:
        assert list(lmcache_faults({key: 1}, served=False)), key
    for key in inner:
        assert list(lmcache_faults({"extra_config": {key: 1}}, served=False)), key


def test_every_variable_that_the_workflow_gives_is_its_own_but_those_that_may_be_chosen():
    given_ours = variables(DEFAULTS | {"device": "cpu"}, Path("x"), Path("y"))
    free = {name for name in given_ours if not list(variable_faults({name: "1"}))}
    assert free == {
        "VLLM_CPU_NUM_OF_RESERVED_CPU",
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
