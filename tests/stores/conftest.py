"""What the store tests share: the (store, connector) pairs, configurations, values and polling."""

import itertools
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from workflow.hyperkv.payload import Payload, aligned_buffer
from workflow.hyperkv.stores.base import StoreConfig

MIB = 1 << 20
LARGEST = MIB + 1
CONNECTIONS = 4
STORES = ["dram", "files", "valkey", "rocksdb"]
SERVERS = ["valkey", "rocksdb"]
SSD = ["files", "rocksdb"]
SERVER_PAIRS = [(store, connector) for store in SERVERS for connector in ("resp", "redis")]
PAIRS = [("dram", "inprocess"), ("files", "inprocess"), *SERVER_PAIRS]
CONNECTOR_OF = {"dram": "inprocess", "files": "inprocess", "valkey": "resp", "rocksdb": "resp"}

_numbers = itertools.count()


def new_keys(count: int) -> list[bytes]:
    """Keys that no other test uses, as long as LMCache's hashes."""
    return [next(_numbers).to_bytes(4, "big") * 8 for _ in range(count)]


@cache
def payload(size: int) -> Payload:
    return Payload(size)


def values_of(keys: list[bytes], size: int) -> list[np.ndarray]:
    return [payload(size).value(key) for key in keys]


def buffers_for(keys: list[bytes], size: int) -> list[np.ndarray]:
    return [aligned_buffer(size) for _ in keys]


def store_config(folder: Path, store: str, **changes) -> StoreConfig:
    """A configuration in `folder`, a RAM store bounded at 64 values of the largest size."""
    capacity = 64 * LARGEST if store == "dram" else None
    defaults = {"value_bytes": LARGEST, "capacity_bytes": capacity, "log": folder / f"{store}.log"}
    return StoreConfig(**({"directory": folder / store} | defaults | changes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that does not exist yet, with a blank in its name."""
    return tmp_path / "data dir"
