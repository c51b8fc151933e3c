"""The tiers that a measured scenario has, for the prediction of what the sweep measures. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..engines.vllm.command import settings_of
from ..models.geometry import Geometry, load_geometry
from ..models.gpus import kv_share, tensor_parallel_of
from ..stores.registry import store_class

Sizes = dict[str, int | None]
_MIB = 1 << 20


@dataclass(frozen=True)
class EngineFacts:
    """What of an engine decides the units that tiers hold. hbm: bytes of HBM's KV under `hbm_bytes`; empty without prefix caching."""

    hbm: Sizes
    block_tokens: int
    gpus: int
    geometry: Geometry

    @classmethod
    def of(cls, config: Mapping[str, Any], scenario: Mapping[str, Any] | None = None) -> EngineFacts:
        """Those of the config's engine, or of a scenario, which may set kv_dtype and, for engine vllm, the engine's keys.

        config: its section replay with what is fixed of that engine.
        """
        own = scenario or {"kv_dtype": None, "vllm": {}}
        vllm = settings_of({"vllm": config["vllm"], "scenario": own})
        engine = vllm if config["engine"] == "vllm" else config["replay"]
        return cls(
            {"hbm_bytes": engine["hbm_kv_bytes"]} if engine["prefix_caching"] else {},
            engine["block_tokens"],
            tensor_parallel_of(vllm),
            load_geometry(Path(config["model"]), own["kv_dtype"] or config["kv_dtype"]),
        )

    def less_copies(self, tiers: Mapping[str, int | None]) -> Sizes:
        """Sizes of tiers less what copies of KV take there: each of several GPUs may hold, and store, the same heads."""
        share, once = kv_share(self.geometry, self.gpus), self.geometry.kv_bytes_per_token
        taken = {"hbm_bytes": share.hbm_bytes_per_token}
        return {
            key: None if size is None else size * once // taken.get(key, share.stored_bytes_per_token)
            for key, size in tiers.items()
        }


def tiers_of_scenarios(config: Mapping[str, Any], names: list[str]) -> dict[str, dict[str, Any]]:
    """Every different set of tiers of scenarios, by its name: sizes in bytes, None for no bound, and its `scenarios`.

    kv_dtype and block_tokens are in it where they are not those of the config's engine.
    """
    usual = EngineFacts.of(config)
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        scenario = config["scenarios"][name]
        facts = EngineFacts.of(config, scenario)
        sizes = facts.hbm | tiers_below(scenario)
        tiers: dict[str, Any] = dict(facts.less_copies(sizes))
        if facts.geometry.kv_dtype != usual.geometry.kv_dtype:
            tiers["kv_dtype"] = facts.geometry.kv_dtype
        if facts.block_tokens != usual.block_tokens:
            tiers["block_tokens"] = facts.block_tokens
        entry = found.setdefault(tiers_name(sizes, facts, usual), {**tiers, "scenarios": []})
        entry["scenarios"].append(name)
    return found


def tiers_name(sizes: Sizes, facts: EngineFacts, usual: EngineFacts) -> str:
    """How a set of tiers is called: hbm, dram_256mib, ssd, dram_256mib_ssd, ...; none.

    HBM, KV format, blocks and GPUs are in it where they are not the usual ones: hbm_8192mib_dram_256mib_fp8.
    """
    words = {"dram_bytes": "dram", "ssd_bytes": "ssd"}
    parts = [_sized(word, sizes[key]) for key, word in words.items() if key in sizes]
    if facts.hbm != usual.hbm and sizes:
        parts.insert(0, _sized("hbm", facts.hbm["hbm_bytes"]) if facts.hbm else "no_hbm")
    parts = parts or ["hbm" if sizes else "none"]
    if facts.geometry.kv_dtype != usual.geometry.kv_dtype:
        parts.append(facts.geometry.kv_dtype)
    if facts.block_tokens != usual.block_tokens:
        parts.append(f"blocks_{facts.block_tokens}")
    if facts.gpus != usual.gpus:
        parts.append(f"{facts.gpus}_gpus")
    return "_".join(parts)


def tiers_below(scenario: Mapping[str, Any]) -> Sizes:
    """The tiers of a scenario below HBM, by their bytes; also of one from before there were bounds."""
    tiers: Sizes = {}
    if scenario["tier"] == "none":
        return tiers
    bound = scenario.get("bound_bytes")
    if scenario["dram_pool_bytes"]:
        tiers["dram_bytes"] = scenario["dram_pool_bytes"]
    if key := store_class(scenario["store"]).bound_key:
        tiers["dram_bytes"] = min(filter(None, (scenario[key], bound)), default=None)
    else:
        tiers["ssd_bytes"] = bound
    return tiers


def _sized(word: str, size: int | None) -> str:
    if size is None:
        return word
    return f"{word}_{size}b" if size % _MIB else f"{word}_{size // _MIB}mib"
