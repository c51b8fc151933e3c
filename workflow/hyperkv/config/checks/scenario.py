"""That scenarios are there where they are named, and have what their stores and connectors need."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ....plugin.lmcache_striped.secret import KEYS, Secret
from ....plugin.lmcache_striped.stripes import LEAST_STRIPE_BYTES
from ...base.errors import UserError
from ...base.folders import nearest
from ...connectors.registry import alone
from ...engines.vllm import lmcache
from ...machine.memory_dir import file_system_of
from ...records.scenario import gated
from ...stores.kvrocks.config import BY_KEYS_PATCH
from ...stores.registry import STORES, store_class
from ...workloads.factory import parameters_of
from ..explain import did_you_mean
from ..models.engines import BLOCK_TOKENS
from ..models.scenario import OF_SEVERAL, READ_BY, Scenario, unread
from ..scenarios import loads_of, selected
from .choices import connectors_of, offered, or_connector, stores_for
from .place import check_node, check_place

_ONLY_VLLM = (*lmcache.SERVED, *lmcache.VLLMS_OWN)


def check_names(config: Mapping[str, Any]) -> None:
    names = {*config["scenarios"], *(item["family"] for item in config["scenarios"].values())}
    for key in ("experiment", "profile", "layers", "tune"):
        for name in config[key]["scenarios"]:
            if name not in names:
                raise UserError(
                    f"config: {key}.scenarios: no scenario {name!r}; {did_you_mean(name, sorted(names))}scenarios has {', '.join(sorted(names))}"
                )
    for key in ("profile", "layers", "tune"):
        for name in config[key]["scenarios"]:
            if config["scenarios"][selected(config, [name])[0]]["tier"] == "none":
                raise UserError(f"config: {key}.scenarios: {name} has no store to profile; leave it out")
    on_array = config["array"]["source"] != "path"
    for name in selected(config, config["experiment"]["scenarios"]):
        if on_array and config["scenarios"][name].get("node"):
            raise UserError(
                f"config: scenarios.{name}.place.node: an array is made and looked for on the engine's node; set array.source: path, and "
                "data_dir to the folder on the store's"
            )
    for key in ("profile", "layers", "tune", "pairs"):
        for name in selected(config, config[key]["scenarios"]):
            if config["scenarios"][name].get("node"):
                raise UserError(
                    f"config: {key}.scenarios: {name} has place.node, and only jobs of experiment.scenarios have two nodes; leave it out there"
                )
    for key, what in (("layers", "starts one"), ("tune", "starts one"), ("pairs", "damages what is in one")):
        for name in selected(config, config[key]["scenarios"]):
            if config["scenarios"][name]["place"] is not None:
                raise UserError(
                    f"config: {key}.scenarios: {name} has a store at a place, and {key} {what} of its own; leave it out there"
                )
    for name in config["layers"]["scenarios"]:
        scenario = config["scenarios"][selected(config, [name])[0]]
        for key, only in (("processes", 1), ("socket", "tcp")):
            if scenario[key] != only:
                raise UserError(
                    f"config: layers.scenarios: {name} has {key}: {scenario[key]}, and the layers are those of one "
                    f"server over TCP; leave it out, or set {key}: {only}"
                )
    baseline = config["figures"]["baseline"]
    measured = selected(config, config["experiment"]["scenarios"])
    _check_devices(config, measured)
    if baseline is not None and baseline not in measured:
        raise UserError(
            f"config: figures.baseline: {baseline!r} is not among the experiment's scenarios; choose one of "
            f"{', '.join(measured)}, or null"
        )


def _check_devices(config: Mapping[str, Any], measured: list[str]) -> None:
    """That what is to be behind devices is measured there, and that a device holds something back."""
    scenarios = config["scenarios"]
    bases = [scenarios[name]["behind"] for name in measured if "behind" in scenarios[name]]
    swept = {*bases, *(scenarios[base]["family"] for base in bases)}
    for name in config["experiment"]["array"]["scenarios"]:
        if name not in swept:
            raise UserError(
                f"config: experiment.array.scenarios: {name} is not among experiment.scenarios, so that it is not measured behind a device; "
                "name it there, or leave it out"
            )
    for name in measured:
        shape = scenarios[name]["shape"]
        if shape and name not in bases and [key for key, value in shape.items() if value] == ["queue_depth"]:
            raise UserError(
                f"config: scenarios.{scenarios[name]['family']}.shape.queue_depth: alone it holds nothing back; set latency_us, or leave it out"
            )


def check_figures(config: Mapping[str, Any], measured: list[Mapping[str, Any]]) -> None:
    chunk = config["figures"]["chunk_tokens"]
    there = sorted({scenario["chunk_tokens"] for scenario in measured if scenario["tier"] != "none"})
    if there and chunk not in there:
        sizes = ", ".join(map(str, there))
        raise UserError(f"config: figures.chunk_tokens: no scenario has chunk {chunk}; choose one of {sizes}")


def check_recommend(config: Mapping[str, Any], measured: list[str]) -> None:
    section = config["recommend"]
    bounds = config["experiment"]["slo"].values()
    if section["objective"] == "goodput" and all(bound is None for bound in bounds):
        raise UserError(
            "config: recommend.objective: goodput counts answers that keep experiment.slo, which has no bound; set "
            "experiment.slo.ttft_ms or choose rps_per_gpu"
        )
    there = sorted({load for name in measured for load in loads_of(config, name)})
    if section["load"] is not None and section["load"] not in there:
        raise UserError(
            f"config: recommend.load: no scenario is measured at load {section['load']}; choose one of "
            f"{', '.join(map(str, there))}, or null"
        )


def check_chunk(scenario: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    where = f"config: scenarios.{scenario['family']}"
    block = BLOCK_TOKENS if config["engine"] == "replay" else 1
    chunk, longest = scenario["chunk_tokens"], longest_context_tokens(config["workload"])
    if longest is not None and chunk > longest:
        mend = (
            f"lower it to at most {longest // block * block}" if longest >= block else "lengthen the workload"
        )
        raise UserError(
            f"{where}.chunk_tokens: {chunk} exceeds the workload's longest context ({longest} tokens), so nothing would ever "
            f"be cached; {mend}"
        )
    if chunk % block:
        near = [size for size in (chunk // block * block, -(-chunk // block) * block) if size]
        raise UserError(
            f"{where}.chunk_tokens: {chunk} is not a multiple of the engine's block of {block}; choose "
            f"{' or '.join(map(str, near))}"
        )


def check_bound(scenario: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """That what is to keep to bound_bytes does."""
    if scenario["bound_bytes"] is None or scenario["tier"] == "none":
        return
    where, store = f"config: scenarios.{scenario['family']}", scenario["store"]
    if scenario["connector"] == "inprocess" and (store != "files" or config["engine"] != "replay"):
        other = (
            "files with engine replay, and servers with a connector with stripes"
            if store == "files"
            else "files"
        )
        raise UserError(
            f"{where}.bound_bytes: store {store} does not keep to it here ({other} do); leave it out"
        )
    if store == "kvrocks" and not scenario["patched"]:
        raise UserError(
            f"{where}.bound_bytes: a compaction of Kvrocks reads every value, unless it is compiled with patch {BY_KEYS_PATCH}; set "
            f"patched: true, and have kvrocks.patches name {BY_KEYS_PATCH}"
        )
    if scenario["capacity_bytes"] is not None:
        raise UserError(
            f"{where}.capacity_bytes: the least recently used chunks go past bound_bytes, and a server that evicts by itself would take "
            "their order, too; leave one of them out"
        )
    patches = config["kvrocks"]["patches"]
    if store == "kvrocks" and config["kvrocks"]["source"] != "binary" and BY_KEYS_PATCH not in patches:
        raise UserError(
            f"config: kvrocks.patches: {', '.join(patches)} lack {BY_KEYS_PATCH}, which scenarios.{scenario['family']}.bound_bytes "
            f"needs; write patches: [{', '.join([*patches, BY_KEYS_PATCH])}]"
        )


def check_engines(scenario: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """That what is said of several engines is said of several, and that they can share what they are to share."""
    where, engines = f"config: scenarios.{scenario['family']}", config["experiment"]["engines"]
    if engines == 1:
        for key in OF_SEVERAL:
            if scenario[key] != Scenario.model_fields[key].default:
                raise UserError(
                    f"{where}.{key}: there is one engine; set experiment.engines, or leave it out"
                )
        return
    if scenario["tier"] == "none":
        if not scenario["shared"]:
            raise UserError(f"{where}.shared: tier none has nothing that could be shared; leave it out")
        return
    if gated(scenario):
        raise UserError(
            f"{where}.gate: a gate predicts the loads of one engine, and experiment.engines is {engines}; choose off"
        )
    if scenario["bound_bytes"] is not None:
        raise UserError(
            f"{where}.bound_bytes: one engine keeps a store to its bound, and experiment.engines is {engines}; leave it out"
        )
    if not scenario["shared"] and store_class(scenario["store"]).held_by_engine == "pool":
        raise UserError(f"{where}.shared: a pool is each engine's own in any case; leave it out")


def longest_context_tokens(workload: Mapping[str, Any]) -> int | None:
    """An upper bound of a workload's longest context; None when only its file tells."""
    if workload["kind"] == "multi_turn":
        full = {**parameters_of("multi_turn"), **workload}
        prefix, user, answer = (full[key][1] for key in ("prefix_tokens", "user_tokens", "answer_tokens"))
        bound = prefix + (full["turns"][1] + 1) // 2 * (user + answer)
        return min(bound, workload.get("max_context_tokens", bound))
    if workload["kind"] == "long_documents":
        keys = ("document_tokens", "question_tokens", "answer_tokens")
        return sum(workload[key][1] for key in keys) if all(key in workload for key in keys) else None
    return None


