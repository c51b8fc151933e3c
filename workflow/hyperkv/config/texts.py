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
    r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*",
    "a name of letters, digits and _ . @ + -, the first a letter, a digit or _",
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
FREE = ("text", "words", "the parameter's")  # units of texts that may be anything on one line


def _check_unit(_: Any, unit: str, instance: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    rule = RULES.get(unit)
    if rule is None:
        return
    items = enumerate(instance) if isinstance(instance, list) else [(None, instance)]
    for index, item in items:
        if isinstance(item, str) and not re.fullmatch(rule.pattern, item):
            path = () if index is None else (index,)
            yield ValidationError(f"must be {rule.words}", path=path, instance=item)


Validator = extend(Draft202012Validator, {"unit": _check_unit})
"""JSON Schema 2020-12 with `unit` as a keyword that is checked."""
