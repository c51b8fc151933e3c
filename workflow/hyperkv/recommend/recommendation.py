"""Everything that is known about the choice of a scenario, for programs and for the page."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..records.hardware import gpu_words, machine_words, unique_environments
from ..records.stats import spread
from .files import Files
from .ranking import COMPARED_FACTS, Candidate, Comparison, Objective, Ranking
from .recommendation_text import answer, doubt

SCHEMA_VERSION = 1


def recommendation_of(
    ranking: Ranking,
    objective: Objective,
    spec: Mapping[str, Any],
    files: Files,
    used: Sequence[tuple[Path, dict[str, Any]]],
    cells: pd.DataFrame,
) -> dict[str, Any]:
    """Everything that is known about the choice, for programs and for the page."""
    chosen, records = ranking.chosen, [record for _, record in used]
    environments = unique_environments(records)
    return {
        "schema_version": SCHEMA_VERSION,
        "answer": answer(ranking, objective),
        "objective": {**vars(objective), "slo": spec["slo"]},
        "chosen": None if chosen is None else candidate_row(chosen),
        "for_simplicity": ranking.for_simplicity,
        "others": [comparison_row(item) for item in ranking.others],
        "ties": [item.other.scenario for item in ranking.ties],
        "not_told_by_one_repeat": [item.other.scenario for item in ranking.untold],
        "left_out": [vars(item) for item in ranking.left_out],
        **{key: words_of(cells[key]) for key in ("engine", "model")},
        "gpu": gpu_words(cells),
        "machines": [machine_words(environment) for environment in environments],
        "environments": environments,
        "evidence": {
            "records": list(dict.fromkeys(str(path) for path, _ in used)),
            "measured": [record["started_at"] for record in records],
            "spec_digest": records[0]["spec_digest"] if records else None,
            "command": again(records[0]) if records else None,
        },
        "pair": None if chosen is None else pair_of(records[0], spec),
        "files": files.about,
        "not_written": files.missing,
        "notes": [*files.notes, *parity_notes(ranking)],
        "servers": files.servers,
    }


def pair_of(record: Mapping[str, Any], spec: Mapping[str, Any]) -> str | None:
    """The pair of vLLM and LMCache that serves a record's scenario: the record's, of a modelled engine the config's."""
    own = spec["own"].get(record["scenario"], {})
    return record["spec"]["scenario"].get("pair") or own.get("pair")


def again(record: Mapping[str, Any]) -> str:
    """The command line that measures a record's scenario and repeat again."""
    spec = shlex.quote(json.dumps(record["spec"], sort_keys=True))
    command = "python -m workflow.hyperkv.sweep.measure_scenario"
    return f"{command} --spec {spec} --repeat {record['repeat']} --out again.jsonl"


def words_of(column: pd.Series) -> str | None:
    """The different words of a column, None when it has none."""
    return ", ".join(dict.fromkeys(column.dropna().astype(str))) or None


def candidate_row(candidate: Candidate) -> dict[str, Any]:
    """A candidate's numbers and facts."""
    return {
        "scenario": candidate.scenario,
        "load": candidate.load,
        **spread("value", candidate.interval),
        "repeats": len(candidate.values),
        **candidate.facts,
    }


def comparison_row(comparison: Comparison) -> dict[str, Any]:
    """The same of another one, and how many times better the chosen one is."""
    return {
        **candidate_row(comparison.other),
        **spread("chosen_is_better", comparison.ratio),
        "told_apart": comparison.apart,
        "doubt": doubt(comparison).strip(" ()"),
    }


def parity_notes(ranking: Ranking) -> list[str]:
    """A line when the compared scenarios differ in more than where and how KV is kept."""
    chosen = ranking.chosen
    if chosen is None:
        return []
    unlike = {item.other.scenario: _unlike_facts(item.other, chosen) for item in ranking.others}
    if not any(unlike.values()):
        return []
    facts = dict.fromkeys(fact for found in unlike.values() for fact in found)
    return [
        f"{chosen.scenario} and {', '.join(name for name, found in unlike.items() if found)} differ in more than tier, store "
        f"and connector: in {', '.join(_FACT_WORDS.get(fact, fact) for fact in facts)}; compare them with care"
    ]


_FACT_WORDS = {
    "comparable_digest": "vllm or a common setting",
    "kv_dtype": "kv_dtype (which changes answers)",
    "pair": "pair (other versions of vLLM and LMCache)",
}


def _unlike_facts(one: Candidate, other: Candidate) -> list[str]:
    """The facts in which two candidates differ; without a tier there is nothing to save."""
    computes = "none" in (one.facts["tier"], other.facts["tier"])
    held_to = [name for name in COMPARED_FACTS if not (computes and name == "save_decode_cache")]
    return [name for name in held_to if one.facts[name] != other.facts[name]]
