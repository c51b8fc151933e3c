"""Keys of mappings that YAML did not read as text, and values as YAML writes them, for messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import UserError


def check_keys(value: Any, path: str = "config") -> None:
    """Raise UserError for a key of a mapping that YAML did not read as text, such as an unquoted no."""
    if isinstance(value, list):
        for item in value:
            check_keys(item, path)
    if isinstance(value, Mapping):
        where = path if path != "config" else "config:"
        for key, item in value.items():
            if not isinstance(key, str):
                text = {True: "yes", False: "no", None: "null"}.get(key, key)
                raise UserError(
                    f'{where.removesuffix(":")}: the key {shown(key)} is not text; write it in quotes, such as "{text}"'
                )
            check_keys(item, f"{where} {key}" if path == "config" else f"{path}.{key}")


def shown(value: Any) -> str:
    """A value as it is written in YAML: true, null, 'text'."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value) if isinstance(value, str | int | float | list | Mapping) else str(value)
