"""Stage tune: search a scenario's settings on its store alone, measure the best with the engine, and prove the winner.

    python -m workflow.hyperkv.tune.search_settings --spec '{...}' --out results/tune/<scenario>

The folder keeps the study (study.journal, an Optuna journal) and the engine's cells (finalists.jsonl.partial): a run that was
stopped takes up what is there, as long as the spec and the code are the same. At the end it has trials.jsonl,
finalists.jsonl, evidence.json and winner.yaml, a configuration with the winner as a scenario; of a Kvrocks also
preset.yaml, a file for config/kvrocks. The winner is the scenario as it is unless another one proves better.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..base.cli import run_stage
from ..base.digests import canonical_digest
from ..base.durable import replace_durably
from ..base.errors import UserError
from ..base.options import LOGS, Spec
from ..machine.node import data_dir_of
from ..machine.own_folder import alone_on
from ..machine.require_array import require_array
from ..records.identity import BY_HAND, identity_of
from ..records.journal import Journal
from ..records.record_file import write_records
from ..stores.registry import store_class
from .finalists import Measurements, candidates, compare
from .outcome import outcome_of, preset_text, trial_line, winner_text
from .space import POLICIES, Parameter, applied
from .store_load import measured_rounds
from .study import as_record, best, is_any_complete, judged, open_study, search


def main(*, spec: Spec, out: Path, logs: Path = LOGS, code: Spec | None = None) -> None:
    """Search and measure.

    Args:
        spec: JSON: the search's slice of the config.
        out: folder of the study and its results.
        logs: folder for servers' output.
        code: digests of the code that is run, told by the rule, JSON: trials, cells, search.
    """
    sweep = spec["sweep"]
    require_array(sweep)
    with alone_on(data_dir_of(sweep["scenario"].get("data_dir") or sweep["data_dir"])):
        tune(spec, code or dict.fromkeys(("trials", "cells", "search"), BY_HAND), out, logs)


def tune(spec: dict[str, Any], code: Mapping[str, str], out: Path, logs: Path) -> None:
    """Run a search to its end and write what it found into the folder `out`. code: digests by what depends on them."""
    for line in spec["left_out"]:
        _say(line)
    sweep = spec["sweep"]
    scenario = sweep["scenario"]
    parameters = [Parameter.of(entry) for entry in spec["space"]]
    own = {parameter.name: parameter.own for parameter in parameters}
    searched = [parameter for parameter in parameters if not parameter.is_policy]
    study = open_study(out / "study.journal", study_name(spec, code["trials"]), spec["pruner"], _say)
    search(
        study,
        searched,
        lambda values: measured_rounds(spec, applied(scenario, values), logs),
        seed=spec["seed"],
        trials=spec["trials"],
        budget_s=spec["budget_minutes"] * 60,
        told=lambda trial: _say(trial_line(as_record(trial), own)),
    )
    if not is_any_complete(study):
        raise UserError(
            f"no trial of {scenario['name']} was complete; the first: {as_record(judged(study)[0]).reason}; mend that "
            f"and delete {out / 'study.journal'}"
        )
    searched_own = {parameter.name: parameter.own for parameter in searched}
    numbered = candidates(parameters, own, best(study, searched_own, spec["finalists"]))
    of_cells = identity_of(sweep, code["cells"])
    journal = Journal(out / "finalists.jsonl", of_cells, spec["objective"])
    cells = Measurements(spec, journal, logs, _say)
    found = compare(cells, dict(enumerate(numbered)), spec["objective"]["metric"], spec["repeats"])
    made = identity_of(spec, code["search"])
    common = {"scenario": scenario["name"]}
    trials = [as_record(trial).dump() | common for trial in judged(study)]
    write_records(out / "trials.jsonl", [str(trial["trial"]) for trial in trials], trials, made)
    winner = winner_text(spec, found)
    told = {"made": str(made), "winner_sha256": hashlib.sha256(winner.encode()).hexdigest()}
    evidence = outcome_of(spec, study, found) | told
    texts = {"evidence.json": json.dumps(evidence, indent=1) + "\n", "winner.yaml": winner}
    if store_class(scenario["store"]).presets is not None:
        texts["preset.yaml"] = preset_text(spec, found)
    for name, text in texts.items():
        replace_durably(out / name, text.encode())
    journal.finish(cells.keys, common | {"metric": spec["objective"]["metric"]}, made)
    _say(evidence["in_words"])


def study_name(spec: Mapping[str, Any], code: str) -> str:
    """Names all that a trial depends on: more trials, minutes or finalists go on with the same study."""
    sweep = spec["sweep"]
    scenario = sweep["scenario"]
    of_trial = ("prompt_tokens", "rounds", "get_weight", "warm_up_bytes", "seed", "pruner")
    of_sweep = ("model", "kv_dtype", "data_dir", "evidence", "array")
    return canonical_digest(
        {
            **{key: spec[key] for key in of_trial},
            **{key: sweep.get(key) for key in of_sweep},
            "space": [entry for entry in spec["space"] if entry["name"] not in POLICIES],
            "scenario": {key: value for key, value in scenario.items() if key not in POLICIES},
            "code": code,
        }
    )


def _say(line: str) -> None:
    print(f"hyperkv tune: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(run_stage("tune", main, resumes=True))
