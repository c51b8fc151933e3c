"""Store `rocksdb`: embedded RocksDB behind our own RESP server process; SSD over RESP without Kvrocks."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from ...base.errors import UserError
from ...machine.processes import LOOPBACK, option_words
from ..base import DIRECT, Look, StoreConfig
from ..owned_keys import ITS_FOLDER, ITS_PORT, ITS_SOCKET, Owned
from ..server import ServerStore
from .bounded import bounded_of, in_blob_files
from .keys import KEYS, complete, parse_pairs

_DIRECT = ("rocksdb.use_direct_reads", "rocksdb.use_direct_io_for_flush_and_compaction")


class RocksdbStore(ServerStore):
    """The server of server.py. settings: Kvrocks's keys, and direct_io (yes, no; default yes)."""

    name = "rocksdb"
    medium = "ssd"
    look = Look("#D55E00", "D", "d")
    connectors = (*ServerStore.connectors, *DIRECT)
    programs = ("stores.rocksdb.server",)
    takes_password = True
    owned_keys = (
        Owned(("port",), ITS_PORT),
        Owned(("unixsocket",), ITS_SOCKET),
        Owned(("dir",), ITS_FOLDER),
        Owned(("bind",), "it listens on 127.0.0.1; leave it out", ("127.0.0.1",)),
        Owned(_DIRECT, "set direct_io"),
    )

    @classmethod
    def check_settings(cls, settings: Mapping[str, Any], where: str) -> None:
        super().check_settings(settings, where)
        given = {key: str(value) for key, value in settings.items()}
        if (direct_io := given.pop("direct_io", "yes")) not in ("yes", "no"):
            raise UserError(f"{where}.direct_io: {direct_io!r} is wrong; allowed are yes, no")
        try:
            complete(parse_pairs(list(given.items())))
        except UserError as error:
            raise UserError(f"{where}: {error}") from None

    @classmethod
    def bounded(cls, config: StoreConfig) -> dict[str, Any]:
        return bounded_of(config)

    @classmethod
    def has_setting(cls, key: str) -> bool:
        return key in KEYS or key == "direct_io"

    @classmethod
    def settings_in_ram(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        return {**settings, "direct_io": "no"}

    @classmethod
    def keeps_once(cls, settings: Mapping[str, Any]) -> bool:
        return in_blob_files(settings)

    def wanted(self, port: int) -> dict[str, str]:
        found = super().wanted(port)
        return dict.fromkeys(_DIRECT, found.pop("direct_io", "yes")) | found

    def notes_for_service(self, cores: int) -> list[str]:
        return [
            "store rocksdb is RocksDB behind this repository's own server and stands in for Kvrocks: for a service, build "
            "Kvrocks (make kvrocks) and measure it"
        ]

    def command(self, port: int) -> list[str]:
        settings = dict(self.config.settings)
        direct_io = settings.pop("direct_io", "yes")
        secret = {} if self.config.password is None else self.config.password.keys()
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
            *([] if self.config.host == LOOPBACK else ["--bind", self.config.host]),
            *option_words({key.replace("_", "-"): value for key, value in secret.items()}),
            *([] if self.socket_path is None else ["--unix-socket", self.socket_path]),
            *pairs,
        ]
