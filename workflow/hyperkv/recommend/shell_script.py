"""A shell script's text: values stand in it in single quotes alone, so that no shell reads anything in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

from ..base.errors import UserError, printable
from ..records.templates import filled

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def script(title: str, lines: Sequence[str], first: Sequence[str] = ()) -> str:
    """A script that ends at the first error; $here is the folder that it lies in, and what it makes is its user's alone.

    first: lines that read variables of the surroundings, whose names may be those of the script's own.
    """
    return filled(__file__, title=printable(title), lines=lines, first=first)


def executed(words: str, environment: Mapping[str, str], first: Sequence[str] = ()) -> str:
    """The script's last command: a program takes the script's place, with variables that the script itself does not see.

    words: the command line, quoted. first: further NAME=VALUE before the others, quoted.
    Raises UserError for a variable's name that is none.
    """
    for name in environment:
        if not _VARIABLE.fullmatch(name):
            raise UserError(f"environment: {name!r} is not a variable's name; write letters, digits and _")
    assigned = [*first, *(f"{name}={shlex.quote(value)}" for name, value in environment.items())]
    return "".join(f"{assignment} \\\n" for assignment in assigned) + f"exec {words}"


def required(variable: str, message: str) -> list[str]:
    """Lines that end the script with a message where a variable of the surroundings is empty."""
    told = f"printf '%s\\n' {shlex.quote(message)} >&2"
    return [f'[ -n "${{{variable}:-}}" ] || {{ {told}; exit 1; }}']


def defaulted(name: str, variable: str, value: str) -> list[str]:
    """Lines that set $name to a variable of the surroundings, or where that is empty to a value."""
    return [f"{name}=${{{variable}:-}}", f'[ -n "${name}" ] || {name}={shlex.quote(value)}']
