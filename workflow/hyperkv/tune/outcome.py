"""What a search leaves behind: the evidence, the winner as a configuration, and lines to read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
import yaml

from ..machine.environment import environment
from ..records.kinds.tune import Finalist, Trial
from ..records.scenario import worded
from ..records.stats import median, median_interval, spread
from .finalists import BETTER, Comparison
from .space import Value, applied
from .study import COST, importances, judged, spent_s

_PRESET_KEYS = ("settings", "environment", "ignored_settings")


def outcome_of(spec: Mapping[str, Any], study: optuna.Study, found: Comparison) -> dict[str, Any]:
    """What evidence.json says: the search, the finalists, and before and after paired by repeat."""
    trials = judged(study)
    states = [
        trial.state.name.lower() if not trial.user_attrs.get("failed") else "failed" for trial in trials
    ]
    data_dir = Path(spec["sweep"]["scenario"].get("data_dir") or spec["sweep"]["data_dir"])
    return {
        "scenario": spec["sweep"]["scenario"]["name"],
        "engine": spec["sweep"]["engine"],
        "objective": spec["objective"],
        "in_words": in_words(spec, found),
        "better": found.words == BETTER,
        "winner": found.candidates[found.kept],
        "before_after": _before_after(found),
        "finalists": [_finalist(found, number) for number in found.candidates],
        "study": {
            "optuna": optuna.__version__,
            "trials": len(trials),
            **{state: states.count(state) for state in ("complete", "pruned", "failed")},
            "spent_s": spent_s(study),
            "importances": importances(study),
            "importances_of": f"{COST} of complete trials, PED-ANOVA",
        },
        "left_out": spec["left_out"],
        "spec": spec,
        "environment": environment(data_dir),
    }


def in_words(spec: Mapping[str, Any], found: Comparison) -> str:
    """One sentence: what won, and by how much."""
    own = found.candidates[0]
    metric, load = spec["objective"]["metric"], spec["objective"]["load"]
    text = f"{spec['sweep']['scenario']['name']}: {found.words}"
    if found.gain.median is None:
        return text
    interval = "" if found.gain.low is None else f" [{found.gain.low:.2f}, {found.gain.high:.2f}]"
    what = worded(found.candidates[found.winner], own)
    return (
        f"{text}: {what}: {metric} at load {load} {found.gain.median:.2f}{interval} times as good as with the "
        f"scenario as it is, {len(found.proof) // 2} repeats with other requests than it was chosen on"
    )


def winner_text(spec: Mapping[str, Any], found: Comparison) -> str:
    """A configuration file: the scenario with the values kept, complete and without a preset, named <scenario>_tuned."""
    name, scenario = _kept_scenario(spec, found)
    scenario = {key: value for key, value in scenario.items() if key != "name"} | {"preset": None}
    head = f"# By `snakemake tune`: {in_words(spec, found)}.\n"
    return head + yaml.safe_dump({"scenarios": {f"{name}_tuned": scenario}}, sort_keys=False)


def preset_text(spec: Mapping[str, Any], found: Comparison) -> str:
    """The same scenario's settings, environment and ignored_settings as a file for config/kvrocks."""
    _, scenario = _kept_scenario(spec, found)
    preset = {"description": f"By `snakemake tune`: {in_words(spec, found)}."}
    return yaml.safe_dump(preset | {key: scenario[key] for key in _PRESET_KEYS}, sort_keys=False, width=110)


def trial_line(record: Trial, own: Mapping[str, Value]) -> str:
    """A judged trial in one line."""
    cost = record.cost_s_per_ktokens
    result = "" if cost is None else f" {cost:.4g} s per 1,000 tokens"
    if record.state == "complete":
        gbps = median([entry.get_gbps for entry in record.rounds])
        result += f", GET {gbps:.2f} GB/s"
    why = f" ({record.reason})" if record.reason else ""
    return f"trial {record.trial}, {worded(record.parameters, own)}: {record.state}{result}{why}"


def _kept_scenario(spec: Mapping[str, Any], found: Comparison) -> tuple[str, dict[str, Any]]:
    scenario = spec["sweep"]["scenario"]
    return scenario["name"].replace("-", "_"), applied(scenario, found.candidates[found.kept])


def _before_after(found: Comparison) -> dict[str, Any] | None:
    """The winner of the finals beside the scenario as it is, in repeats that neither was chosen on; None without a winner."""
    if not found.proof:
        return None
    before, after = (
        [_value(record) for record in found.proof if record.candidate == number]
        for number in (0, found.winner)
    )
    return {
        "before": before,
        "after": after,
        "parameters": found.candidates[found.winner],
        **spread("gain", found.gain),
    }


def _finalist(found: Comparison, number: int) -> dict[str, Any]:
    records = [record for record in found.finals if record.candidate == number]
    interval = median_interval([record.value for record in records if record.valid])
    return {
        "candidate": number,
        "parameters": found.candidates[number],
        "repeats": [_value(record) for record in records],
        **asdict(interval),
    }


def _value(record: Finalist) -> dict[str, Any]:
    served_from = None if record.cell is None else record.cell.served_from
    return {
        **record.model_dump(include={"repeat", "value", "valid", "reasons"}),
        "served_from": served_from,
    }
