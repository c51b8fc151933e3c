"""Which source files a search runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..base.sources import sources
from ..connectors import registry as connectors
from ..stores import registry as stores
from ..sweep.closure import scenario_sources


def trial_sources(scenario: Mapping[str, Any]) -> list[str]:
    """Paths of everything that a trial of the tuner on a store alone runs, whatever its values."""
    connector = scenario["connector"]
    sharded = ["stores.sharded"] if connector in connectors.STRIPED else []
    modules = [*stores.modules_of(scenario), *connectors.modules_of(connector), *sharded]
    return sources("tune.study", "tune.store_load", *modules)


def tune_sources(spec: Mapping[str, Any]) -> list[str]:
    """Paths of everything that tuning one scenario runs, its engine included."""
    scenario = spec["sweep"]["scenario"]
    return sorted(
        {*sources("tune.search_settings"), *trial_sources(scenario), *scenario_sources(spec["sweep"])}
    )
