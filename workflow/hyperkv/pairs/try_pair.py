"""Stage try_pair: one pair of vLLM and LMCache with every connector, whether its answers are right.

    python -m workflow.hyperkv.pairs.try_pair --spec '{...}' --out results/pairs/<pair>.jsonl

The pair's packages come before those of an environment that is there, in results/build/pairs/<pair>, which is removed at the end.
What cannot be made or started is a record with the reason, and the pair's others go on.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from ..base.cli import run_stage
from ..base.errors import UserError
from ..cells.job import Job
from ..cells.point import common_fields
from ..machine.node import data_dir_of
from ..machine.own_folder import alone_on
from ..records.kinds.pairs import Asked, Damage
from .layer import Made, make_layer
from .trial import tried

LAYERS = Path("results/build/pairs")


def main(*, job: Job) -> None:
    """Try the pair: its scenario without a tier, which is the control, then the others."""
    spec, journal = job.spec, job.journal()
    names = [each["scenario"]["name"] for each in spec["scenarios"]]
    if not all(map(journal.has, names)):
        with alone_on(data_dir_of(spec["data_dir"])), _environment(spec) as made:
            for own in spec["scenarios"]:
                name = own["scenario"]["name"]
                if journal.has(name):
                    continue
                known = journal.record(names[0])["passes"] if journal.has(names[0]) else []
                control = [Asked.model_validate(each) for each in known]
                found = tried(spec, own, made, control, job.logs)
                for record in reversed(found):  # the one that says that the scenario is done comes last
                    journal.append(key := _key(name, record.damage), record.dump())
                    said = f"{key}: {record.verdict}: {record.reason}"
                    print(f"hyperkv pairs: {spec['pair']}: {said}", flush=True)
    keys = [_key(name, damage) for name in names for damage in (None, *get_args(Damage))]
    kept = [key for key in keys if journal.has(key)]
    journal.finish(kept, common_fields(spec, data_dir_of(spec["data_dir"])))


def _key(name: str, damage: Damage | None) -> str:
    return f"{name}, values {damage}" if damage else name


@contextlib.contextmanager
def _environment(spec: Mapping[str, Any]) -> Iterator[Made | str]:
    """The pair's environment, or why there is none."""
    folder = LAYERS / spec["pair"]
    made: Made | str
    try:
        try:
            made = make_layer(spec["base_python"], spec["pins"], folder)
        except UserError as error:
            made = str(error)
        yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(run_stage("pairs", main, resumes=True))
