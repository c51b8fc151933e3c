"""Keys of a store's own `settings` that are not the reader's to set, since the workflow sets them or counts on them.

Each store declares its own as data. Servers read their keys whatever their case, so do these.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..errors import UserError

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
PASSWORD = "a password is not written here: set password_file or password_env of the scenario"


@dataclass(frozen=True)
class Owned:
    """Keys that one thing owns. keys: names, or with a `*` at the end how they begin. mend: what to do instead.

    neutral: values that ask for nothing, which may stay; they are compared without case.
    """

    keys: tuple[str, ...]
    mend: str
    neutral: tuple[str, ...] = ()

    def has(self, key: str) -> bool:
        """Whether a key, in lower case, is one of these."""
        return any(key.startswith(name[:-1]) if name.endswith("*") else key == name for name in self.keys)


def refuse_owned(store: str, settings: Mapping[str, object], owned: Iterable[Owned]) -> None:
    """Refuse keys that are none, or that `owned` has. Raises UserError naming the first and what to do instead."""
    seen: dict[str, str] = {}
    for key, value in settings.items():
        where = f"store {store}: settings"
        if not _KEY.fullmatch(key):
            raise UserError(f"{where}: {key!r} is not a key; keys are letters, digits and . _ -")
        lower, text = key.lower(), str(value).strip().lower()
        if lower in seen:
            raise UserError(f"{where}.{key}: {seen[lower]} is the same key; leave one of them out")
        seen[lower] = key
        for item in owned:
            if item.has(lower) and text not in item.neutral:
                raise UserError(f"{where}.{key} is set by the workflow; {item.mend}")
