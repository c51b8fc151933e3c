"""Stores that are a server process speaking RESP, on loopback or for another node."""

from __future__ import annotations

import contextlib
import os
import sys
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import redis

from ...plugin.lmcache_striped.deadline import Endpoint
from ..base.errors import StoreDied, StoreError
from ..base.secret import write_private
from ..machine.counters import ProcessCounters, process_counters
from ..machine.own_folder import socket_folder
from ..machine.processes import OwnedProcess, free_port, require_free_port
from .applied import BINARY_UNITS, differences
from .base import Counters, Store, new_directory
from .reach import warning
from .redis_client import client_of

_READY_TIMEOUT_S = 60.0
_REPLY_TIMEOUT_S = 30.0
_REFUSALS = (redis.AuthenticationError, redis.exceptions.AuthorizationError, redis.ResponseError)
_FULL = "max number of clients"


class ServerStore(Store):
    """A RESP server that this store starts, probes and ends. Subclasses give the command line.

    stop_timeout_s: how long it may take to end cleanly; it may have to write its memory out. conf_name: its configuration
    file, if it has one. title: its name where that is not `name`. units: what a letter after a number of its settings stands for.
    """

    is_server = True
    connectors: ClassVar[tuple[str, ...]] = ("redis", "resp", "striped", "mp", "striped_mp", "striped_tier")
    stop_timeout_s: ClassVar[float] = 15.0
    conf_name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    units: ClassVar[Mapping[str, int]] = BINARY_UNITS
    files_read_here = False  # its files, by this process, for connector direct
    _process: OwnedProcess | None = None
    _port = 0
    _socket_folder: Path | None = None
    _sockets: contextlib.ExitStack | None = None  # what removes that folder
    _ended: ProcessCounters | None = None
    _exposed: str | None = None
    _conf: Path | None = None

    @classmethod
    def has_setting(cls, key: str) -> bool:
        return True

    @abstractmethod
    def command(self, port: int) -> list[str]:
        """The server's command line, listening at `port` of config.host, and at `socket_path` when there is one."""

    def configuration(self, port: int, password: str | None) -> str | None:
        """The text of `conf`, which `command` names; None when there is no such file."""
        return None

    @property
    def conf(self) -> Path:
        """Its configuration file, in the store's folder unless `placed` elsewhere."""
        return self._conf or self.config.directory.absolute() / self.conf_name

    @contextlib.contextmanager
    def placed(self, conf: Path | None) -> Iterator[None]:
        """Meanwhile it is a server that is not started here: its unix socket in its folder, its configuration in `conf`."""
        kept = self._socket_folder, self._conf
        self._socket_folder = self.config.directory if self.config.unix else None
        self._conf = conf
        try:
            yield
        finally:
            self._socket_folder, self._conf = kept

    def moved(self, port: int) -> list[str]:
        """Words after `command` that say folder, port and socket where that names a file which says them."""
        return []

    def wanted(self, port: int) -> dict[str, str]:
        """Settings that the server must run with, as CONFIG GET tells them."""
        return {key: str(value) for key, value in self.config.settings.items()}

    @classmethod
    def unlike(
        cls, wanted: Mapping[str, str], applied: Mapping[str, str], ignorable: Sequence[str] = ()
    ) -> tuple[list[str], list[str]]:
        """What a running server did not take over of `wanted`, and what of `ignorable` it does not know."""
        return differences(cls.title or cls.name, wanted, applied, ignorable, cls.units)

    @classmethod
    def complaint(cls, lines: Iterable[str]) -> str | None:
        """What the log of a running server says against its environment; None for nothing."""
        return None

    def notes_for_service(self, cores: int) -> list[str]:
        """What somebody must know who runs this server as it was measured. cores: of the machine that measured."""
        return []

    def environment(self) -> Mapping[str, str]:
        """Environment variables the server needs beside this process's own."""
        return self.config.environment

    @property
    def endpoint(self) -> Endpoint:
        """Where the server listens. Valid after start."""
        folder = self.config.directory.absolute()
        return Endpoint(self.config.host, self._port, self.config.password, self.socket_path, folder)

    @property
    def endpoints(self) -> list[Endpoint]:
        return [self.endpoint]

    @property
    def servers(self) -> Sequence[ServerStore]:
        return [self]

    @property
    def socket_path(self) -> str | None:
        """The unix socket's path, short enough for the kernel; None without one. Valid after start."""
        return None if self._socket_folder is None else str(self._socket_folder / "socket")

    def pid(self) -> int:
        if self._process is None:
            raise StoreError(f"store {self.name} is not running")
        return self._process.pid

    def start(self) -> None:
        new_directory(self.config.directory)
        self._launch()

    def _launch(self) -> None:
        if self.config.port:
            require_free_port(self.config.port, f"store {self.name}", self.config.host)
        self._port = self.config.port or free_port(self.config.host)
        password = None if self.config.password is None else self.config.password.value()
        if self.config.unix and self._socket_folder is None:
            self._sockets = contextlib.ExitStack()
            self._socket_folder = self._sockets.enter_context(socket_folder())
        written = self.configuration(self._port, password)
        if written is not None:
            write_private(self.conf, written)
        try:
            self._process = OwnedProcess(
                self.command(self._port),
                log=self.config.log,
                label=f"store {self.name}",
                env=self.environment(),
            )
            self._process.start()
            self._process.wait_ready(self._answers, _READY_TIMEOUT_S)
            self._say_exposure(password is not None)
        except StoreError as error:
            raise self.explain_start(error) from error
        finally:
            if password is not None and written is not None:
                self.conf.unlink(missing_ok=True)

    def _say_exposure(self, password: bool) -> None:
        """Warn of a server that others can reach: by its settings, and by what it really listens on."""
        assert self._process is not None
        said = self._exposed
        self._exposed = self.exposure(self.config.settings, password) or warning(
            f"store {self.name}", self._process.listening_addresses(), password
        )
        if self._exposed not in (None, said):
            print(f"hyperkv: warning: {self._exposed}", file=sys.stderr)

    def notes(self) -> list[str]:
        return [] if self._exposed is None else [self._exposed]

    def explain_start(self, error: StoreError) -> StoreError:
        """The error of a server that did not start, with what its log says of the configuration."""
        return error

    def _answers(self) -> bool:
        """Whether the server is ready. Raises StoreError when it is, and refuses this client."""
        try:
            with self.client(timeout_s=1.0) as client:
                return bool(client.ping())
        except redis.RedisError as error:
            if isinstance(error, _REFUSALS) or _FULL in str(error):
                raise StoreError(
                    f"store {self.name} refuses the workflow's own client: {error}; mend settings"
                ) from error
            return False

    def stop(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            process.stop(self.stop_timeout_s)
            self._ended = process.final_counters
        if self._sockets is not None:
            self._sockets.close()
            self._sockets = self._socket_folder = None

    def final_counters(self) -> ProcessCounters | None:
        return self._ended

    def restart(self) -> None:
        self.stop()
        self._launch()

    def kill(self) -> None:
        """kill -9 the server: a crash, for durability tests."""
        if self._process is not None:
            self._process.kill()

    def check_alive(self, grace_s: float = 0.0) -> None:
        if self._process is None:
            raise StoreDied(f"store {self.name} is not running")
        self._process.check_alive(grace_s)

    def client(self, timeout_s: float = _REPLY_TIMEOUT_S) -> redis.Redis:
        """A redis-py client for control (PING, INFO, CONFIG), not for the measured path. timeout_s: of every command."""
        return client_of(self.endpoint, timeout_s)

    def info(self) -> dict:
        """The server's INFO as redis-py parses it. Raises StoreDied or StoreError."""
        try:
            with self.client() as client:
                return client.info()
        except redis.RedisError as error:
            raise self.explain(StoreError(f"store {self.name} does not answer INFO: {error}")) from error

    def counters(self) -> Counters:
        return self.counters_of(self.info(), {})

    def counters_of(self, info: Mapping[str, Any], details: dict[str, float | int]) -> Counters:
        """Counters from the server's INFO and what this store adds to it. Where this process reads its files, what it read from
        devices counts as the store's."""
        process = process_counters(self.pid())
        if self.files_read_here:
            read = [process.device_read_bytes, process_counters(os.getpid()).device_read_bytes]
            process = replace(process, device_read_bytes=None if None in read else sum(filter(None, read)))
        return Counters(
            served_bytes=info.get("total_net_output_bytes"),
            taken_bytes=info.get("total_net_input_bytes"),
            hits=info.get("keyspace_hits"),
            misses=info.get("keyspace_misses"),
            process=process,
            details=details,
        )
