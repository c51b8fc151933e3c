"""Stage try_pair: one pair of vLLM and LMCache with every connector, whether its answers are right.

    python -m workflow.hyperkv.pairs.try_pair --spec '{...}' --out results/pairs/<pair>.jsonl

The pair's packages come before those of an environment that is there, in results/build/pairs/<pair>, which is removed at the end.
What cannot be made or started is a record with the reason, and the pair's others go on.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from functools import partial
from pathlib import Path
from queue import Queue
from typing import Any, get_args

import psutil

from ..base.cli import run_stage
from ..base.errors import UserError
from ..cells.job import Job
from ..cells.point import common_fields
from ..machine.node import data_dir_of
from ..machine.own_folder import alone_on
from ..records.kinds.pairs import Asked, Damage, Tried
from .layer import Made, make_layer
from .trial import tried

LAYERS = Path("results/build/pairs")
_AT_ONCE = 2  # engines, of some GB of memory each


def main(*, job: Job) -> None:
    """Try the pair: its scenario without a tier, which is the control, then the others."""
    spec, journal = job.spec, job.journal()
    names = [each["scenario"]["name"] for each in spec["scenarios"]]
    if not all(map(journal.has, names)):
        with alone_on(data_dir_of(spec["data_dir"])), _environment(spec) as made:
            first, *others = spec["scenarios"]
            for wanted in ([first], others):
                known = journal.record(names[0])["passes"] if journal.has(names[0]) else []
                control = [Asked.model_validate(each) for each in known]
                trials = {
                    each["scenario"]["name"]: partial(tried, spec, each, made, control, job.logs)
                    for each in wanted
                    if not journal.has(each["scenario"]["name"])
                }
                for name, found in side_by_side(trials):
                    for record in reversed(found):  # the one that says that the scenario is done comes last
                        journal.append(key := _key(name, record.damage), record.dump())
                        said = f"{key}: {record.verdict}: {record.reason}"
                        print(f"hyperkv pairs: {spec['pair']}: {said}", flush=True)
    keys = [_key(name, damage) for name in names for damage in (None, *get_args(Damage))]
    kept = [key for key in keys if journal.has(key)]
    journal.finish(kept, common_fields(spec, data_dir_of(spec["data_dir"])))


def side_by_side(trials: Mapping[str, Callable[[int], list[Tried]]]) -> Iterator[tuple[str, list[Tried]]]:
    """Each trial's name and what it found, as it ends, so many at once as there are cores for, but not more than two.

    A trial gets the core that its engine computes on. Whatever ends this ends every process of the trials under way.
    """
    cores = Queue[int]()
    for core in sorted(os.sched_getaffinity(0))[:_AT_ONCE]:
        cores.put(core)

    def on_a_core(trial: Callable[[int], list[Tried]]) -> list[Tried]:
        core = cores.get()
        try:
            return trial(core)
        finally:
            cores.put(core)

    with ThreadPoolExecutor(cores.qsize()) as workers:
        under_way = {workers.submit(on_a_core, trial): name for name, trial in trials.items()}
        try:
            for done in as_completed(under_way):
                yield under_way[done], done.result()
        except BaseException:
            workers.shutdown(wait=False, cancel_futures=True)
            while wait([each for each in under_way if not each.cancelled()], 0.2).not_done:
                for process in psutil.Process().children(recursive=True):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
            raise


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