def check_store(scenario: Mapping[str, Any]) -> None:
    """That a scenario has what its store and connector need, and nothing that only others read."""
    tier, where = scenario["tier"], f"config: scenarios.{scenario['family']}"
    if tier == "none":
        for key in unread({**scenario, "connector": None}) or [
            key for key in ("place", "shape") if scenario[key]
        ]:
            raise UserError(f"{where}.{key}: tier none loads and saves nothing; leave it out")
        return
    for key in ("store", "connector"):
        if key not in scenario:
            choices = stores_for(tier) if key == "store" else offered(scenario["store"])
            raise UserError(f"{where}.{key} is missing; tier {tier} needs it: {' or '.join(choices)}")
    store = scenario["store"]
    in_memory = tier == "dram" and scenario["data_dir"] is not None
    if in_memory:
        folder = Path(scenario["data_dir"])
        if (kind := file_system_of(nearest(folder))) != "tmpfs":
            raise UserError(
                f"{where}.data_dir: {folder} is on {kind}; with tier dram it must be on a tmpfs, such as /dev/shm, or "
                f"choose tier ssd"
            )
    allowed = (*stores_for(tier), *(stores_for("ssd") if in_memory else ()))
    if store not in allowed:
        raise UserError(f"{where}.store: {store} is not of tier {tier}; choose {' or '.join(allowed)}")
    if store_class(store).held_by_engine == "pool" and scenario["dram_pool_bytes"] is None:
        raise UserError(f"{where}.dram_pool_bytes is missing; store {store} needs its size")
    if scenario["place"] is not None:
        check_place(scenario, where)
    if scenario.get("node"):
        check_node(scenario, where)
    for key in unread(scenario):
        default, mark = Scenario.model_fields[key].default, READ_BY[key]
        raise UserError(
            f"{where}.{key}: connector {scenario['connector']} {mark.others}; "
            f"{'leave it out' if default is None else f'choose {default}'}{or_connector(scenario, mark.connectors)}"
        )
    _check_store_keys(scenario, where)
    if scenario["patched"] and not store_class(store).can_be_patched:
        patched = " and ".join(name for name in STORES if store_class(name).can_be_patched)
        raise UserError(f"{where}.patched: there are patches for store {patched} only; leave it out")
    if scenario["stripe_bytes"] < LEAST_STRIPE_BYTES:
        raise UserError(
            f"{where}.stripe_bytes: {scenario['stripe_bytes']} is below {LEAST_STRIPE_BYTES}; raise it to that at least"
        )


