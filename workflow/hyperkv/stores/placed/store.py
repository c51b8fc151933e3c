"""A server that is there already, with the interface of one that a job starts."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import redis

from ....plugin.lmcache_striped.deadline import Endpoint
from ...base.errors import StoreDied, StoreError, UserError
from ...machine.counters import ProcessCounters
from ..base import Counters, Store, StoreConfig
from ..reach import in_the_clear
from ..redis_client import client_of
from .exporter import device_bytes
from .lease import Lease, NoLease, delete_runs, require_rights
from .network import probe
from .place import Network, Place
from .refusals import explained, require_kind, require_reachable, require_room, require_usable

_REPLY_TIMEOUT_S = 30.0
_PING_S = 10.0
_FREED_S = 30.0
_PROBE_BYTES = 16 << 20
_NAME = "hyperkv"


class PlacedStore(Store):
    """The server at the one address of config.place. kind: the store's class, which says its name and medium.

    Its start is a start of our keys: it must answer, no other run may use it, and what a run that broke off left there is deleted. Its
    stop deletes our keys. Bytes, hits and misses are those of INFO, of all its clients; what its process takes is not known.
    """

    in_cluster = False
    probe_tag = ""

    def __init__(self, config: StoreConfig, kind: type[Store]):
        assert config.place is not None
        self.name, self.medium = kind.name, kind.medium
        self.place: Place = config.place
        [self.endpoint] = self.place.endpoints
        self.where = self.place.addresses[0]
        self._lease: Lease | NoLease = Lease(self.client, self.place.run, self.where)
        self._notes: list[str] = []
        self._info: Mapping[str, Any] = {}
        self._others: int | None = None
        self._evicted: int | None = None
        self._emptied = False
        self._reads_page_cache = kind.reads_page_cache
        self._network: Network | None = None
        super().__init__(config)

    @property
    def endpoints(self) -> list[Endpoint]:
        return [self.endpoint]

    @property
    def servers(self) -> Sequence[PlacedStore]:
        return [self]

    @property
    def network(self) -> Network | None:
        return self._network

    def start(self) -> None:
        """Take the server for this run. Raises UserError."""
        require_reachable(self.endpoint, self.where)
        if self.place.metrics_url is not None:
            device_bytes(self.place.metrics_url, self._device)
        with explained(self.endpoint, self.where):
            with self.client(_PING_S) as client:
                client.ping()
                self._info = self._told(client)
                require_usable(self._info, self.where, self.in_cluster)
                require_kind(self._info, self.name, self.where)
                self._others = int(client.dbsize())
                self.require_room(_PROBE_BYTES)
                require_rights(client, f"{self.place.prefix}rights{self.probe_tag}")
            self._lease.take()
            with self.client() as client:
                left = self._delete(client)
                if self.place.consent:
                    client.flushall()
                    self._emptied = True
                    self._lease.again(client)
                self._info = self._freed(client)
                self._others = self._count_others(client)
                self._evicted = self._info.get("evicted_keys")
                clients = _others_of(client)
            self._network = probe(self.endpoint, _REPLY_TIMEOUT_S, self.probe_tag)
        self._notes = self._notes_at_start(left, clients)

    def stop(self) -> None:
        """Delete what is ours, and let others have the server. A server that does not answer any more is left as it is."""
        if not self._lease.held:
            return
        answers = True
        try:
            if self._lease.lost is None:
                with self.client() as client:
                    self._delete(client)
                    if self._emptied:
                        client.flushall()
                    self._compare(self._count_others(client))
        except redis.RedisError as error:
            self._warn(f"its keys {self.place.prefix}* are left to the next run, which deletes them: {error}")
            answers = not isinstance(error, redis.ConnectionError)
        finally:
            try:
                self._lease.give_back()
            except redis.RedisError as error:
                if answers:
                    self._warn(f"the lease ends by itself: {error}")

    def require_room(self, saved_bytes: int) -> None:
        require_room(self._info, saved_bytes, self._others, self.place.consent, self.where)

    def restart(self) -> NoReturn:
        raise UserError(f"store {self.name} is there already, at {self.where}, and is not restarted")

    def make_cold(self) -> bool:
        """Nothing: what it keeps in memory is not known, and stays."""
        return False

    def pid(self) -> NoReturn:
        raise StoreError(f"store {self.name} at {self.where} is no process of this machine")

    def check_alive(self, grace_s: float = 0.0) -> None:
        if self._lease.lost is not None:
            raise StoreDied(f"store {self.name}: {self._lease.lost}")
        try:
            with self.client() as client:
                client.ping()
        except redis.RedisError as error:
            raise StoreDied(f"store {self.name} at {self.where} does not answer any more: {error}") from error

    def client(self, timeout_s: float = _REPLY_TIMEOUT_S) -> redis.Redis:
        """A client for control (PING, INFO), not for the measured path. timeout_s: of every command."""
        return client_of(self.endpoint, timeout_s, client_name=_NAME)

    def counters(self) -> Counters:
        try:
            with self.client() as client:
                info = self._told(client)
        except redis.RedisError as error:
            raise self.explain(StoreError(f"store {self.name} does not answer INFO: {error}")) from error
        read, written = self._device_bytes()
        evicted = info.get("evicted_keys")
        return Counters(
            served_bytes=info.get("total_net_output_bytes"),
            taken_bytes=info.get("total_net_input_bytes"),
            hits=info.get("keyspace_hits"),
            misses=info.get("keyspace_misses"),
            process=ProcessCounters(read, written, None, None, None),
            details={} if evicted is None else {"evicted_keys": evicted},
        )

    def notes(self) -> list[str]:
        return self._notes

    def _told(self, client: redis.Redis) -> dict[str, Any]:
        """The server's INFO, empty where this user may not ask for it."""
        try:
            return client.info()
        except redis.exceptions.NoPermissionError:
            return {}

    def _freed(self, client: redis.Redis) -> dict[str, Any]:
        """INFO once what was deleted is out of memory, or a while has passed."""
        end = time.monotonic() + _FREED_S
        while (info := self._told(client)).get("lazyfree_pending_objects") and time.monotonic() < end:
            time.sleep(0.05)
        return info

    @property
    def _device(self) -> str:
        return self.place.metrics_device or ""

    def _device_bytes(self) -> tuple[int | None, int | None]:
        if self.place.metrics_url is None:
            return None, None
        try:
            return device_bytes(self.place.metrics_url, self._device)
        except UserError as error:
            self._notes.append(str(error))
            return None, None

    @property
    def _is_kvrocks(self) -> bool:
        return "kvrocks_version" in self._info

    def _delete(self, client: redis.Redis) -> int:
        return delete_runs(client, overwrite=self._is_kvrocks)

    def _count_others(self, client: redis.Redis) -> int | None:
        """Keys that are not ours, when none of ours but the lease is there; None of Kvrocks, which does not count at once."""
        return None if self._is_kvrocks else int(client.dbsize()) - self._lease.keys

    def _compare(self, others: int | None) -> None:
        """Say when others' keys are fewer than they were: they may have done that themselves."""
        if self.place.consent or others is None or self._others is None or others >= self._others:
            return
        self._warn(f"{self._others} keys of others before, {others} now; nothing here deletes those")

    def _warn(self, line: str) -> None:
        print(f"hyperkv: warning: store {self.name} at {self.where}: {line}", file=sys.stderr)

    def _notes_at_start(self, left: int, clients: int | None) -> list[str]:
        version = next(
            (f"{word} {self._info[key]}" for key, word in _VERSIONS.items() if key in self._info),
            "INFO refused",
        )
        others = "keys of others not counted" if self._others is None else f"{self._others} keys of others"
        found = [f"store {self.name} was there already, at {self.where} ({version}, {others})"]
        if not self._info:
            found.append(f"{self.where} does not tell this user INFO: bytes, hits and misses are not known")
        if clients:
            found.append(
                f"{clients} other clients are connected to {self.where}: its counters have their traffic, too"
            )
        if left:
            found.append(f"{left} keys that a run which broke off had left at {self.where} were deleted")
        if self._reads_page_cache:
            found.append(f"the page cache of {self.where} was not emptied")
        if self.place.metrics_url is not None:
            found.append(
                f"device bytes are those of {self._device} by all programs of its host ({self.place.metrics_url})"
            )
        line = in_the_clear(f"store {self.name}", self.endpoint)
        return found if line is None else [*found, line]


_VERSIONS = {"kvrocks_version": "Kvrocks", "valkey_version": "Valkey", "redis_version": "Redis"}


def _others_of(client: redis.Redis) -> int | None:
    """How many clients a server has beside this run, replicas apart; None where this user may not ask."""
    try:
        found = client.client_list()
    except redis.ResponseError:
        return None
    return sum(each.get("name") != _NAME and not {*"SMO"} & {*each.get("flags", "")} for each in found)
