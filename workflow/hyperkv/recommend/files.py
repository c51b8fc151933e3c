"""What is written of a recommended scenario, and where its servers live."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...plugin.lmcache_striped.secret import Secret


@dataclass(frozen=True)
class Place:
    """Where the recommended servers live. data_dir: the store's files, on the disk that was measured unless told otherwise.

    install_dir: where the files are copied to. port, engine_port: of the store, counted up over its processes, and of
    vLLM. checkout: this repository, where programs of its own are run from.
    """

    data_dir: Path
    install_dir: Path
    port: int
    engine_port: int
    checkout: Path

    def store_port(self, scenario: Mapping[str, Any]) -> int:
        """The scenario's own port, or this place's."""
        return scenario["port"] or self.port


@dataclass
class Files:
    """texts: file by name. about: what each is. missing: what could not be written, and why. notes: what to know.

    servers: for every store process what a check needs: its store, program, script, unit, configuration file if it has one,
    the largest value, and the settings that it must run with.
    """

    texts: dict[str, str] = field(default_factory=dict)
    about: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    servers: list[dict[str, Any]] = field(default_factory=list)
    password: Secret | None = None

    def add(self, name: str, text: str, about: str) -> None:
        """One more file."""
        self.texts[name], self.about[name] = text, about
