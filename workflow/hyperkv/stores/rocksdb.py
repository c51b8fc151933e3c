"""Store `rocksdb`: embedded RocksDB behind our own RESP server process; SSD over RESP without Kvrocks."""

from __future__ import annotations

import sys

from .server import ServerStore


class RocksdbStore(ServerStore):
    """The server of rocksdb_server.py. settings: Kvrocks's keys, and direct_io (yes, no; default yes)."""

    name = "rocksdb"
    medium = "ssd"

    def command(self, port: int) -> list[str]:
        settings = dict(self.config.settings)
        direct_io = settings.pop("direct_io", "yes")
        pairs = [word for key, value in settings.items() for word in ("--set", key, str(value))]
        return [
            sys.executable,
            "-m",
            "workflow.hyperkv.stores.rocksdb_server",
            "--dir",
            str(self.config.directory),
            "--port",
            str(port),
            "--direct-io",
            str(direct_io),
            *([] if self.socket_path is None else ["--unix-socket", self.socket_path]),
            *pairs,
        ]
