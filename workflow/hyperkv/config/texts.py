"""What a text of the configuration may be, by the `unit` of its key in the schema: a key with a unit has a rule.

What holds for every text, whatever its key, is in documents.py: one line of printable characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend


@dataclass(frozen=True)
class Rule:
    """pattern: what the whole text must match. words: the same, as a message has it."""

    pattern: str
    words: str


_PATH = Rule(
    r"(?!-)[^{}<>]+",
    "a path without { } < >, which Snakemake would read, and with ./ before a - at its beginning",
)
_FOLDER = Rule(
    r"(?!-)([^{}<>]|\$\{\w+\})+",
    "a path without { } < > but for variables such as ${TMPDIR}, and with ./ before a - at its beginning",
)
_NAME = Rule(
    r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,199}",
    "a name of at most 200 letters, digits and _ . @ + -, the first a letter, a digit or _",
)
_URL = Rule(
    r"(https?|ftp|file)://[^\s{}<>-][^\s{}<>]*",
    "a URL without blanks or { } < > that begins with https://, http://, ftp:// or file://",
)
_GIT_URL = Rule(
    r"((https?|ssh|git|file)://[^\s{}<>-]|[A-Za-z0-9_.]+@[A-Za-z0-9][A-Za-z0-9.-]*:|/|~|[.])[^\s{}<>]*",
    "a URL that begins with https://, http://, ssh://, git:// or file://, user@host:path or a folder, without blanks or { } < >",
)
RULES = {
    "path": _PATH,
    "paths": _PATH,
    "folder": _FOLDER,
    "name": _NAME,
    "names": _NAME,
    "keys": _NAME,
    "URL": _URL,
    "git URL": _GIT_URL,
}
_PATHS = ("path", "paths", "folder")
_LONGEST_NAME, _LONGEST_PATH = 255, 4000  # bytes; Linux takes paths of 4,095, and something comes below
FREE = ("text", "words", "the parameter's")  # units of texts that may be anything on one line


def _check_unit(_: Any, unit: str, instance: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    rule = RULES.get(unit)
    if rule is None:
        return
    items = enumerate(instance) if isinstance(instance, list) else [(None, instance)]
    for index, item in items:
        if not isinstance(item, str):
            continue
        wanted = rule.words if not re.fullmatch(rule.pattern, item) else _fault_of_path(unit, item)
        if wanted is not None:
            yield ValidationError(f"must be {wanted}", path=() if index is None else (index,), instance=item)


def _fault_of_path(unit: str, text: str) -> str | None:
    """What a path that Linux could not open must be instead."""
    if unit not in _PATHS:
        return None
    names = [len(name.encode()) for name in text.split("/")]
    if max(names) <= _LONGEST_NAME and len(text.encode()) <= _LONGEST_PATH:
        return None
    return f"a path of at most {_LONGEST_PATH} bytes with names of at most {_LONGEST_NAME}"


Validator = extend(Draft202012Validator, {"unit": _check_unit})
"""JSON Schema 2020-12 with `unit` as a keyword that is checked."""
