"""Keys of a store's own `settings` that are not the reader's to set, since the workflow sets them or counts on them.

Each store declares its own as data. Servers read their keys whatever their case, so do these.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..base.errors import UserError

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Owned:
    """Keys that one thing owns. keys: names, or with a `*` at the end how they begin. mend: what to do instead.

    neutral: values that ask for nothing, which may stay.
    """

    keys: tuple[str, ...]
    mend: str
    neutral: tuple[str, ...] = ()

    def has(self, key: str) -> bool:
        """Whether a key, in lower case, is one of these."""
        return any(key.startswith(name[:-1]) if name.endswith("*") else key == name for name in self.keys)


def refuse_owned(settings: Mapping[str, object], owned: Iterable[Owned], where: str) -> None:
    """Refuse keys that are none, are there twice, or are owned. Raises UserError that begins with `where`, the section's name."""
    seen: dict[str, str] = {}
    for key, value in settings.items():
        if not _KEY.fullmatch(key):
            raise UserError(f"{where}: {key!r} is not a key; keys are letters, digits and . _ -")
        lower = key.lower()
        if lower in seen:
            raise UserError(f"{where}.{key}: {seen[lower]} is the same key; leave one of them out")
        seen[lower] = key
        text = str(value).strip()
        if any(not character.isprintable() for character in text):
            raise UserError(f"{where}.{key} has a line break or another control character; leave that out")
        for item in owned:
            if item.has(lower) and text.lower() not in item.neutral:
                raise UserError(f"{where}.{key} is set by the workflow; {item.mend}")


PASSWORD = "write the password into a file of mode 600 and name it in password_file of the scenario, or a variable in password_env"
NO_LOGIN = "there is one user, and a password is set with password_file or password_env of the scenario; leave it out"
NO_TLS = "its clients speak no TLS; leave it out"
ONE_SERVER = "its server is neither replica nor part of a cluster; leave it out"
ITS_PROCESS = "it starts, watches and ends the server and reads its log; leave it out"
ITS_PORT = "set port of the scenario"
ITS_SOCKET = "set socket: unix"
ITS_FOLDER = "set data_dir"
ITS_COMMANDS = "its clients use commands by their own names; leave it out"
ITS_CONNECTIONS = "its connections stay open; leave it out"
