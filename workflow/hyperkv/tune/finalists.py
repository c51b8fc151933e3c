"""The engine-level half: finalists beside the scenario as it is, then the winner and it once more on other requests."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from ..base.digests import canonical_digest
from ..base.errors import UserError
from ..records.journal import Journal
from ..records.kinds.cell import Cell
from ..records.kinds.tune import Finalist, Phase
from ..records.scenario import worded
from ..records.stats import Interval, median, median_interval
from .space import Parameter, Value, applied

Candidate = dict[str, Value]
BETTER = "better"
LOWER_IS_BETTER = {"ttft_p50_ms": True, "goodput_rps": False}


def candidates(
    parameters: Sequence[Parameter], own: Mapping[str, Value], found: Sequence[Mapping[str, Value]]
) -> list[Candidate]:
    """What the engine measures, the scenario as it is first: every set of values with every save policy of the space.

    own: the scenario's values of all parameters. found: those of the store level, without policies.
    """
    policies = [parameter for parameter in parameters if parameter.is_policy]
    base = {name: value for name, value in own.items() if name not in {p.name for p in policies}}
    ways = [
        dict(zip((policy.name for policy in policies), values, strict=True))
        for values in itertools.product(*(policy.choices for policy in policies))
    ]
    every = [dict(own), *({**values, **way} for values in (base, *found) for way in ways)]
    return [values for i, values in enumerate(every) if values not in every[:i]]


class Measurements:
    """The engine's cells of candidates, each kept in a journal as soon as it is measured.

    spec: of the stage. told: called with a line for every cell.
    """

    def __init__(self, spec: Mapping[str, Any], journal: Journal, logs: Path, told: Callable[[str], None]):
        self._spec, self._journal, self._logs, self._told = spec, journal, logs, told
        self._own = {parameter["name"]: parameter["own"] for parameter in spec["space"]}
        self.keys: list[str] = []

    def measure(
        self, phase: Phase, wanted: Mapping[int, Candidate], repeats: Sequence[int]
    ) -> list[Finalist]:
        """Records of the candidates (by their number) in every repeat, whose order goes round from repeat to repeat."""
        records = []
        for turn, repeat in enumerate(repeats):
            order = list(wanted)
            first = turn % len(order)
            for number in [*order[first:], *order[:first]]:
                records.append(self._cell(phase, number, wanted[number], repeat))
        return records

    def _cell(self, phase: Phase, number: int, values: Candidate, repeat: int) -> Finalist:
        key = f"{phase}/{repeat}/{canonical_digest(values)}"
        if key not in self.keys:
            self.keys.append(key)
        if not self._journal.has(key):
            record = self._measured(phase, number, values, repeat)
            self._journal.append(key, record.dump())
            words = worded(values, self._own)
            self._told(f"{phase}, repeat {repeat}, {words}: {_outcome(record, self._metric)}")
        return Finalist.model_validate(self._journal.record(key) | {"candidate": number})

    @property
    def _metric(self) -> str:
        return self._spec["objective"]["metric"]

    def _measured(self, phase: Phase, number: int, values: Candidate, repeat: int) -> Finalist:
        """The cell of a candidate, or why there is none."""
        of = partial(Finalist, phase=phase, candidate=number, repeat=repeat, parameters=values)
        sweep = self._spec["sweep"]
        spec = {**sweep, "scenario": applied(sweep["scenario"], values)}
        engine = import_module(f"workflow.hyperkv.engines.{spec['engine']}.cells")
        try:
            with engine.Measurement(spec, repeat, self._logs) as measurement:
                found = [measurement.measure(point) for point in engine.points(spec)]
        except UserError as error:
            return of(valid=False, reasons=[str(error)], value=None, cell=None)
        cell = next(record for record in found if isinstance(record, Cell))
        value = getattr(cell.values, self._metric)
        reasons = [*cell.reasons, *([] if value is not None else [f"{self._metric} was not measured"])]
        return of(valid=not reasons, reasons=reasons, value=value, cell=cell)


@dataclass(frozen=True)
class Comparison:
    """What the engine's cells say.

    candidates: values by number, 0 the scenario as it is. finals, proof: records of Measurements. winner: the number of
    the best of the finals. gain: how many times better it was in the proof, None without one. words: what may be said.
    """

    candidates: dict[int, Candidate]
    finals: list[Finalist]
    proof: list[Finalist]
    winner: int
    gain: Interval
    words: str

    @property
    def kept(self) -> int:
        """The number of the candidate to go on with: the winner when it is better, else the scenario as it is."""
        return self.winner if self.words == BETTER else 0


def compare(cells: Measurements, numbered: dict[int, Candidate], metric: str, repeats: int) -> Comparison:
    """Measure the candidates in `repeats` repeats, and the best beside number 0 in as many others."""
    finals = cells.measure("finals", numbered, range(1, repeats + 1))
    order = ranked(finals, metric)
    winner = order[0] if order else 0
    pair = {number: numbered[number] for number in (0, winner)}
    proof = cells.measure("proof", pair, range(repeats + 1, 2 * repeats + 1)) if winner else []
    before, after = ([record for record in proof if record.candidate == number] for number in (0, winner))
    found = gain(before, after, metric)
    return Comparison(numbered, finals, proof, winner, found, conclusion(found, winner, bool(order)))


def ranked(records: Sequence[Finalist], metric: str) -> list[int]:
    """Numbers of the candidates that are valid in every repeat, best median first."""
    found: dict[int, list[Finalist]] = {}
    for record in records:
        found.setdefault(record.candidate, []).append(record)
    valid = {
        number: value
        for number, own in found.items()
        if all(record.valid for record in own)
        and (value := median([record.value for record in own])) is not None
    }
    return sorted(valid, key=lambda number: valid[number] if LOWER_IS_BETTER[metric] else -valid[number])


def gain(before: Sequence[Finalist], after: Sequence[Finalist], metric: str) -> Interval:
    """How many times better `after` is, paired by repeat: more than 1 is better. Only valid records count."""
    old = {record.repeat: record.value for record in before if record.valid}
    ratios = []
    for record in after:
        value, was = record.value, old.get(record.repeat)
        if record.valid and value and was:
            ratios.append(was / value if LOWER_IS_BETTER[metric] else value / was)
    return median_interval(ratios)


def conclusion(found: Interval, winner: int, any_valid: bool) -> str:
    """What may be said of a winner's gain over the scenario as it is, number 0; BETTER only of an interval above 1."""
    if not any_valid:
        return "no candidate is valid"
    if winner == 0:
        return "nothing found better"
    if found.median is None:
        return "not proved: no repeat has both valid"
    if found.low is None:
        return "not proved: one repeat has no interval"
    return BETTER if found.low > 1 else "not told apart"


def _outcome(record: Finalist, metric: str) -> str:
    return f"{metric} {record.value:.4g}" if record.valid else f"not valid: {'; '.join(record.reasons)}"
