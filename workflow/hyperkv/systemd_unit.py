"""A systemd unit's text. Quoting is that of systemd.syntax(7) and systemd.service(5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


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
    """The unit's file."""
    lines = [
        "[Unit]",
        f"Description={_escaped(service.description)}",
        "After=network.target local-fs.target",
        "",
        "[Service]",
        *(
            f"Environment={quoted(f'{key}={value}', dollars=False)}"
            for key, value in service.environment.items()
        ),
        *(
            []
            if service.working_directory is None
            else [f"WorkingDirectory={_escaped(str(service.working_directory))}"]
        ),
        f"ExecStartPre=/bin/mkdir -p {quoted(str(service.directory))}",
        f"ExecStart={' '.join(quoted(word) for word in service.argv)}",
        f"LimitNOFILE={service.open_files}",
        f"TimeoutStopSec={service.stop_timeout_s:g}",
        "Restart=on-failure",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return "\n".join(lines) + "\n"


def quoted(word: str, dollars: bool = True) -> str:
    """A word as ExecStart= reads it, in quotes where needed. dollars: whether $ begins a variable there."""
    text = _escaped(word).replace("$", "$$") if dollars else _escaped(word)
    plain = text and not any(character in text for character in " \t\"'\\;#")
    if plain:
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _escaped(text: str) -> str:
    """% begins a specifier everywhere in a unit."""
    return text.replace("%", "%%")
