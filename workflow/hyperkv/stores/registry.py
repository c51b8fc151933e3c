"""From the config's word to a store, importing only that store's module."""

from __future__ import annotations

from importlib import import_module

from .base import Store, StoreConfig

STORE_CLASSES = {
    "dram": "DramStore",
    "files": "FilesStore",
    "valkey": "ValkeyStore",
    "rocksdb": "RocksdbStore",
    "kvrocks": "KvrocksStore",
}


def make_store(name: str, config: StoreConfig) -> Store:
    """The named store, not yet started. Only its own module is imported, so a re-run depends on nothing else."""
    store = store_class(name)
    if config.processes == 1:
        return store(config)
    return import_module(f"{__package__}.sharded").ShardedStore(config, store)


def store_class(name: str) -> type[Store]:
    """The named store's class, which says what may be configured."""
    return getattr(import_module(f"{__package__}.{name}"), STORE_CLASSES[name])
