"""Text that is exactly a number, boolean or null, where the schema wants one: what `--config 'a={"b": [3]}'` hands over.

Snakemake reads nested values of --config without types, so that numbers arrive as text. And what YAML makes of words
without quotes, for messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.validators import extend

from .documents import LARGEST
from .errors import UserError

_Strict = extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    ),
)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_PLAIN_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_WORDS = {
    "true": True,
    "false": False,
    **dict.fromkeys(("null", "~", "none"), None),
}


def coerced(value: Any, rules: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    """`value` with such text replaced wherever `rules` refuse it as text and take what it says, and 4.0e9 where they want an
    integer.

    rules: a JSON Schema, with the keyword `like` for values that follow the rules of a section of `root`, the whole schema,
    and `values: typed` for mappings whose keys no schema knows: text there that YAML would read as something else becomes that.
    """
    if rules.get("values") == "typed" and isinstance(value, Mapping):
        return {key: _typed(item) for key, item in value.items()}
    if isinstance(value, str):
        return _scalar(value, rules, root)
    if isinstance(value, float) and value.is_integer() and not _valid(value, rules, root):
        return int(value) if _valid(int(value), rules, root) else value
    if isinstance(value, list):
        items = next((choice["items"] for choice in _choices(rules, root) if "items" in choice), None)
        return value if items is None else [coerced(item, items, root) for item in value]
    if isinstance(value, Mapping):
        for choice in _choices(rules, root):
            known, free = choice.get("properties", {}), choice.get("additionalProperties")
            free = free if isinstance(free, Mapping) else {}
            if known or free:
                return {key: coerced(item, known.get(key, free), root) for key, item in value.items()}
    return value


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


def quoting(value: Any, rules: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """'; write "yes"' where quotes make the value right, with why; else ''."""
    if isinstance(value, bool):
        text = "yes" if value else "no"
        why = "YAML reads yes, no, on and off without quotes as true and false"
    elif value is None or isinstance(value, str | list | Mapping):
        return ""
    else:
        text, why = str(value), "text that looks like a number or a date needs quotes"
    return f'; {why}: write "{text}"' if _valid(text, rules, root) else ""


def _scalar(text: str, rules: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    if not rules or _valid(text, rules, root):
        return text
    for value in _readings(text):
        if _valid(value, rules, root):
            return value
    return text


def _typed(value: Any) -> Any:
    """Text that is exactly true, false, yes, no, null or a number, as that, also inside lists and mappings.

    Numbers as they are usually written only: 007 may be a name.
    """
    if isinstance(value, Mapping):
        return {key: _typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_typed(item) for item in value]
    if not isinstance(value, str):
        return value
    if value.lower() in ("true", "false", "yes", "no", "null"):
        return {"yes": True, "no": False, **_WORDS}[value.lower()]
    return next(_readings(value), value) if _PLAIN_NUMBER.fullmatch(value) else value


def _readings(text: str) -> Iterator[Any]:
    if _NUMBER.fullmatch(text):
        if not abs(number := float(text)) <= LARGEST:
            return
        yield int(text) if re.fullmatch(r"[+-]?\d+", text) else number
        if number.is_integer():
            yield int(number)
    if text.lower() in _WORDS:
        yield _WORDS[text.lower()]


def _choices(rules: Mapping[str, Any], root: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The alternatives of a schema, its references followed."""
    if "$ref" in rules:
        yield from _choices(root["$defs"][rules["$ref"].rpartition("/")[2]], root)
    elif "like" in rules:
        yield root["properties"][rules["like"]]
    elif "anyOf" in rules:
        for choice in rules["anyOf"]:
            yield from _choices(choice, root)
    else:
        yield rules


def _valid(value: Any, rules: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    return _Strict({**rules, "$defs": root.get("$defs", {})}).is_valid(value)
