"""vLLM's command line and environment for one scenario, and the blocks of its KV cache. Pure functions.

Blocks: vllm/v1/core/kv_cache_utils.py and kv_cache_interface.py of 0.25 and 0.32.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...machine.processes import LOOPBACK, option_words
from ...models.geometry import Geometry
from ...models.gpus import tensor_parallel_of
from ...models.kv_format import SERVED_DTYPE

MODEL_NAME = "hyperkv"
_MODULE = "vllm.entrypoints.openai.api_server"
AS_MODULE = ("-m", _MODULE)
# What vLLM spawns imports its parent's main module again, seconds of imports for nothing, unless that came so.
WITHOUT_MAIN = ("-c", f"import runpy; runpy.run_module({_MODULE!r}, run_name='__main__')")
_GIB = 1 << 30
_USUAL = {"max-num-batched-tokens": 8192, "max-num-seqs": 64}  # tokens of a step, requests in flight
_USUAL_ON_GPU = {"gpu-memory-utilization": 0.9}  # share of each GPU's memory
_QUIET = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "LMCACHE_TRACK_USAGE": "false",
    "LMCACHE_DISABLE_BANNER": "1",
    "HF_HUB_OFFLINE": "1",
}
_RANKS_ON_LOOPBACK = {"VLLM_HOST_IP": "127.0.0.1", "NCCL_SOCKET_IFNAME": "lo", "GLOO_SOCKET_IFNAME": "lo"}

# Connectors under which vLLM keeps its hybrid KV cache manager (SupportsHMA).
HYBRID_CONNECTORS = ("LMCacheMPConnector", "OffloadingConnector", "MooncakeStoreConnector")


def settings_of(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The engine's settings of a scenario: the config's `vllm`, and the scenario's own `vllm` over them.

    What its pair needs is added: variables before the config's and behind the scenario's own, words after either's.
    """
    common, own = dict(spec["vllm"]), spec["scenario"]["vllm"]
    pair = common.pop("pairs", {}).get(spec["scenario"].get("pair"))
    if pair is None:
        return {**common, **own}
    variables = own.get("environment", common["environment"] | pair["environment"])
    words = own.get("flags", common["flags"])
    return {
        **common,
        **own,
        "environment": pair["environment"] | variables,
        "flags": [*words, *pair["flags"]],
    }


def command(
    python: str,
    model_dir: Path,
    settings: Mapping[str, Any],
    geometry: Geometry,
    kv_dtype: str,
    context_tokens: int,
    port: int,
    transfer: Mapping[str, Any] | None,
    started: Sequence[str] = AS_MODULE,
) -> list[str]:
    """The command line of vLLM's OpenAI server on loopback.

    kv_dtype: the config's word, auto or fp8 or a float's name. context_tokens: longest prompt and answer that
    will be sent. transfer: see lmcache.Offload. started: AS_MODULE for people, WITHOUT_MAIN sooner.
    """
    options: dict[str, object] = {
        "model": model_dir,
        "served-model-name": MODEL_NAME,
        "host": LOOPBACK,
        "port": port,
        "dtype": SERVED_DTYPE,
        "max-model-len": context_tokens,
        "block-size": settings["block_tokens"],
        **_unless_told(settings["flags"], _USUAL),
        "seed": 0,
    }
    if kv_dtype != "auto" and (kv_dtype != SERVED_DTYPE or geometry.checkpoint_kv_dtype):
        options["kv-cache-dtype"] = kv_dtype
    if settings["device"] == "cuda":
        options |= _unless_told(settings["flags"], _USUAL_ON_GPU)
    options["tensor-parallel-size"] = tensor_parallel_of(settings)
    if settings["hbm_kv_bytes"] is not None:
        connector = (transfer or {}).get("kv_connector")
        blocks = settings["hbm_kv_bytes"] // block_bytes_of(settings, geometry, connector)
        options["num-gpu-blocks-override"] = blocks
    if settings["model_dir"] is None and weights_of(settings) == "dummy":
        options["load-format"] = "dummy"
    if transfer is not None:
        options["kv-transfer-config"] = json.dumps(transfer)
    flags = ["--enable-prompt-tokens-details"]
    flags.append("--enable-prefix-caching" if settings["prefix_caching"] else "--no-enable-prefix-caching")
    return [python, *started, *option_words(options), *flags, *map(str, settings["flags"])]


