"""How a session reaches its store: directly, or through one of the product's connectors."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from workflow.hyperkv.base.errors import StoreError
from workflow.hyperkv.build.build_striped import compile_library
from workflow.hyperkv.connectors.registry import make_connector
from workflow.hyperkv.stores.base import Store

_SOURCE = Path("workflow/hyperkv/connectors/striped/striped.c")
_STRIPE_BYTES = 20_000


class Client(Protocol):
    """What a writer and a reader need of a store. Every failure is a StoreError."""

    def put(self, keys: Sequence[bytes], values: Sequence[np.ndarray]) -> None: ...

    def get(self, keys: Sequence[bytes], buffers: Sequence[np.ndarray]) -> list[bool]: ...

    def close(self) -> None: ...


Opened = Callable[[Store, float], Client]


class DirectFiles:
    """The store `files` itself, without a connector."""

    def __init__(self, store: Store, timeout_s: float):
        self._store = store

    def put(self, keys: Sequence[bytes], values: Sequence[np.ndarray]) -> None:
        for key, value in zip(keys, values, strict=True):
            self._store.put(key, value)

    def get(self, keys: Sequence[bytes], buffers: Sequence[np.ndarray]) -> list[bool]:
        return [self._store.get_into(key, buffer) for key, buffer in zip(keys, buffers, strict=True)]

    def close(self) -> None:
        """Nothing is open."""


class DirectServer:
    """Plain SET and GET by redis-py, as any program would use the server."""

    def __init__(self, store: Store, timeout_s: float):
        endpoint = store.endpoint
        self._redis = redis.Redis(
            host=endpoint.host,
            port=endpoint.port,
            protocol=2,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
        )

    def put(self, keys: Sequence[bytes], values: Sequence[np.ndarray]) -> None:
        try:
            for key, value in zip(keys, values, strict=True):
                self._redis.set(key, value.data)
        except redis.RedisError as error:
            raise StoreError(f"SET failed: {error}") from error

    def get(self, keys: Sequence[bytes], buffers: Sequence[np.ndarray]) -> list[bool]:
        hits = []
        try:
            for key, buffer in zip(keys, buffers, strict=True):
                value = self._redis.get(key)
                hits.append(value is not None)
                if value is not None:
                    buffer[:] = 0
                    part = np.frombuffer(value[: buffer.size], dtype=np.uint8)
                    buffer[: part.size] = part
        except redis.RedisError as error:
            raise StoreError(f"GET failed: {error}") from error
        return hits

    def close(self) -> None:
        self._redis.close()


def opened_by(connector: str, library: Path | None = None) -> Opened:
    """What opens a client. connector: `direct`, or a connector's word; `striped-native` is striped with `library`."""
    if connector == "direct":
        return lambda store, timeout_s: (
            DirectFiles(store, timeout_s) if store.name == "files" else DirectServer(store, timeout_s)
        )
    name = connector.partition("-")[0]
    options = {} if name != "striped" else {"stripe_bytes": _STRIPE_BYTES}
    if connector == "striped-native":
        options["library"] = library
    return lambda store, timeout_s: make_connector(name, store, 2, timeout_s, **options)


def native_library(folder: Path) -> Path | None:
    """Connector striped's compiled code, made in `folder`; None where there is no compiler or no xxhash.h."""
    if shutil.which("cc") is None:
        return None
    probe = ["cc", "-E", "-include", "xxhash.h", "-x", "c", "/dev/null"]
    if subprocess.run(probe, capture_output=True, timeout=60).returncode:
        return None
    compile_library(_SOURCE, "native", folder / "striped.so")
    return folder / "striped.so"
