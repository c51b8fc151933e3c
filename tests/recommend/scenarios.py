"""Records of scenarios that nobody measured, for recommendations."""

from copy import deepcopy
from pathlib import Path

from tests.record_factory import spec


def scenario(store: str, connector: str = "resp", **changes) -> dict:
    """A scenario with a store of its tier."""
    tier = "dram" if store in ("dram", "valkey") else "ssd"
    own = spec(Path("x"), "none")["scenario"]
    return (
        own | {"name": f"{store}_{connector}", "tier": tier, "store": store, "connector": connector} | changes
    )


def record_of(real: dict, own: dict) -> dict:
    """A measured record as if its scenario were another."""
    copy = deepcopy(real)
    copy["spec"]["scenario"] = own
    return copy | {"scenario": own["name"]}