def _unless_told(flags: Sequence[str | int | float], usual: Mapping[str, float]) -> dict[str, float]:
    """vLLM's options, less those that flags have a value for."""
    told = {str(flag).partition("=")[0].replace("_", "-").lstrip("-") for flag in flags}
    return {option: value for option, value in usual.items() if option not in told}


def weights_of(settings: Mapping[str, Any]) -> str:
    """What weights a made model has: vLLM's constant dummy ones, which it fills in at once, or on a CPU random ones."""
    return "random" if settings["device"] == "cpu" else "dummy"


def block_bytes_of(settings: Mapping[str, Any], geometry: Geometry, connector: str | None) -> int:
    """Bytes of one of vLLM's blocks on all GPUs together, copies included; a block has its tokens' KV on every GPU.

    connector: the kv_connector of --kv-transfer-config, None without one.
    """
    gpus, hybrid = tensor_parallel_of(settings), hybrid_manager(geometry, settings["device"], connector)
    return gpus * block_bytes(geometry, settings["block_tokens"], hybrid, gpus)


def variables(
    settings: Mapping[str, Any], config_file: Path | None, metrics_dir: Path, cores: str | None = None
) -> dict[str, str]:
    """Environment variables of vLLM and of an LMCache server.

    Ranks talk to one another on loopback. PYTHONHASHSEED makes LMCache's keys the same in every process; VLLM_SERVER_DEV_MODE offers
    /reset_prefix_cache. On a CPU every scenario computes on all cores: left alone, vLLM keeps one for itself, and two with a
    connector where there are more. metrics_dir: where LMCache, in another process, leaves its counters for /metrics.
    cores: of each rank on a CPU, as vLLM reads them (gpus.own_cores); None for all.
    """
    found = {
        **_QUIET,
        "PYTHONHASHSEED": "0",
        "VLLM_SERVER_DEV_MODE": "1",
        "PROMETHEUS_MULTIPROC_DIR": str(metrics_dir),
    }
    if config_file is not None:
        found["LMCACHE_CONFIG_FILE"] = str(config_file)
    if settings["device"] == "cpu":
        found["VLLM_CPU_KVCACHE_SPACE"] = str(-(-(settings["hbm_kv_bytes"] or _GIB) // _GIB))
        found["VLLM_CPU_NUM_OF_RESERVED_CPU"] = "0"
    if cores is not None:
        found["VLLM_CPU_OMP_THREADS_BIND"] = cores
    if tensor_parallel_of(settings) > 1:
        found |= _RANKS_ON_LOOPBACK
    return found | settings["environment"]


def hybrid_manager(geometry: Geometry, device: str, connector: str | None) -> bool:
    """Whether vLLM frees what is out of a layer's window (VllmConfig.__post_init__); without, such layers keep every token.

    Off on a CPU, with chunked attention, and with a connector that does not support it. device: cuda or cpu. connector: the
    kv_connector of --kv-transfer-config, None without one.
    """
    chunked = any(part.kind == "chunked" for part in geometry.by_kind)
    return device == "cuda" and not chunked and (connector is None or connector in HYBRID_CONNECTORS)


def block_bytes(geometry: Geometry, block_tokens: int, hybrid: bool, tensor_parallel: int = 1) -> int:
    """Bytes on one GPU of one of vLLM's blocks of so many tokens, which --num-gpu-blocks-override counts.

    With the hybrid manager layers of several kinds are in groups of equally many layers, and a block is one group's
    (_get_kv_cache_groups_uniform_page_size). Where a group's layers are not alike (linear ones: padded) it is a block of
    all layers that keep tokens, which is an upper bound.
    """
    whole = geometry.kv_bytes_per_token_on_gpu(tensor_parallel) * block_tokens
    groups = _groups(geometry) if hybrid else None
    return whole if groups is None else whole * groups[0] // sum(part.count for part in geometry.by_kind)


def _groups(geometry: Geometry) -> tuple[int, int] | None:
    """(layers per group, groups) where layers of several kinds are alike in size; None where there is one group or they are not."""
    kinds = geometry.by_kind
    if len({part.window_tokens for part in kinds}) < 2 or any(part.kind == "linear" for part in kinds):
        return None
    if len({part.kv_bytes_per_token for part in kinds}) > 1:
        return None
    counts = [part.count for part in kinds]
    size = max(counts) if max(counts) < 1.5 * min(counts) else min(counts)
    return size, sum(-(-count // size) for count in counts)
