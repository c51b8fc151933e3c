"""Which source files the measurements of stores alone run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..base.sources import sources
from ..connectors import registry as connectors
from ..machine import require_array
from ..stores import registry as stores


def profile_sources(spec: Mapping[str, Any]) -> list[str]:
    """Paths of everything that profiling one store through its connector runs. spec: the store's slice of the config."""
    return sources("profile.profile_store", *_measured(spec))


def layers_sources(spec: Mapping[str, Any]) -> list[str]:
    """Paths of everything that measuring the layers of one scenario runs. spec: its slice of the config."""
    modules = {"profile.profile_layers", *_measured(spec)}
    if spec["scenario"]["connector"] != "inprocess":
        modules |= {"profile.null_server", "stores.valkey", "connectors.resp"}
    if spec["scenario"]["tier"] == "ssd":
        modules |= {"stores.files", "connectors.inprocess"}
    return sources(*sorted(modules))


def limits_sources(spec: Mapping[str, Any]) -> list[str]:
    """Paths of everything that measuring the machine's limits runs. spec: their slice of the config."""
    return sources("profile.profile_limits", *require_array.modules_of(spec))


def _measured(spec: Mapping[str, Any]) -> list[str]:
    scenario = spec["scenario"]
    return [
        *stores.modules_of(scenario),
        *connectors.modules_of(scenario["connector"]),
        *require_array.modules_of(spec),
    ]
