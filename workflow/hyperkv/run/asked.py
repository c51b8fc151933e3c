"""What every file of records must have been measured with now: the identity that its rule would give it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePath

from ..base.errors import UserError
from ..records.identity import files_of, identity_of
from ..records.record_file import Identity
from .stages import Stages


@dataclass(frozen=True)
class Wanted:
    """Of one file of records: its rule's spec as Snakemake keeps it, the files that this names, and its identity."""

    spec: str
    files: list[str]
    identity: Identity


@dataclass(frozen=True)
class Asked:
    """What a configuration's stages ask of files of records, each worked out once, when it is asked for."""

    stages: Stages
    _known: dict[str, Wanted | None] = field(default_factory=dict)

    def wanted(self, path: str) -> Wanted | None:
        """What a file is to hold; None for one that the configuration does not name or no rule measures."""
        name = named(path)
        if name not in self._known:
            self._known[name] = self._of(name)
        return self._known[name]

    def option(self, paths: Iterable[str]) -> str:
        """The value of option --asked for those of the files that are measured."""
        found = {named(path): wanted for path in paths if (wanted := self.wanted(path)) is not None}
        return json.dumps({name: str(wanted.identity) for name, wanted in found.items()})

    def _of(self, name: str) -> Wanted | None:
        if (rule := _rule_of(PurePath(name).parts)) is None:
            return None
        try:
            text, digest = self.stages.spec(*rule), self.stages.code(*rule)
        except (KeyError, UserError):
            return None
        if rule[0] == "search_settings":
            digest = json.loads(digest)["search"]
        spec = json.loads(text)
        return Wanted(text, files_of(spec), identity_of(spec, digest))


def _rule_of(parts: tuple[str, ...]) -> tuple[str, str] | None:
    """The measuring rule of an output, and its wildcard."""
    match parts:
        case ("results", "sweep", scenario):
            return "measure_scenario", scenario
        case ("results", "profile", "limits", "limits.jsonl"):
            return "profile_limits", ""
        case ("results", "profile", "layers", file):
            return "profile_layers", file.removesuffix(".jsonl")
        case ("results", "profile", file):
            return "profile_store", file.removesuffix(".jsonl")
        case ("results", "pairs", file):
            return "try_pair", file.removesuffix(".jsonl")
        case ("results", "bits", _):
            return "measure_bits", ""
        case ("results", "tune", scenario):
            return "search_settings", scenario
    return None


def named(path: str) -> str:
    """What stands for a file in option --asked: the folder of a sweep or a search, else the file."""
    of_folder = PurePath(path).parts[:2] in (("results", "sweep"), ("results", "tune"))
    return str(PurePath(path).parent) if of_folder else str(PurePath(path))
