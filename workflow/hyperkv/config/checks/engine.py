"""That the engine, its model and its GPUs can serve the scenarios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...base.errors import UserError
from ...build.make_model import served_config
from ...engines.vllm import refusals
from ...engines.vllm.command import settings_of
from ...engines.vllm.owned_words import refuse_owned_words
from ...models.geometry import Geometry, load_geometry
from ...models.gpu import load_gpu
from ...models.gpu_memory import require_weights_fit
from ...models.gpus import check_settings, kv_share, require_divides, tensor_parallel_of
from ...records.repeats import TRACE, loop_as
from ...stores.registry import STORES, has_store, store_class
from ..environments import pairs_of
from ..scenarios import loads_of
from .scenario import check_bound, check_chunk, check_connector, check_store


def check_engine(config: Mapping[str, Any], measured: list[str]) -> None:
    """What one engine needs and the other does not know."""
    experiment, scenarios = config["experiment"], [config["scenarios"][name] for name in measured]
    loop = loop_as(config["engine"], config["workload"]["kind"], experiment["loop"])
    single = config["engine"] == "vllm" and config["latency"]["prompt_tokens"]
    for name in measured:
        scenario = config["scenarios"][name]
        where = "experiment" if scenario.get("loads") is None else f"scenarios.{scenario['family']}"
        loads = loads_of(config, name)
        check_clients(loads, f"{where}.loads", config)
        if len(loads) > 1 and loop == TRACE:
            raise UserError(
                f"config: {where}.loads: a trace comes at its own times with engine vllm, so that {len(loads)} loads would be one; "
                f"take one, or engine replay, where loads are clients"
            )
        if not loads and not single:
            raise UserError(
                f"config: scenarios.{scenario['family']}.loads: there is nothing to measure without "
                f"loads; write some, or with engine vllm set latency.prompt_tokens"
            )
    if config["engine"] == "replay":
        for scenario in scenarios:
            check_connector(scenario)
            _check_replay_gpus(scenario, config)
        if experiment["loop"] != "closed":
            raise UserError(
                "config: experiment.loop: engine replay has closed loops only; choose closed or engine vllm"
            )
        return
    for scenario in scenarios:
        store = scenario.get("store")
        held = store_class(store) if store else None
        if (
            held
            and held.held_by_engine == "folder"
            and not held.engine_reads_settings
            and scenario["settings"]
        ):
            raise UserError(
                f"config: scenarios.{scenario['family']}.settings: with engine vllm LMCache or vLLM writes the files and reads none "
                f"of the keys of store {store}; leave it out"
            )
    if experiment["engines"] > 1:
        for scenario in scenarios:
            _check_several(scenario)
    if experiment["active_conversations"] is not None:
        raise UserError(
            "config: experiment.active_conversations: AIPerf's clients hold one conversation each; leave it null with "
            "engine vllm, and bound vLLM's own cache with vllm.hbm_kv_bytes or vllm.prefix_caching"
        )
    closed = experiment["loop"] == "closed"
    each = config["loadgen"]["conversations_per_client"] if closed else None
    held = config["workload"].get("conversations")
    most = max((load for name in measured for load in loads_of(config, name)), default=0)
    if each is not None and held is not None and each * most > held:
        raise UserError(
            f"config: loadgen.conversations_per_client: {most} clients with {each} each need {each * most} conversations, "
            f"workload.conversations is {held}; set workload.conversations: {each * most}"
            + (f", or lower this to {held // most}" if held >= most else "")
        )
    requests = config["workload"].get("requests")
    if each is not None and requests is not None and each * most < requests:
        raise UserError(
            f"config: loadgen.conversations_per_client: {most} clients with {each} each ask {each * most} of workload.requests: "
            f"{requests}, each of which is a conversation here; leave it null, or set workload.requests: {each * most}"
        )
    for name in measured:
        scenario = {"name": name, **config["scenarios"][name]}
        settings = settings_of({"vllm": config["vllm"], "scenario": scenario})
        geometry = _geometry_of(scenario, config)
        own = f"scenarios.{scenario['family']}." if "tensor_parallel" in scenario["vllm"] else ""
        check_settings(settings, geometry, f"config: {own}", experiment["engines"])
        try:
            refusals.require_served_on(scenario, settings["device"])
            refusals.check(
                scenario,
                settings["device"],
                settings["block_tokens"],
                kv_share(geometry, tensor_parallel_of(settings)).stored_bytes(scenario["chunk_tokens"]),
                settings["staging_bytes"],
            )
        except UserError as error:
            raise UserError(f"config: {error}") from None
    if config["vllm"]["device"] == "cpu":
        for scenario in (each for each in scenarios if each["pair"] == "reference"):
            raise UserError(
                f"config: scenarios.{scenario['family']}.pair: reference has LMCache inside vLLM, which has no CPU path; leave it "
                f"out, or set vllm.device: cuda"
            )
    _check_model_dir(config)


def check_clients(loads: Sequence[float], key: str, config: Mapping[str, Any]) -> None:
    """That the loads of a closed loop, which a key has, are numbers of clients."""
    broken = [load for load in loads if load != int(load)]
    if broken and config["experiment"]["loop"] == "closed":
        raise UserError(
            f"config: {key}: {broken[0]:g} is no number of clients; take whole numbers, or with engine vllm "
            f"experiment.loop: open, where loads are conversations begun per second"
        )


def _check_several(scenario: Mapping[str, Any]) -> None:
    """That several of vLLM can be before the scenario's store, and AIPerf sends them requests as it is to."""
    where = f"config: scenarios.{scenario['family']}"
    if scenario["routing"] == "request":
        raise UserError(
            f"{where}.routing: AIPerf keeps a conversation at its engine; leave it out (each request of a trace goes to the next "
            "engine), or choose engine replay"
        )
    if not has_store(scenario):
        return
    servers = [name for name in STORES if store_class(name).is_server]
    if scenario["store"] not in servers:
        raise UserError(
            f"{where}.store: {scenario['store']} is one engine's own, and experiment.engines says several; choose "
            f"{' or '.join(servers)}"
        )
    if scenario["connector"] == "striped_tier" and not scenario["shared"]:
        raise UserError(
            f"{where}.shared: vLLM's own offloading names KV alike in every engine; leave it out, or choose connector striped_mp"
        )


