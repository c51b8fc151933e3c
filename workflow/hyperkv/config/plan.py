"""What each stage is given: the JSON of its own slice of the configuration, so that it runs again when that changes, and files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..array.settings import ArraySettings
from ..base.config_files import read_mapping
from ..base.errors import UserError
from ..connectors.registry import alone
from ..engines.vllm.command import settings_of
from ..models.geometry import load_geometry
from ..models.gpus import tensor_parallel_of
from ..predict.scenario_tiers import tiers_of_scenarios
from ..tables.methods.ladder_parity import require_steps
from ..workloads.context_limit import limited
from ..workloads.text.tokens_file import with_tokens
from .checks.memory import context_limit
from .environments import LOADGEN_ENVIRONMENT, environment_record, made_model_dir, packaged, python_of
from .explain import validated
from .models.array import BASELINE
from .models.cost import Prices
from .models.engines import INSTALLED, PAIRS, PROMPTS, REPLAY
from .models.predict import CHUNK_TOKENS, PROMPT_TOKENS, SEEDS
from .models.scenario import ALONE, OF_VLLM, told
from .scenarios import loads_of, selected
from .schema import rules_at, unit_of

EXPERIMENT = "experiment"
# What stages are told besides, the same in every run.
LOADGEN = {"warm_up_requests": 1}
PREDICT = {"chunk_tokens": CHUNK_TOKENS, "save_decode_cache": [True, False]}
RECOMMEND = {"port": 6666, "engine_port": 8000}


def sweep_spec(config: Mapping[str, Any], scenario: str) -> str:
    """JSON of everything that measuring one scenario depends on, and nothing else."""
    experiment = config["experiment"]
    other = () if config["engine"] == "vllm" else ("vllm", "lmcache", "pair", *OF_VLLM)
    left_out = {"loads", "family", "behind", *other}
    own = told(config["scenarios"][scenario])
    own = {key: value for key, value in own.items() if key not in left_out}
    spec = {key: config[key] for key in ("engine", "model", "kv_dtype", "data_dir", "evidence")}
    spec["workload"] = measured_workload(config)
    spec |= {"scenario": {"name": scenario, **own}, "loads": loads_of(config, scenario)}
    spec |= {key: experiment[key] for key in ("seed", "slo")}
    spec |= {"engines": experiment["engines"]} if experiment["engines"] > 1 else {}
    if config["engine"] == "replay":
        gpus = tensor_parallel_of(
            settings_of({"vllm": config["vllm"], "scenario": config["scenarios"][scenario]})
        )
        spec |= {"gpu": config["gpu"], "replay": config["replay"] | REPLAY | {"gpus": gpus}}
        spec["active_conversations"] = experiment["active_conversations"]
        return json.dumps(spec | on_array(config), sort_keys=True)
    pair = own["pair"]
    spec["vllm"] = config["vllm"] | {"pairs": {pair: _measured_with(config["vllm"]["pairs"][pair])}}
    spec["loadgen"] = _measured_with(config["loadgen"]) | LOADGEN
    spec |= {"latency": config["latency"] | {"prompts": PROMPTS}, "loop": experiment["loop"]}
    environments = {"engine": pair, "loadgen": LOADGEN_ENVIRONMENT}
    spec |= {f"{name}_python": python_of(config, made) for name, made in environments.items()}
    spec["environment_records"] = {name: environment_record(made) for name, made in environments.items()}
    spec["made_model_dir"] = made_model_dir(config)
    if packaged(config) and config["vllm"]["model_dir"] is None:
        spec["vllm"]["model_dir"] = spec["made_model_dir"]
    return json.dumps(spec | on_array(config), sort_keys=True)


def _measured_with(section: Mapping[str, Any]) -> dict[str, Any]:
    """A section less the keys that say where its environment comes from."""
    return {key: value for key, value in section.items() if key not in INSTALLED}


def requested_gpus(config: Mapping[str, Any], scenario: str | None) -> int:
    """GPUs that a scheduler is asked for: of all engines of a scenario; for None 1, to look at the engine's environment; 0 without."""
    if config["engine"] != "vllm" or config["vllm"]["device"] != "cuda":
        return 0
    if scenario is None:
        return 1
    settings = settings_of({"vllm": config["vllm"], "scenario": config["scenarios"][scenario]})
    return config["experiment"]["engines"] * tensor_parallel_of(settings)


def measured_workload(config: Mapping[str, Any]) -> dict[str, Any]:
    """The workload as the sweep sends it: long requests that are left out or cut are so by what model and engine take."""
    return with_tokens(limited(config["workload"], context_limit(config).tokens), _tokenizer(config))


def _tokenizer(config: Mapping[str, Any]) -> str | None:
    """The folder of the model that is served, when its tokenizer knows texts: that of one made of a shape has numbers for words."""
    return config["vllm"]["model_dir"] or (made_model_dir(config) if packaged(config) else None)


