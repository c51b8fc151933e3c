"""From config/*.yaml to the slices that the rules hand to the stages; every mistake is one line."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

from .array.settings import ArraySettings, mistakes
from .connectors.registry import STRIPED, alone
from .connectors.stripes import LEAST_STRIPE_BYTES
from .engines import lmcache
from .engines.vllm_command import settings_of
from .errors import UserError
from .geometry import load_geometry
from .kvrocks_patches import check_patches
from .memory_dir import file_system_of
from .prices import resolved_prices
from .workloads import longest_context, repeat_seed
from .workloads.factory import make_workload, parameters_of

FETCHED_TRACE = "results/traces/mooncake_conversation.jsonl"
SCHEMA_PATH = Path("workflow/schemas/config.schema.yaml")
PRESETS = Path("config/kvrocks")
ENVIRONMENTS = {"vllm": "engine", "loadgen": "loadgen"}
EXPERIMENT = "experiment"
_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_STORES_OF_TIER = {"dram": ("dram", "valkey"), "ssd": ("files", "rocksdb", "kvrocks")}
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
}
_ANYWHERE = ("socket", "patched")
_OF_ENGINE = ("save_connections", "load_queue_bytes")
_CONNECTORS_OF_STORE = {
    "dram": ("inprocess",),
    "files": ("inprocess",),
    "valkey": ("redis", "resp", "striped"),
    "rocksdb": ("redis", "resp", "striped"),
    "kvrocks": ("redis", "resp", "striped"),
}


@cache
def schema() -> dict[str, Any]:
    """The config's JSON Schema (2020-12)."""
    return yaml.safe_load(SCHEMA_PATH.read_text())


