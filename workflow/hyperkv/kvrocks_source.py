"""Where this run's Kvrocks comes from, and what is left out of the run when there is none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
    missing = [] if kvrocks.available else on_kvrocks(config, names)
    return [name for name in names if name not in missing]


def runnable_scenarios(config: Mapping[str, Any], names: Sequence[str], kvrocks: KvrocksSource) -> list[str]:
    """`runnable` of the experiment's scenarios. Raises UserError when none is left."""
    left = runnable(config, names, kvrocks)
    if not left:
        raise UserError(
            f"config: experiment.scenarios: all need Kvrocks, and there is none here; `{BUILD_COMMAND}` builds it"
        )
    return left


def on_kvrocks(config: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """The scenarios or families of `names` with store kvrocks."""
    stores = {
        key: scenario.get("store")
        for name, scenario in config["scenarios"].items()
        for key in (name, scenario["family"])
    }
    return [name for name in names if stores[name] == "kvrocks"]


def kvrocks_notes(config: Mapping[str, Any], names: Sequence[str], kvrocks: KvrocksSource) -> list[str]:
    """What the summary says about scenarios that were left out, a line each."""
    if kvrocks.available or not (left_out := on_kvrocks(config, names)):
        return []
    return [f"kvrocks: not built here, so without {', '.join(left_out)}. Build it: {BUILD_COMMAND}"]


def _built_source(section: Mapping[str, Any]) -> str | None:
    """The source of the program that build_kvrocks made here, None when it made none or its keys are gone."""
    if not (PROGRAM.exists() and RECORD.exists()):
        return None
    source = json.loads(RECORD.read_text()).get("source")
    needed = {"git": "commit", "path": "path"}.get(source)
    return source if source in _BUILT and (needed is None or section[needed] is not None) else None
