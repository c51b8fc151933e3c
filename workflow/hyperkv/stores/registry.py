"""From the config's word to a store, importing only that store's module."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from .base import Store, StoreConfig

STORES = {
    "dram": ("dram", "DramStore"),
    "files": ("files", "FilesStore"),
    "valkey": ("valkey", "ValkeyStore"),
    "rocksdb": ("rocksdb.store", "RocksdbStore"),
    "kvrocks": ("kvrocks.store", "KvrocksStore"),
}
_PROGRAMS = {"rocksdb": ["rocksdb.server"]}


def make_store(name: str, config: StoreConfig) -> Store:
    """The named store, not yet started. Only its own module is imported, so a re-run depends on nothing else."""
    store = store_class(name)
    if config.processes == 1:
        return store(config)
    return import_module(f"{__package__}.sharded").ShardedStore(config, store)


def store_class(name: str) -> type[Store]:
    """The named store's class, which says what may be configured."""
    module, cls = STORES[name]
    return getattr(import_module(f"{__package__}.{module}"), cls)


def modules_of(scenario: Mapping[str, Any]) -> list[str]:
    """The modules that a scenario's store runs, by their names below workflow.hyperkv, for base.sources."""
    name = scenario["store"]
    sharded = ["sharded"] if scenario.get("processes", 1) > 1 else []
    return [f"stores.{module}" for module in (STORES[name][0], *_PROGRAMS.get(name, []), *sharded)]
