"""The search on the store alone: an Optuna study in a journal on disk, taken up where it was stopped.

What comes next depends on the seed and on the values found so far only: every trial has a sampler of its own, seeded
with its place among the judged ones. A trial that was under way when the run was stopped is tried again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import statistics
import time
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import FrozenTrial, TrialState

from ..base.durable import aside_of, replace_durably
from ..base.errors import UserError
from ..records.kinds.tune import Round, Trial
from .space import Parameter, Value

COST = "cost_s_per_ktokens"
STOPPED = "the run was stopped"
Rounds = Generator[Round, None, None]
_STARTUP_TRIALS = 10  # random ones, before the sampler has enough to go by
_SEEDS_PER_STUDY = 1_000_000

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


class _FileLock:
    """What JournalFileBackend asks of a lock; the kernel releases this one when its process is killed."""

    def __init__(self, path: Path):
        self._path = path
        self._file: Any = None

    def acquire(self) -> bool:
        self._file = self._path.open("a")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        self._file.close()


def open_study(
    path: Path, name: str, pruner: str, told: Callable[[str], None] = lambda line: None
) -> optuna.Study:
    """The study of that name in the journal at `path`, which may hold others. pruner: median, halving or none.

    told: called with a line when the file was damaged. Raises UserError when it cannot be read all the same.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _drop_damage(path, told)
    try:
        lock = _FileLock(path.with_suffix(".lock"))
        backend = JournalFileBackend(str(path), lock)  # type: ignore[arg-type]  # its base class is private
        storage = JournalStorage(backend)
        return optuna.create_study(
            storage=storage,
            study_name=name,
            pruner=_pruner(pruner),
            direction="minimize",
            load_if_exists=True,
        )
    except (ValueError, LookupError, AttributeError, TypeError, AssertionError) as error:
        raise UserError(f"{path} is not a study's journal ({error}); delete it to search anew") from error


def search(
    study: optuna.Study,
    parameters: Sequence[Parameter],
    measure: Callable[[dict[str, Value]], Rounds],
    *,
    seed: int,
    trials: int,
    budget_s: float,
    told: Callable[[FrozenTrial], None] = lambda trial: None,
) -> None:
    """Try values until `trials` are judged or `budget_s` seconds are spent, all runs together.

    measure: gives the rounds of a trial, and raises UserError when the trial fails; it is closed when
    the trial is pruned. The parameters' own values are tried first. told: called with every judged trial.
    """
    _retry_stopped(study)
    if not study.get_trials(deepcopy=False):
        study.enqueue_trial({parameter.name: parameter.own for parameter in parameters})
    space = {parameter.name: _distribution(parameter) for parameter in parameters}
    while len(done := judged(study)) < trials and spent_s(study) < budget_s:
        study.sampler = optuna.samplers.TPESampler(
            seed=seed * _SEEDS_PER_STUDY + len(done), n_startup_trials=_STARTUP_TRIALS, multivariate=True
        )
        trial = study.ask(space)
        started = time.perf_counter()
        state, value = _judge(trial, measure(dict(trial.params)))
        trial.set_user_attr("spent_s", time.perf_counter() - started)
        told(study.tell(trial, value, state=state))


def judged(study: optuna.Study) -> list[FrozenTrial]:
    """The trials with an outcome: complete, pruned or failed; without those that a stop interrupted."""
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state.is_finished() and trial.user_attrs.get("reason") != STOPPED
    ]


def is_any_complete(study: optuna.Study) -> bool:
    """Whether a trial had all its rounds without an error."""
    return any(trial.state is TrialState.COMPLETE for trial in judged(study))


def spent_s(study: optuna.Study) -> float:
    """Seconds that the judged trials took."""
    return sum(trial.user_attrs["spent_s"] for trial in judged(study))


def best(study: optuna.Study, own: Mapping[str, Value], count: int) -> list[dict[str, Value]]:
    """Values of the cheapest complete trials, cheapest first, at most `count`, the scenario's own not among them.

    Values tried several times count with the median of their costs.
    """
    found: dict[tuple[tuple[str, Value], ...], list[float]] = {}
    for trial in judged(study):
        if trial.state is TrialState.COMPLETE and trial.params != own:
            assert trial.value is not None
            found.setdefault(tuple(sorted(trial.params.items())), []).append(trial.value)
    ranked = sorted(found, key=lambda values: statistics.median(found[values]))
    return [{name: dict(values)[name] for name in own} for values in ranked[:count]]


