"""Which stores of a run others can reach, and to which KV goes in the clear: said before anything is measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...plugin.lmcache_striped.secret import Secret
from ..stores.placed.place import Place
from ..stores.reach import in_the_clear
from ..stores.registry import store_class


def open_stores(scenarios: Mapping[str, Mapping[str, Any]], names: Iterable[str]) -> list[str]:
    """A line for every named scenario whose settings let its store be reached without a password, or whose KV crosses a network."""
    lines = []
    for name in sorted(set(names)):
        scenario = scenarios[name]
        where = f"scenarios.{scenario.get('family', name)}"
        if (place := Place.of(scenario)) is not None:
            told = (in_the_clear(f"store {scenario['store']}", endpoint) for endpoint in place.endpoints)
            lines += [f"{where}.place: {line}" for line in told if line is not None]
        if scenario["tier"] == "none" or not scenario.get("settings"):
            continue
        password = Secret.of(scenario) is not None
        line = store_class(scenario["store"]).exposure(scenario["settings"], password)
        lines += [] if line is None else [f"{where}.settings.bind: {line}"]
    return list(dict.fromkeys(lines))
