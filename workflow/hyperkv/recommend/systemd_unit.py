"""A systemd unit's text. Quoting is that of systemd.syntax(7) and systemd.service(5).

% begins a specifier everywhere. $ begins a variable in the words after ExecStart='s program, which is taken as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..base.errors import UserError
from ..records.templates import filled


@dataclass(frozen=True)
class Service:
    """What a unit starts. directory: made before it starts. open_files: LimitNOFILE. stop_timeout_s: until SIGKILL."""

    description: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    directory: Path
    working_directory: Path | None
    open_files: str
    stop_timeout_s: float


def unit_text(service: Service) -> str:
    """The unit's file. Raises UserError for a checkout's path that cannot stand in one."""
    program, *words = service.argv
    working = service.working_directory
    return filled(
        __file__,
        description=plain(service.description),
        environment=[quoted(f"{key}={value}", dollars=False) for key, value in service.environment.items()],
        working_directory=None if working is None else plain(_ended(working)),
        directory=quoted(str(service.directory)),
        command=[quoted(program, dollars=False), *map(quoted, words)],
        open_files=service.open_files,
        stop_timeout_s=f"{service.stop_timeout_s:g}",
    )


def quoted(word: str, dollars: bool = True) -> str:
    """A word as ExecStart= and Environment= read it, in quotes where needed. dollars: whether $ begins a variable there."""
    text = _escaped(word).replace("$", "$$") if dollars else _escaped(word)
    if text and text.isprintable() and not any(character in text for character in " \"'\\;#"):
        return text
    return '"' + "".join(map(_in_quotes, text)) + '"'


def _in_quotes(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in character.encode(errors="surrogateescape"))


def is_program_of_unit(path: str) -> bool:
    """Whether ExecStart= takes a program of this path. Source: string_is_safe() of systemd."""
    return path.isprintable() and not any(character in path for character in "\"'\\")


def plain(text: str) -> str:
    """A text for a key that reads the rest of its line. Raises UserError for one that does not fit on a line."""
    if not text.isprintable() or text != text.strip() or text.endswith("\\"):
        raise UserError(f"{text!r} cannot stand in a systemd unit; move it to a folder with a plain name")
    return _escaped(text)


def _ended(folder: Path) -> str:
    """A folder's path, whose last blank or backslash a line's end would take."""
    return f"{folder}/" if str(folder).endswith((" ", "\\")) else str(folder)


def _escaped(text: str) -> str:
    """% begins a specifier everywhere in a unit."""
    return text.replace("%", "%%")
