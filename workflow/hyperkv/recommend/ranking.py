"""Which scenario is best at an objective, and from which it cannot be told apart. Pure functions over cells.csv."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..base.errors import UserError
from ..records.effective import FACTS
from ..records.stats import Interval, median_interval

RECOMPUTE = "none"
_NOTHING = "nothing"


@dataclass(frozen=True)
class Objective:
    """What is asked for: the column of cells.csv that counts, and which loads are considered.

    word: the config's. higher_is_better: whether more of `metric` is better. load: the only load that counts, None
    for any. tps_per_user_min: TPS/user that a load must keep, by its median; None for no floor.
    """

    word: str
    metric: str
    unit: str
    label: str
    higher_is_better: bool
    load: float | None = None
    tps_per_user_min: float | None = None

    @property
    def measured(self) -> str:
        """What follows a number in a sentence: the label, after its unit where that is not in it."""
        return self.label if self.higher_is_better else f"{self.unit} of {self.label}"

    @classmethod
    def of(cls, section: Mapping[str, Any], slo: Mapping[str, Any], closed: bool = True) -> Objective:
        """The objective of config section `recommend`. slo: experiment.slo; without one goodput has no meaning. closed: whether
        clients wait for their answers; without it all scenarios are asked for as many requests.
        """
        bounded = any(bound is not None for bound in slo.values())
        word = section["objective"] or ("goodput" if bounded else "rps_per_gpu" if closed else "ttft")
        metric, unit, label, higher = _METRICS[word]
        return cls(word, metric, unit, label, higher, section["load"], section["tps_per_user_min"])


_METRICS = {
    "goodput": ("goodput_rps", "requests/s", "answers within the SLO per second and GPU", True),
    "rps_per_gpu": ("rps_per_gpu", "requests/s", "requests per second and GPU", True),
    "ttft": ("ttft_p50_ms", "ms", "time to first token (median)", False),
}


@dataclass(frozen=True)
class Candidate:
    """A scenario at the load at which it does best. values: the metric by repeat; interval: over them."""

    scenario: str
    load: float
    values: Mapping[int, float]
    interval: Interval
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class LeftOut:
    """A scenario x load that could not be recommended, and why."""

    scenario: str
    load: float
    reason: str


@dataclass(frozen=True)
class Comparison:
    """How many times better the chosen one is than another, paired by repeat. apart: None when one repeat cannot say."""

    other: Candidate
    ratio: Interval

    @property
    def apart(self) -> bool | None:
        if self.ratio.low is None or self.ratio.high is None:
            return None
        return self.ratio.low > 1 or self.ratio.high < 1


@dataclass(frozen=True)
class Ranking:
    """The best first. chosen is None when nothing can be recommended; others are compared with it, the nearest first.

    for_simplicity: recompute was chosen although another's median is better, since the two cannot be told apart.
    """

    chosen: Candidate | None
    others: Sequence[Comparison]
    left_out: Sequence[LeftOut]
    for_simplicity: bool = False

    @property
    def ties(self) -> list[Comparison]:
        """Those that the repeats cannot tell from the chosen one."""
        return [item for item in self.others if item.apart is False]

    @property
    def untold(self) -> list[Comparison]:
        """Those of which a single repeat says nothing."""
        return [item for item in self.others if item.apart is None]


def ranked(cells: pd.DataFrame, objective: Objective) -> Ranking:
    """Choose among the scenarios of cells.csv. Raises UserError when the cells lack what the objective counts.

    A load counts when all its repeats are valid and loaded something from the tier, and it keeps the floor. Each scenario stands with its best load; for
    ttft without a load, with the highest load that every scenario measured. If recompute, with the best one's pair of vLLM
    and LMCache, cannot be told apart from it, it is chosen: nothing to run, nothing to lose.
    """
    if objective.metric not in cells:
        raise UserError(
            f"recommend: the records have no {objective.metric}; measure them again, or choose another recommend.objective"
        )
    found, left_out = _eligible(cells, objective)
    best = max if objective.higher_is_better else min
    candidates = [best(loads, key=_median) for loads in found.values()]
    if not candidates:
        return Ranking(None, [], left_out)
    candidates.sort(key=_median, reverse=objective.higher_is_better)
    first = candidates[0]
    computed = [item for item in candidates if item.facts["tier"] == RECOMPUTE]
    own = [item for item in computed if item.facts["pair"] == first.facts["pair"]]
    plain = next(iter(own or computed), None)
    chosen = first
    if plain is not None and plain is not first and _compared(first, plain, objective).apart is False:
        chosen = plain
    others = [_compared(chosen, item, objective) for item in candidates if item is not chosen]
    return Ranking(chosen, others, left_out, chosen is not first)


def _eligible(cells: pd.DataFrame, objective: Objective) -> tuple[dict[str, list[Candidate]], list[LeftOut]]:
    """Candidates of each scenario, and what was left out."""
    found: dict[str, list[Candidate]] = {}
    left_out = []
    considered = _loads(cells, objective)
    for (scenario, load), group in cells.groupby(["scenario", "load"], sort=False):
        if considered is not None and load not in considered:
            continue
        if reason := _unfit(group, objective):
            left_out.append(LeftOut(str(scenario), _plain(load), reason))
            continue
        values = {
            int(row["repeat"]): float(row[objective.metric])
            for _, row in group.iterrows()
            if pd.notna(row[objective.metric])
        }
        facts = {key: _plain(group.iloc[0].get(key)) for key in _FACTS}
        facts["served_from"] = "/".join(dict.fromkeys(group["served_from"]))
        for name in _MEDIANS:
            numbers = group[name].dropna() if name in group else pd.Series(dtype=float)
            facts[name] = float(numbers.median()) if len(numbers) else None
        candidate = Candidate(
            str(scenario), _plain(load), values, median_interval(list(values.values())), facts
        )
        found.setdefault(str(scenario), []).append(candidate)
    return found, left_out


COMPARED_FACTS = ("gpu", "comparable_digest", "gpus", *FACTS)
_FACTS = ("tier", "loop", "store", "connector", "chunk_tokens", *COMPARED_FACTS)
_SHAPED = ("shaped_read_share", "shaped_write_share")
_MEDIANS = ("tps_per_user", "rps_per_gpu", "ttft_p50_ms", "ttft_p95_ms", "hit_rate", "device_share")


def _loads(cells: pd.DataFrame, objective: Objective) -> set[float] | None:
    """The loads that count, None for all. Raises UserError when there is none."""
    if objective.load is not None:
        return {objective.load}
    if objective.higher_is_better:
        return None
    shared = set.intersection(*(set(group["load"]) for _, group in cells.groupby("scenario")))
    if not shared:
        raise UserError(
            "recommend: the scenarios share no load to compare ttft at; name one with recommend.load"
        )
    return {max(shared)}


def _unfit(group: pd.DataFrame, objective: Objective) -> str | None:
    """Why a scenario x load cannot be recommended, None when it can."""
    if not group["valid"].all():
        bad = group[~group["valid"]]
        reasons = "; ".join(dict.fromkeys(filter(None, bad["reasons"].fillna("").astype(str))))
        return f"{len(bad)} of {len(group)} repeats invalid: {reasons}"
    if any(name in group and group[name].notna().any() for name in _SHAPED):
        return "its store was held to be a device that is not here (scenario key shape)"
    if group[objective.metric].isna().all():
        return f"no {objective.metric} was measured"
    empty = int((group["served_from"] == _NOTHING).sum()) if group["tier"].iloc[0] != RECOMPUTE else 0
    if empty:
        which = "" if empty == len(group) else f" in {empty} of {len(group)} repeats"
        return f"nothing was loaded from its tier{which}, so its speed is that of recompute{' there' * bool(which)}"
    floor = objective.tps_per_user_min
    if floor is not None and not (median := group["tps_per_user"].median()) >= floor:
        return f"TPS/user {median:.3g} is below the floor of {floor:g}"
    return None


def _median(candidate: Candidate) -> float:
    assert candidate.interval.median is not None
    return candidate.interval.median


def _compared(chosen: Candidate, other: Candidate, objective: Objective) -> Comparison:
    """Ratios above 1 say that the chosen one is better, whatever the metric's direction."""
    pairs = [
        (chosen.values[repeat], other.values[repeat]) for repeat in chosen.values if repeat in other.values
    ]
    if not objective.higher_is_better:
        pairs = [(theirs, own) for own, theirs in pairs]
    ratios = [over / under if under else None for over, under in pairs]
    return Comparison(other, median_interval(ratios))


def _plain(value: Any) -> Any:
    """A cell of a table as JSON can hold it."""
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return None
    return value.item() if hasattr(value, "item") else value
