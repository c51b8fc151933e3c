"""From config/*.yaml to the slices that the rules hand to the stages; every mistake is one line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import ValidationError
from jsonschema.validators import extend

from ..array.settings import ArraySettings, mistakes
from ..base.coercion import check_keys, coerced, shown
from ..base.config_files import read_mapping, read_text, there
from ..base.documents import check_values
from ..base.errors import UserError
from ..base.folders import nearest
from ..build.kvrocks_patches import check_patches
from ..build.make_model import served_config
from ..connectors.registry import CONNECTORS, STRIPED, alone
from ..connectors.striped.stripes import LEAST_STRIPE_BYTES
from ..engines.vllm import lmcache
from ..engines.vllm.command import settings_of
from ..engines.vllm.owned_words import refuse_owned_words
from ..machine.memory_dir import file_system_of
from ..models.geometry import Geometry, load_geometry
from ..models.gpu import load_gpu
from ..models.gpu_memory import require_weights_fit
from ..models.gpus import check_settings, kv_share, require_divides, tensor_parallel_of
from ..models.reading import name_of
from ..records.journal import canonical_digest
from ..stores.registry import STORES, store_class, stores_of
from ..workloads import NothingLeft, longest_context, repeat_seed
from ..workloads.context_limit import ContextLimit, check_context, let_in, limited
from ..workloads.factory import make_workload, parameters_of
from .credentials import refuse_credentials
from .gpu_file import check_gpu
from .home_folders import with_home_folders
from .memory_checks import check_memory, context_limit
from .predicted_tiers import tiers_of_scenarios
from .prices import resolved_prices
from .schema_errors import allowed, depth, explain
from .store_keys import check_store_keys
from .texts import Validator

FETCHED_TRACE = "results/traces/mooncake_conversation.jsonl"
SCHEMA_PATH = Path("workflow/schemas/config.schema.yaml")
MODELS = Path("config/models")
ENVIRONMENTS = {"vllm": "engine", "loadgen": "loadgen"}
EXPERIMENT = "experiment"
_FREE = ("lmcache", "settings", "environment")
_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_MEDIUM_OF_TIER = {"dram": "ram", "ssd": "ssd"}
_ONLY_VLLM = ("mp", "striped_mp", "offloading")
_IDLE = {
    "stripe_bytes": None,
    "stripes_in_flight": None,
    "save_connections": None,
    "load_queue_bytes": None,
    "processes": 1,
    "client": "python",
    "socket": "tcp",
    "patched": False,
    "password_file": None,
    "password_env": None,
}
_ANYWHERE = ("socket", "patched", "password_file", "password_env")
_OF_ENGINE = ("save_connections", "load_queue_bytes")


@cache
def schema() -> dict[str, Any]:
    """The config's JSON Schema (2020-12); a scenario's store is one that is registered."""
    found = yaml.safe_load(SCHEMA_PATH.read_text())
    keys = found["properties"]["scenarios"]["additionalProperties"]["properties"]
    keys["store"]["enum"] = [*STORES]
    return found


def checked(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with defaults filled in, sizes in bytes and one scenario per chunk size.

    Raises UserError: one line with the key, what is wrong and what is allowed.
    """
    check_values(config)
    check_keys(config)
    refuse_credentials(config)
    full = coerced(with_home_folders(deepcopy(dict(config)), schema()), schema(), schema())
    error = min(_validator().iter_errors(full), key=depth, default=None)
    if error is not None:
        raise UserError(explain(error, schema()))
    full = _sizes_in_bytes(full)
    full["workload"] = _of_its_kind(full["workload"])
    for name, case in full["predict"]["cases"].items():
        case["workload"] = _case_workload(case["workload"], name)
    expanded = [(name, with_preset(scenario)) for name, scenario in _expanded(full["scenarios"])]
    full["scenarios"] = dict(expanded)
    check_values({"scenarios": full["scenarios"]})
    refuse_credentials({"scenarios": full["scenarios"]})
    _check_unique([name for name, _ in expanded])
    _check_ranges(full["workload"], "workload")
    _check_names(full)
    _check_pass_through(full)
    _check_files(full)
    measured = selected(full, full["experiment"]["scenarios"])
    for name in measured:
        _check_chunk(full["scenarios"][name], full)
        _check_store(full["scenarios"][name])
    _check_served(full, measured)
    _check_engine(full, measured)
    without_engine = [name for key in ("profile", "layers", "tune") for name in full[key]["scenarios"]]
    for name in selected(full, without_engine):
        _check_store(full["scenarios"][name])
        _check_connector(full["scenarios"][name], by_itself=True)
    _check_figures(full, [full["scenarios"][name] for name in measured])
    _check_recommend(full, measured)
    _check_predictions(full)
    _check_kvrocks(full["kvrocks"])
    _check_array(full)
    _check_workload(full, [full["scenarios"][name] for name in measured])
    return full


