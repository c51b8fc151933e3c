"""What every file of records must have been measured with now: the identity that its rule would give it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
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


Spec = Mapping[str, Any]
# Of each measuring stage the spec of a job, by the configuration and the job's name, and the code that this makes it run.
MEASURING: dict[str, tuple[Callable[[Spec, str], str], Callable[[Spec], str]]] = {
    "measure_scenario": (sweep_spec, lambda spec: code(*scenario_modules(spec))),
    "profile_store": (profile_spec, lambda spec: code(*profile_modules(spec))),
    "profile_layers": (layers_spec, lambda spec: code(*layers_modules(spec))),
    "profile_limits": (lambda config, _: limits_spec(config), lambda spec: code(*limits_modules(spec))),
    "search_settings": (tune_spec, tune_code),
}


@dataclass(frozen=True)
class Asked:
    """What a checked configuration asks of measuring stages and their files, each worked out once, when it is asked for."""

    config: Mapping[str, Any]
    _known: dict[tuple[str, ...], Any] = field(default_factory=dict)

    def spec(self, stage: str, name: str) -> str:
        """JSON of what a job of a measuring stage depends on. Raises UserError where that cannot be worked out."""
        return self._once("spec", stage, name, make=lambda: MEASURING[stage][0](self.config, name))

    def code(self, stage: str, name: str) -> str:
        """The digest of what such a job runs; of a search, JSON of several."""
        return self._once(
            "code", stage, name, make=lambda: MEASURING[stage][1](json.loads(self.spec(stage, name)))
        )

    def wanted(self, path: str) -> Wanted | None:
        """What a file is to hold; None for one that the configuration does not name or no rule measures."""
        name = named(path)
        return self._once("wanted", name, make=lambda: self._of(name))

    def option(self, paths: Iterable[str]) -> str:
        """The value of option --asked for those of the files that are measured."""
        found = {named(path): wanted for path in paths if (wanted := self.wanted(path)) is not None}
        return json.dumps({name: str(wanted.identity) for name, wanted in found.items()})

    def _once(self, *key: str, make: Callable[[], Any]) -> Any:
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]

    def _of(self, name: str) -> Wanted | None:
        job = _job_of(PurePath(name).parts)
        if job is None:
            return None
        try:
            text, digest = self.spec(*job), self.code(*job)
        except (KeyError, UserError):
            return None
        digest = json.loads(digest)["search"] if job[0] == "search_settings" else digest
        spec = json.loads(text)
        return Wanted(text, files_of(spec), identity_of(spec, digest))


def _job_of(parts: tuple[str, ...]) -> tuple[str, str] | None:
    """The stage and the name of the job that measures a file."""
    match parts:
        case ("results", "sweep", scenario):
            return "measure_scenario", scenario
        case ("results", "profile", "limits", "limits.jsonl"):
            return "profile_limits", ""
        case ("results", "profile", "layers", file):
            return "profile_layers", file.removesuffix(".jsonl")
        case ("results", "profile", file):
            return "profile_store", file.removesuffix(".jsonl")
        case ("results", "tune", scenario):
            return "search_settings", scenario
    return None


def named(path: str) -> str:
    """What stands for a file in option --asked: the folder of a sweep or a search, else the file."""
    of_folder = PurePath(path).parts[:2] in (("results", "sweep"), ("results", "tune"))
    return str(PurePath(path).parent) if of_folder else str(PurePath(path))
