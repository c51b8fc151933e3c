"""How vLLM reaches KV outside its own cache: LMCache's configuration, or that of vLLM's own offloading. Pure functions.

Keys and command lines are those of LMCache 0.5 and vLLM 0.25 and later (docs.lmcache.ai, docs.vllm.ai).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from ....plugin.lmcache_striped.deadline import Endpoint, name_of
from ...connectors.gated import gate_keys
from ...connectors.registry import STRIPED_INSIDE, STRIPED_SERVED, library_of
from ...connectors.vllm_own import OFFLOADING, mooncake_keys, offloading_keys
from ...machine.processes import LOOPBACK, option_words
from ...records.effective import buffer_bytes
from ...stores.base import DIRECT
from ...stores.held import Held
from ...stores.registry import has_store, store_class

# What LMCache's own program does; the module cannot be run by itself in 0.5.0.
COMMAND = "from lmcache.cli.main import main; main()"
_GIB = 1 << 30
IN_PROCESS = ("inprocess", "redis", "resp", *STRIPED_INSIDE)
SERVED = ("mp", *STRIPED_SERVED)
VLLMS_OWN = (*OFFLOADING, "mooncake")
# vLLM's classes, as --kv-transfer-config names them.
CONNECTOR_CLASSES = {
    **dict.fromkeys(IN_PROCESS, "LMCacheConnectorV1"),
    **dict.fromkeys(SERVED, "LMCacheMPConnector"),
    **dict.fromkeys(OFFLOADING, "OffloadingConnector"),
    "mooncake": "MooncakeStoreConnector",
}
_WITH_PASSWORD = "with_password"
_ALL_IN_FLIGHT = 1024  # as many as connectors/channels.py ever sends ahead
# Tokens at a prompt's end that are never looked up, so that a hit leaves at least two to compute: a step of one token
# per request runs as a full CUDA graph, in which LMCache 0.5 loads nothing (LMCacheConnectorV1Impl.start_load_kv).
_COMPUTED_TOKENS = 2


@dataclass(frozen=True)
class Offload:
    """What one scenario adds to vLLM's command line.

    transfer: vLLM's --kv-transfer-config, None to compute everything again. config: the file that
    LMCACHE_CONFIG_FILE names, None when there is none. server: arguments of `lmcache server`, None without one.
    """

    transfer: dict[str, Any] | None = None
    config: dict[str, Any] | None = None
    server: list[str] | None = None


def loads_ahead(scenario: Mapping[str, Any]) -> bool:
    """Whether LMCache loads while a request waits to be scheduled; its log then times the copy to the GPU alone."""
    return bool(scenario["lmcache"].get("enable_async_loading"))


def keeps_free(scenario: Mapping[str, Any]) -> bool:
    """Whether vllm.staging_bytes of a scenario's pool are kept free: one of LMCache's server before a store, since a load needs free room
    for all of a prompt at once, and a pool that is full is given some back once a second."""
    return scenario.get("connector") in SERVED and has_store(scenario) and bool(scenario["dram_pool_bytes"])


def save_queue_bytes(buffer: int) -> int:
    """Of host memory between GPU and store what may wait to be saved: half, the rest is for loads."""
    return buffer // 2


def kept_share(pool_bytes: int, staging_bytes: int) -> float:
    """Share of such a pool from which on it gives up what it has."""
    return 1 - staging_bytes / pool_bytes


def offload(
    scenario: Mapping[str, Any],
    staging_bytes: int,
    held: Held,
    endpoints: Sequence[Endpoint],
    port: int,
    http_port: int,
    ranks: int = 1,
    device: str = "cuda",
) -> Offload:
    """What a checked scenario needs.

    held: what of a store that they hold themselves. endpoints: the store's servers, none when it has none. port,
    http_port: of an LMCache server. ranks: of vLLM that store values, each with an LMCache inside (KvShare.values_per_chunk);
    an LMCache server and vLLM's own offloading have one for all. device: cuda or cpu.
    """
    if scenario["tier"] == "none":
        return Offload()
    connector = scenario["connector"]
    if connector in SERVED:
        server = mp_arguments(scenario, staging_bytes, held, endpoints, port, http_port)
        transfer = _transfer(connector, _mp_keys(scenario, port))
        if scenario["lmcache"].get("l2_prefetch_stream_chunks"):  # lookups are answered before their loads
            transfer["kv_load_failure_policy"] = "recompute"
        return Offload(transfer, server=server)
    if connector in OFFLOADING:
        tier = _lower_tier(scenario, staging_bytes, held, endpoints)
        keys = offloading_keys(scenario, buffer_bytes(scenario, staging_bytes), tier, device)
        return Offload(_transfer(connector, keys))
    if connector == "mooncake":
        return Offload(_transfer(connector, mooncake_keys(scenario)))
    transfer = _transfer(connector, {"skip_last_n_tokens": _COMPUTED_TOKENS})
    return Offload(transfer, inprocess_config(scenario, staging_bytes, held, endpoints, ranks))


def inprocess_config(
    scenario: Mapping[str, Any],
    staging_bytes: int,
    held: Held,
    endpoints: Sequence[Endpoint],
    ranks: int = 1,
) -> dict[str, Any]:
    """LMCache's configuration file for LMCacheConnectorV1; the scenario's own `lmcache` keys come last.

    Sizes are in GiB, as LMCache reads them. Without a DRAM pool local_cpu is off, and max_local_cpu_size is only
    the pinned buffer through which chunks pass. Every rank reads the file and takes its sizes for itself, so that each has
    its part of the scenario's.
    """
    config: dict[str, Any] = {
        "chunk_size": scenario["chunk_tokens"],
        "local_cpu": bool(scenario["dram_pool_bytes"]),
        "max_local_cpu_size": buffer_bytes(scenario, staging_bytes) / ranks / _GIB,
        "save_decode_cache": scenario["save_decode_cache"],
        "save_unfull_chunk": False,
        "extra_config": {},
    }
    if _held(scenario) == "folder":
        config |= {
            "local_disk": f"file://{held.folder}/",
            "max_local_disk_size": (scenario["capacity_bytes"] or 1 << 44) / _GIB / ranks,
        }
        config["extra_config"] |= {"use_odirect": True}
    if scenario["connector"] in ("redis", "resp"):
        (endpoint,) = endpoints
        config |= {"remote_serde": "naive"}
        if endpoint.password is None:
            config["remote_url"] = f"{scenario['connector']}://{name_of(endpoint)}"
        else:
            config["remote_storage_plugins"] = [_WITH_PASSWORD]
            config["extra_config"] |= _plugin_keys(
                _WITH_PASSWORD,
                module_path="lmcache_striped.password",
                class_name="PasswordAdapter",
                client=scenario["connector"],
                host=endpoint.host,
                port=endpoint.port,
                **_reference(endpoint),
            )
    if scenario["connector"] == "resp":
        config["extra_config"] |= {"save_chunk_meta": False, "resp_num_threads": scenario["connections"]}
    if scenario["connector"] in STRIPED_INSIDE:
        config |= {"remote_storage_plugins": ["striped"], "remote_serde": "naive"}
        config["extra_config"] |= {"save_chunk_meta": False} | _plugin_keys(
            "striped",
            module_path="lmcache_striped.remote",
            class_name="StripedAdapter",
            **_stripes(scenario, staging_bytes, endpoints, ranks),
        )
    extra = dict(scenario["lmcache"])
    config["extra_config"] |= extra.pop("extra_config", None) or {}
    return config | extra


def _plugin_keys(plugin: str, **keys: Any) -> dict[str, Any]:
    """What LMCache reads of a storage plugin, under its name."""
    return {f"remote_storage_plugin.{plugin}.{key}": value for key, value in keys.items()}


def _held(scenario: Mapping[str, Any]) -> str | None:
    return store_class(scenario["store"]).held_by_engine


def _stripes(
    scenario: Mapping[str, Any], staging_bytes: int, endpoints: Sequence[Endpoint], ranks: int = 1
) -> dict[str, Any]:
    """Keys of the plugin's cache_settings.py."""
    places = (f"unix:{each.path}" if each.path else name_of(each) for each in endpoints)
    own = {
        "endpoints": ",".join(places),
        "connections": scenario["connections"],
        "save_queue_bytes": save_queue_bytes(buffer_bytes(scenario, staging_bytes)) // ranks,
        "stripes_in_flight": scenario.get("stripes_in_flight") or _ALL_IN_FLIGHT,
    }
    library = library_of(scenario.get("client", "python"))
    optional = {
        name: scenario.get(name)
        for name in ("stripe_bytes", "save_connections", "save", "engines", "timeout_s")
    }
    optional |= {"bound_bytes": bound // ranks if (bound := scenario.get("bound_bytes")) else None}
    optional |= {
        "client": "python" if library is None else None,
        "library": None if library is None else str(library.absolute()),
    }
    optional |= {f"shape_{name}": value for name, value in (scenario.get("shape") or {}).items()}
    if scenario["connector"] in DIRECT:
        optional |= {"dirs": ",".join(str(each.folder) for each in endpoints), "read": scenario.get("read")}
    optional |= gate_keys(scenario)
    own |= {key: value for key, value in optional.items() if value is not None}
    if (tls := endpoints[0].tls) is not None:
        own |= {"tls": True, **{f"tls_{name}": path for name, path in tls.keys().items()}}
    return own | _shared(endpoints[0])


def _reference(endpoint: Endpoint) -> dict[str, str]:
    """Where LMCache's processes find a server's password, as keys; the password itself would be in their logs and words."""
    user = {} if endpoint.user is None else {"user": endpoint.user}
    return user | ({} if endpoint.password is None else endpoint.password.keys())


def _shared(endpoint: Endpoint) -> dict[str, str]:
    """That, and what every key begins with in a server that others use as well."""
    return _reference(endpoint) | ({"key_prefix": endpoint.prefix} if endpoint.prefix else {})


def rendered(config: Mapping[str, Any]) -> str:
    """The text of the file that LMCACHE_CONFIG_FILE names, as LMCache reads it back: JSON's 1e-05 is text to YAML."""
    return yaml.safe_dump(dict(config), allow_unicode=True, sort_keys=False)


def mp_arguments(
    scenario: Mapping[str, Any],
    staging_bytes: int,
    held: Held,
    endpoints: Sequence[Endpoint],
    port: int,
    http_port: int,
) -> list[str]:
    """Arguments of `lmcache server`. Without a DRAM pool L1 is a buffer only, so that hits come from L2; of one before a store
    staging_bytes are kept free.

    The scenario's `lmcache` keys become options: l1_use_hugepages: true is --l1-use-hugepages. A value that begins with -
    would be an option of its own as a word of its own.
    """
    options: dict[str, object] = {
        "host": LOOPBACK,
        "port": port,
        "http-host": LOOPBACK,
        "http-port": http_port,
        "chunk-size": scenario["chunk_tokens"],
        "l1-size-gb": f"{buffer_bytes(scenario, staging_bytes) / _GIB:g}",
        "eviction-policy": "LRU",
        "supported-transfer-mode": "auto",
    }
    if (adapter := _l2_adapter(scenario, staging_bytes, held, endpoints)) is not None:
        options["l2-adapter"] = json.dumps(adapter | ({"serde": held.serde} if held.serde else {}))
        if not scenario["dram_pool_bytes"]:
            options["l2-store-policy"] = "skip_l1"
        if keeps_free(scenario):
            options["eviction-trigger-watermark"] = (
                f"{kept_share(scenario['dram_pool_bytes'], staging_bytes):.3f}"
            )
    own = scenario["lmcache"]
    if own.get("l1_use_hugepages"):  # which LMCache refuses beside its defaults
        options["shm-name"] = ""
        own = {"l1_use_lazy": False} | own
    arguments = option_words(options)
    for key, value in own.items():
        option = "--" + key.replace("_", "-")
        if isinstance(value, bool):
            arguments.append(option if value else option.replace("--", "--no-", 1))
            continue
        word = value if isinstance(value, str) else json.dumps(value)
        arguments += [f"{option}={word}"] if word.startswith("-") else [option, word]
    return arguments


def _l2_adapter(
    scenario: Mapping[str, Any], staging_bytes: int, held: Held, endpoints: Sequence[Endpoint]
) -> dict[str, Any] | None:
    if _held(scenario):
        return store_class(scenario["store"]).l2_adapter(held)
    if scenario["connector"] in STRIPED_SERVED:
        return {
            "type": "native_plugin",
            "module_path": "lmcache_striped.l2",
            "class_name": "StripedL2Client",
            "adapter_params": _stripes(scenario, staging_bytes, endpoints),
        }
    if scenario.get("place") and scenario["place"]["cluster"]:
        return {
            "type": "valkey",
            "startup_nodes": ",".join(map(name_of, endpoints)),
            "cluster_mode": True,
            "key_prefix": endpoints[0].prefix,
            "num_workers": scenario["connections"],
        }
    (endpoint,) = endpoints
    where = {"host": endpoint.host, "port": endpoint.port, "num_workers": scenario["connections"]}
    if not (shared := _shared(endpoint)):
        return {"type": "resp", **where}
    return {
        "type": "native_plugin",
        "module_path": "lmcache_striped.password",
        "class_name": "resp_client",
        "adapter_params": {**where, **shared},
    }


def _lower_tier(
    scenario: Mapping[str, Any], staging_bytes: int, held: Held, endpoints: Sequence[Endpoint]
) -> dict[str, Any] | None:
    if scenario["connector"] == "striped_tier":
        stripes = _stripes(scenario, staging_bytes, endpoints)
        return {"type": "StripedTier", "module_path": "lmcache_striped.tier", **stripes}
    return {"type": "fs", "root_dir": str(held.folder)} if _held(scenario) == "folder" else None


def _mp_keys(scenario: Mapping[str, Any], port: int) -> dict[str, Any]:
    # save_decode_cache is read from 0.5.6 on; LMCache's server saved answers always before (effective.py).
    own = {"host": f"tcp://{LOOPBACK}", "port": port, "save_decode_cache": scenario["save_decode_cache"]}
    return {f"lmcache.mp.{key}": value for key, value in own.items()}


def _transfer(connector: str, extra: dict[str, Any]) -> dict[str, Any]:
    return {
        "kv_connector": CONNECTOR_CLASSES[connector],
        "kv_role": "kv_both",
        "kv_connector_extra_config": extra,
    }