def selected(config: Mapping[str, Any], families: list[str]) -> list[str]:
    """Scenario names of a list of scenarios or of families with several chunk sizes, in order."""
    found = [
        name
        for family in families
        for name, scenario in config["scenarios"].items()
        if family in (name, scenario["family"])
    ]
    return list(dict.fromkeys(found))


def with_preset(scenario: Mapping[str, Any]) -> dict[str, Any]:
    """The scenario with its preset's settings, environment and ignored_settings under its own.

    Raises UserError when there is no such preset, or it is not as config/README.md says.
    """
    name, where = scenario["preset"], f"config: scenarios.{scenario['family']}"
    if name is None:
        return dict(scenario)
    presets = store_class(scenario["store"]).presets if "store" in scenario else None
    if presets is None:
        having = [name for name in STORES if store_class(name).presets]
        raise UserError(f"{where}.preset: presets are for store {' or '.join(having)}; leave it out")
    names = ", ".join(sorted(preset.stem for preset in presets.glob("*.yaml")))
    key = f"scenarios.{scenario['family']}.preset"
    preset = read_mapping(presets / f"{name}.yaml", key, f"{presets} has {names}")
    rules = schema()["properties"]["scenarios"]["additionalProperties"]["properties"]
    keys = {key: rules[key] for key in ("settings", "environment", "ignored_settings")}
    shape = {"type": "object", "additionalProperties": False, "required": ["description", "settings"]}
    shape["properties"] = {"description": {"type": "string"}, **keys}
    if (error := next(Validator(shape).iter_errors(preset), None)) is not None:
        raise UserError(explain(error, schema(), f"config: {key}: {presets / name}.yaml"))
    mappings = {key: preset.get(key, {}) | scenario[key] for key in ("settings", "environment")}
    ignored = [*preset.get("ignored_settings", []), *scenario["ignored_settings"]]
    return {**scenario, **mappings, "ignored_settings": list(dict.fromkeys(ignored))}


def loads_of(config: Mapping[str, Any], scenario: str) -> list[int]:
    """The loads of one scenario: its own, else the experiment's."""
    own = config["scenarios"][scenario].get("loads")
    return config["experiment"]["loads"] if own is None else own


def sweep_spec(config: Mapping[str, Any], scenario: str) -> str:
    """JSON of everything that measuring one scenario depends on, and nothing else."""
    experiment = config["experiment"]
    other = () if config["engine"] == "vllm" else ("vllm", "lmcache", *_OF_ENGINE)
    left_out = {"loads", "family", *other}
    own = _without_idle(config["scenarios"][scenario])
    own = {key: value for key, value in own.items() if key not in left_out}
    spec = {key: config[key] for key in ("engine", "model", "kv_dtype", "data_dir", "evidence")}
    spec["workload"] = measured_workload(config)
    spec |= {"scenario": {"name": scenario, **own}, "loads": loads_of(config, scenario)}
    spec |= {key: experiment[key] for key in ("seed", "slo")}
    if config["engine"] == "replay":
        spec |= {"gpu": config["gpu"], "replay": config["replay"]}
        spec["active_conversations"] = experiment["active_conversations"]
        return json.dumps(spec | on_array(config), sort_keys=True)
    for section in ("vllm", "loadgen"):
        spec[section] = {
            key: value
            for key, value in config[section].items()
            if key not in ("python", "requirements", "index")
        }
    spec |= {"latency": config["latency"], "loop": experiment["loop"]}
    spec |= {"engine_python": python_of(config, "vllm"), "loadgen_python": python_of(config, "loadgen")}
    spec |= {"made_model_dir": made_model_dir(config), "environment_records": environment_records()}
    return json.dumps(spec | on_array(config), sort_keys=True)


def requested_gpus(config: Mapping[str, Any], scenario: str | None) -> int:
    """GPUs that a scheduler is asked for: those of a scenario; for None 1, to look at the engine's environment; 0 without."""
    if config["engine"] != "vllm" or config["vllm"]["device"] != "cuda":
        return 0
    own = config["scenarios"][scenario] if scenario is not None else {"vllm": {"tensor_parallel": 1}}
    return tensor_parallel_of(settings_of({"vllm": config["vllm"], "scenario": own}))


def measured_workload(config: Mapping[str, Any]) -> dict[str, Any]:
    """The workload as the sweep sends it: long requests that are left out or cut are so by what model and engine take."""
    scenarios = [config["scenarios"][name] for name in selected(config, config["experiment"]["scenarios"])]
    return limited(config["workload"], context_limit(config, scenarios).tokens)


