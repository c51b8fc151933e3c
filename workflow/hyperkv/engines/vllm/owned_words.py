"""Words of vLLM and LMCache that the workflow sets or counts with: a pass-through must not say them as well.

A pass-through is `vllm.flags`, `vllm.environment` and a scenario's `lmcache` and `vllm`. Each table has the engine's own word
and what sets it: a key of the configuration, or why nothing may.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ...base.coercion import shown
from ...base.errors import UserError

_ONE_ENGINE = "not to be set: one engine on one machine is measured"
_OURS = "the workflow's own"
_ADDRESS = "the workflow's own: it serves on loopback, on a free port"
_WEIGHTS = "the model's; name another model with vllm.model_dir"
_STORE = "set by the scenario's store and connector"
_LOGS = "not to be set: the workflow reads these logs"
_BYTES = "not to be set: the workflow counts the bytes of KV as the engine holds it"
_LRU = "not to be set: hits are predicted and compared for LRU"
_GIVEN_UP = "not to be set: it changes which tokens are looked up"
_BLOCKS = "not to be set: the workflow counts a block's bytes as vLLM lays them out by itself"
_RANKS = "not to be set: the workflow counts what every GPU stores"
_FETCHED = "not to be set: other keys would be fetched with it, which nothing checks"
_PROGRAMS = "not to be set: other programs would run beside the engine"
_KV_ALONE = "not to be set: KV alone is kept"
_LAYERS = "not to be set: a chunk is one value of all layers, and the workflow counts it so"
_NOT_SAVED = "not to be set: it decides what is saved, and every prompt's whole chunks are"
_RUNS_OTHERS = "not to be set: it starts or lets in other programs beside what is measured"
_COUNTERS = "not to be set: the workflow reads LMCache's counters"
_KEPT = "not to be set: it changes how much of the pool is kept, and pools are compared by dram_pool_bytes"
_IN_LMCACHE = "one of LMCache's own keys: write it in the scenario's lmcache, as"
_KEY = re.compile(r"[a-z][a-z0-9._-]*")
_INNER_KEY = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
_OPTION = re.compile(r"--?[A-Za-z][A-Za-z0-9_.+-]*(=(?P<value>.*))?", re.DOTALL)

# vLLM's options, without dashes. One that ends in * stands for all that begin so.
VLLM_FLAGS = {
    "model": "set by vllm.model_dir, or made from model",
    "tokenizer": _WEIGHTS,
    "hf-*": _WEIGHTS,
    "config-format": _WEIGHTS,
    "revision": _WEIGHTS,
    "code-revision": _WEIGHTS,
    "rope-*": _WEIGHTS,
    "disable-sliding-window": _WEIGHTS,
    "served-model-name": _OURS,
    "load-format": "set by vllm.model_dir and vllm.device",
    "dtype": "not to be set: every cell computes in bfloat16",
    "kv-cache-dtype*": "set by kv_dtype",
    "kv-cache-memory*": "set by vllm.hbm_kv_bytes",
    "num-gpu-blocks-override": "set by vllm.hbm_kv_bytes",
    "block-size": "set by vllm.block_tokens",
    "max-model-len": "set by the longest context that is sent, which workload.max_context_tokens bounds",
    "enable-prefix-caching": "set by vllm.prefix_caching",
    "no-enable-prefix-caching": "set by vllm.prefix_caching",
    "kv-transfer-config": "set by the scenario's connector",
    "kv-offloading-*": "set by the scenario's connector and dram_pool_bytes",
    "kv-events-config": _OURS,
    "ec-transfer-config": _KV_ALONE,
    "disable-hybrid-kv-cache-manager": _BLOCKS,
    "no-disable-hybrid-kv-cache-manager": _BLOCKS,
    "mamba-block-size": _BLOCKS,
    "mamba-cache-dtype": _BYTES,
    "mamba-cache-mode": _BLOCKS,
    "mamba-ssm-cache-dtype": _BYTES,
    "enable-mamba-shared-prefix-checkpoint": _BLOCKS,
    "no-enable-mamba-shared-prefix-checkpoint": _BLOCKS,
    "prefix-cache-retention-interval": _LRU,
    "prefix-match-unit": _GIVEN_UP,
    "tensor-parallel-size": "set by vllm.tensor_parallel",
    "tp": "set by vllm.tensor_parallel",
    "pipeline-parallel-size": _ONE_ENGINE,
    "pp": _ONE_ENGINE,
    "data-parallel-*": _ONE_ENGINE,
    "dp*": _ONE_ENGINE,
    "decode-context-parallel-size": _ONE_ENGINE,
    "dcp": _ONE_ENGINE,
    "prefill-context-parallel-size": _ONE_ENGINE,
    "pcp": _ONE_ENGINE,
    "nnodes": _ONE_ENGINE,
    "n": _ONE_ENGINE,
    "node-rank": _ONE_ENGINE,
    "r": _ONE_ENGINE,
    "master-*": _ONE_ENGINE,
    "headless": _ONE_ENGINE,
    "api-server-count": _ONE_ENGINE,
    "host": _ADDRESS,
    "port": _ADDRESS,
    "uds": _ADDRESS,
    "root-path": _ADDRESS,
    "ssl-*": _ADDRESS,
    "api-key": _ADDRESS,
    "seed": _OURS,
    "enable-prompt-tokens-details": _OURS,
    "no-enable-prompt-tokens-details": _OURS,
    "stream-interval": "not to be set: the time between tokens is measured",
    "log-level": _LOGS,
    "log-config-file": _LOGS,
    "logging-config": _LOGS,
    "disable-log-stats": "not to be set: the workflow reads vLLM's counters",
    "config": "a file of options that nothing checks; write them in vllm.flags",
}

# Options of one dash that are whole where an owned one would begin so.
_SHORT = ("dc",)

# Keys of LMCache's configuration file; LMCACHE_ and the key in capitals is the same word as a variable.
LMCACHE_KEYS = {
    "chunk_size": "set by chunk_tokens",
    "save_decode_cache": "set by the scenario's save_decode_cache",
    "save_unfull_chunk": "not to be set: chunk_tokens are saved whole, the rest of a prompt is not",
    "local_cpu": "set by dram_pool_bytes",
    "max_local_cpu_size": "set by dram_pool_bytes, without a pool by vllm.staging_bytes",
    "reserve_local_cpu_size": "set by dram_pool_bytes",
    "local_disk*": _STORE,
    "max_local_disk_size": "set by capacity_bytes",
    "remote_url": _STORE,
    "audit_*": _STORE,
    "remote_serde": _BYTES,
    "remote_storage_plugins": _STORE,
    "storage_plugins": _STORE,
    "external_backends": _STORE,
    "retrieve_locations": _STORE,
    "store_location": _STORE,
    "gds_*": _STORE,
    "use_gds": _STORE,
    "cufile_*": _STORE,
    "nixl_*": _STORE,
    "weka_path": _STORE,
    "maru_*": _STORE,
    "mp_*": _STORE,
    "enable_p2p": _ONE_ENGINE,
    "p2p_*": _ONE_ENGINE,
    "enable_pd": _ONE_ENGINE,
    "pd_*": _ONE_ENGINE,
    "enable_controller": _ONE_ENGINE,
    "controller_*": _ONE_ENGINE,
    "lmcache_worker_*": _ONE_ENGINE,
    "lmcache_instance_id": _ONE_ENGINE,
    "transfer_channel": _ONE_ENGINE,
    "internal_api_server_host": _ADDRESS,
    "internal_api_server_*": _RUNS_OTHERS,
    "run_script_api_enabled": _RUNS_OTHERS,
    "script_allowed_imports": _RUNS_OTHERS,
    "enable_blending": _GIVEN_UP,
    "blend_*": _GIVEN_UP,
    "enable_sparse": _GIVEN_UP,
    "enable_scheduler_bypass_lookup": _GIVEN_UP,
    "lookup_server_worker_ids": _RANKS,
    "use_layerwise": _LAYERS,
    "priority_limit": _NOT_SAVED,
    "skip_last_n_tokens": _GIVEN_UP,
    "external_lookup_client": _STORE,
    "config_file": _OURS,
    "remote_config_url": _FETCHED,
    "app_id": _FETCHED,
    "runtime_plugin_*": _PROGRAMS,
    "plugin_locations": _PROGRAMS,
    "hit_miss_ratio": "not to be set: hits are counted, not made up",
    "min_retrieve_tokens": _GIVEN_UP,
    "enable_xpyd": _ONE_ENGINE,
    "enable_hidden_state_cache": _KV_ALONE,
    "max_hidden_state_cpu_size": _KV_ALONE,
    "hidden_state*": _KV_ALONE,
    "log_level": _LOGS,
    "cache_policy": _LRU,
}
LMCACHE_EXTRA_KEYS = {
    "save_chunk_meta": "set by the scenario's connector",
    "resp_num_threads": "set by connections",
    "use_odirect": "not to be set: files are read with O_DIRECT",
    "save_only_first_rank": _RANKS,
    "first_rank_max_local_cpu_size": _RANKS,
    "remote_enable_mla_worker_id_as0": _RANKS,
    "remote_storage_plugin.*": _STORE,
    "storage_plugin.*": _STORE,
    "*.module_path": _STORE,
    "enable_nixl_storage": _STORE,
    "nixl_*": _STORE,
    "*_backend_enabled": _STORE,
    "fallback_policy": _STORE,
    "redis_url": _STORE,
    "*username": _STORE,
    "*password": _STORE,
    "tls_enable": _STORE,
    "disable_tls": _STORE,
    "storage_root_dir": _STORE,
    **dict.fromkeys(
        (
            "valkey_*",
            "s3_*",
            "infinistore_*",
            "fs_*",
            "hf3fs_*",
            "mooncake_*",
            "sagemaker_*",
            "aws_*",
            "azure_*",
            "rust_raw_block.*",
            "dax.*",
        ),
        _STORE,
    ),
    "use_direct_io": "not to be set: files are read with O_DIRECT",
    "heartbeat_url": _ONE_ENGINE,
    **dict.fromkeys(("kv_msg_*", "full_sync_*", "worker_socket_*"), _ONE_ENGINE),
    "lmcache_rpc_port": _OURS,
    "shm_name": _OURS,
    "access_log": _LOGS,
}
# Options of `lmcache server`, with _ for -.
LMCACHE_OPTIONS = {
    "host": _ADDRESS,
    "port": _ADDRESS,
    "http_host": _ADDRESS,
    "http_port": _ADDRESS,
    "transport": _OURS,
    "prometheus_port": _ADDRESS,
    "runtime_plugin_*": _PROGRAMS,
    "chunk_size": "set by chunk_tokens",
    "null_block_id": _OURS,
    "engine_type": "set by the scenario's connector",
    "l1_size_gb": "set by dram_pool_bytes, without a pool by vllm.staging_bytes",
    "l1_init_size_gb": "set by dram_pool_bytes, without a pool by vllm.staging_bytes",
    "l1_manager": _STORE,
    "l1_devdax_path": _STORE,
    "gds_l1_*": _STORE,
    "eviction_policy": _LRU,
    "l2_adapter": _STORE,
    "l2_store_policy": "set by dram_pool_bytes",
    "l2_prefetch_policy": "set by dram_pool_bytes",
    "eviction_trigger_watermark": _KEPT,
    "eviction_ratio": _KEPT,
    "supported_transfer_mode": _OURS,
    "isolated_ipc": _OURS,
    "shm_name": _OURS,
    "no_metrics": _COUNTERS,
    "disable_observability": _COUNTERS,
    "disable_metrics": _COUNTERS,
    "disable_logging": _LOGS,
    "separate_object_groups": _LAYERS,
    "enable_segmented_prefix": _GIVEN_UP,
    "enable_dedup_content": _GIVEN_UP,
    "enable_blend_reorder": _GIVEN_UP,
    "enable": _RUNS_OTHERS,
    "server_module": _RUNS_OTHERS,
    "run_script_api_enabled": _RUNS_OTHERS,
    "script_allowed_imports": _RUNS_OTHERS,
    "config": "a file of options that nothing checks; write them in the scenario's lmcache",
    "p2p_*": _ONE_ENGINE,
    "coordinator_*": _ONE_ENGINE,
}
# What LMCacheMPConnector reads beside its server, given to vLLM in kv_connector_extra_config.
CONNECTOR_KEYS = {
    "lmcache.mp.host": _ADDRESS,
    "lmcache.mp.port": _ADDRESS,
    "lmcache.mp.save_decode_cache": "set by the scenario's save_decode_cache",
    "lmcache.*": _OURS,
}
VARIABLES = {
    "PYTHONPATH": _OURS,
    "PYTHONHASHSEED": "not to be set: LMCache's keys must be the same in every process",
    "PROMETHEUS_MULTIPROC_DIR": _OURS,
    "VLLM_SERVER_DEV_MODE": _OURS,
    "VLLM_CPU_KVCACHE_SPACE": "set by vllm.hbm_kv_bytes",
    "VLLM_API_KEY": _ADDRESS,
    "VLLM_PORT": _ADDRESS,
    "VLLM_HOST_IP": _ADDRESS,
    "VLLM_LOOPBACK_IP": _ADDRESS,
    "VLLM_NIXL_SIDE_CHANNEL_*": _ADDRESS,
    "VLLM_EC_SIDE_CHANNEL_*": _ADDRESS,
    "VLLM_DP_*": _ONE_ENGINE,
    "VLLM_LOGGING_*": _LOGS,
    "VLLM_CONFIGURE_LOGGING": _LOGS,
    "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "set by the model",
    "VLLM_MLA_DISABLE": _BYTES,
    "VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE": _BLOCKS,
    "VLLM_MODEL_REDIRECT_PATH": _WEIGHTS,
    "VLLM_TEST_FORCE_LOAD_FORMAT": "set by vllm.model_dir and vllm.device",
    "VLLM_USE_SIMPLE_KV_OFFLOAD": "set by the scenario's connector",
    "LMCACHE_ENABLE_ASYNC_LOADING": "set by the scenario's lmcache.enable_async_loading",
    "LMCACHE_EXTRA_CONFIG": "set by the scenario's lmcache.extra_config",
    "LMCACHE_FORCE_SKIP_SAVE": "not to be set: nothing would be saved",
    "LMCACHE_MP_TRANSFER_MODE": _OURS,
    "LMCACHE_RESP_*": _STORE,
    "LMCACHE_EC_*": _KV_ALONE,
}
# LMCache's variables that are no keys of its configuration and change nothing that the workflow counts with. Any other
# that begins with LMCACHE_ is taken for a key, so that one of a later version is not read unseen.
FREE_LMCACHE_VARIABLES = (
    "LMCACHE_TRACK_USAGE",
    "LMCACHE_DISABLE_BANNER",
    "LMCACHE_USAGE_TRACK_INTERVAL",
    "LMCACHE_USAGE_TRACK_URL",
    "LMCACHE_REQUEST_TELEMETRY_ENDPOINT",
    "LMCACHE_REQUEST_TELEMETRY_TYPE",
    "LMCACHE_MQ_TIMEOUT",
    "LMCACHE_DEVICE_BACKEND",
    "LMCACHE_GPU_STAGING_BUFFER_BYTES",
)


def refuse_owned_words(where: str, settings: Mapping[str, Any], scenario: Mapping[str, Any] | None) -> None:
    """Refuse words of the pass-throughs that the workflow sets.

    where: how the message begins, such as `config: scenarios.NAME`. settings: `vllm`, the section or the scenario's own
    keys. scenario: whose `lmcache` is looked at as well; None for the section. Raises UserError naming word and key.
    """
    flags = f"{where}.vllm.flags" if scenario else f"{where}.flags"
    _refuse(flags, flag_faults(settings.get("flags", ())))
    _check_words(flags, settings.get("flags", ()))
    variables = f"{where}.vllm.environment" if scenario else f"{where}.environment"
    _refuse(variables, variable_faults(settings.get("environment", {})))
    if scenario is not None:
        served = scenario.get("connector") in ("mp", "striped_mp")
        _check_lmcache_keys(f"{where}.lmcache", scenario.get("lmcache", {}), served)
        _refuse(f"{where}.lmcache", lmcache_faults(scenario.get("lmcache", {}), served))


def flag_faults(flags: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """(word, what sets it) of every word of vLLM's command line that is not the user's.

    Words are taken as vLLM's parser takes them: with _ for -, with =VALUE, with .KEY of a mapping, abbreviated, and one letter
    with its value attached.
    """
    for word in (str(flag).strip() for flag in flags):
        if not re.match(r"--?[A-Za-z]", word):
            continue
        name = re.split(r"[=. ]", word, maxsplit=1)[0]
        bare = name.lstrip("-").replace("_", "-")
        if name.startswith("--"):
            why = _owner(bare.lower(), VLLM_FLAGS, "-", abbreviated=True)
        else:
            short = {key: why for key, why in VLLM_FLAGS.items() if _is_short(key)}
            why = short.get(bare[0]) or _owner(bare, short, "-", abbreviated=bare not in _SHORT)
        if why:
            yield name, why


def _check_words(where: str, flags: Sequence[Any]) -> None:
    """That each word is an option, with or without =VALUE, or the value of one before it. Raises UserError naming the word."""
    takes_values = False
    for word in map(str, flags):
        option = _OPTION.fullmatch(word)
        value = word if option is None else option["value"]
        if value is not None and (fault := _value_fault(value)):
            raise UserError(f"{where}: {shown(word)} is wrong: {fault}")
        if option is None and not takes_values:
            raise UserError(
                f"{where}: {shown(word)} is a value without an option; write the option before it, as --name"
            )
        takes_values = option is None or option["value"] is None


def _value_fault(value: str) -> str | None:
    """What makes an option's value one that a parser would take for something else, and the mend; None when nothing does."""
    if not value.strip():
        return "it is empty; write the value, or leave the word out"
    if value != value.strip():
        return "there are blanks around it; write it without"
    if value.startswith("@"):
        return "it names a file of options, which nothing checks; write them here, one word each"
    if re.match(r"-+([^\d.]|$)", value):
        return "it begins as an option does, where a value is meant; write option and value as two words, --name value"
    return None


