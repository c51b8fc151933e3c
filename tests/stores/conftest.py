"""What the store tests share: the (store, connector) pairs, configurations, values and polling.

Kvrocks takes part when KVROCKS_BIN names its program; without it those tests are skipped, and counted as skipped.
"""

import itertools
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from workflow.hyperkv.stores import registry
from workflow.hyperkv.stores.base import StoreConfig
from workflow.hyperkv.workloads.payload import Payload, aligned_buffer

MIB = 1 << 20
LARGEST = MIB + 1
CONNECTIONS = 4
KVROCKS_BIN = os.environ.get("KVROCKS_BIN")


def offered(*words: str):
    """Test parameters, skipped where the store (their first word) is not to be had."""
    missing = words[0] == "kvrocks" and KVROCKS_BIN is None
    skip = pytest.mark.skip(reason="KVROCKS_BIN is not set")
    return pytest.param(
        *([words[0]] if len(words) == 1 else words), marks=[skip] if missing else [], id="-".join(words)
    )


CLIENTS = ("resp", "redis", "striped")
OPTIONS = {kind: {"stripe_bytes": 20_000} for kind in ("striped", "direct")}
CLIENTS_OF = {
    name: [
        each for each in ("inprocess", *CLIENTS, "direct") if each in registry.store_class(name).connectors
    ]
    for name in registry.STORES
}
ALONE = [name for name, clients in CLIENTS_OF.items() if clients]  # the others are an engine's own
SERVER_NAMES = [name for name in registry.STORES if registry.store_class(name).is_server]
SERVERS = [offered(name) for name in SERVER_NAMES]
SSD = [offered(name) for name in registry.stores_of("ssd") if name in ALONE]
STORES = [offered(name) for name in ALONE]
ON_DISK = [offered(name) for name in ALONE if name != "dram"]
SERVER_PAIRS = [offered(store, connector) for store in SERVER_NAMES for connector in CLIENTS]
PAIRS = [offered(store, connector) for store in ALONE for connector in CLIENTS_OF[store]]
CONNECTOR_OF = {store: "resp" if "resp" in CLIENTS_OF[store] else "inprocess" for store in ALONE}

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


def hits_of(load: Callable[..., list[bool]], keys: list[bytes], size: int) -> list[bool]:
    """Which chunks `load(keys, buffers)` serves; each must be right."""
    buffers = buffers_for(keys, size)
    found = load(keys, buffers)
    for key, hit, buffer in zip(keys, found, buffers, strict=True):
        assert not hit or payload(size).matches(key, buffer)
    return found


def store_config(folder: Path, store: str, **changes) -> StoreConfig:
    """A configuration in `folder`, a RAM store bounded at 64 values of the largest size."""
    capacity = 64 * LARGEST if store == "dram" else None
    defaults = {"value_bytes": LARGEST, "capacity_bytes": capacity, "log": folder / f"{store}.log"}
    if store == "kvrocks":
        defaults["program"] = Path(KVROCKS_BIN or "kvrocks")
    return StoreConfig(**({"directory": folder / store} | defaults | changes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that does not exist yet, with a blank in its name."""
    return tmp_path / "data dir"
