"""Which source files measuring a scenario runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..base.sources import sources
from ..connectors import registry as connectors
from ..machine import require_array
from ..stores import registry as stores

_PLUGINS = {"striped": ["connectors.lmcache_striped"], "striped_mp": ["connectors.lmcache_striped_l2"]}


def scenario_sources(spec: Mapping[str, Any]) -> list[str]:
    """Paths of everything that measuring one scenario runs: its own engine, workload, store and connector only.

    spec: the scenario's slice of the config, as given to the sweep.
    """
    scenario, engine = spec["scenario"], spec["engine"]
    modules = ["sweep.measure_scenario", f"engines.{engine}.cells", f"workloads.{spec['workload']['kind']}"]
    modules += require_array.modules_of(spec)
    if engine == "vllm":
        if scenario["tier"] != "none" and scenario["store"] not in ("dram", "files"):
            modules += stores.modules_of(scenario)
        modules += _PLUGINS.get(scenario.get("connector"), [])
    elif scenario["tier"] != "none":
        modules += [*stores.modules_of(scenario), *connectors.modules_of(scenario["connector"])]
        if scenario["dram_pool_bytes"]:
            modules += ["stores.dram", "connectors.inprocess"]
    return sources(*modules)
