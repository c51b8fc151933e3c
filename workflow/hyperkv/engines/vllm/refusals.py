"""What vLLM and LMCache would not run, or would silently run without a cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....plugin.lmcache_striped.secret import Secret
from ...base.errors import UserError
from ...connectors.registry import STRIPED_SERVED
from ...models.serde import require_serde
from ...records.effective import buffer_bytes
from ...stores.registry import store_class
from .lmcache import IN_PROCESS, SERVED, VLLMS_OWN

_LEAST_CHUNKS = 4
_IN_PROCESS_KEYS = {"enable_async_loading", "extra_config", "local_cpu", "max_local_cpu_size", "remote_url"}


def check(
    scenario: Mapping[str, Any], device: str, block_tokens: int, chunk_bytes: int, staging_bytes: int
) -> None:
    """Refuse what vLLM and LMCache would not run or would silently run without a cache.

    device: cuda or cpu. chunk_bytes: KV of one chunk, all GPUs' values together. staging_bytes: LMCache's buffer when there is no pool.
    Raises UserError naming the scenario, the key and the mend.
    """
    if scenario["tier"] == "none":
        return
    where = f"scenario {scenario['name']}"
    store, connector, chunk = scenario["store"], scenario["connector"], scenario["chunk_tokens"]
    if connector not in (reaching := store_class(store).connectors):
        choices = " or ".join(sorted(reaching))
        raise UserError(
            f"{where}: with engine vllm, connector {connector} cannot reach store {store}; choose {choices}"
        )
    if chunk % block_tokens:
        raise UserError(
            f"{where}: chunk_tokens {chunk} is not a multiple of vLLM's block of {block_tokens} tokens; "
            f"change one of them"
        )
    extra = scenario["lmcache"]
    if connector == "resp" and scenario.get("socket") == "unix":
        raise UserError(
            f"{where}: socket: LMCache's resp client has no unix sockets; choose tcp, or connector striped"
        )
    if connector in SERVED and (wrong := sorted(extra.keys() & _IN_PROCESS_KEYS)):
        raise UserError(
            f"{where}: lmcache.{wrong[0]} is a key of LMCache inside vLLM; with connector {connector} these are options of "
            f"`lmcache server`, such as max_workers; leave it out"
        )
    if connector in VLLMS_OWN and extra:
        raise UserError(
            f"{where}: lmcache: connector {connector} is vLLM's own and reads none of LMCache's keys"
        )
    if connector == "mooncake" and chunk != block_tokens:
        raise UserError(
            f"{where}: chunk_tokens: vLLM gives Mooncake its blocks of {block_tokens} tokens; choose {block_tokens}"
        )
    if scenario.get("shape") and connector not in STRIPED_SERVED:
        choices = " or ".join(STRIPED_SERVED)
        raise UserError(f"{where}: shape: one process has to move all that a device does; choose {choices}")
    if scenario.get("place"):
        _require_placed(scenario, where)
    if scenario.get("serde"):
        require_serde(
            scenario["serde"], device, store_class(store).held_by_engine == "pool", f"{where}: serde: "
        )
    pool = buffer_bytes(scenario, staging_bytes)
    if pool < _LEAST_CHUNKS * chunk_bytes:
        key = "dram_pool_bytes" if scenario["dram_pool_bytes"] else "vllm.staging_bytes"
        raise UserError(
            f"{where}: {key}: {pool >> 20} MiB hold {pool // chunk_bytes} chunks of {chunk_bytes >> 20} MiB, at least "
            f"{_LEAST_CHUNKS} are needed; raise it or lower chunk_tokens"
        )


def require_served_on(scenario: Mapping[str, Any], device: str) -> None:
    """Refuse LMCache inside vLLM on a CPU; only the observatory tries it. Raises UserError."""
    if device == "cpu" and scenario["tier"] != "none" and scenario["connector"] in IN_PROCESS:
        why = "LMCache runs inside vLLM on CUDA only (on a CPU it serves without a cache and says nothing)"
        mend = "choose connector mp, striped_mp or direct_mp"
        raise UserError(f"scenario {scenario['name']}: {why}; {mend}")


def _require_placed(scenario: Mapping[str, Any], where: str) -> None:
    """Refuse what LMCache's own clients cannot do there. where: begins the message, UserError."""
    connector, place = scenario["connector"], scenario["place"]
    if connector in ("redis", "resp") and not place["consent"]:
        raise UserError(
            f"{where}: connector: with {connector} LMCache gives keys no prefix of the run, so that they cannot be told from others' and "
            "deleted; choose striped, or set place.consent: true, with which the servers are emptied"
        )
    if connector == "mp" and place["cluster"] and Secret.of(scenario) is not None:
        raise UserError(
            f"{where}: password_file: LMCache's own client of a cluster takes a password on a command line that others can read, and logs "
            "it; choose striped_mp"
        )
    if connector in ("redis", "resp", "mp") and place["tls"] is not None:
        other = "striped_mp" if connector == "mp" else "striped"
        raise UserError(
            f"{where}: place.tls: LMCache's own client of connector {connector} speaks no TLS; choose {other}"
        )
