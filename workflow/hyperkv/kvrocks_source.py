"""Where this run's Kvrocks comes from, and what is left out of the run when there is none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .config import selected
from .errors import UserError
from .stores.kvrocks_config import BUILD_COMMAND, PROGRAM

RECORD = PROGRAM.with_suffix(".json")
_BUILT = ("release", "git", "path")


@dataclass(frozen=True)
class KvrocksSource:
    """A decided source: release, git, path, conda or binary.

    available: whether a run may use it (False: `auto` found none, and a source is named only so that it can be
    built on demand). binary: the program for source binary.
    """

    source: str
    available: bool
    binary: str | None = None


def resolve(section: Mapping[str, Any]) -> KvrocksSource:
    """Decide `auto`: what was built here before, else a program on PATH, else none.

    section: the config's `kvrocks`. Raises UserError when a program is named that is not there, or none is
    found and one is required.
    """
    source = section["source"]
    if source == "binary":
        if (found := shutil.which(section["binary"] or "kvrocks")) is None:
            name = section["binary"] or "kvrocks (on PATH)"
            raise UserError(
                f"config: kvrocks.binary: there is no program {name}; another kvrocks.source builds one"
            )
        return KvrocksSource("binary", True, found)
    if source != "auto":
        return KvrocksSource(source, True)
    if (built := _built_source(section)) is not None:
        return KvrocksSource(built, True)
    if (found := shutil.which("kvrocks")) is not None:
        return KvrocksSource("binary", True, found)
    if section["required"]:
        raise UserError(
            "config: kvrocks.required: there is no Kvrocks here and source auto builds none; set kvrocks.source to "
            "release, git, path, conda or binary"
        )
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
            f"config: experiment.scenarios: all need Kvrocks, and there is none here; `{BUILD_COMMAND}` builds it"
        )
    return left


def _without_server(config: Mapping[str, Any], names: Sequence[str], kvrocks: KvrocksSource) -> list[str]:
    """Of `names` those whose server is not here: a Kvrocks at all, or one that can be patched."""
    scenarios = {name: config["scenarios"][selected(config, [name])[0]] for name in names}
    found = [name for name in names if scenarios[name].get("store") == "kvrocks"]
    if not kvrocks.available:
        return found
    if kvrocks.source in _BUILT:
        return []
    return [name for name in found if scenarios[name].get("patched")]


def kvrocks_notes(config: Mapping[str, Any], names: Sequence[str], kvrocks: KvrocksSource) -> list[str]:
    """What the summary says about scenarios that were left out, a line each."""
    if not (left_out := _without_server(config, names, kvrocks)):
        return []
    named = ", ".join(left_out)
    if kvrocks.available:
        return [
            f"kvrocks: source {kvrocks.source} cannot be patched, so without {named}. Sources release, git and path can"
        ]
    return [f"kvrocks: not built here, so without {named}. Build it: {BUILD_COMMAND}"]


def _built_source(section: Mapping[str, Any]) -> str | None:
    """The source of the program that build_kvrocks made here, None when it made none or its keys are gone."""
    if not (PROGRAM.exists() and RECORD.exists()):
        return None
    source = json.loads(RECORD.read_text()).get("source")
    needed = {"git": "commit", "path": "path"}.get(source)
    return source if source in _BUILT and (needed is None or section[needed] is not None) else None