def profile_spec(config: Mapping[str, Any], family: str) -> str:
    """JSON of everything that profiling the store of one scenario family depends on."""
    return _alone_spec(config, "profile", _warm_up(config["profile"]) | _alone(config, family))


def layers_spec(config: Mapping[str, Any], family: str) -> str:
    """JSON of everything that the layers of one scenario family depend on."""
    section = config["layers"]
    own = _warm_up(section) | {"memory_dir": section["memory_dir"]}
    return _alone_spec(config, "layers", own | _alone(config, family))


def limits_spec(config: Mapping[str, Any]) -> str:
    """JSON of everything that the limits of the profile depend on."""
    return _alone_spec(config, "profile", {})


def _alone_spec(config: Mapping[str, Any], section: str, more: Mapping[str, Any]) -> str:
    sizes = {key: config[section][key] for key in ("value_bytes", "connections", "point_bytes", "repeats")}
    spec = {**sizes, "data_dir": config["data_dir"], **more, **on_array(config)}
    return json.dumps(spec, sort_keys=True)


def _warm_up(section: Mapping[str, Any]) -> dict[str, Any]:
    return {"warm_up_bytes": section["warm_up_bytes"] or section["point_bytes"]}


def baseline_spec(config: Mapping[str, Any]) -> str:
    """JSON of everything that the baseline of the device depends on."""
    spec = BASELINE | {"data_dir": config["data_dir"]}
    return json.dumps(spec | on_array(config), sort_keys=True)


def recommend_spec(config: Mapping[str, Any]) -> str:
    """JSON of everything that the recommendation depends on beside the records."""
    floor = {"tps_per_user_min": config["cost"]["slo"]["tps_per_user"]}
    spec = {"recommend": config["recommend"] | floor | RECOMMEND, "slo": config["experiment"]["slo"]}
    spec["python"] = {pair: python_of(config, pair) for pair in PAIRS}
    replay = config["engine"] == "replay"
    own = selected(config, config["experiment"]["scenarios"]) if replay else []
    spec["vllm"] = config["vllm"] if replay else {}
    spec["own"] = {
        name: {key: config["scenarios"][name][key] for key in ("vllm", "lmcache", "pair")} for name in own
    }
    return json.dumps(spec, sort_keys=True)


def on_array(config: Mapping[str, Any]) -> dict[str, Any]:
    """The array that a measurement is to find under its data_dir, as a key of its spec; nothing for source path."""
    if config["array"]["source"] == "path":
        return {}
    return {"array": ArraySettings.of(config["array"]).identity()}


def predict_spec(config: Mapping[str, Any]) -> str:
    """JSON of everything that the predicted hit rates depend on."""
    one = config["experiment"]["engines"] == 1
    own = ({EXPERIMENT: _experiment_case(config)} if one else {}) | config["predict"]["cases"]
    cases = {name: predicted_case(case, config) for name, case in own.items()}
    return json.dumps({**PREDICT, "seed": config["experiment"]["seed"], "cases": cases}, sort_keys=True)


def break_even_spec(config: Mapping[str, Any]) -> str:
    """JSON of everything that break-even depends on."""
    spec = config["break_even"] | {"prompt_tokens": PROMPT_TOKENS, "kv_dtype": config["kv_dtype"]}
    return json.dumps(spec | {"chunk_tokens": config["figures"]["chunk_tokens"]}, sort_keys=True)


def cost_spec(config: Mapping[str, Any]) -> str:
    """JSON of everything that the costs depend on: every price with its range, unit and source, and the SLO.

    Raises UserError when the table of prices is not as config/README.md says.
    """
    path = Path(config["cost"]["prices"])
    document = read_mapping(path, "cost.prices", "config/prices.yaml is one")
    found = validated(Prices, document, f"config: cost.prices: {path}").model_dump()
    prices = {name: price | {"unit": unit_of(rules_at(Prices, (name,))[0])} for name, price in found.items()}
    return json.dumps({"prices": prices, "slo": config["cost"]["slo"]}, sort_keys=True)


def array_spec(config: Mapping[str, Any]) -> str:
    """JSON of the scenarios behind a device that are measured, each with what was put behind it."""
    measured = selected(config, config["experiment"]["scenarios"])
    behind = {name: config["scenarios"][name].get("behind") for name in measured}
    return json.dumps({"devices": {name: base for name, base in behind.items() if base}})


