"""Store `rocksdb`: embedded RocksDB behind our own RESP server process; SSD over RESP without Kvrocks."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from ...base.errors import UserError
from ..owned_keys import ITS_FOLDER, ITS_PORT, ITS_SOCKET, Owned
from ..server import ServerStore


class RocksdbStore(ServerStore):
    """The server of server.py. settings: Kvrocks's keys, and direct_io (yes, no; default yes)."""

    name = "rocksdb"
    medium = "ssd"
    owned_keys = (
        Owned(("port",), ITS_PORT),
        Owned(("unixsocket",), ITS_SOCKET),
        Owned(("dir",), ITS_FOLDER),
        Owned(("bind",), "it listens on 127.0.0.1; leave it out", ("127.0.0.1",)),
        Owned(
            ("rocksdb.use_direct_reads", "rocksdb.use_direct_io_for_flush_and_compaction"), "set direct_io"
        ),
    )

    @classmethod
    def check_settings(cls, settings: Mapping[str, Any], where: str) -> None:
        from .options import complete, parse_pairs

        super().check_settings(settings, where)
        given = {key: str(value) for key, value in settings.items()}
        if (direct_io := given.pop("direct_io", "yes")) not in ("yes", "no"):
            raise UserError(f"{where}.direct_io: {direct_io!r} is wrong; allowed are yes, no")
        try:
            complete(parse_pairs(list(given.items())))
        except UserError as error:
            raise UserError(f"{where}: {error}") from None

    def command(self, port: int) -> list[str]:
        settings = dict(self.config.settings)
        direct_io = settings.pop("direct_io", "yes")
        pairs = [word for key, value in settings.items() for word in ("--set", key, str(value))]
        return [
            sys.executable,
            "-m",
            "workflow.hyperkv.stores.rocksdb.server",
            "--dir",
            str(self.config.directory),
            "--port",
            str(port),
            "--direct-io",
            str(direct_io),
            *([] if self.socket_path is None else ["--unix-socket", self.socket_path]),
            *pairs,
        ]
