"""A server that is there already, with the interface of one that a job starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import redis

from ....plugin.lmcache_striped.deadline import Endpoint
from ...base.errors import StoreDied, StoreError, UserError
from ...machine.counters import process_counters
from ..base import Counters, Store, StoreConfig
from ..redis_client import client_of
from .place import Place

_REPLY_TIMEOUT_S = 30.0


class PlacedStore(Store):
    """The server at the one address of config.place. kind: the store's class, which says its name and medium."""

    def __init__(self, config: StoreConfig, kind: type[Store]):
        assert config.place is not None
        self.name, self.medium = kind.name, kind.medium
        self.place: Place = config.place
        [self.endpoint] = self.place.endpoints
        super().__init__(config)

    @property
    def endpoints(self) -> list[Endpoint]:
        return [self.endpoint]

    @property
    def servers(self) -> Sequence[PlacedStore]:
        return [self]

    def start(self) -> None:
        """Nothing is started: the server must answer. Raises UserError."""
        self.info()

    def stop(self) -> None:
        """Nothing is stopped."""

    def restart(self) -> NoReturn:
        raise UserError(f"store {self.name} is there already, at {self.place.addresses[0]}, and is not restarted")

    def make_cold(self) -> bool:
        return False

    def pid(self) -> NoReturn:
        raise StoreError(f"store {self.name} at {self.place.addresses[0]} is no process of this machine")

    def check_alive(self, grace_s: float = 0.0) -> None:
        try:
            with self.client() as client:
                client.ping()
        except redis.RedisError as error:
            raise StoreDied(f"store {self.name} at {self.place.addresses[0]} does not answer: {error}") from error

    def client(self, timeout_s: float = _REPLY_TIMEOUT_S) -> redis.Redis:
        """A client for control (PING, INFO), not for the measured path. timeout_s: of every command."""
        return client_of(self.endpoint, timeout_s)

    def info(self) -> dict[str, Any]:
        """The server's INFO as redis-py parses it. Raises StoreError."""
        try:
            with self.client() as client:
                return client.info()
        except redis.RedisError as error:
            raise StoreError(f"store {self.name} at {self.place.addresses[0]} does not answer: {error}") from error

    def counters(self) -> Counters:
        info = self.info()
        return Counters(
            served_bytes=info.get("total_net_output_bytes"),
            taken_bytes=info.get("total_net_input_bytes"),
            hits=info.get("keyspace_hits"),
            misses=info.get("keyspace_misses"),
            process=process_counters(None),
        )