def ladder_spec(config: Mapping[str, Any]) -> str:
    """JSON of the ladder's steps, in order, and of what is drawn beside them. Raises UserError."""
    section = config["ladder"]
    steps = [{"step": name, **rules} for name, rules in section["steps"].items()]
    if len(steps) < 2:
        raise UserError(
            "config: ladder.steps: a ladder has two steps at least; see config/experiments/ladder.yaml"
        )
    measured = selected(config, config["experiment"]["scenarios"])
    for where, name in [
        *((f"ladder.steps.{step['step']}.scenario", step["scenario"]) for step in steps),
        *(("ladder.beside", name) for name in section["beside"]),
    ]:
        if name not in measured:
            raise UserError(f"config: {where}: {name} is not among experiment.scenarios; add it there")
    specs = [json.loads(sweep_spec(config, step["scenario"])) for step in steps]
    try:
        require_steps(steps, specs)
    except UserError as error:
        raise UserError(f"config: {error}") from None
    return json.dumps({"steps": steps, "beside": section["beside"]})


def ladder_scenarios(config: Mapping[str, Any]) -> list[str]:
    """The scenarios that the ladder needs measured."""
    section = config["ladder"]
    return list(
        dict.fromkeys([*(step["scenario"] for step in section["steps"].values()), *section["beside"]])
    )


def pairs_spec(config: Mapping[str, Any], pair: str) -> str:
    """JSON of all that trying a pair of vLLM and LMCache depends on. Raises UserError where the pairs cannot be tried."""
    section = config["pairs"]
    tried = section["tried"][pair]
    if config["engine"] != "vllm" or config["vllm"]["device"] != "cpu":
        raise UserError(
            "config: pairs: pairs are tried with engine vllm on vllm.device cpu; config/experiments/pairs.yaml has both"
        )
    names = [name for name in selected(config, section["scenarios"]) if name not in tried["without"]]
    tiers = [config["scenarios"][name]["tier"] for name in names]
    if len(names) < 2 or tiers[0] != "none" or "none" in tiers[1:]:
        raise UserError(
            f"config: pairs.scenarios: of those that {pair} is tried with the first must be of tier none, and others come after it"
        )
    specs = [json.loads(sweep_spec(config, name)) for name in names]
    keys = ("conversations", "answer_tokens")
    own = {"pair": pair, "pins": tried["packages"], "base_python": python_of(config, PAIRS[0])}
    spec = own | {key: section[key] for key in keys} | {"scenarios": specs}
    return json.dumps(
        spec | {key: config[key] for key in ("model", "data_dir")} | on_array(config), sort_keys=True
    )


def bits_spec(config: Mapping[str, Any]) -> str:
    """JSON of all that measuring the formats depends on. Raises UserError without a model's own weights."""
    if (folder := _tokenizer(config)) is None:
        raise UserError(
            "config: vllm.model_dir: bits are measured with a model's own weights; name its folder here"
        )
    spec = {key: config["pairs"][key] for key in ("conversations", "answer_tokens")}
    environment = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} | config["vllm"]["environment"]
    environment |= config["vllm"]["pairs"][PAIRS[0]]["environment"]
    spec |= {"model": config["model"], "model_dir": folder, "environment": environment}
    return json.dumps(spec | {"device": config["vllm"]["device"]}, sort_keys=True)


def predicted_case(case: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    active = case["active_conversations"] or [config["experiment"]["active_conversations"] or case["clients"]]
    model = case["model"] or config["model"]
    most = load_geometry(Path(model), config["kv_dtype"]).max_context_tokens
    return {
        "workload": with_tokens(limited(case["workload"] or config["workload"], most), _tokenizer(config)),
        "model": model,
        "kv_dtype": config["kv_dtype"],
        "block_tokens": (config["vllm"] if config["engine"] == "vllm" else REPLAY)["block_tokens"],
        "active_conversations": active,
        "clients": case["clients"],
        "seeds": case.get("seeds", SEEDS),
        "counted": case.get("counted", "all"),
        "lookup": case.get("lookup", "prompt"),
        "tiers": case["tiers"],
    }


def _experiment_case(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the sweep measures, as a case: its repeats' workloads, the tiers of its scenarios, each set of them once."""
    measured = selected(config, config["experiment"]["scenarios"])
    return {
        "workload": measured_workload(config),
        "model": None,
        "active_conversations": None,
        "counted": "window",
        "lookup": "rest" if config["engine"] == "replay" else "prompt",
        "clients": max((load for name in measured for load in loads_of(config, name)), default=1),
        "seeds": config["experiment"]["repeats"],
        "tiers": tiers_of_scenarios({**config, "replay": config["replay"] | REPLAY}, measured),
    }


def _alone(config: Mapping[str, Any], family: str) -> dict[str, Any]:
    """Of a scenario family what its store and connector are without an engine."""
    scenario = config["scenarios"][selected(config, [family])[0]]
    own = {key: scenario[key] for key in ALONE} | {"connector": alone(scenario["connector"])}
    return {"scenario": {"name": family, **told(own)}}
