"""A recommendation in words: one sentence, built from a ranking's numbers, and the text that goes with its files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tabulate import tabulate

from ..records.repeats import words_of_loads
from ..records.stats import Interval
from ..records.templates import filled, number
from .ranking import RECOMPUTE, Candidate, Comparison, Objective, Ranking

_TIER_WORDS = {"dram": "in DRAM", "ssd": "on an SSD"}


def with_interval(interval: Interval) -> str:
    """'11.2 [11.0, 11.4]'; without the brackets for one repeat."""
    text = number(interval.median)
    return text if interval.low is None else f"{text} [{number(interval.low)}, {number(interval.high)}]"


def answer(ranking: Ranking, objective: Objective) -> str:
    """What to do and by how much it is better: one sentence."""
    chosen = ranking.chosen
    if chosen is None:
        why = f": {ranking.left_out[0].reason}" if ranking.left_out else ""
        return f"Nothing can be recommended, since no load of any scenario counts (the first{why})."
    if chosen.facts["tier"] == RECOMPUTE:
        return _do_not_offload(ranking, chosen, objective)
    where = f"Keep KV {_TIER_WORDS[chosen.facts['tier']]} with scenario {chosen.scenario}"
    return f"{where}: {_measured(chosen, objective)}{_against(ranking)}."


def _do_not_offload(ranking: Ranking, chosen: Candidate, objective: Objective) -> str:
    """Recompute is best, or as good as the best."""
    if not ranking.others:
        return f"Nothing was measured beside recompute, which gives {_measured(chosen, objective)}."
    nearest = ranking.others[0]
    if ranking.for_simplicity:
        return (
            f"Do not offload: nothing that was measured is better than recompute beyond its interval; {nearest.other.scenario} "
            f"and recompute cannot be told apart: recompute gives {_measured(chosen, objective)}, "
            f"{times(nearest)} {nearest.other.scenario}."
        )
    return f"Do not offload, compute again: {_measured(chosen, objective)}{_against(ranking, True)}."


def _measured(candidate: Candidate, objective: Objective) -> str:
    load = words_of_loads([candidate.load], candidate.facts.get("loop"))
    return f"{with_interval(candidate.interval)} {objective.measured} at {load}"


def _against(ranking: Ranking, recompute_chosen: bool = False) -> str:
    """', 1.30 [1.20, 1.40] times as good as recompute and 1.10 [0.98, 1.20] times as good as dram-64 (not told apart)'."""
    recompute = [item for item in ranking.others if item.other.facts["tier"] == RECOMPUTE]
    parts = [f"{times(item)} recompute{_of_pair(item, ranking)}{doubt(item)}" for item in recompute]
    for item in [item for item in ranking.others if item not in recompute][:1]:
        parts.append(f"{times(item)} {item.other.scenario}{_of_pair(item, ranking)}, the next{doubt(item)}")
    missing = (
        ""
        if recompute or recompute_chosen
        else "; recompute is not among what could be compared, so whether offloading pays is not known"
    )
    return (", " + " and ".join(parts) if parts else "") + missing


def _of_pair(comparison: Comparison, ranking: Ranking) -> str:
    """' of pair reference' of one that is of another pair of vLLM and LMCache than the chosen one."""
    pair, chosen = comparison.other.facts["pair"], ranking.chosen
    return "" if chosen is None or pair == chosen.facts["pair"] else f" of pair {pair}"


def times(comparison: Comparison) -> str:
    """'1.30 [1.20, 1.40] times as good as'."""
    return f"{with_interval(comparison.ratio)} times as good as"


def doubt(comparison: Comparison) -> str:
    """What takes away from a comparison; "" when the two are apart."""
    one = "one repeat" if len(comparison.other.values) == 1 else "one repeat to compare by"
    return {True: "", False: " (not told apart)", None: f" ({one}, no interval)"}[comparison.apart]


def objective_words(objective: Mapping[str, Any]) -> str:
    """'most requests per second and GPU, TPS/user at least 30, any load'."""
    most = "most" if objective["higher_is_better"] else "shortest"
    slo = [f"{key} {bound:g}" for key, bound in objective["slo"].items() if bound is not None]
    floor, load = objective["tps_per_user_min"], objective["load"]
    words = [f"{most} {objective['label']}"]
    words += [f"SLO {', '.join(slo)}"] if slo and objective["word"] == "goodput" else []
    words += [f"TPS/user at least {floor:g}"] if floor is not None else []
    words += [
        f"load {load}"
        if load is not None
        else "each scenario at its best load"
        if objective["higher_is_better"]
        else "the highest load that all share"
    ]
    return ", ".join(words)


def readme(recommendation: Mapping[str, Any]) -> str:
    """The recommendation for a person with a terminal."""
    return filled(
        __file__,
        **recommendation,
        objective_words=objective_words(recommendation["objective"]),
        ranking=ranking_table(recommendation) if recommendation["chosen"] else "",
        about_files=tabulate(recommendation["files"].items(), tablefmt="plain"),
    )


def ranking_table(recommendation: Mapping[str, Any]) -> str:
    """The chosen scenario and the others, the best first after it."""
    objective = recommendation["objective"]
    told = [recommendation["chosen"], *recommendation["others"]]
    several = len({row["pair"] for row in told}) > 1
    rows = [
        [
            f"{row['scenario']} ({row['pair']})" if several else row["scenario"],
            row["load"],
            with_interval(Interval(row["value"], row["value_low"], row["value_high"])),
            number(row["tps_per_user"]),
            row["served_from"],
            better_words(row),
        ]
        for row in told
    ]
    headers = [
        "scenario",
        "load",
        f"{objective['metric']} ({objective['unit']})",
        "TPS/user",
        "served from",
        "chosen is better, times",
    ]
    return tabulate(rows, headers=headers, disable_numparse=True)


def better_words(row: Mapping[str, Any]) -> str:
    """The last column: '' for the chosen one itself."""
    if "chosen_is_better" not in row:
        return "chosen"
    interval = Interval(*(row[f"chosen_is_better{end}"] for end in ("", "_low", "_high")))
    return with_interval(interval) + (f" ({row['doubt']})" if row["doubt"] else "")