def checked(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with defaults filled in, sizes in bytes and one scenario per chunk size.

    Raises UserError: one line with the key, what is wrong and what is allowed.
    """
    full = deepcopy(dict(config))
    error = min(_validator().iter_errors(full), key=lambda item: _depth(item), default=None)
    if error is not None:
        raise UserError(_explain(error))
    full = _sizes_in_bytes(full)
    kept = {"kind", *parameters_of(full["workload"]["kind"])}
    full["workload"] = {key: value for key, value in full["workload"].items() if key in kept}
    expanded = [(name, with_preset(scenario)) for name, scenario in _expanded(full["scenarios"])]
    full["scenarios"] = dict(expanded)
    _check_unique([name for name, _ in expanded])
    _check_ranges(full["workload"])
    _check_names(full)
    measured = selected(full, full["experiment"]["scenarios"])
    for name in measured:
        _check_chunk(full["scenarios"][name], full)
        _check_store(full["scenarios"][name])
    _check_engine(full, measured)
    without_engine = [name for key in ("profile", "layers", "tune") for name in full[key]["scenarios"]]
    for name in selected(full, without_engine):
        _check_store(full["scenarios"][name])
        _check_connector(full["scenarios"][name], by_itself=True)
    _check_figures(full, [full["scenarios"][name] for name in measured])
    _check_recommend(full, measured)
    _check_files(full)
    _check_predictions(full)
    _check_kvrocks(full["kvrocks"])
    _check_array(full)
    _check_workload(full)
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
    if scenario.get("store") != "kvrocks":
        raise UserError(f"{where}.preset: presets are for store kvrocks; leave it out")
    path = PRESETS / f"{name}.yaml"
    if not path.exists():
        there = ", ".join(sorted(preset.stem for preset in PRESETS.glob("*.yaml")))
        raise UserError(f"{where}.preset: there is no {path}; {PRESETS} has {there}")
    preset = yaml.safe_load(path.read_text())
    rules = schema()["properties"]["scenarios"]["additionalProperties"]["properties"]
    keys = {key: rules[key] for key in ("settings", "environment", "ignored_settings")}
    shape = {"type": "object", "additionalProperties": False, "required": ["description", "settings"]}
    shape["properties"] = {"description": {"type": "string"}, **keys}
    if (error := next(Draft202012Validator(shape).iter_errors(preset), None)) is not None:
        raise UserError(_explain(error, str(path)))
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
    spec = {key: config[key] for key in ("engine", "model", "kv_dtype", "data_dir", "workload", "evidence")}
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
    """The folder of the model that is made from `model`, beside those with other weights."""
    return f"results/build/models/{Path(config['model']).stem}-{config['vllm']['weights']}"


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
    return {
        "workload": case["workload"] or config["workload"],
        "model": case["model"] or config["model"],
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
    found = [_tiers_of(config, name) for name in measured]
    tiers = {tiers_name(item): item for item in found}
    loads = [load for name in measured for load in loads_of(config, name)]
    case = {
        "workload": None,
        "model": None,
        "active_conversations": None,
        "counted": "window",
        "lookup": "rest" if config["engine"] == "replay" else "prompt",
    }
    return {
        **case,
        "clients": max(loads, default=1),
        "seeds": config["experiment"]["repeats"],
        "tiers": tiers,
    }


def tiers_name(tiers: Mapping[str, int | None]) -> str:
    """How a set of tiers that the sweep measures is called: hbm, dram_256mib, ssd, dram_256mib_ssd, ...; none."""
    bounded = {"dram_bytes": "dram", "ssd_bytes": "ssd"}
    parts = [
        word if tiers[key] is None else f"{word}_{tiers[key] >> 20}mib"
        for key, word in bounded.items()
        if key in tiers
    ]
    return "_".join(parts) or ("hbm" if tiers else "none")


def _tiers_of(config: Mapping[str, Any], name: str) -> dict[str, int | None]:
    scenario, engine = config["scenarios"][name], config[config["engine"]]
    tiers = {"hbm_bytes": engine["hbm_kv_bytes"]} if engine["prefix_caching"] else {}
    if scenario["tier"] == "none":
        return tiers
    if scenario["dram_pool_bytes"]:
        tiers["dram_bytes"] = scenario["dram_pool_bytes"]
    if scenario["store"] == "valkey":
        tiers["dram_bytes"] = scenario["capacity_bytes"]
    elif scenario["store"] != "dram":
        tiers["ssd_bytes"] = None
    return tiers


def _validator() -> Draft202012Validator:
    """A validator that fills in defaults as it goes (the recipe of jsonschema's documentation)."""
    check_properties = Draft202012Validator.VALIDATORS["properties"]

    def fill(validator: Any, properties: Any, instance: Any, subschema: Any) -> Iterator[ValidationError]:
        if isinstance(instance, dict):
            for key, value in properties.items():
                if "default" in value:
                    instance.setdefault(key, deepcopy(value["default"]))
        yield from check_properties(validator, properties, instance, subschema)

    return extend(Draft202012Validator, {"properties": fill})(schema())


def _depth(error: ValidationError) -> tuple[int, str]:
    return len(error.absolute_path), error.message


def _explain(error: ValidationError, file: str = "config") -> str:
    """One line for a schema error: the key, what is there, what is allowed."""
    path = ".".join(str(part) for part in error.absolute_path)
    if error.validator == "additionalProperties":
        known = list(error.schema["properties"])
        wrong = next(key for key in error.instance if key not in known)
        close = difflib.get_close_matches(str(wrong), known, 1)
        hint = f"did you mean {close[0]}? " if close else ""
        return f"{file}: {_join(path, str(wrong))} is not a key; {hint}allowed are {', '.join(known)}"
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        return f"{file}: {_join(path, missing)} is missing"
    return f"{file}: {path}: {error.instance!r} is wrong; {_must(error)}"


def _must(error: ValidationError) -> str:
    rules = error.schema
    if error.validator == "enum":
        return f"allowed are {', '.join(map(str, error.validator_value))}"
    unit = f" (unit: {rules['unit']})" if "unit" in rules else ""
    return f"it must be {allowed(rules, schema()['$defs'])}{unit}"


def allowed(rules: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    """What a key's JSON Schema allows, in words. defs: the schema's `$defs`."""
    if "$ref" in rules:
        return allowed(defs[rules["$ref"].rpartition("/")[2]], defs)
    if rules == defs["size"]:
        return "a size such as '512 MiB' (KiB, MiB, GiB) or bytes as an integer, at least 1"
    if "enum" in rules:
        return " or ".join(map(str, rules["enum"]))
    if "anyOf" in rules:
        return ", or ".join(allowed(choice, defs) for choice in rules["anyOf"])
    if "pattern" in rules:
        return f"text like {rules['pattern']}"
    if rules["type"] == "array":
        items = allowed(rules["items"], defs)
        if rules.get("maxItems") == 2:
            return f"[lowest, highest], each {items}"
        notes = [("minItems", ", not empty"), ("uniqueItems", ", none twice")]
        return f"a list, each {items}" + "".join(words for key, words in notes if key in rules)
    words = {"boolean": "true or false", "object": "a mapping", "string": "text", "null": "null"}
    words |= {"integer": "an integer", "number": "a number"}
    kinds = rules["type"] if isinstance(rules["type"], list) else [rules["type"]]
    limits = [("minimum", "at least"), ("exclusiveMinimum", "more than"), ("maximum", "at most")]
    return ", ".join(
        [
            " or ".join(words[kind] for kind in kinds),
            *(f"{text} {rules[key]}" for key, text in limits if key in rules),
            *(["not empty"] if "minProperties" in rules else []),
        ]
    )


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _sizes_in_bytes(value: Any, key: str = "") -> Any:
    """Turn '512 MiB' under keys ending in _bytes into integers."""
    if isinstance(value, dict):
        return {name: _sizes_in_bytes(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_sizes_in_bytes(item, key) for item in value]
    if key.endswith("_bytes") and isinstance(value, str):
        size = parse_size(value)
        if size < 1:
            raise UserError(f"config: {key}: {value!r} is wrong; it must be at least 1 byte")
        return size
    return value


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


def _check_ranges(workload: Mapping[str, Any]) -> None:
    for key, value in workload.items():
        if isinstance(value, list) and value[0] > value[1]:
            raise UserError(f"config: workload.{key}: {value} is wrong; write [lowest, highest]")


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
    if baseline is not None and baseline not in selected(config, config["experiment"]["scenarios"]):
        raise UserError(f"config: figures.baseline: {baseline!r} is not among the experiment's scenarios")


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
    block = config["replay"]["block_tokens"]
    if config["engine"] == "replay" and scenario["chunk_tokens"] % block:
        raise UserError(
            f"{where}.chunk_tokens: {scenario['chunk_tokens']} is not a multiple of replay.block_tokens ({block})"
        )
    longest = longest_context_tokens(config["workload"])
    if longest is not None and scenario["chunk_tokens"] > longest:
        raise UserError(
            f"{where}.chunk_tokens: {scenario['chunk_tokens']} exceeds the workload's longest context ({longest} "
            f"tokens), so nothing would ever be cached; lower it"
        )


def _check_store(scenario: Mapping[str, Any]) -> None:
    tier, where = scenario["tier"], f"config: scenarios.{scenario['family']}"
    if tier == "none":
        return
    for key in ("store", "connector"):
        if key not in scenario:
            raise UserError(f"{where}.{key} is missing; tier {tier} needs it")
    store = scenario["store"]
    in_memory = tier == "dram" and scenario["data_dir"] is not None
    if in_memory:
        folder = Path(scenario["data_dir"])
        existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
        if (kind := file_system_of(existing)) != "tmpfs":
            raise UserError(
                f"{where}.data_dir: {folder} is on {kind}; with tier dram it must be on a tmpfs such as /dev/shm"
            )
    allowed = (*_STORES_OF_TIER[tier], *(_STORES_OF_TIER["ssd"] if in_memory else ()))
    if store not in allowed:
        raise UserError(f"{where}.store: {store} is not of tier {tier}; choose {' or '.join(allowed)}")
    if store == "dram" and scenario["dram_pool_bytes"] is None:
        raise UserError(f"{where}.dram_pool_bytes is missing; store dram needs its size")
    if scenario["processes"] > 1 and scenario["connector"] not in STRIPED:
        raise UserError(
            f"{where}.processes: connector {scenario['connector']} reaches one process; choose 1 or connector "
            f"{'striped_mp' if scenario['connector'] == 'mp' else 'striped'}"
        )
    if scenario["save_connections"] is not None and scenario["connector"] not in STRIPED:
        raise UserError(
            f"{where}.save_connections: connector {scenario['connector']} saves over its other connections; leave it out "
            f"or choose striped"
        )
    if scenario["load_queue_bytes"] is not None and scenario["connector"] != "striped_mp":
        raise UserError(
            f"{where}.load_queue_bytes: connector {scenario['connector']} has no queue of loads; leave it out or choose "
            f"striped_mp"
        )
    if scenario["client"] == "native" and scenario["connector"] not in STRIPED:
        raise UserError(
            f"{where}.client: connector {scenario['connector']} has no client native; leave it out or choose striped"
        )
    if scenario["socket"] == "unix" and scenario["connector"] not in ("resp", *STRIPED):
        raise UserError(
            f"{where}.socket: connector {scenario['connector']} has no unix sockets; choose tcp, or connector resp or "
            f"striped"
        )
    if scenario["patched"] and store != "kvrocks":
        raise UserError(f"{where}.patched: there are patches for store kvrocks only; leave it out")
    if scenario["stripe_bytes"] < LEAST_STRIPE_BYTES:
        raise UserError(
            f"{where}.stripe_bytes: {scenario['stripe_bytes']} is below {LEAST_STRIPE_BYTES}; raise it"
        )


def _check_connector(scenario: Mapping[str, Any], by_itself: bool = False) -> None:
    """That one of our connectors can reach the store: for the replay engine, or for a store by itself."""
    if scenario["tier"] == "none":
        return
    store, connector = scenario["store"], scenario["connector"]
    if (alone(connector) if by_itself else connector) not in _CONNECTORS_OF_STORE[store]:
        choices = " or ".join(_CONNECTORS_OF_STORE[store])
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


def check_scenario_key(key: str, value: Any, where: str) -> None:
    """That a scenario's key may have a value. Raises UserError beginning with `where`."""
    rules = schema()["properties"]["scenarios"]["additionalProperties"]["properties"][key]
    if not Draft202012Validator(rules | {"$defs": schema()["$defs"]}).is_valid(value):
        must = allowed(rules, schema()["$defs"])
        raise UserError(f"{where}: {value!r} is wrong; it must be {must} (unit: {rules['unit']})")


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
        if experiment["loop"] != "closed":
            raise UserError(
                "config: experiment.loop: engine replay has closed loops only; choose closed or engine vllm"
            )
        return
    if experiment["active_conversations"] is not None:
        raise UserError(
            "config: experiment.active_conversations: AIPerf's clients hold one conversation each; leave it null with "
            "engine vllm, and bound vLLM's own cache with vllm.hbm_kv_bytes or vllm.prefix_caching"
        )
    each, there = config["loadgen"]["conversations_per_client"], config["workload"].get("conversations")
    most = max((load for name in measured for load in loads_of(config, name)), default=0)
    if each is not None and there is not None and each * most > there:
        raise UserError(
            f"config: loadgen.conversations_per_client: {most} clients with {each} each need {each * most} conversations, "
            f"workload.conversations is {there}; raise that or lower this"
        )
    for name in measured:
        scenario = {"name": name, **config["scenarios"][name]}
        _check_overrides(scenario)
        settings = settings_of({"vllm": config["vllm"], "scenario": scenario})
        geometry = load_geometry(Path(config["model"]), scenario["kv_dtype"] or config["kv_dtype"])
        try:
            lmcache.check(
                scenario,
                settings["device"],
                settings["block_tokens"],
                geometry.chunk_bytes(scenario["chunk_tokens"]),
                settings["staging_bytes"],
            )
        except UserError as error:
            raise UserError(f"config: {error}") from None
    folder = config["vllm"]["model_dir"]
    if folder is not None and not (Path(folder) / "tokenizer.json").exists():
        raise UserError(f"config: vllm.model_dir: {folder} has no tokenizer.json; download the whole model")


def _check_overrides(scenario: Mapping[str, Any]) -> None:
    """A scenario's own `vllm` keys by the rules of the section of that name."""
    rules = schema()["properties"]["vllm"]["properties"]
    keys = {
        key: rule for key, rule in rules.items() if key not in ("python", "requirements", "index", "device")
    }
    shape = {"type": "object", "additionalProperties": False, "properties": keys, "$defs": schema()["$defs"]}
    if (error := next(Draft202012Validator(shape).iter_errors(scenario["vllm"]), None)) is not None:
        raise UserError(_explain(error, f"config: scenarios.{scenario['family']}.vllm"))


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
    for key, folder in (("model", "config/models"), ("gpu", "config/gpus")):
        if not Path(config[key]).exists():
            there = ", ".join(str(path) for path in sorted(Path(folder).glob("*.*")))
            raise UserError(f"config: {key}: there is no file {config[key]}; {folder} has {there}")


def _check_predictions(config: Mapping[str, Any]) -> None:
    named = {
        "break_even.models": config["break_even"]["models"],
        "break_even.gpus": config["break_even"]["gpus"],
        **{
            f"predict.cases.{name}.model": [case["model"]]
            for name, case in config["predict"]["cases"].items()
        },
    }
    for key, paths in named.items():
        for path in paths:
            if path is not None and not Path(path).is_file():
                raise UserError(f"config: {key}: there is no file {path}")
    for name, case in config["predict"]["cases"].items():
        if name == EXPERIMENT:
            raise UserError(
                f"config: predict.cases: {EXPERIMENT} is what the sweep measures; rename the case"
            )
        workload = case["workload"]
        if workload is None or workload.get("trace") == FETCHED_TRACE:
            continue
        try:
            make_workload(workload)
        except UserError as error:
            raise UserError(f"config: predict.cases.{name}: {error}") from None


def _check_kvrocks(section: Mapping[str, Any]) -> None:
    for source, key in (("git", "commit"), ("path", "path")):
        if section["source"] == source and section[key] is None:
            raise UserError(f"config: kvrocks.{key} is missing; source {source} needs it")
    for key in ("path", "deps_dir"):
        if section[key] is not None and not Path(section[key]).expanduser().is_dir():
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


def _check_workload(config: Mapping[str, Any]) -> None:
    """Build the workload of every repeat: its contexts must fit the model and HBM.

    A trace that is still to be fetched is checked by the sweep.
    """
    workload, experiment = config["workload"], config["experiment"]
    if "trace" in workload and not Path(workload["trace"]).exists():
        if workload["trace"] == FETCHED_TRACE:
            return
        raise UserError(
            f"config: workload.trace: there is no file {workload['trace']}; {FETCHED_TRACE} is downloaded when it is named"
        )
    longest = max(
        longest_context(make_workload(workload, repeat_seed(experiment["seed"], repeat)))
        for repeat in range(1, experiment["repeats"] + 1)
    )
    geometry = load_geometry(Path(config["model"]), config["kv_dtype"])
    if longest > geometry.max_context_tokens:
        raise UserError(
            f"config: workload: a context of {longest} tokens exceeds {geometry.name}'s {geometry.max_context_tokens}; "
            f"set workload.max_context_tokens or take shorter texts"
        )
    if config["engine"] == "vllm":
        return
    block = config["replay"]["block_tokens"]
    needed = -(-longest // block) * block * geometry.kv_bytes_per_token
    if needed > config["replay"]["hbm_kv_bytes"]:
        raise UserError(
            f"config: replay.hbm_kv_bytes: {config['replay']['hbm_kv_bytes'] >> 20} MiB hold no context of {longest} "
            f"tokens of {geometry.name}; it takes {-(-needed // (1 << 20))} MiB, and as much for each further client"
        )
