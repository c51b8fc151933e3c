"""What a running vLLM and LMCache say of themselves: vLLM's /server_info and log, LMCache's server or its log. Pure functions.

Sources: vLLM 0.25 to 0.33 (entrypoints/serve/dev/server_info, v1/core/kv_cache_utils.py), LMCache 0.5.0 to 0.5.6
(multiprocess/http_apis, v1/config.py).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_GIB = 1 << 30
_AVAILABLE = re.compile(r"Available KV cache memory: ([0-9.]+) GiB")
_OVERRIDDEN = re.compile(r"Overriding num_gpu_blocks=(\d+) with num_gpu_blocks_override=")
_VERSION = re.compile(r"Initializing a V1 LLM engine \(v([^)]+)\)")
_CONFIGURATION = re.compile(r"(?:LMCache Configuration|Creating LMCacheEngine with config): (\{.*\})")
_QUOTED = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\"""")
_UNKNOWN = re.compile(r"Unknown config(?:uration)? key: ?'?([\w.]+)")
_PARALLEL = (
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "data_parallel_size",
    "prefill_context_parallel_size",
)


def vllm_facts(info: Mapping[str, Any], lines: Sequence[str]) -> dict[str, Any]:
    """Facts of effective.Effective that vLLM tells, only those it does.

    info: the JSON of /server_info?config_format=json, empty when there is none. lines: of vLLM's log since its start.
    """
    config = info.get("vllm_config")
    config = config if isinstance(config, Mapping) else {}
    cache, parallel = config.get("cache_config") or {}, config.get("parallel_config") or {}
    found: dict[str, Any] = {
        "kv_dtype": _kv_dtype(cache.get("cache_dtype")),
        "block_tokens": cache.get("block_size"),
        "prefix_caching": cache.get("enable_prefix_caching"),
        "gpus": math.prod(parallel[name] for name in _PARALLEL if parallel.get(name)) if parallel else None,
        "kv_bytes_per_token": kv_bytes_per_token(cache, parallel, lines),
        "vllm": _first(_VERSION, lines),
    }
    transfer = config.get("kv_transfer_config") or {}
    if transfer.get("kv_connector") == "OffloadingConnector":
        extra = transfer.get("kv_connector_extra_config") or {}
        found |= {"chunk_tokens": extra.get("block_size"), "buffer_bytes": extra.get("cpu_bytes_to_use")}
    if transfer.get("kv_connector") == "MooncakeStoreConnector":
        found["chunk_tokens"] = cache.get("block_size")
    return {name: value for name, value in found.items() if value is not None}


def kv_bytes_per_token(
    cache: Mapping[str, Any], parallel: Mapping[str, Any], lines: Sequence[str]
) -> float | None:
    """Bytes that a token's KV takes on all GPUs together: the memory for KV over the tokens of as many blocks as it holds.

    The memory is what vLLM was told (kv_cache_memory_bytes) or found free (its log, the least of all GPUs); its blocks are
    those before num_gpu_blocks_override. Exact for models whose layers all hold every token.
    """
    free = [float(gib) * _GIB for line in lines for gib in _AVAILABLE.findall(line)]
    memory = cache.get("kv_cache_memory_bytes") or min(free, default=None)
    overridden = [int(blocks) for line in lines for blocks in _OVERRIDDEN.findall(line)]
    blocks = min(overridden, default=None) or cache.get("num_gpu_blocks")
    if not memory or not blocks or not cache.get("block_size"):
        return None
    return memory / (blocks * cache["block_size"]) * (parallel.get("tensor_parallel_size") or 1)


def lmcache_facts(config: Mapping[str, Any], lines: Iterable[str], ranks: int = 1) -> dict[str, Any]:
    """Facts that LMCache tells. config: its server's own, empty when there is none. lines: of the log of LMCache in vLLM.

    ranks: of vLLM that store values, each with an LMCache of the same configuration inside (gpus.KvShare.values_per_chunk).
    """
    served = config.get("mp") or {}
    if served.get("chunk_size"):
        return {"chunk_tokens": served["chunk_size"]} | _l1(config.get("storage_manager") or {})
    if (told := _first(_CONFIGURATION, lines)) is None:
        return {}
    told = _outermost(told)
    chunk, pool = _word(told, "chunk_size", r"\d+"), _word(told, "max_local_cpu_size", r"[0-9.]+")
    found: dict[str, Any] = {} if chunk is None else {"chunk_tokens": int(chunk)}
    return found | ({} if pool is None else {"buffer_bytes": round(float(pool) * _GIB) * ranks})


def unknown_keys(lines: Iterable[str]) -> list[str]:
    """Keys of the configuration that LMCache does not know, and went on without."""
    return sorted({key for line in lines for key in _UNKNOWN.findall(line)})


def _l1(storage: Mapping[str, Any]) -> dict[str, Any]:
    memory = (storage.get("l1_manager_config") or {}).get("memory_config") or {}
    return {"buffer_bytes": memory["size_in_bytes"]} if memory.get("size_in_bytes") else {}


def _kv_dtype(word: str | None) -> str | None:
    """Of vLLM's word for the KV cache's format the config's; None for `auto`, whose bytes per token tell."""
    if word is None or word == "auto":
        return None
    return "fp8" if word.startswith("fp8") else word


def _first(pattern: re.Pattern[str], lines: Iterable[str]) -> str | None:
    return next((found[1] for line in lines if (found := pattern.search(line))), None)


def _outermost(told: str) -> str:
    """The repr of a dict without the mappings inside it, such as extra_config, whose keys may have the same names."""
    inside = _QUOTED.sub(lambda text: re.sub("[{}]", "", text[0]), told)[1:-1]
    while (less := re.sub(r"\{[^{}]*\}", "", inside)) != inside:
        inside = less
    return inside


def _word(told: str, key: str, shape: str) -> str | None:
    found = re.search(rf"'{key}': '?({shape})", told)
    return found[1] if found else None
