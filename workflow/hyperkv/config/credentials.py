"""Credentials in a configuration, which records, command lines and recommended files would repeat: refused at the door."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from ..base.errors import UserError

_BEFORE_HOST = re.compile(r"[A-Za-z][\w+.-]*://([^/?#\s@'\"]*)@")
_SLASH_IN_PASSWORD = re.compile(r"://[^/\s:@]*:(?!\d*/)[^\s@]*@")
_WITHOUT_SCHEME = re.compile(r"[^\s/:@]+:(?!//)[^\s@]+@[^\s@]+")  # a proxy's address, or git's
_QUERY = re.compile(r"[?&]([\w.-]+)=[^\s&#]")
_LONG_USER = 20  # characters that no user's name has, but a token
_ADDRESSES = ("url", "git_url", "addresses", "metrics_url")
_LAST_WORDS = (
    "TOKEN",
    "SECRET",
    "SECRETS",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "APIKEY",
    "CREDENTIAL",
    "CREDENTIALS",
)
_WORDS = ("AUTH", "BEARER", "COOKIE", "AUTHORIZATION", "MASTERAUTH", "SIGNATURE")
_KEYS = ("API", "ACCESS", "SECRET", "PRIVATE", "SIGNING", "AUTH", "ACCOUNT", "ENCRYPTION", "LICENSE")
_SHORT = ("PASS", "PWD", "PAT")  # at the end of a longer name
_REFERENCES = ("FILE", "PATH", "ENV", "DIR", "SOCK")
_PLAIN = re.compile(r"[+-]?[\d._]*|true|false|yes|no|on|off|null|none|auto", re.IGNORECASE)


def refuse_credentials(config: Mapping[str, Any]) -> None:
    """Refuse what is, or by its name must be, a password or token, anywhere in a configuration.

    Raises UserError with the key and what to do instead, never with the value.
    """
    for path, value, name in _texts(config, ()):
        where = f"config: {'.'.join(path)}"
        if _is_secret(name, value):
            raise UserError(f"{where}: {name} is a secret by its name; {_instead(path, name)}")
        if _in_address(path, value):
            raise UserError(
                f"{where}: an address with a user's password or token in it; {_instead(path, name)}"
            )


def is_secret_name(name: str) -> bool:
    """Whether a variable's, key's or option's name says that its value is a secret, and not where one is."""
    words = [
        word for word in re.split(r"[^A-Z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper()) if word
    ]
    if not words or words[-1] in _REFERENCES:
        return False
    if len(words) > 1 and words[-1] in _SHORT:
        return True
    keys = any(one in _KEYS and other in ("KEY", "KEYS") for one, other in pairwise(words))
    return keys or any(word in _WORDS or word.endswith(_LAST_WORDS) for word in words)


def _texts(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """(path, text, name) of every text: name is its key's, or for an option of a command line the option's."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, (*path, str(key)))
    elif isinstance(value, list):
        for before, item in pairwise([None, *value]):
            option = _option(before, item)
            if option is not None:
                yield path, option[1], option[0]
            else:
                yield from _texts(item, path)
    elif isinstance(value, str):
        yield path, value, path[-1].removeprefix("environment.") if path else ""


def _option(before: Any, item: Any) -> tuple[str, str] | None:
    """(option, value) of --option=VALUE, or of VALUE after --option."""
    if isinstance(item, str) and (found := re.fullmatch(r"(--?[A-Za-z][\w.-]*)=(.*)", item, re.DOTALL)):
        return found[1], found[2]
    after = isinstance(before, str) and re.fullmatch(r"--?[A-Za-z][\w.-]*", before)
    return (before, item) if after and isinstance(item, str) and not item.startswith("-") else None


def _is_secret(name: str, value: str) -> bool:
    return is_secret_name(name) and not _PLAIN.fullmatch(value) and not value.startswith(("/", "~"))


def _in_address(path: tuple[str, ...], value: str) -> bool:
    if any(":" in user or len(user) >= _LONG_USER for user in _BEFORE_HOST.findall(value)):
        return True
    if _SLASH_IN_PASSWORD.search(value):
        return True
    if "://" in value and any(is_secret_name(name) for name in _QUERY.findall(value)):
        return True
    addressed = _of_environment(path) or path[-1] in _ADDRESSES
    return addressed and _WITHOUT_SCHEME.fullmatch(value) is not None


def _of_environment(path: tuple[str, ...]) -> bool:
    return any(key == "environment" or key.startswith("environment.") for key in path)


def _instead(path: tuple[str, ...], name: str) -> str:
    """Where the secret is to be, in words."""
    if path[-1] == "git_url":
        return "leave it out there: git asks its credential helper, or reads ~/.netrc"
    if _of_environment(path):
        return f"leave it out and export {name} in the shell that starts the run, whose variables all processes inherit"
    if "place" in path:
        return "leave it out there: place.user says whose password it is, password_file or password_env where it is"
    if path[-1] == "url":
        return "leave it out there: download the file by hand and write file:///PATH/OF/THE/FILE"
    return "leave it out and export it as an environment variable in the shell that starts the run, if the program reads one"
