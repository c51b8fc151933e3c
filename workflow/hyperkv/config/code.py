"""The code that each stage runs, as the digests that its rule gives it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import Any

from ..base.sources import code_digest, sources
from ..connectors import registry as connectors
from ..machine import require_array
from ..stores import registry as stores


def code(*modules: str) -> str:
    """12 hex digits that name what the modules and all that they import do. modules: see base.sources."""
    return code_digest(sources(*modules))


def scenario_modules(spec: Mapping[str, Any]) -> list[str]:
    """What measuring one scenario runs: its own engine, workload, store and connector only.

    spec: the scenario's slice of the config, as given to the sweep.
    """
    scenario, engine = spec["scenario"], spec["engine"]
    modules = ["sweep.measure_scenario", f"engines.{engine}.cells", f"workloads.{spec['workload']['kind']}"]
    modules += require_array.modules_of(spec)
    if engine == "vllm":
        if scenario["tier"] != "none":
            modules += stores.modules_of(scenario)
        plugin = connectors.plugin_module(scenario)
        return modules if plugin is None else [*modules, f"{connectors.PLUGIN}.{plugin}"]
    if scenario["tier"] != "none":
        modules += _alone(scenario)
        if scenario["dram_pool_bytes"]:
            modules += ["stores.dram", "connectors.inprocess"]
    return modules


def profile_modules(spec: Mapping[str, Any]) -> list[str]:
    """What profiling one store through its connector runs. spec: the store's slice of the config."""
    return ["profile.profile_store", *_alone(spec["scenario"]), *require_array.modules_of(spec)]


def layers_modules(spec: Mapping[str, Any]) -> list[str]:
    """What measuring the layers of one scenario runs. spec: its slice of the config."""
    scenario = spec["scenario"]
    modules = ["profile.profile_layers", *_alone(scenario), *require_array.modules_of(spec)]
    if scenario["connector"] != "inprocess":
        modules += ["profile.null_server", "stores.valkey", "connectors.resp"]
    if scenario["tier"] == "ssd":
        modules += ["stores.files", "connectors.inprocess"]
    return modules


def limits_modules(spec: Mapping[str, Any]) -> list[str]:
    """What measuring the machine's limits runs. spec: their slice of the config."""
    return ["profile.profile_limits", *require_array.modules_of(spec)]


def tune_code(spec: Mapping[str, Any]) -> str:
    """Digests of what a search runs, as JSON: of a trial on the store alone, of its cells, and of the whole."""
    scenario = spec["sweep"]["scenario"]
    sharded = ["stores.sharded"] if scenario["connector"] in connectors.STRIPED else []
    trials = ["tune.study", "tune.store_load", *_alone(scenario), *sharded]
    cells = [*trials, *scenario_modules(spec["sweep"])]
    search = ["tune.search_settings", *cells]
    return json.dumps({"trials": code(*trials), "cells": code(*cells), "search": code(*search)})


def pair_modules(spec: Mapping[str, Any]) -> list[str]:
    """What trying a pair of vLLM and LMCache runs. spec: its slice of the config."""
    modules = [module for each in spec["scenarios"] for module in scenario_modules(each)]
    return ["pairs.try_pair", *plugin_modules(), *(name for name in modules if not name.startswith("sweep."))]


def prediction_modules(cases: Iterable[Mapping[str, Any]]) -> list[str]:
    """What predicting hit rates runs. cases: those of the prediction's slice of the config."""
    return ["predict.predict_hit_rates", *{f"workloads.{case['workload']['kind']}": 0 for case in cases}]


def plugin_modules() -> list[str]:
    """Every module of the plugin, for whom it is installed for."""
    found = find_spec(connectors.PLUGIN)
    places = [] if found is None else found.submodule_search_locations or []
    return [f"{connectors.PLUGIN}.{module.name}" for module in iter_modules(places)]


def recommendation_modules(workload: Mapping[str, Any]) -> list[str]:
    """What writing a recommendation runs, whichever store is recommended."""
    return ["recommend.choose_scenario", f"workloads.{workload['kind']}", *_every_store()]


def predicted_modules(workload: Mapping[str, Any]) -> list[str]:
    """What holding predictions against what was measured runs, of whichever stores."""
    return ["tables.predicted", f"workloads.{workload['kind']}", *_every_store()]


def check_modules() -> list[str]:
    """What checking a recommendation runs, whichever store it is of."""
    return ["recommend.check_recommended", *_every_store()]


def _every_store() -> list[str]:
    return [
        "stores.sharded",
        *(module for name in stores.STORES for module in stores.modules_of({"store": name})),
    ]


def _alone(scenario: Mapping[str, Any]) -> list[str]:
    return [
        *stores.modules_of(scenario),
        *connectors.modules_of(scenario["connector"], bool(scenario.get("bound_bytes"))),
    ]
