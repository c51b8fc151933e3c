"""What a text of the configuration may be, by the unit of its key, and `~` and `~user` in paths, which are written out.

What holds for every text, whatever its key, is in base/documents.py: one line of printable characters.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from ...base.surroundings import has_home
from .faults import fault, wrong


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
_ADDRESS = Rule(
    r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?):([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])",
    "host:port or [IPv6]:port, the port from 1 to 65535, without a scheme, user or password",
)
_METRICS_URL = Rule(
    r"http://[^\s{}<>@/?#]+(/[^\s{}<>@?#]*)?",
    "a URL that begins with http://, without blanks, a user or a query",
)
RULES = {"path": _PATH, "folder": _FOLDER, "name": _NAME, "key": _NAME, "URL": _URL, "git URL": _GIT_URL}
RULES |= {"address": _ADDRESS, "metrics URL": _METRICS_URL}
PATHS = ("path", "folder")
_LONGEST_NAME, _LONGEST_PATH = 255, 4000  # bytes; Linux takes paths of 4,095, and something comes below
FREE = ("text", "words", "the parameter's")  # units of texts that may be anything on one line


def matches(unit: str) -> Callable[[str], str]:
    """A validator of the texts of a unit that has a rule."""
    rule = RULES[unit]

    def checked(value: str) -> str:
        if not re.fullmatch(rule.pattern, value):
            raise wrong(f"it must be {rule.words}")
        longest = max(len(name.encode()) for name in value.split("/"))
        if unit in PATHS and (longest > _LONGEST_NAME or len(value.encode()) > _LONGEST_PATH):
            raise wrong(
                f"it must be a path of at most {_LONGEST_PATH} bytes with names of at most {_LONGEST_NAME}"
            )
        return value

    return checked


def with_home(value: Any) -> Any:
    """A path with the home folder at its beginning written out."""
    if not isinstance(value, str) or not value.startswith("~"):
        return value
    user = value.partition("/")[0]
    found = os.path.expanduser(value)
    if found.startswith("~") or (user == "~" and not has_home()):
        who = "this user has" if user == "~" else f"user {user[1:]} is not known here or has"
        raise fault(f"{value}: {who} no home folder; write the path out")
    return found


def _unit(unit: str) -> Any:
    return Field(json_schema_extra={"unit": unit})


Path = Annotated[str, _unit("path"), AfterValidator(matches("path")), BeforeValidator(with_home)]
Folder = Annotated[str, _unit("folder"), AfterValidator(matches("folder")), BeforeValidator(with_home)]
Name = Annotated[str, _unit("name"), AfterValidator(matches("name"))]
Key = Annotated[str, _unit("key"), AfterValidator(matches("key"))]
Url = Annotated[str, _unit("URL"), AfterValidator(matches("URL"))]
Address = Annotated[str, _unit("address"), AfterValidator(matches("address"))]
MetricsUrl = Annotated[str, _unit("metrics URL"), AfterValidator(matches("metrics URL"))]
GitUrl = Annotated[str, _unit("git URL"), AfterValidator(matches("git URL"))]
Words = Annotated[str, Field(json_schema_extra={"unit": "text"})]
VariableName = Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$", json_schema_extra={"unit": "name"})]
SettingName = Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$")]
