"""What the scenario of a record says, whatever version the record is of, and how what was changed of it is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_OFF = "off"
_QUEUE = "load_queue_bytes"  # what earlier versions had for a gate


def gate_of(scenario: Mapping[str, Any]) -> str | None:
    """What its gate is for, None without one; the name of the key for the bound on waiting loads of earlier versions."""
    gate = scenario.get("gate", _QUEUE if _QUEUE in scenario else _OFF)
    return None if gate == _OFF else gate


def gated(scenario: Mapping[str, Any]) -> bool:
    """Whether a gate decides how much of what is there is loaded."""
    return gate_of(scenario) is not None


def place_of(scenario: Mapping[str, Any]) -> str | None:
    """The addresses of a store that was there already, or that it was on the job's other node; None for one on the engine's."""
    if scenario.get("node"):
        return "other node"
    return " ".join(place["addresses"]) if (place := scenario.get("place")) else None


def uses_data_dir(scenario: Mapping[str, Any] | None) -> bool:
    """Whether a record's scenario keeps files on the config's data_dir; a record without one does."""
    elsewhere = scenario is not None and (scenario.get("data_dir") or scenario.get("place"))
    return scenario is None or (scenario.get("tier") == "ssd" and not elsewhere)


def worded(values: Mapping[str, Any], base: Mapping[str, Any]) -> str:
    """What differs from the base, in words: 'stripe_bytes 4 MiB, connections 8'; 'as it is' for nothing."""
    differing = [f"{name} {_word(name, value)}" for name, value in values.items() if value != base.get(name)]
    return ", ".join(differing) or "as it is"


def _word(name: str, value: Any) -> str:
    if name.endswith("_bytes") and isinstance(value, int):
        return f"{value / 2**20:g} MiB" if value >= 2**20 else f"{value / 2**10:g} KiB"
    return "not set" if value is None else str(value)
