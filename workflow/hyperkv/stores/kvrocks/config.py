"""Kvrocks's configuration file, rendered from settings.

Syntax (config_util.cc of Kvrocks 2.10): one `key value` a line, split at blanks, `#` begins a comment, a value with
blanks at its ends, `#` or quotes is quoted. Sizes of RocksDB's buffers and caches are in MiB.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ...base.errors import UserError
from ...base.secret import quoted
from ...machine.processes import LOOPBACK
from .. import owned_keys as why
from ..applied import number
from ..owned_keys import Owned

PROGRAM = Path("results/build/kvrocks/kvrocks")
PATCHED_PROGRAM = Path("results/build/kvrocks-patched/kvrocks")
OWNED = (
    Owned(("port",), why.ITS_PORT),
    Owned(("unixsocket", "unixsocketperm"), why.ITS_SOCKET),
    Owned(("dir", "backup-dir"), why.ITS_FOLDER),
    Owned(("requirepass",), why.PASSWORD),
    Owned(("masterauth", "namespace.*"), why.NO_LOGIN),
    Owned(("tls-*",), why.NO_TLS, ("0", "no")),
    Owned(("cluster-enabled", "slaveof", "repl-namespace-enabled"), why.ONE_SERVER, ("no",)),
    Owned(("daemonize", "supervised", "pidfile", "log-dir", "socket-fd"), why.ITS_PROCESS, ("no", "-1")),
    Owned(("rename-command",), why.ITS_COMMANDS),
    Owned(("timeout",), why.ITS_CONNECTIONS, ("0",)),
)
BY_KEYS, BY_KEYS_PATCH = "rocksdb.filter_blobs_by_key", "compaction-by-keys"
BULK_KEY = "proto-max-bulk-len"
BULK_DEFAULT_BYTES = 512 << 20


def complete(
    settings: Mapping[str, object],
    *,
    directory: Path,
    port: int,
    value_bytes: int,
    socket: str | None = None,
    password: str | None = None,
    host: str = LOOPBACK,
) -> dict[str, str]:
    """Every key of the configuration file, as text: the settings and what the store sets itself.

    `workers: cores` becomes the number of usable cores; proto-max-bulk-len is raised when a value needs it.
    Raises UserError naming the key.
    """
    given = {key.lower(): str(value).strip() for key, value in settings.items()}
    if given.get("workers") == "cores":
        given["workers"] = str(len(os.sched_getaffinity(0)))
    needed = -(-value_bytes >> 20) << 20
    if BULK_KEY not in given and needed > BULK_DEFAULT_BYTES:
        given[BULK_KEY] = str(needed)
    if (most := number(given.get(BULK_KEY, str(BULK_DEFAULT_BYTES)))) is not None and most < value_bytes:
        raise UserError(
            f"store kvrocks: settings.{BULK_KEY}: {given[BULK_KEY]} is below the value's size {value_bytes}; "
            f"Kvrocks would refuse every SET"
        )
    given.setdefault("bind", host)
    own = {"dir": str(directory), "port": str(port), "log-dir": "stdout", "daemonize": "no"}
    own |= {} if socket is None else {"unixsocket": socket}
    return own | given | ({} if password is None else {"requirepass": password})


def rendered(complete_settings: Mapping[str, str]) -> str:
    """The configuration file's text. Raises UserError for a value that would not stay on its line, such as a folder's path."""
    return "".join(f"{key} {_quoted(value)}\n" for key, value in complete_settings.items())


def _quoted(value: str) -> str:
    if not value.isprintable():
        raise UserError(
            f"store kvrocks: {value!r} cannot stand in its configuration file; choose a folder with a plain name"
        )
    plain = value == value.strip() and not any(character in value for character in "#'\"\\")
    return value if plain else quoted(value)
