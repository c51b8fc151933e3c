"""What may be chosen instead of what a scenario has, for the messages of the checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...connectors.registry import CONNECTORS, alone
from ...engines.vllm import lmcache
from ...stores.registry import store_class, stores_of

_MEDIUM_OF_TIER = {"dram": "ram", "ssd": "ssd"}


def stores_for(tier: str) -> list[str]:
    """Stores of a tier."""
    return stores_of(_MEDIUM_OF_TIER[tier])


def connectors_of(store: str) -> list[str]:
    """Those of a store's connectors that need no engine."""
    return [name for name in store_class(store).connectors if name in CONNECTORS]


def offered(store: str) -> list[str]:
    """What may be asked for when a scenario names none: those that need no engine, or of a store of the engine's own all."""
    return connectors_of(store) or list(store_class(store).connectors)


def or_connector(scenario: Mapping[str, Any], wanted: Sequence[str]) -> str:
    """', or connector A or B': those of `wanted` that reach the store, of the same place for LMCache; '' for none."""
    served = scenario["connector"] in lmcache.SERVED
    same = [
        name for name in wanted if (name in lmcache.SERVED) == served and name not in lmcache.VLLMS_OWN
    ] or wanted
    reaching = [name for name in same if alone(name) in connectors_of(scenario["store"])]
    with_vllm = " (engine vllm)" if reaching == ["striped_mp"] and not served else ""
    return f", or connector {' or '.join(reaching)}{with_vllm}" if reaching else ""