def variable_faults(environment: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, what sets it) of every variable that is not the user's: LMCache reads its keys from LMCACHE_KEY, too."""
    for name in environment:
        upper = name.upper()
        why = _owner(upper, VARIABLES, "_")
        if upper.startswith("LMCACHE_") and not why:
            key = upper.removeprefix("LMCACHE_").lower()
            why = _owner(key, LMCACHE_KEYS, "_") or _owner(key, LMCACHE_OPTIONS, "_")
            if not why and upper not in FREE_LMCACHE_VARIABLES:
                why = f"{_IN_LMCACHE} {key}"
        if why:
            yield name, why


def lmcache_faults(keys: Mapping[str, Any], served: bool) -> Iterator[tuple[str, str]]:
    """(key, what sets it) of every LMCache key that is not the user's. served: they go to `lmcache server`."""
    for key, value in keys.items():
        plain = key.lstrip("-").replace("-", "_").lower()
        if served:
            why = _owner(plain, LMCACHE_OPTIONS, "_", abbreviated=True) or _owner(plain, CONNECTOR_KEYS, ".")
        else:
            why = _owner(plain, LMCACHE_KEYS, "_")
        if why:
            yield key, why
        if plain == "extra_config" and isinstance(value, Mapping):
            for inner in value:
                word = str(inner).lower()
                if why := _owner(word, LMCACHE_EXTRA_KEYS, ".") or _owner(word, LMCACHE_KEYS, "_"):
                    yield f"extra_config.{inner}", why