def python_of(config: Mapping[str, Any], section: str) -> str:
    """The interpreter of the engine's (`vllm`) or the load generator's (`loadgen`) environment: the config's, or ours."""
    return config[section]["python"] or f"results/build/{ENVIRONMENTS[section]}/venv/bin/python"


def environment_records() -> list[str]:
    """The files in which both environments say what they are."""
    return [f"results/build/{name}/{name}.json" for name in ENVIRONMENTS.values()]


def requirements_of(config: Mapping[str, Any], section: str) -> str:
    """The file of pinned packages of that environment."""
    return config[section]["requirements"] or f"envs/engine-{config['vllm']['device']}.txt"


def made_model_dir(config: Mapping[str, Any]) -> str:
    """The folder of the model that is made from `model`: one of its own, beside those with other weights."""
    model = Path(config["model"])
    shipped = model.parent == MODELS and model.suffix == ".json"
    name = re.sub(r"[^A-Za-z0-9._+-]", "_", name_of(model))[:100]
    own = name if shipped else f"{name}-{canonical_digest(str(model))}"
    return f"results/build/models/{own}-{config['vllm']['weights']}"


def profile_spec(config: Mapping[str, Any], family: str) -> str:
    """JSON of everything that profiling the store of one scenario family depends on."""
    profile = config["profile"]
    spec = {key: profile[key] for key in ("value_bytes", "connections", "point_bytes", "repeats")}
    spec["warm_up_bytes"] = profile["warm_up_bytes"] or profile["point_bytes"]
    spec |= {"scenario": _alone(config, family), "data_dir": config["data_dir"]}
    return json.dumps(spec | on_array(config), sort_keys=True)


def layers_spec(config: Mapping[str, Any], family: str) -> str:
    """JSON of everything that the layers of one scenario family depend on."""
    layers = config["layers"]
    spec = {
        key: layers[key] for key in ("value_bytes", "connections", "point_bytes", "repeats", "memory_dir")
    }
    spec["warm_up_bytes"] = layers["warm_up_bytes"] or layers["point_bytes"]
    spec |= {"scenario": _alone(config, family), "data_dir": config["data_dir"]}
    return json.dumps(spec | on_array(config), sort_keys=True)


def limits_spec(config: Mapping[str, Any]) -> str:
    """JSON of everything that the limits of the profile depend on."""
    profile = config["profile"]
    spec = {key: profile[key] for key in ("value_bytes", "connections", "point_bytes", "repeats")}
    return json.dumps(spec | {"data_dir": config["data_dir"]} | on_array(config), sort_keys=True)


def baseline_spec(config: Mapping[str, Any]) -> str:
    """JSON of everything that the baseline of the device depends on."""
    spec = config["array"]["baseline"] | {"data_dir": config["data_dir"]}
    return json.dumps(spec | on_array(config), sort_keys=True)


def recommend_spec(config: Mapping[str, Any]) -> str:
    """JSON of everything that the recommendation depends on beside the records."""
    spec = {"recommend": config["recommend"], "slo": config["experiment"]["slo"]}
    spec["python"] = python_of(config, "vllm")
    replay = config["engine"] == "replay"
    own = selected(config, config["experiment"]["scenarios"]) if replay else []
    spec["vllm"] = config["vllm"] if replay else {}
    spec["own"] = {name: {key: config["scenarios"][name][key] for key in ("vllm", "lmcache")} for name in own}
    return json.dumps(spec, sort_keys=True)


def on_array(config: Mapping[str, Any]) -> dict[str, Any]:
    """The array that a measurement is to find under its data_dir, as a key of its spec; nothing for source path."""
    if config["array"]["source"] == "path":
        return {}
    return {"array": ArraySettings.of(config["array"]).identity()}


def _alone(config: Mapping[str, Any], family: str) -> dict[str, Any]:
    """Of a scenario family what its store and connector are without an engine."""
    scenario = config["scenarios"][selected(config, [family])[0]]
    keys = ("tier", "store", "connector", "settings", "environment", "ignored_settings", "port", "timeout_s")
    told = {key: scenario[key] for key in (*keys, *_IDLE) if key not in _OF_ENGINE}
    return {"name": family, **_without_idle(told | {"connector": alone(scenario["connector"])})}


def _without_idle(scenario: Mapping[str, Any]) -> dict[str, Any]:
    """A scenario less the keys that another connector, kind of socket or program would read."""
    striped = scenario.get("connector") in STRIPED
    idle = [
        key for key, value in _IDLE.items() if scenario.get(key) == value or not (striped or key in _ANYWHERE)
    ]
    return {key: value for key, value in scenario.items() if key not in idle}


