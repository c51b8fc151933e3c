"""A run that is kept in the repository: a folder with its records, the machines that they come from, and what it was."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from ..base.config_files import read_mapping
from ..base.digests import canonical_digest
from ..base.errors import UserError
from .frames import read_json, read_jsonl
from .hardware import unique_environments
from .record_file import Identity, write_records

RECORDS, MACHINE, ABOUT = "records.jsonl", "machine.json", "run.yaml"


class About(BaseModel):
    """run.yaml. code: commits. figures: those that docs show; compared: scenarios in those that compare, all when empty.
    answer: README's answer for real GPUs is of it, and of the others that say so."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    title: str
    command: str
    code: list[str]
    told: str = ""
    figures: list[str]
    compared: list[str] = []
    answer: bool = False
    configuration: dict[str, Any]


@dataclass(frozen=True)
class KeptRun:
    """A folder of results/reference: MACHINE/DATE. records: as the newest version has them; environments: of machine.json."""

    folder: Path
    about: About
    environments: list[dict[str, Any]]
    records: list[dict[str, Any]]

    @property
    def name(self) -> str:
        """'laptop-2026-11-28': what its page is called."""
        return f"{self.folder.parent.name}-{self.folder.name}"

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        """The records of some kinds."""
        return [record for record in self.records if record["record"] in kinds]


def commits_of(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """The commits that records name, with '-dirty' where the checkout was changed."""
    states = [(record.get("environment") or {}).get("git") for record in records]
    told = [f"{state['commit']}{'-dirty' * bool(state.get('dirty'))}" for state in states if state]
    return list(dict.fromkeys(told))


def name_before_device(scenario: str) -> str:
    """'files' of 'files-2gbps': a scenario behind a device is named after what was put behind it (config/scenarios.py)."""
    return re.sub(r"-[^-]+gbps(-[^-]+us)?$", "", scenario)


def read_run(folder: Path) -> KeptRun:
    """A kept run. Raises UserError naming a file that is missing, not whole or no such file."""
    return KeptRun(folder, read_about(folder), read_json(folder / MACHINE), read_jsonl([folder / RECORDS]))


def read_about(folder: Path) -> About:
    """What a kept run was, without its records. Raises UserError."""
    path = folder / ABOUT
    try:
        return About.model_validate(
            read_mapping(path, "a kept run", "README.md beside them says what is in one")
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def write_run(folder: Path, about: About, records: Sequence[Mapping[str, Any]], keys: Iterable[str]) -> None:
    """Keep records, each with the key that names it, in a new folder. Raises UserError for one that is there."""
    if folder.exists():
        raise UserError(f"{folder} is there already; name another DATE, perhaps with a suffix, or remove it")
    folder.mkdir(parents=True)
    made = Identity(canonical_digest(about.configuration), "+".join(each[:12] for each in about.code))
    write_records(folder / RECORDS, list(keys), records, made)
    environments = unique_environments([dict(each) for each in records if each.get("environment")])
    (folder / MACHINE).write_text(json.dumps(environments, indent=2) + "\n")
    text = yaml.safe_dump(about.model_dump(), sort_keys=False, width=110, allow_unicode=True)
    (folder / ABOUT).write_text(text)