def check_controls(config: Mapping[str, Any], measured: list[str]) -> None:
    """That every pair of vLLM and LMCache with a cache is measured without one as well, since nothing is compared across pairs.

    Raises UserError with the line to add.
    """
    scenarios = config["scenarios"]
    for pair in pairs_of(config, measured):
        own = [name for name in measured if scenarios[name]["pair"] == pair]
        if any(scenarios[name]["tier"] == "none" for name in own):
            continue
        there = [name for name, each in scenarios.items() if each["tier"] == "none" and each["pair"] == pair]
        name = there[0] if there else f"none_{pair}"
        mend = f"add {name}" + ("" if there else f", and to scenarios {name}: {{tier: none, pair: {pair}}}")
        raise UserError(
            f"config: experiment.scenarios: {', '.join(own)} {'is' if len(own) == 1 else 'are'} of pair {pair}, which has no "
            f"scenario of tier none here to be compared with; {mend}"
        )


def check_measured(scenario: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """That a store alone and the engine can measure a scenario, of the config or made from one of it."""
    name = scenario["family"]
    check_chunk(scenario, config)
    check_store(scenario)
    check_bound(scenario, config)
    check_connector(scenario, by_itself=True)
    check_engine({**config, "scenarios": {**config["scenarios"], name: scenario}}, [name])


def check_served(config: Mapping[str, Any], measured: list[str]) -> None:
    """That model and GPU can be read, and each scenario's store keep what the model's layers keep.

    Raises UserError naming the key.
    """
    model, engine = Path(config["model"]), config["engine"]
    for name in measured:
        scenario = config["scenarios"][name]
        try:
            geometry = load_geometry(model, scenario["kv_dtype"] or config["kv_dtype"])
        except UserError as error:
            raise UserError(f"config: model: {error}") from None
        if engine == "vllm" and geometry.kv_dtype == "float32":
            raise UserError(
                "config: kv_dtype: vLLM keeps no KV in float32; choose auto, bfloat16, float16 or fp8"
            )
        if scenario["tier"] != "none" and geometry.offload_refusal:
            raise UserError(
                f"config: scenarios.{scenario['family']}: {geometry.offload_refusal}; choose a model without such "
                f"layers, or measure scenarios of tier none alone"
            )
    if engine == "replay" and measured:
        try:
            load_gpu(Path(config["gpu"]), geometry)
        except UserError as error:
            raise UserError(f"config: {error}") from None


def _check_model_dir(config: Mapping[str, Any]) -> None:
    """That vLLM can serve `model`: a folder of it can be made, or vllm.model_dir is that model's."""
    model, folder = Path(config["model"]), config["vllm"]["model_dir"]
    if folder is None:
        try:
            served_config(model)
        except UserError as error:
            raise UserError(f"config: model: {error}") from None
        return
    if not (Path(folder) / "tokenizer.json").exists():
        raise UserError(f"config: vllm.model_dir: {folder} has no tokenizer.json; download the whole model")
    if not (Path(folder) / "config.json").exists():
        return
    try:
        own = load_geometry(Path(folder), config["kv_dtype"])
    except UserError:
        return
    counted = load_geometry(model, config["kv_dtype"])
    if own.kv_bytes_per_token != counted.kv_bytes_per_token:
        raise UserError(
            f"config: vllm.model_dir: {folder} keeps {own.kv_bytes_per_token:,} bytes of KV per token, model: {model} "
            f"{counted.kv_bytes_per_token:,}; set model to {folder}/config.json"
        )


def check_pass_through(config: Mapping[str, Any]) -> None:
    """A scenario's keys for vLLM, and words for vLLM and LMCache that a key of ours sets, with any engine: what is recommended
    has them, too.
    """
    refuse_owned_words("config: vllm", config["vllm"], None)
    for name, pair in config["vllm"]["pairs"].items():
        refuse_owned_words(f"config: vllm.pairs.{name}", pair, None)
    for scenario in config["scenarios"].values():
        refuse_owned_words(f"config: scenarios.{scenario['family']}", scenario["vllm"], scenario)


def _geometry_of(scenario: Mapping[str, Any], config: Mapping[str, Any]) -> Geometry:
    return load_geometry(Path(config["model"]), scenario["kv_dtype"] or config["kv_dtype"])


def _check_replay_gpus(scenario: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """That the modelled GPUs could share the model, and hold it."""
    settings, geometry = (
        settings_of({"vllm": config["vllm"], "scenario": scenario}),
        _geometry_of(scenario, config),
    )
    gpus = tensor_parallel_of(settings)
    own = f"scenarios.{scenario['family']}." if "tensor_parallel" in scenario["vllm"] else ""
    require_divides(geometry, gpus, f"config: {own}vllm.tensor_parallel")
    try:
        require_weights_fit(Path(config["gpu"]), geometry, gpus, config["replay"]["hbm_kv_bytes"])
    except UserError as error:
        raise UserError(f"config: {error}") from None