def predict_spec(config: Mapping[str, Any]) -> str:
    """JSON of everything that the predicted hit rates depend on."""
    predict = config["predict"]
    spec = {key: predict[key] for key in ("chunk_tokens", "save_decode_cache")}
    own = {EXPERIMENT: _experiment_case(config)} if predict["experiment"] else {}
    cases = {name: _predicted_case(case, config) for name, case in (own | predict["cases"]).items()}
    return json.dumps({**spec, "seed": config["experiment"]["seed"], "cases": cases}, sort_keys=True)


def break_even_spec(config: Mapping[str, Any]) -> str:
    """JSON of everything that break-even depends on."""
    spec = {**config["break_even"], "kv_dtype": config["kv_dtype"]}
    return json.dumps(spec | {"chunk_tokens": config["figures"]["chunk_tokens"]}, sort_keys=True)


def cost_spec(config: Mapping[str, Any]) -> str:
    """JSON of everything that the costs depend on: every price with its range and source, and the SLO.

    Raises UserError when the table of prices is not as config/README.md says.
    """
    section = config["cost"]
    rules = schema()["properties"]["cost"]["properties"]
    prices = {name: rule for name, rule in rules.items() if name not in ("prices", "slo")}
    found = resolved_prices(Path(section["prices"]), section, prices)
    return json.dumps({"prices": found, "slo": section["slo"]}, sort_keys=True)


