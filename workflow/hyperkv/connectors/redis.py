"""Connector `redis`: redis-py, with the request pattern of LMCache's `redis://` connector.

Each chunk is two keys, `<key>metadata` and `<key>kv_bytes`; a load is two GETs one after the other and a copy
into the engine's buffer, a save is two SETs, a lookup one EXISTS per chunk, in sequence.
Source: LMCache lmcache/v1/storage_backend/connector/redis_connector.py.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import redis

from ...plugin.lmcache_striped.deadline import Deadline, Endpoint
from ..base.errors import StoreError
from ..stores.redis_client import Clock, client_of
from .base import Items, SpreadConnector

_METADATA = struct.Struct("<7I")  # LMCache's RemoteMetadata: length, format, dtype, four dimensions


class RedisConnector(SpreadConnector):
    """redis-py with hiredis, one client per worker; a failed command is an error, never tried again.

    timeout_s: of every call, on each connection, see deadline.py. Connecting is part of it.
    """

    def __init__(self, endpoint: Endpoint, connections: int, timeout_s: float):
        super().__init__(connections)
        self._timeout_s = timeout_s
        self._clocks = [Clock() for _ in range(connections)]
        self._clients = [client_of(endpoint, timeout_s, clock) for clock in self._clocks]

    def close(self) -> None:
        super().close()
        for client in self._clients:
            client.close()

    def count_present(self, keys: Sequence[bytes]) -> int:
        self._clocks[0].deadline = Deadline(self._timeout_s, commands=len(keys))
        try:
            for count, key in enumerate(keys):
                if not self._clients[0].exists(key + b"metadata"):
                    return count
        except redis.RedisError as error:
            raise _failure("EXISTS", error) from error
        return len(keys)

    def load(self, worker: int, items: Items) -> list[bool]:
        self._begin(worker, items)
        return [_load_chunk(self._clients[worker], key, buffer) for key, buffer in items]

    def save(self, worker: int, items: Items) -> None:
        self._begin(worker, items)
        for key, value in items:
            _save_chunk(self._clients[worker], key, value)

    def _begin(self, worker: int, items: Items) -> None:
        """A worker's part of a call begins: two commands for each chunk."""
        size = sum(array.size for _, array in items)
        self._clocks[worker].deadline = Deadline(self._timeout_s, size, 2 * len(items))


def _load_chunk(client: redis.Redis, key: bytes, buffer: np.ndarray) -> bool:
    try:
        metadata = client.get(key + b"metadata")
        if not isinstance(metadata, bytes) or _METADATA.unpack(metadata)[0] != buffer.size:
            return False
        value = client.get(key + b"kv_bytes")
    except redis.RedisError as error:
        raise _failure("GET", error) from error
    if not isinstance(value, bytes) or len(value) != buffer.size:
        return False
    buffer[:] = np.frombuffer(value, dtype=np.uint8)
    return True


def _save_chunk(client: redis.Redis, key: bytes, value: np.ndarray) -> None:
    try:
        client.set(key + b"kv_bytes", value.data)
        client.set(key + b"metadata", _METADATA.pack(value.size, 0, 0, 0, 0, 0, 0))
    except redis.RedisError as error:
        raise _failure("SET", error) from error


def _failure(command: str, error: redis.RedisError) -> StoreError:
    what = "timed out" if isinstance(error, redis.TimeoutError) else "failed"
    return StoreError(f"{command} {what}: {error}")
