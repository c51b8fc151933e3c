"""From the config's word to a store, importing only that store's module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from ..base.documents import data_in
from ..base.errors import UserError
from .base import Store, StoreConfig

# Apart from this module, so that a store more is no other code to measure those that are there with.
STORES: dict[str, str] = data_in(Path(__file__).with_name("names.yaml").read_bytes())


def make_store(name: str, config: StoreConfig) -> Store:
    """The named store, not yet started. Only its own module is imported, so a re-run depends on nothing else."""
    store: Callable[[StoreConfig], Any] = store_class(name)
    if config.place is not None and config.place.cluster:
        return import_module(f"{__package__}.placed.cluster").PlacedCluster(config, store)
    if config.place is not None:
        store = partial(import_module(f"{__package__}.placed.store").PlacedStore, kind=store)
    if config.processes == 1:
        return store(config)
    return import_module(f"{__package__}.sharded").ShardedStore(config, store)


def store_class(name: str) -> type[Store]:
    """The named store's class, which says what can be said of the store without starting it. Raises UserError for no such class."""
    module, _, cls = STORES[name].rpartition(".")
    try:
        store = getattr(import_module(f"{__package__}.{module}"), cls)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"store {name}: {error}; mend it or its line in workflow/hyperkv/stores/names.yaml"
        ) from error
    store.require_told(name)
    return store


def has_store(scenario: Mapping[str, Any]) -> bool:
    """Whether a scenario has a store beside the engine's own pool."""
    return scenario["tier"] != "none" and store_class(scenario["store"]).held_by_engine != "pool"


def bypasses_processes(scenario: Mapping[str, Any]) -> bool:
    """Whether a device moves a store's bytes past the processes that ask for them (GPUDirect Storage)."""
    below = scenario["tier"] != "none"
    return below and store_class(scenario["store"]).bypasses_processes(scenario.get("settings", {}))


def stores_of(medium: str) -> list[str]:
    """The stores that are meant for a medium, "ram" or "ssd"."""
    return [name for name in STORES if store_class(name).medium == medium]


def modules_of(scenario: Mapping[str, Any]) -> list[str]:
    """The modules that a scenario's store runs, by their names below workflow.hyperkv, for base.sources."""
    name = scenario["store"]
    sharded = ["stores.sharded"] if scenario.get("processes", 1) > 1 else []
    place = scenario.get("place")
    placed = [f"stores.placed.{'cluster' if place['cluster'] else 'store'}"] if place else []
    elsewhere = ["stores.elsewhere.store"] if scenario.get("node") else []
    own = f"stores.{STORES[name].rpartition('.')[0]}"
    return [own, *store_class(name).programs, *sharded, *placed, *elsewhere]


def looks() -> dict[str, dict[str, str]]:
    """How figures show each store: its medium, colour and markers."""
    classes = {name: store_class(name) for name in STORES}
    return {name: {"medium": store.medium, **asdict(store.look)} for name, store in classes.items()}