def _check_lmcache_keys(where: str, keys: Mapping[str, Any], served: bool) -> None:
    """That keys are written as LMCache's are, one each, and extra_config is a mapping. served: they become words of a command
    line, where a value must not read as an option. Raises UserError.
    """
    extra = keys.get("extra_config")
    if extra is not None and not isinstance(extra, Mapping):
        raise UserError(
            f"{where}.extra_config: {shown(extra)} is wrong; write a mapping, such as {{lookup_backoff_time: 0.001}}"
        )
    for key, value in keys.items():
        if served and isinstance(value, str) and (fault := _value_fault(value)):
            raise UserError(f"{where}.{key}: {shown(value)} is wrong: {fault}")
        if not _KEY.fullmatch(key):
            raise UserError(
                f"{where}: {key!r} is not a key; LMCache's are lower-case letters, digits and . _ -, with the value after a colon"
            )
    for key in extra or {}:
        if not _INNER_KEY.fullmatch(str(key)):
            raise UserError(
                f"{where}.extra_config: {key!r} is not a key; keys are letters, digits and . _ -, with the value after a colon"
            )


def _is_short(option: str) -> bool:
    """Whether an option of VLLM_FLAGS is one that vLLM takes with one dash."""
    return option.rstrip("*") in ("tp", "pp", "dp", "dcp", "pcp", "n", "r")


def _owner(word: str, owned: Mapping[str, str], joint: str, abbreviated: bool = False) -> str | None:
    """What sets `word`. abbreviated: a parser completes the beginning of an option to the whole."""
    for name, why in owned.items():
        if name.startswith("*") and word.endswith(name[1:]):
            return why
        stem = name.removesuffix("*")
        if word == stem.rstrip(joint) or (name.endswith("*") and word.startswith(stem)):
            return why
    return next((why for name, why in owned.items() if abbreviated and name.startswith(word)), None)


def _refuse(where: str, faults: Iterable[tuple[str, str]]) -> None:
    for word, why in faults:
        raise UserError(f"{where}: {word} is {why}; leave it out here")
