"""The scenarios of a configuration: with their presets, one per chunk size, chosen by name or family."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..base.config_files import read_mapping
from ..base.errors import UserError
from ..engines.vllm.lmcache import IN_PROCESS
from ..stores.registry import STORES, store_class
from .explain import validated
from .models.scenario import Place, Preset

_OF_NODE = ("node", "interface")


def expanded(scenarios: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Every scenario by name with its family, its pair and its preset's keys, one per chunk size. Raises UserError for a name that
    stands twice.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, scenario in _by_chunk(scenarios):
        if name in found:
            raise UserError(
                f"config: scenarios: two scenarios are called {name}, one of them by its chunk size; rename one"
            )
        found[name] = with_preset(scenario) | {"pair": pair_of(scenario)}
        if (place := scenario["place"]) is None:
            continue
        if place["node"] is None:
            own = {key: value for key, value in place.items() if key not in _OF_NODE}
            found[name] |= {"place": own, "processes": _servers(scenario)}
        else:
            found[name] |= {"place": None, "node": _of_node(place, scenario["family"])}
    return found


def _of_node(place: Mapping[str, Any], family: str) -> dict[str, Any]:
    """What is said of the other node. Raises UserError for what servers that are there already have."""
    for key, value in place.items():
        if key not in _OF_NODE and value != Place.model_fields[key].get_default():
            raise UserError(
                f"config: scenarios.{family}.place.{key}: with place.node the job starts the store; leave one of them out"
            )
    return {"interface": place["interface"]}


def _servers(scenario: Mapping[str, Any]) -> int:
    """As many as there are addresses, of a cluster one. Raises UserError for none, and for another number of processes."""
    where, place = f"config: scenarios.{scenario['family']}.place", scenario["place"]
    if not (count := len(place.get("addresses", []))):
        raise UserError(f"{where}.addresses is missing; write [host:port, ...], or node: other")
    if place["interface"] is not None:
        raise UserError(f"{where}.interface: place.addresses say where the store is; leave it out")
    count = 1 if place["cluster"] else count
    if scenario["processes"] not in (1, count):
        raise UserError(
            f"config: scenarios.{scenario['family']}.processes: there is a {'cluster' if place['cluster'] else f'server at each of place.addresses, {count} in all'}; leave it out"
        )
    return count


def behind_devices(
    scenarios: Mapping[str, dict[str, Any]], array: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Scenarios by name, behind each of those of `experiment.array` the same with each device. Raises UserError."""
    where = "config: experiment.array"
    families = {scenario["family"] for scenario in scenarios.values()}
    for name in array["scenarios"]:
        if name not in families and name not in scenarios:
            raise UserError(f"{where}.scenarios: no scenario {name!r}; choose one of scenarios")
        if not array["gbps"]:
            raise UserError(
                f"{where}.gbps is empty; write the GB/s of the devices that {name} is to be behind"
            )
    found: dict[str, dict[str, Any]] = {}
    for name, scenario in scenarios.items():
        found[name] = scenario
        if not {name, scenario["family"]} & {*array["scenarios"]}:
            continue
        if scenario["tier"] == "none":
            raise UserError(
                f"{where}.scenarios: {name} has no store that could be behind a device; leave it out"
            )
        own = scenario["shape"] or {}
        for gbps in array["gbps"]:
            for latency_us in array["latency_us"] or [own.get("latency_us")]:
                device = {"read_gbps": gbps, "latency_us": latency_us or None}
                words = f"-{gbps:.12g}gbps" + (f"-{latency_us:.12g}us" if array["latency_us"] else "")
                behind = name + words.replace(".", "_")
                if behind in found or behind in scenarios:
                    raise UserError(f"{where}: two scenarios would be called {behind}; leave one out")
                found[behind] = {
                    **scenario,
                    "shape": {**own, **device},
                    "behind": name,
                }
    return found


def pair_of(scenario: Mapping[str, Any]) -> str:
    """The pair of vLLM and LMCache that serves a scenario: its own, else the one that is sound for its connector."""
    return scenario["pair"] or ("reference" if scenario.get("connector") in IN_PROCESS else "current")


def selected(config: Mapping[str, Any], families: list[str]) -> list[str]:
    """Scenario names of a list of scenarios or of families with several chunk sizes, in order."""
    found = [
        name
        for family in families
        for name, scenario in config["scenarios"].items()
        if family in (name, scenario["family"])
    ]
    return list(dict.fromkeys(found))


def loads_of(config: Mapping[str, Any], scenario: str) -> list[int | float]:
    """The loads of one scenario: its own, else the experiment's."""
    own = config["scenarios"][scenario].get("loads")
    return config["experiment"]["loads"] if own is None else own


def with_preset(scenario: Mapping[str, Any]) -> dict[str, Any]:
    """The scenario with its preset's settings, environment and ignored_settings under its own.

    Raises UserError when there is no such preset, or it is not as config/README.md says.
    """
    name, key = scenario["preset"], f"scenarios.{scenario['family']}.preset"
    if name is None:
        return dict(scenario)
    presets = store_class(scenario["store"]).presets if "store" in scenario else None
    if presets is None:
        having = [name for name in STORES if store_class(name).presets]
        raise UserError(f"config: {key}: presets are for store {' or '.join(having)}; leave it out")
    names = ", ".join(sorted(preset.stem for preset in presets.glob("*.yaml")))
    file = presets / f"{name}.yaml"
    document = read_mapping(file, key, f"{presets} has {names}")
    preset = validated(Preset, document, f"config: {key}: {file}").model_dump()
    mappings = {part: preset[part] | scenario[part] for part in ("settings", "environment")}
    ignored = [*preset["ignored_settings"], *scenario["ignored_settings"]]
    return {**scenario, **mappings, "ignored_settings": list(dict.fromkeys(ignored))}


def _by_chunk(scenarios: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for family, scenario in scenarios.items():
        chunks = scenario["chunk_tokens"]
        if not isinstance(chunks, list):
            yield family, {**scenario, "family": family}
            continue
        for chunk in chunks:
            yield f"{family}-{chunk}", {**scenario, "chunk_tokens": chunk, "family": family}
