"""Which of the stores that a run starts others can reach: said before it starts them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...plugin.lmcache_striped.secret import Secret
from ..stores.registry import store_class


def open_stores(scenarios: Mapping[str, Mapping[str, Any]], names: Iterable[str]) -> list[str]:
    """A line for every named scenario whose settings let its store be reached without a password."""
    lines = []
    for name in sorted(set(names)):
        scenario = scenarios[name]
        if scenario["tier"] == "none" or not scenario.get("settings"):
            continue
        password = Secret.of(scenario) is not None
        line = store_class(scenario["store"]).exposure(scenario["settings"], password)
        lines += [] if line is None else [f"scenarios.{scenario.get('family', name)}.settings.bind: {line}"]
    return list(dict.fromkeys(lines))