def _check_store_keys(scenario: Mapping[str, Any], where: str) -> None:
    """Refuse settings that the store does not take and a password that is not there."""
    store = store_class(scenario["store"])
    store.check_settings(scenario["settings"], f"{where}.settings")
    try:
        secret = Secret.of(scenario)
        if secret is None:
            return
        if not store.takes_password:
            key = next(key for key in KEYS if scenario[key] is not None)
            raise UserError(f"{key}: store {scenario['store']} asks for no password; leave it out")
        secret.value()
    except UserError as error:
        raise UserError(f"{where}.{error}") from None


def check_connector(scenario: Mapping[str, Any], by_itself: bool = False) -> None:
    """That one of our connectors can reach the store: for the replay engine, or for a store by itself."""
    if scenario["tier"] == "none":
        return
    store, connector = scenario["store"], scenario["connector"]
    if by_itself and connector == "mp" and scenario["place"] is not None and scenario["place"]["cluster"]:
        raise UserError(
            f"config: scenarios.{scenario['family']}.connector: LMCache's own client of a cluster runs below its server alone, and this "
            "measures a store by itself; leave the scenario out here"
        )
    if (alone(connector) if by_itself else connector) not in connectors_of(store):
        if not (reaching := connectors_of(store)):
            raise UserError(
                f"config: scenarios.{scenario['family']}.store: {store} is an engine's own, and engine vllm alone has it; choose "
                f"{' or '.join(name for name in stores_for(scenario['tier']) if connectors_of(name))}"
            )
        choices = " or ".join(reaching)
        only = ", which engine vllm alone has," if connector in _ONLY_VLLM else ""
        raise UserError(
            f"config: scenarios.{scenario['family']}.connector: {connector}{only} cannot reach store {store}; choose {choices}"
        )
