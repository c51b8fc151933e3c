"""What a cell ran with: what was asked, what the running engine told, and where the two differ.

Records carry it as `effective`; tables take it for the facts that comparisons need. What an engine does not tell is null.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

FACTS = ("save_decode_cache", "kv_dtype", "pair", "versions")  # the columns of facts_of
USUAL_KV_DTYPES = ("auto", "bfloat16")  # labels leave them out
_TOLERANCE = 0.02
_BYTES = ("buffer_bytes", "kv_bytes_per_token")  # others are the same or not
_MENDS = {
    "save_decode_cache": "choose the other value, or versions of vLLM and LMCache that have this setting for the connector",
    "kv_bytes_per_token": "set kv_dtype to what the engine uses and model to the config.json that it serves, and leave out words "
    "of vllm.flags and vllm.environment that change what it keeps of a token",
    "kv_dtype": "set kv_dtype to what the engine uses",
    "gpus": "set vllm.tensor_parallel",
    "prefix_caching": "the engine cannot do that with this model; choose the other value of vllm.prefix_caching",
    "block_tokens": "set vllm.block_tokens to what the engine uses",
}


@dataclass(frozen=True)
class Effective:
    """Facts that decide what a cell's figures mean; None where they are not known, or nothing of the kind is there.

    chunk_tokens: of an entry below HBM. save_decode_cache: whether answers' KV is saved. buffer_bytes: host memory between
    GPU and store, the DRAM pool or what saves and loads pass through. kv_dtype: of a value of the KV cache.
    kv_bytes_per_token: on all GPUs. block_tokens: of an HBM block. gpus: that one engine runs on. pair: of vLLM and LMCache, as
    vllm.pairs names them. vllm, lmcache: versions.
    """

    chunk_tokens: int | None = None
    save_decode_cache: bool | None = None
    buffer_bytes: int | None = None
    kv_dtype: str | None = None
    kv_bytes_per_token: float | None = None
    block_tokens: int | None = None
    prefix_caching: bool | None = None
    gpus: int | None = None
    pair: str | None = None
    vllm: str | None = None
    lmcache: str | None = None


def buffer_bytes(scenario: Mapping[str, Any], staging_bytes: int) -> int:
    """Bytes of host memory between GPU and store, all that there is: the DRAM pool, without one the staging buffer."""
    return scenario["dram_pool_bytes"] or staging_bytes


def asked_of(
    scenario: Mapping[str, Any],
    settings: Mapping[str, Any],
    kv_dtype: str,
    kv_bytes_per_token: float | None,
    gpus: int,
) -> Effective:
    """What a scenario asks of its engine; versions are not asked for. settings: section `replay`, or vllm_command.settings_of."""
    below = scenario["tier"] != "none"
    return Effective(
        chunk_tokens=scenario["chunk_tokens"] if below else None,
        save_decode_cache=scenario["save_decode_cache"] if below else None,
        buffer_bytes=buffer_bytes(scenario, settings["staging_bytes"]) if below else None,
        kv_dtype=kv_dtype,
        kv_bytes_per_token=kv_bytes_per_token,
        block_tokens=settings["block_tokens"],
        prefix_caching=settings["prefix_caching"],
        gpus=gpus,
        pair=scenario.get("pair"),
    )


def not_as_asked(wanted: Effective, told: Effective) -> list[str]:
    """A line for each fact in which the running engine is not what was asked for; bytes may be 2 % apart.

    Facts that either does not know are left out.
    """
    found = []
    for field in fields(Effective):
        one, other = getattr(wanted, field.name), getattr(told, field.name)
        if one is None or other is None or _alike(field.name, one, other):
            continue
        mend = f"; {_MENDS[field.name]}" if field.name in _MENDS else ""
        found.append(f"{field.name}: {_plain(one)} was asked for, the engine has {_plain(other)}{mend}")
    return found


def _alike(name: str, one: Any, other: Any) -> bool:
    return abs(other - one) <= _TOLERANCE * abs(one) if name in _BYTES else one == other


def _plain(value: Any) -> str:
    return f"{value:,.0f}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def facts_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a record that say what ran: as the engine told, else as asked, but for the save policy.

    save_decode_cache is None where nobody knows: LMCache's server and vLLM's offloading have a mind of their own about it,
    which differs by version. pair, versions (`vllm 0.25.0, lmcache 0.5.0`): None for engine replay.
    """
    told, wanted = record["effective"], record["asked"]
    return {
        "save_decode_cache": told["save_decode_cache"],
        "kv_dtype": told["kv_dtype"] or wanted["kv_dtype"],
        "pair": told["pair"] or wanted["pair"],
        "versions": versions_of(record["environment"], told),
    }


def versions_of(environment: Mapping[str, Any], told: Mapping[str, Any]) -> str | None:
    """The versions of vLLM and LMCache in words: as the engine told, else as its environment was built."""
    built = (environment.get("engine") or {}).get("versions") or {}
    found = {name: told.get(name) or built.get(name) for name in ("vllm", "lmcache")}
    return ", ".join(f"{name} {version}" for name, version in found.items() if version) or None
