"""HBM, pools and buffers against what the workload needs of them, before the DAG is built."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ....plugin.lmcache_striped.order import Entry
from ....plugin.lmcache_striped.stripes import parts_of
from ...base.errors import UserError
from ...connectors.registry import STRIPED
from ...engines.vllm.command import block_bytes_of, settings_of
from ...engines.vllm.lmcache import CONNECTOR_CLASSES, SERVED, VLLMS_OWN, keeps_free
from ...models.geometry import Geometry, load_geometry
from ...models.gpus import KvShare, kv_share, tensor_parallel_of
from ...stores.registry import has_store, store_class
from ...workloads import Conversation, longest_of
from ...workloads.context_limit import LONGER, ROOM_TOKENS, ContextLimit, check_context
from ...workloads.working_set import largest_context, least_shared, working_set
from ..models.engines import BLOCK_TOKENS
from ..scenarios import loads_of

_ANSWER_TOKENS = 4  # of a single request
_KEY_BYTES = 128  # more than LMCache's keys have


def context_limit(config: Mapping[str, Any]) -> ContextLimit:
    """The longest context that the model and the engine take."""
    geometry = load_geometry(Path(config["model"]), config["kv_dtype"])
    return (ContextLimit.of_vllm if config["engine"] == "vllm" else ContextLimit.of)(geometry)


def check_memory(
    config: Mapping[str, Any],
    scenarios: Sequence[Mapping[str, Any]],
    workloads: Sequence[Sequence[Conversation]],
) -> None:
    """That contexts fit the model, the engine's own cache and the buffers below it, for every repeat's workload.

    Raises UserError naming the key, with what it takes.
    """
    contexts = [longest_of(workload) for workload in workloads]
    longest = max(context.turns[-1].answer_end for context in contexts)
    limit = context_limit(config)
    try:
        check_context(config["workload"], longest, limit)
    except UserError as error:
        raise UserError(f"config: {error}") from None
    if config["engine"] == "vllm":
        _check_single(config, limit)
    for scenario in scenarios:
        geometry = load_geometry(Path(config["model"]), scenario["kv_dtype"] or config["kv_dtype"])
        if config["engine"] == "vllm":
            _check_vllm(config, scenario, geometry, contexts)
        else:
            _check_replay(config, scenario, geometry, contexts)


def _check_single(config: Mapping[str, Any], limit: ContextLimit) -> None:
    longest = max(config["latency"]["prompt_tokens"], default=0)
    if longest + _ANSWER_TOKENS > limit.tokens:
        raise UserError(
            f"config: latency.prompt_tokens: {longest} and an answer of {_ANSWER_TOKENS} exceed {limit.what}; lower it to at "
            f"most {limit.tokens - _ANSWER_TOKENS}, or {LONGER}"
        )


def _check_replay(
    config: Mapping[str, Any],
    scenario: Mapping[str, Any],
    geometry: Geometry,
    contexts: Iterable[Conversation],
) -> None:
    replay, settings = config["replay"], settings_of({"vllm": config["vllm"], "scenario": scenario})
    share, block = kv_share(geometry, tensor_parallel_of(settings)), BLOCK_TOKENS
    needed = largest_context(contexts, share.hbm_bytes_per_token * block, block)
    if needed > replay["hbm_kv_bytes"]:
        longest = max(context.turns[-1].answer_end for context in contexts)
        raise UserError(
            f"config: replay.hbm_kv_bytes: {replay['hbm_kv_bytes'] >> 20} MiB hold no context of {longest} tokens of "
            f"{geometry.name}; it takes {_mib(needed)} MiB or more, and as much for each further client whose context shares "
            f"nothing with it"
        )
    if scenario["tier"] == "none":
        return
    _check_holds_chunk("replay.staging_bytes", replay["staging_bytes"], scenario, geometry, share)
    _check_bound(scenario, geometry, share, contexts)
    _check_pools(scenario, geometry, share)


def _check_vllm(
    config: Mapping[str, Any],
    scenario: Mapping[str, Any],
    geometry: Geometry,
    contexts: Sequence[Conversation],
) -> None:
    settings = settings_of({"vllm": config["vllm"], "scenario": scenario})
    bound = settings["hbm_kv_bytes"]
    single = max(config["latency"]["prompt_tokens"], default=0)
    longest = max(context.turns[-1].answer_end for context in contexts)
    blocks = -(-(max(longest, single + _ANSWER_TOKENS) + ROOM_TOKENS) // settings["block_tokens"])
    connector = CONNECTOR_CLASSES.get(scenario.get("connector", ""))
    needed = blocks * block_bytes_of(settings, geometry, connector)
    if bound is not None and needed > bound:
        raise UserError(
            f"config: vllm.hbm_kv_bytes: {bound >> 20} MiB hold no context of {blocks * settings['block_tokens']} tokens of "
            f"{geometry.name}, and vLLM does not start with less; it takes {_mib(needed)} MiB or more"
        )
    if scenario["tier"] == "none":
        return
    share, chunk = kv_share(geometry, tensor_parallel_of(settings)), scenario["chunk_tokens"]
    _check_bound(scenario, geometry, share, contexts, single)
    _check_pools(scenario, geometry, share)
    if (scenario["dram_pool_bytes"] and not keeps_free(scenario)) or scenario["connector"] in VLLMS_OWN:
        return
    size = share.stored_bytes(chunk)
    prefix = max(working_set([context], size, chunk, False) for context in contexts)
    prefix = max(prefix, single // chunk * size)
    if prefix > settings["staging_bytes"]:
        raise UserError(
            f"config: vllm.staging_bytes: {settings['staging_bytes'] >> 20} MiB do not hold the whole prefix of the longest "
            f"request; it takes {_mib(prefix)} MiB or more"
        )
    if keeps_free(scenario) and scenario["dram_pool_bytes"] <= settings["staging_bytes"]:
        raise UserError(
            f"config: scenarios.{scenario['family']}.dram_pool_bytes: of {scenario['dram_pool_bytes'] >> 20} MiB vllm.staging_bytes, "
            f"{settings['staging_bytes'] >> 20} MiB, are kept free for loads, and nothing would be kept; raise it, or set it to null"
        )


def _check_bound(
    scenario: Mapping[str, Any],
    geometry: Geometry,
    share: KvShare,
    contexts: Iterable[Conversation],
    single_tokens: int = 0,
) -> None:
    """That a bound holds the longest prompt: what did not would be deleted before its end was saved."""
    if (bound := scenario["bound_bytes"]) is None:
        return
    chunk = scenario["chunk_tokens"]
    size = Entry(bytes(_KEY_BYTES), share.stored_bytes(chunk), _stripes(scenario, share)).stored_bytes
    needed = max(largest_context(contexts, size, chunk), -(-single_tokens // chunk) * size)
    if bound < needed:
        raise UserError(
            f"config: scenarios.{scenario['family']}.bound_bytes: {bound:,} bytes do not hold the longest prompt of "
            f"{geometry.name}; it takes {_mib(needed)} MiB or more"
        )


def _stripes(scenario: Mapping[str, Any], share: KvShare) -> int:
    """Values of a chunk, on all GPUs together."""
    if scenario["connector"] not in STRIPED:
        return 0
    chunk_bytes = share.value_bytes(scenario["chunk_tokens"])
    return share.values_per_chunk * len(parts_of(chunk_bytes, scenario["stripe_bytes"]))


def _check_pools(scenario: Mapping[str, Any], geometry: Geometry, share: KvShare) -> None:
    where = f"scenarios.{scenario['family']}"
    _check_holds_chunk(f"{where}.dram_pool_bytes", scenario["dram_pool_bytes"], scenario, geometry, share)
    if store_class(scenario["store"]).bound_key == "capacity_bytes":
        processes = scenario["processes"] if scenario["connector"] in STRIPED else 1
        _check_holds_chunk(
            f"{where}.capacity_bytes", scenario["capacity_bytes"], scenario, geometry, share, processes
        )


def _check_holds_chunk(
    key: str,
    size: int | None,
    scenario: Mapping[str, Any],
    geometry: Geometry,
    share: KvShare,
    servers: int = 1,
) -> None:
    needed = servers * share.stored_bytes(scenario["chunk_tokens"])
    if size is not None and size < needed:
        raise UserError(
            f"config: {key}: {size:,} bytes hold no chunk of {scenario['chunk_tokens']} tokens of {geometry.name}; it takes "
            f"{_mib(needed)} MiB or more, or lower chunk_tokens"
        )


def small_pools(
    config: Mapping[str, Any], names: Iterable[str], workloads: Sequence[Sequence[Conversation]]
) -> list[str]:
    """A line for the pools and buffers of LMCache's server that may be too small for the prompts of all clients of the highest load, those
    that share the least; equal prefixes count once.

    names: of scenarios, those with engine vllm in closed loops. workloads: of every repeat.
    """

    @cache
    def asked_at_once(clients: int, chunk: int) -> list[list[Conversation]]:
        return [least_shared(each, clients, chunk) for each in workloads]

    small: dict[tuple[str, int, int, int], list[str]] = {}
    for name in names:
        scenario = config["scenarios"][name]
        if scenario["tier"] == "none" or scenario["connector"] not in SERVED:
            continue
        clients = -(-max(loads_of(config, name), default=0) // config["experiment"]["engines"])
        geometry = load_geometry(Path(config["model"]), scenario["kv_dtype"] or config["kv_dtype"])
        settings = settings_of({"vllm": config["vllm"], "scenario": scenario})
        chunk = scenario["chunk_tokens"]
        size = kv_share(geometry, tensor_parallel_of(settings)).stored_bytes(chunk)
        needed = max(working_set(each, size, chunk, True) for each in asked_at_once(clients, chunk))
        if has_store(scenario):
            key, room = "vllm.staging_bytes", settings["staging_bytes"]
        else:
            key, room = "dram_pool_bytes", scenario["dram_pool_bytes"]
        if room < needed:
            small.setdefault((key, room, clients, needed), []).append(name)
    return [
        f"{key} of {', '.join(found)}: {room >> 20} MiB may not hold the prompts of {clients} clients at once, and LMCache's server "
        f"does not save what it has no room for; {_mib(needed)} MiB do, or lower experiment.loads"
        for (key, room, clients, needed), found in small.items()
    ]


def _mib(size: int) -> int:
    return -(-size // (1 << 20))