def _predicted_case(case: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    active = case["active_conversations"] or [config["experiment"]["active_conversations"] or case["clients"]]
    model = case["model"] or config["model"]
    most = load_geometry(Path(model), config["kv_dtype"]).max_context_tokens
    return {
        "workload": limited(case["workload"] or config["workload"], most),
        "model": model,
        "kv_dtype": config["kv_dtype"],
        "block_tokens": config[config["engine"]]["block_tokens"],
        "active_conversations": active,
        "clients": case["clients"],
        "seeds": case.get("seeds", config["predict"]["seeds"]),
        "counted": case.get("counted", "all"),
        "lookup": case["lookup"],
        "tiers": case["tiers"],
    }


def _experiment_case(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the sweep measures, as a case: its repeats' workloads, the tiers of its scenarios, each set of them once."""
    measured = selected(config, config["experiment"]["scenarios"])
    loads = [load for name in measured for load in loads_of(config, name)]
    case = {
        "workload": measured_workload(config),
        "model": None,
        "active_conversations": None,
        "counted": "window",
        "lookup": "rest" if config["engine"] == "replay" else "prompt",
    }
    return {
        **case,
        "clients": max(loads, default=1),
        "seeds": config["experiment"]["repeats"],
        "tiers": tiers_of_scenarios(config, measured),
    }


def _validator() -> Any:
    """A validator that fills in defaults as it goes (the recipe of jsonschema's documentation)."""
    check_properties = Validator.VALIDATORS["properties"]

    def fill(validator: Any, properties: Any, instance: Any, subschema: Any) -> Iterator[ValidationError]:
        if isinstance(instance, dict):
            for key, value in properties.items():
                if "default" in value:
                    instance.setdefault(key, deepcopy(value["default"]))
        yield from check_properties(validator, properties, instance, subschema)

    return extend(Validator, {"properties": fill})(schema())


def _sizes_in_bytes(value: Any, key: str = "") -> Any:
    """Turn '512 MiB' under our keys ending in _bytes into integers; what is no size is left to who checks that key."""
    if isinstance(value, dict):
        return {name: item if name in _FREE else _sizes_in_bytes(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_sizes_in_bytes(item, key) for item in value]
    if key.endswith("_bytes") and isinstance(value, str) and _is_size(value):
        size = parse_size(value)
        if size < 1:
            raise UserError(f"config: {key}: {value!r} is wrong; it must be at least 1 byte")
        return size
    return value


def _is_size(text: str) -> bool:
    return Validator(schema()["$defs"]["size"]).is_valid(text)


def parse_size(text: str) -> int:
    """Bytes of a size such as '512 MiB'."""
    number, unit = text[:-3].strip(), text[-3:]
    return int(float(number) * _UNITS[unit])


def _expanded(scenarios: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for family, scenario in scenarios.items():
        chunks = scenario["chunk_tokens"]
        if not isinstance(chunks, list):
            yield family, {**scenario, "family": family}
            continue
        for chunk in chunks:
            yield f"{family}-{chunk}", {**scenario, "chunk_tokens": chunk, "family": family}


def _check_unique(names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f"config: scenarios: two scenarios are called {name}, one of them by its chunk size; rename one"
            )


def _check_ranges(workload: Mapping[str, Any], where: str) -> None:
    for key, value in workload.items():
        if isinstance(value, list) and value[0] > value[1]:
            raise UserError(f"config: {where}.{key}: {value} is wrong; write [lowest, highest]")


def _of_its_kind(workload: Mapping[str, Any]) -> dict[str, Any]:
    """The workload's keys that its kind has; the others come from a configuration below."""
    kept = {"kind", *parameters_of(workload["kind"])}
    return {key: value for key, value in workload.items() if key in kept}


def _case_workload(workload: Mapping[str, Any] | None, name: str) -> dict[str, Any] | None:
    """A predicted case's own workload, by the rules of section `workload`."""
    if workload is None:
        return None
    where, rules = f"predict.cases.{name}.workload", schema()["properties"]["workload"]
    errors = Validator(rules | {"$defs": schema()["$defs"]}).iter_errors(workload)
    if (error := min(errors, key=depth, default=None)) is not None:
        raise UserError(explain(error, schema(), under=where))
    _check_ranges(workload, where)
    return _of_its_kind(workload)


def _check_names(config: Mapping[str, Any]) -> None:
    names = {*config["scenarios"], *(item["family"] for item in config["scenarios"].values())}
    for key in ("experiment", "profile", "layers", "tune"):
        for name in config[key]["scenarios"]:
            if name not in names:
                raise UserError(
                    f"config: {key}.scenarios: no scenario {name!r}; scenarios has {', '.join(sorted(names))}"
                )
    for key in ("profile", "layers", "tune"):
        for name in config[key]["scenarios"]:
            if config["scenarios"][selected(config, [name])[0]]["tier"] == "none":
                raise UserError(f"config: {key}.scenarios: {name} has no store to profile; leave it out")
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
    if baseline is not None and baseline not in measured:
        raise UserError(
            f"config: figures.baseline: {baseline!r} is not among the experiment's scenarios; choose one of "
            f"{', '.join(measured)}, or null"
        )


def _check_figures(config: Mapping[str, Any], measured: list[Mapping[str, Any]]) -> None:
    chunk = config["figures"]["chunk_tokens"]
    there = sorted({scenario["chunk_tokens"] for scenario in measured if scenario["tier"] != "none"})
    if there and chunk not in there:
        sizes = ", ".join(map(str, there))
        raise UserError(f"config: figures.chunk_tokens: no scenario has chunk {chunk}; choose one of {sizes}")


def _check_recommend(config: Mapping[str, Any], measured: list[str]) -> None:
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


def _check_chunk(scenario: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    where = f"config: scenarios.{scenario['family']}"
    block = config["replay"]["block_tokens"] if config["engine"] == "replay" else 1
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
            f"{where}.chunk_tokens: {chunk} is not a multiple of replay.block_tokens ({block}); choose "
            f"{' or '.join(map(str, near))}"
        )


def _check_store(scenario: Mapping[str, Any]) -> None:
    tier, where = scenario["tier"], f"config: scenarios.{scenario['family']}"
    if tier == "none":
        return
    for key in ("store", "connector"):
        if key not in scenario:
            choices = _stores(tier) if key == "store" else _connectors(scenario["store"])
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
    allowed = (*_stores(tier), *(_stores("ssd") if in_memory else ()))
    if store not in allowed:
        raise UserError(f"{where}.store: {store} is not of tier {tier}; choose {' or '.join(allowed)}")
    if store_class(store).held_by_engine == "pool" and scenario["dram_pool_bytes"] is None:
        raise UserError(f"{where}.dram_pool_bytes is missing; store {store} needs its size")
    connector = scenario["connector"]
    if scenario["processes"] > 1 and connector not in STRIPED:
        raise UserError(
            f"{where}.processes: connector {connector} reaches one process; choose 1{_or_connector(scenario, STRIPED)}"
        )
    if scenario["save_connections"] is not None and connector not in STRIPED:
        raise UserError(
            f"{where}.save_connections: connector {connector} saves over its other connections; leave it out"
            f"{_or_connector(scenario, STRIPED)}"
        )
    if scenario["load_queue_bytes"] is not None and connector != "striped_mp":
        raise UserError(
            f"{where}.load_queue_bytes: connector {connector} has no queue of loads; leave it out"
            f"{_or_connector(scenario, ('striped_mp',))}"
        )
    if scenario["client"] == "native" and connector not in STRIPED:
        raise UserError(
            f"{where}.client: connector {connector} has no client native; leave it out{_or_connector(scenario, STRIPED)}"
        )
    if scenario["socket"] == "unix" and connector not in ("resp", *STRIPED):
        raise UserError(
            f"{where}.socket: connector {connector} has no unix sockets; choose tcp"
            f"{_or_connector(scenario, ('resp', *STRIPED))}"
        )
    check_store_keys(scenario, where)
    if scenario["patched"] and not store_class(store).can_be_patched:
        patched = " and ".join(name for name in STORES if store_class(name).can_be_patched)
        raise UserError(f"{where}.patched: there are patches for store {patched} only; leave it out")
    if scenario["stripe_bytes"] < LEAST_STRIPE_BYTES:
        raise UserError(
            f"{where}.stripe_bytes: {scenario['stripe_bytes']} is below {LEAST_STRIPE_BYTES}; raise it to that at least"
        )


def _stores(tier: str) -> list[str]:
    return stores_of(_MEDIUM_OF_TIER[tier])


def _connectors(store: str) -> list[str]:
    """Those of a store's connectors that need no engine."""
    return [name for name in store_class(store).connectors if name in CONNECTORS]


def _or_connector(scenario: Mapping[str, Any], wanted: Sequence[str]) -> str:
    """', or connector A or B': those of `wanted` that reach the store, of the same place for LMCache; '' for none."""
    served = scenario["connector"] in lmcache.SERVED
    same = [name for name in wanted if (name in lmcache.SERVED) == served] or wanted
    reaching = [name for name in same if alone(name) in _connectors(scenario["store"])]
    with_vllm = " (engine vllm)" if reaching == ["striped_mp"] and not served else ""
    return f", or connector {' or '.join(reaching)}{with_vllm}" if reaching else ""


def _check_connector(scenario: Mapping[str, Any], by_itself: bool = False) -> None:
    """That one of our connectors can reach the store: for the replay engine, or for a store by itself."""
    if scenario["tier"] == "none":
        return
    store, connector = scenario["store"], scenario["connector"]
    if (alone(connector) if by_itself else connector) not in _connectors(store):
        choices = " or ".join(_connectors(store))
        only = ", which engine vllm alone has," if connector in _ONLY_VLLM else ""
        raise UserError(
            f"config: scenarios.{scenario['family']}.connector: {connector}{only} cannot reach store {store}; choose {choices}"
        )


def check_measured(scenario: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """That a store alone and the engine can measure a scenario, of the config or made from one of it."""
    name = scenario["family"]
    _check_chunk(scenario, config)
    _check_store(scenario)
    _check_connector(scenario, by_itself=True)
    _check_engine({**config, "scenarios": {**config["scenarios"], name: scenario}}, [name])


def scenario_rules(key: str) -> dict[str, Any]:
    """The schema of one key of a scenario."""
    return schema()["properties"]["scenarios"]["additionalProperties"]["properties"][key]


def check_scenario_key(key: str, value: Any, where: str) -> None:
    """That a scenario's key may have a value. Raises UserError beginning with `where`."""
    rules = scenario_rules(key)
    if not Validator(rules | {"$defs": schema()["$defs"]}).is_valid(value):
        must = allowed(rules, schema()["$defs"])
        raise UserError(f"{where}: {shown(value)} is wrong; it must be {must} (unit: {rules['unit']})")


def _check_engine(config: Mapping[str, Any], measured: list[str]) -> None:
    """What one engine needs and the other does not know."""
    experiment, scenarios = config["experiment"], [config["scenarios"][name] for name in measured]
    single = config["engine"] == "vllm" and config["latency"]["prompt_tokens"]
    for name in measured:
        if not loads_of(config, name) and not single:
            raise UserError(
                f"config: scenarios.{config['scenarios'][name]['family']}.loads: there is nothing to measure without "
                f"loads; write some, or with engine vllm set latency.prompt_tokens"
            )
    if config["engine"] == "replay":
        for scenario in scenarios:
            _check_connector(scenario)
            _check_replay_gpus(scenario, config)
        if experiment["loop"] != "closed":
            raise UserError(
                "config: experiment.loop: engine replay has closed loops only; choose closed or engine vllm"
            )
        return
    for scenario in scenarios:
        store = scenario.get("store")
        if store and store_class(store).held_by_engine == "folder" and scenario["settings"]:
            raise UserError(
                f"config: scenarios.{scenario['family']}.settings: with engine vllm LMCache or vLLM writes the files and reads none "
                f"of the keys of store {store}; leave it out"
            )
    if experiment["active_conversations"] is not None:
        raise UserError(
            "config: experiment.active_conversations: AIPerf's clients hold one conversation each; leave it null with "
            "engine vllm, and bound vLLM's own cache with vllm.hbm_kv_bytes or vllm.prefix_caching"
        )
    each, held = config["loadgen"]["conversations_per_client"], config["workload"].get("conversations")
    most = max((load for name in measured for load in loads_of(config, name)), default=0)
    if each is not None and held is not None and each * most > held:
        raise UserError(
            f"config: loadgen.conversations_per_client: {most} clients with {each} each need {each * most} conversations, "
            f"workload.conversations is {held}; set workload.conversations: {each * most}"
            + (f", or lower this to {held // most}" if held >= most else "")
        )
    for name in measured:
        scenario = {"name": name, **config["scenarios"][name]}
        settings = settings_of({"vllm": config["vllm"], "scenario": scenario})
        geometry = _geometry_of(scenario, config)
        own = f"scenarios.{scenario['family']}." if "tensor_parallel" in scenario["vllm"] else ""
        check_settings(settings, geometry, f"config: {own}")
        try:
            lmcache.check(
                scenario,
                settings["device"],
                settings["block_tokens"],
                kv_share(geometry, tensor_parallel_of(settings)).stored_bytes(scenario["chunk_tokens"]),
                settings["staging_bytes"],
            )
        except UserError as error:
            raise UserError(f"config: {error}") from None
    _check_model_dir(config)


def _check_served(config: Mapping[str, Any], measured: list[str]) -> None:
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


def _check_pass_through(config: Mapping[str, Any]) -> None:
    """A scenario's keys for vLLM, and words for vLLM and LMCache that a key of ours sets, with any engine: what is recommended
    has them, too.
    """
    refuse_owned_words("config: vllm", config["vllm"], None)
    for scenario in config["scenarios"].values():
        _check_overrides(scenario)
        refuse_owned_words(f"config: scenarios.{scenario['family']}", scenario["vllm"], scenario)


def _geometry_of(scenario: Mapping[str, Any], config: Mapping[str, Any]) -> Geometry:
    return load_geometry(Path(config["model"]), scenario["kv_dtype"] or config["kv_dtype"])


def _check_replay_gpus(scenario: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """That the modelled GPUs are as many as vLLM's would be, could share the model, and hold it."""
    gpus, geometry = config["replay"]["gpus"], _geometry_of(scenario, config)
    of_vllm = tensor_parallel_of({**config["vllm"], **scenario["vllm"]})
    if of_vllm not in (1, gpus):
        own = f"scenarios.{scenario['family']}." if "tensor_parallel" in scenario["vllm"] else ""
        raise UserError(
            f"config: replay.gpus: {gpus} {'is' if gpus == 1 else 'are'} modelled by engine replay, and {own}vllm.tensor_parallel is "
            f"{of_vllm}, which engine vllm alone reads; set replay.gpus to it, or leave that out"
        )
    require_divides(geometry, gpus, "config: replay.gpus")
    try:
        require_weights_fit(Path(config["gpu"]), geometry, gpus, config["replay"]["hbm_kv_bytes"])
    except UserError as error:
        raise UserError(f"config: {error}") from None


def _check_overrides(scenario: Mapping[str, Any]) -> None:
    """A scenario's own `vllm` keys by the rules of the section of that name."""
    rules = schema()["properties"]["vllm"]["properties"]
    keys = {
        key: rule for key, rule in rules.items() if key not in ("python", "requirements", "index", "device")
    }
    shape = {"type": "object", "additionalProperties": False, "properties": keys, "$defs": schema()["$defs"]}
    errors = Validator(shape).iter_errors(scenario["vllm"])
    if (error := min(errors, key=depth, default=None)) is not None:
        raise UserError(explain(error, schema(), under=f"scenarios.{scenario['family']}.vllm"))


def longest_context_tokens(workload: Mapping[str, Any]) -> int | None:
    """An upper bound of a workload's longest context; None when only its file tells."""
    if workload["kind"] == "multi_turn":
        full = parameters_of("multi_turn") | workload
        prefix, user, answer = (full[key][1] for key in ("prefix_tokens", "user_tokens", "answer_tokens"))
        bound = prefix + (full["turns"][1] + 1) // 2 * (user + answer)
        return min(bound, workload.get("max_context_tokens", bound))
    if workload["kind"] == "long_documents":
        keys = ("document_tokens", "question_tokens", "answer_tokens")
        return sum(workload[key][1] for key in keys) if all(key in workload for key in keys) else None
    return None


def _check_files(config: Mapping[str, Any]) -> None:
    """That models and GPUs are files that say what they must, before anything is built on them."""
    break_even, cases = config["break_even"], config["predict"]["cases"]
    for key, path in [("gpu", config["gpu"]), *(("break_even.gpus", path) for path in break_even["gpus"])]:
        check_gpu(Path(path), key)
    models = [("model", config["model"]), *(("break_even.models", path) for path in break_even["models"])]
    models += [
        (f"predict.cases.{name}.model", case["model"]) for name, case in cases.items() if case["model"]
    ]
    for key, path in models:
        if not Path(path).exists():
            raise UserError(f"config: {key}: there is no file {path}; {there(MODELS, '.json')}")
        _check_model(key, Path(path), config)
    if config["engine"] == "vllm":
        for section in ENVIRONMENTS:
            if config[section]["python"] is None:
                file = Path(requirements_of(config, section))
                read_text(file, f"{section}.requirements", there(Path("envs"), ".txt"))


def _check_predictions(config: Mapping[str, Any]) -> None:
    for name, case in config["predict"]["cases"].items():
        if name == EXPERIMENT:
            raise UserError(
                f"config: predict.cases: {EXPERIMENT} is what the sweep measures; rename the case"
            )
        case_of = _predicted_case(case, config)
        workload = case_of["workload"]
        if workload.get("trace") == FETCHED_TRACE and not Path(FETCHED_TRACE).exists():
            continue
        geometry = load_geometry(Path(case_of["model"]), config["kv_dtype"])
        limit = ContextLimit.of(geometry)
        try:
            check_context(workload, longest_context(make_workload(workload)), limit)
        except NothingLeft as error:
            own = case["workload"] or config["workload"]
            told = let_in(error, own, limit)
            raise UserError(
                f"config: {_in_case(name, told) if case['workload'] else f'predict.cases.{name}: {told}'}"
            ) from None
        except UserError as error:
            if case["workload"] is None:
                raise UserError(f"config: predict.cases.{name}: {error}") from None
            raise UserError(f"config: {_in_case(name, str(error))}") from None


def _in_case(name: str, message: str) -> str:
    """A message about `workload` with its keys as they are called in a predicted case."""
    return re.sub(r"(?<![\w./-])workload(?=[.:])", f"predict.cases.{name}.workload", message)


def _check_model(key: str, model: Path, config: Mapping[str, Any]) -> None:
    """That a model that a prediction names can be read, and for break-even that a GPU's time can be scaled to it."""
    try:
        geometry = load_geometry(model, config["kv_dtype"])
        unknown = geometry.active_parameters is None or geometry.attention_width is None
        if key == "break_even.models" and unknown:
            for gpu in config["break_even"]["gpus"]:
                load_gpu(Path(gpu), geometry)
    except UserError as error:
        raise UserError(f"config: {key}: {error}") from None


def _check_kvrocks(section: Mapping[str, Any]) -> None:
    for source, key in (("git", "commit"), ("path", "path")):
        if section["source"] == source and section[key] is None:
            raise UserError(f"config: kvrocks.{key} is missing; source {source} needs it")
    for key in ("path", "deps_dir"):
        if section[key] is not None and not Path(section[key]).is_dir():
            raise UserError(f"config: kvrocks.{key}: there is no folder {section[key]}")
    check_patches(section["patches"])


def _check_array(config: dict[str, Any]) -> None:
    """Check section `array`, and for source raid0 put data_dir on the array."""
    section = config["array"]
    if section["source"] == "path":
        return
    settings = ArraySettings.of(section)
    if wrong := mistakes(settings):
        raise UserError(f"config: {wrong[0]}")
    data_dir = Path(config["data_dir"])
    if config["data_dir"] == schema()["properties"]["data_dir"]["default"]:
        config["data_dir"] = settings.data_dir
    elif not data_dir.is_relative_to(settings.data_dir):
        raise UserError(
            f"config: data_dir: {data_dir} is not in {settings.data_dir} on the array; leave it out, or set array.source: path"
        )


def _check_workload(config: Mapping[str, Any], scenarios: list[Mapping[str, Any]]) -> None:
    """Build the workload of every repeat: its contexts must fit the model, HBM and the buffers below it.

    A trace that is still to be fetched is checked by the sweep.
    """
    workload, experiment = measured_workload(config), config["experiment"]
    if "trace" in workload and not Path(workload["trace"]).exists():
        if workload["trace"] == FETCHED_TRACE:
            return
        raise UserError(
            f"config: workload.trace: there is no file {workload['trace']}; {FETCHED_TRACE} is downloaded when it is named"
        )
    try:
        made = [
            make_workload(workload, repeat_seed(experiment["seed"], repeat))
            for repeat in range(1, experiment["repeats"] + 1)
        ]
    except NothingLeft as error:
        told = let_in(error, config["workload"], context_limit(config, scenarios))
        raise UserError(f"config: {told}") from None
    except UserError as error:
        raise UserError(f"config: {error}") from None
    check_memory({**config, "workload": workload}, scenarios, made)
