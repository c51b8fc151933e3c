"""From the config's word to a connector, importing only that connector's module."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from ...plugin.lmcache_striped.base import Connector
from ...plugin.lmcache_striped.secret import Secret
from ...plugin.lmcache_striped.shape import Device, Shape
from ..base.errors import UserError
from ..base.own_command import snakemake_command
from ..stores.base import DIRECT, Store
from .prefixed import PrefixedConnector

PLUGIN = "workflow.plugin.lmcache_striped"  # as it is imported here; engines import what is installed of it
# Inside LMCache inside vLLM, below an LMCache server, and below vLLM's own offloading.
STRIPED_INSIDE = ("striped", "direct")
STRIPED_SERVED = ("striped_mp", "direct_mp")
GATED = (*STRIPED_INSIDE, *STRIPED_SERVED)
STRIPED = ("striped", "striped_mp", "striped_tier", *DIRECT)
_OF_PLUGIN = {
    **dict.fromkeys(STRIPED_INSIDE, "remote"),
    **dict.fromkeys(STRIPED_SERVED, "l2"),
    "striped_tier": "tier",
}
_TIMEOUT_S = 30.0
_TAKING_PASSWORDS = ("redis", "resp", "mp")
_BELOW_OTHERS = {"mp": "resp", "striped_mp": "striped", "striped_tier": "striped", "direct_mp": "direct"}
LIBRARY = Path("results/build/striped/striped.so")
CONNECTORS = {
    "inprocess": (f"{__package__}.inprocess", "InprocessConnector"),
    "redis": (f"{__package__}.redis", "RedisConnector"),
    "resp": (f"{__package__}.resp", "RespConnector"),
    **dict.fromkeys(STRIPED_INSIDE, (f"{PLUGIN}.connector", "StripedConnector")),
}
_STRIPES = {
    **{"stripe_bytes": "stripe_bytes", "in_flight": "stripes_in_flight"},
    **{"library": "client", "bound_bytes": "bound_bytes"},
}
_OPTIONS = {"striped": _STRIPES, "direct": _STRIPES | {"read": "read"}}


def alone(name: str) -> str:
    """The connector that a store is measured with by itself, without an engine: that of what has it in the engine."""
    return _BELOW_OTHERS.get(name, name)


def options_of(name: str, scenario: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments of the named connector that a scenario's own keys give."""
    options = {argument: scenario[key] for argument, key in _OPTIONS.get(name, {}).items() if key in scenario}
    if "library" in options:
        options["library"] = library_of(options["library"])
    if scenario.get("shape"):
        options["shape"] = Device(**scenario["shape"])
    return options


def plugin_module(scenario: Mapping[str, Any]) -> str | None:
    """The plugin's module that LMCache or vLLM is to import for a scenario with engine vllm; None where their own clients do."""
    connector = scenario.get("connector", "")
    placed = scenario.get("place") is not None or scenario.get("node") is not None
    by_ours = connector in _TAKING_PASSWORDS and (placed or Secret.of(scenario) is not None)
    return _OF_PLUGIN.get(connector) or ("password" if by_ours else None)


def library_of(client: str) -> Path | None:
    """The compiled code of connector striped's client `native`; None for `python`."""
    return LIBRARY if client == "native" else None


def make_connector(
    name: str, store: Store, connections: int, timeout_s: float | None = None, **options: Any
) -> Connector:
    """The named connector, connected to a started store. timeout_s: None for 30. options: see options_of.

    Raises UserError when the two do not fit.
    """
    shape = Shape(options.pop("shape", Device()))
    made = _made(name, store, connections, timeout_s or _TIMEOUT_S, **options)
    made.shape = shape
    if prefix := next((each.prefix for each in store.endpoints), ""):
        return PrefixedConnector(made, prefix)
    return made


def _made(name: str, store: Store, connections: int, timeout_s: float, **options: Any) -> Connector:
    module, cls = CONNECTORS[name]
    connector = getattr(import_module(module), cls)
    if name == "inprocess":
        return connector(store, connections)
    endpoints = store.endpoints
    if not endpoints:
        raise UserError(f"connector {name} cannot reach store {store.name}; use inprocess")
    if name in STRIPED_INSIDE:
        if name == "direct":
            folders = tuple(each.folder for each in endpoints if each.folder is not None)
            if len(folders) < len(endpoints):
                raise UserError(
                    f"connector direct reads files of this machine, and store {store.name} has none; use striped"
                )
            store.servers[0].files_read_here = True
            options["files"] = import_module(f"{PLUGIN}.direct").FileSettings(
                folders, options.pop("read", "auto")
            )
        if store.is_cluster:
            options["cluster"] = import_module(f"{PLUGIN}.cluster").Cluster(endpoints, _warn)
        if (library := options.get("library")) is not None and not library.exists():
            make = snakemake_command("build_striped", 1)
            raise UserError(
                f"client native: there is no {library}; `{make}` makes it, or choose client python"
            )
        if (bound := options.pop("bound_bytes", None)) is not None:
            connector = partial(import_module(f"{PLUGIN}.bounded").OwnBoundConnector, bound_bytes=bound)
        return connector(endpoints, connections, timeout_s, **options)
    if len(endpoints) > 1:
        raise UserError(f"connector {name} reaches one process of store {store.name}; use striped")
    return connector(endpoints[0], connections, timeout_s, **options)


def _warn(line: str) -> None:
    print(f"hyperkv: warning: {line}", file=sys.stderr)


def modules_of(name: str, bounded: bool = False) -> list[str]:
    """The modules that a connector runs by itself, for base.sources. bounded: whether its scenario has bound_bytes."""
    with_bound = [f"{PLUGIN}.bounded"] if bounded and alone(name) in STRIPED_INSIDE else []
    return [CONNECTORS[alone(name)][0], *with_bound]
