"""What every file of records must have been measured with now: the identity that its rule would give it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from ..base.errors import UserError
from ..config.code import code, layers_modules, limits_modules, profile_modules, scenario_modules, tune_code
from ..config.plan import layers_spec, limits_spec, profile_spec, sweep_spec
from ..config.tune import tune_spec
from ..records.identity import files_of, identity_of
from ..records.record_file import Identity


@dataclass(frozen=True)
class Wanted:
    """Of one file of records: its rule's spec as Snakemake keeps it, the files that this names, and its identity."""

    spec: str
    files: list[str]
    identity: Identity


@dataclass(frozen=True)
class Asked:
    """What a checked configuration asks of files of records, each worked out once, when it is asked for."""

    config: Mapping[str, Any]
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
        try:
            text, digest = self._rule(PurePath(name).parts)
        except (KeyError, UserError):
            return None
        if text is None:
            return None
        spec = json.loads(text)
        return Wanted(text, files_of(spec), identity_of(spec, digest))

    def _rule(self, parts: tuple[str, ...]) -> tuple[str | None, str]:
        """The spec and the code of a measuring rule's output."""
        match parts:
            case ("results", "sweep", scenario):
                text = sweep_spec(self.config, scenario)
                return text, code(*scenario_modules(json.loads(text)))
            case ("results", "profile", "limits", "limits.jsonl"):
                text = limits_spec(self.config)
                return text, code(*limits_modules(json.loads(text)))
            case ("results", "profile", "layers", file):
                text = layers_spec(self.config, file.removesuffix(".jsonl"))
                return text, code(*layers_modules(json.loads(text)))
            case ("results", "profile", file):
                text = profile_spec(self.config, file.removesuffix(".jsonl"))
                return text, code(*profile_modules(json.loads(text)))
            case ("results", "tune", scenario):
                text = tune_spec(self.config, scenario)
                return text, json.loads(tune_code(json.loads(text)))["search"]
        return None, ""


def named(path: str) -> str:
    """What stands for a file in option --asked: the folder of a sweep or a search, else the file."""
    of_folder = PurePath(path).parts[:2] in (("results", "sweep"), ("results", "tune"))
    return str(PurePath(path).parent) if of_folder else str(PurePath(path))