def importances(study: optuna.Study) -> dict[str, float] | None:
    """How much each parameter tells good trials from others (PED-ANOVA, arXiv 2304.10255), in sum 1; None when too few are there."""
    complete = [trial for trial in judged(study) if trial.state is TrialState.COMPLETE]
    if len(complete) < _STARTUP_TRIALS:
        return None
    try:
        found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    except (ValueError, RuntimeError):
        return None
    return found if sum(found.values()) > 0 else None


def as_record(trial: FrozenTrial) -> Trial:
    """A judged trial as a record."""
    rounds = [Round(**told) for told in trial.user_attrs.get("rounds", [])]
    is_complete = trial.state is TrialState.COMPLETE
    return Trial(
        trial=trial.number,
        state="failed" if trial.user_attrs.get("failed") else "complete" if is_complete else "pruned",
        reason=trial.user_attrs.get("reason"),
        parameters=trial.params,
        cost_s_per_ktokens=_cost(rounds) if rounds else None,
        rounds=rounds,
        spent_s=trial.user_attrs["spent_s"],
    )


def _judge(trial: optuna.Trial, rounds: Rounds) -> tuple[TrialState, float | None]:
    """Run a trial's rounds: its state and, when it is complete, its cost, the median.

    One that fails is pruned in Optuna's words, since the sampler learns from these what to keep away from.
    """
    found: list[Round] = []
    with contextlib.closing(rounds):
        try:
            for number, result in enumerate(rounds):
                found.append(result)
                trial.set_user_attr("rounds", [each.dump() for each in found])
                trial.report(_cost(found), number)
                if trial.should_prune():
                    trial.set_user_attr("reason", f"pruned after {number + 1} rounds")
                    return TrialState.PRUNED, None
        except UserError as error:
            trial.set_user_attr("reason", str(error))
            trial.set_user_attr("failed", True)
            return TrialState.PRUNED, None
    return TrialState.COMPLETE, _cost(found)


def _cost(rounds: Sequence[Round]) -> float:
    return statistics.median(result.cost_s_per_ktokens for result in rounds)


def _retry_stopped(study: optuna.Study) -> None:
    """Close the trials that no process works on any more, and put their values first in the queue."""
    for left in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        optuna.Trial(study, left._trial_id).set_user_attr("reason", STOPPED)
        study.tell(left.number, state=TrialState.FAIL)
        if left.params:
            study.enqueue_trial(left.params)


def _drop_damage(path: Path, told: Callable[[str], None]) -> None:
    """Keep the lines before the first that is no entry of a journal; what follows needs it, and is moved aside.

    The line that was being written when the run was killed is cut off, so that the next does not continue it.
    """
    if not path.exists():
        return
    content = path.read_bytes()
    whole = 0
    for line in content.splitlines(keepends=True):
        if not line.endswith(b"\n") or not _is_entry(line):
            break
        whole += len(line)
    if b"\n" in content[whole:]:
        aside = aside_of(path)
        aside.write_bytes(content[whole:])
        told(f"{path} was damaged; what follows the damage is now in {aside}, and those trials are run again")
    if whole < len(content):
        replace_durably(path, content[:whole])


def _is_entry(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line)["op_code"], int)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _distribution(parameter: Parameter) -> BaseDistribution:
    """Whole numbers without a gap have an order that the search goes by; other values have none."""
    numbers = [value for value in parameter.choices if isinstance(value, int) and not isinstance(value, bool)]
    if len(numbers) < len(parameter.choices) or max(numbers) - min(numbers) >= len(numbers):
        return CategoricalDistribution(parameter.choices)
    return IntDistribution(min(numbers), max(numbers))


def _pruner(name: str) -> optuna.pruners.BasePruner:
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=5, n_min_trials=3)
    if name == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    return optuna.pruners.NopPruner()
