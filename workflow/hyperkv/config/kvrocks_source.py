"""Where this run's Kvrocks comes from, and what is left out of the run when there is none."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.errors import UserError
from ..base.own_command import snakemake_command
from ..stores.kvrocks.config import PROGRAM
from .models.kvrocks import BUILT, DEFAULTS, not_read, unread
from .scenarios import selected

RECORD = PROGRAM.with_suffix(".json")


@dataclass(frozen=True)
class KvrocksSource:
    """A decided source: release, git, path, conda or binary.

    available: whether a run may use it (False: `auto` found none, and a source is named only so that it can be
    built on demand). binary, patched_binary: the programs for source binary.
    """

    source: str
    available: bool
    binary: str | None = None
    patched_binary: str | None = None

    @property
    def has_stock(self) -> bool:
        """Whether scenarios without `patched: true` have their program."""
        return self.source != "binary" or self.binary is not None

    @property
    def can_be_patched(self) -> bool:
        """Whether scenarios with `patched: true` have their program."""
        return self.source in BUILT or self.patched_binary is not None


def resolve(section: Mapping[str, Any]) -> KvrocksSource:
    """Decide `auto`: what was built here before, else a program on PATH, else none.

    section: the config's `kvrocks`. Raises UserError when a program is named that is not there, or a key is set that the decided source does not read.
    """
    decided = _decided(section)
    if section["source"] == "auto" and (others := unread(section, decided.source)):
        told = not_read(others[0], decided.source, ", which auto took,")
        raise UserError(f"config: kvrocks.{others[0]}: {told}")
    return decided


def _decided(section: Mapping[str, Any]) -> KvrocksSource:
    source = section["source"]
    if source == "binary":
        named, patched = section["binary"], section.get("patched_binary")
        if named is None and patched is not None:
            found = shutil.which("kvrocks")
        else:
            found = _program(named or "kvrocks", "binary", "" if named else " (on PATH)")
        return KvrocksSource(
            "binary", True, found, None if patched is None else _program(patched, "patched_binary")
        )
    if source != "auto":
        return KvrocksSource(source, True)
    if (built := _built_source(section)) is not None:
        return KvrocksSource(built, True)
    if (found := shutil.which("kvrocks")) is not None:
        return KvrocksSource("binary", True, found)
    return KvrocksSource("release", False)


def runnable(config: Mapping[str, Any], names: Sequence[str], kvrocks: KvrocksSource) -> list[str]:
    """The scenarios or families of `names` whose store this run has."""
    missing = _without_server(config, names, kvrocks)
    return [name for name in names if name not in missing]


def runnable_scenarios(config: Mapping[str, Any], names: Sequence[str], kvrocks: KvrocksSource) -> list[str]:
    """`runnable` of the experiment's scenarios. Raises UserError when none is left."""
    left = runnable(config, names, kvrocks)
    if not left:
        raise UserError(
            f"config: experiment.scenarios: all need Kvrocks, and there is none here; "
            f"`{snakemake_command('build_kvrocks', configured=False)}` builds it"
        )
    return left


def _without_server(config: Mapping[str, Any], names: Sequence[str], kvrocks: KvrocksSource) -> list[str]:
    """Of `names` those whose server is not here: a Kvrocks at all, or one that can be patched."""
    scenarios = {name: config["scenarios"][selected(config, [name])[0]] for name in names}
    own = {name: scenario for name, scenario in scenarios.items() if not scenario.get("place")}
    found = [name for name, scenario in own.items() if scenario.get("store") == "kvrocks"]
    if not kvrocks.available:
        return found
    return [
        name
        for name in found
        if not (kvrocks.can_be_patched if scenarios[name].get("patched") else kvrocks.has_stock)
    ]


def kvrocks_notes(config: Mapping[str, Any], names: Sequence[str], kvrocks: KvrocksSource) -> list[str]:
    """What the summary says about scenarios that were left out, a line each."""
    notes = _idle_patches(config, names)
    if not (left_out := _without_server(config, names, kvrocks)):
        return notes
    named = ", ".join(left_out)
    if kvrocks.available and not kvrocks.has_stock and kvrocks.can_be_patched:
        return [
            f"kvrocks: there is a patched program alone, so without {named}. kvrocks.binary names a stock one"
        ]
    if kvrocks.available:
        return [
            f"kvrocks: source {kvrocks.source} cannot be patched, so without {named}. Sources release, git and path can, "
            f"and source binary takes a patched program from kvrocks.patched_binary"
        ]
    return [f"kvrocks: not built here, so without {named}. Build it: {snakemake_command('build_kvrocks')}"]


def _idle_patches(config: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """A note when patches were chosen and nothing of this run is patched."""
    section = config.get("kvrocks", {})
    chosen = [config["scenarios"][name] for name in selected(config, list(names))]
    chosen_patches = section.get("patches", DEFAULTS["patches"])
    if chosen_patches == DEFAULTS["patches"] or any(scenario.get("patched") for scenario in chosen):
        return []
    return [
        f"kvrocks: patches {', '.join(chosen_patches)} were chosen, and no scenario of this run has `patched: true`, "
        f"so nothing of it is patched"
    ]


def _program(name: str, key: str, where: str = "") -> str:
    """The path of a program that the config names, `~` expanded. Raises UserError."""
    path = os.path.expanduser(name)
    if (found := shutil.which(path)) is not None:
        return found
    if Path(path).is_file():
        raise UserError(f"config: kvrocks.{key}: {name} is not executable; chmod +x it")
    raise UserError(
        f"config: kvrocks.{key}: there is no program {name}{where}; another kvrocks.source builds one"
    )


def _built_source(section: Mapping[str, Any]) -> str | None:
    """The source of the program that build_kvrocks made here, None when it made none or its keys are gone."""
    if not (PROGRAM.exists() and RECORD.exists()):
        return None
    source = str(_said(RECORD).get("source"))
    needed = {"git": "commit", "path": "path"}.get(source)
    return source if source in BUILT and (needed is None or section[needed] is not None) else None


def _said(record: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(record.read_text())
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, Mapping):
        raise UserError(
            f"{record}: it is damaged; delete {record.parent} to have the program put there again"
        )
    return found
