"""`~` and `~user` in the paths of a configuration: every key that the schema calls a path is expanded here, once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ..base.errors import UserError
from ..base.surroundings import has_home

_UNITS = ("path", "paths", "folder")


def with_home_folders(config: Any, schema: Mapping[str, Any]) -> Any:
    """The configuration with the home folders in its paths written out. Raises UserError naming the key of one that is not known."""
    return _expanded(config, schema, schema["properties"], "")


def _expanded(value: Any, rules: Mapping[str, Any], sections: Mapping[str, Any], key: str) -> Any:
    """A value by its JSON Schema. `like` there: the section whose keys a mapping has (coercion.py)."""
    if isinstance(value, str):
        return _path(value, key) if rules.get("unit") in _UNITS else value
    if isinstance(value, list):
        return [_expanded(item, rules, sections, key) for item in value]
    if not isinstance(value, dict):
        return value
    section = sections[rules["like"]] if "like" in rules else rules
    known, others = section.get("properties", {}), section.get("additionalProperties")
    others = others if isinstance(others, dict) else {}
    return {
        name: _expanded(item, known.get(name, others), sections, f"{key}.{name}" if key else str(name))
        for name, item in value.items()
    }


def _path(text: str, key: str) -> str:
    if not text.startswith("~"):
        return text
    user = text.partition("/")[0]
    found = os.path.expanduser(text)
    if found.startswith("~") or (user == "~" and not has_home()):
        who = "this user has" if user == "~" else f"user {user[1:]} is not known here or has"
        raise UserError(f"config: {key}: {text}: {who} no home folder; write the path out")
    return found
