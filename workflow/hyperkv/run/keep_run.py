"""Keep what a run measured as a folder of the repository, from which docs are drawn.

python -m workflow.hyperkv.run.keep_run --config config/scenarios.yaml config/config.yaml --out results/reference/laptop/2026-11-28
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..base.cli import run_stage
from ..base.errors import UserError
from ..base.options import Files, Words
from ..config.models.experiment import Figures
from ..records.frames import read_json, read_jsonl
from ..records.identity import identity_of
from ..records.kept_run import About, commits_of, name_before_device, write_run
from ..records.parity import differences
from ..records.record_file import identity_in
from ..records.scenario import uses_data_dir
from ..records.upgrade import current
from .asked import Asked
from .configuration import merged
from .stages import Stages

NEEDS = {
    "pays": "point",
    "latency": "single",
    "tier_tradeoff": "cell",
    "array": "cell",
    "sharing": "cell",
    "transport_medium": "cell",
    "chunk": "cell",
    "stores": "point",
    "layers": "rung",
    "cost": "cell",
    "hit_rate": "cell",
    "break_even": "point",
}  # figures of a page, and the kind of records without which a run draws one that says so
OF_AN_ENGINE, MOST = ("latency", "tier_tradeoff", "array", "sharing", "cost"), 3
MEASURED = {
    "sweep/*/*.jsonl": "experiment",
    "profile/*.jsonl": "profile",
    "profile/limits/*.jsonl": "",
    "profile/layers/*.jsonl": "layers",
    "array/baseline.jsonl": "",
    "tune/*/trials.jsonl": "tune",
    "tune/*/finalists.jsonl": "tune",
}  # files of records, and the section of the configuration that says of which scenarios


def main(
    *,
    results: Path = Path("results"),
    config: Files,
    calibrations: Files = (),
    title: str = "",
    command: str = "make run",
    told: str = "",
    code: Words = (),
    compared: Words = (),
    figures: Words = (),
    answer: bool = False,
    out: Path,
) -> None:
    """Keep the run.

    Args:
        results: folder of the run's results.
        config: its configuration, in order.
        calibrations: JSON files of calibrate.
        title: heading of its page; what it was started with.
        command: what it was started with.
        told: what is to be known about it.
        code: commits, where the records name none.
        compared: scenarios that are drawn together; all.
        figures: those of its page; with a real engine the first three that were drawn of latency, tier_tradeoff, array, sharing and cost, else all, of records that there are.
        answer: README's answer for real GPUs is of this run.
        out: new folder: results/reference/MACHINE/DATE.
    """
    configuration = merged(config, "--config", "name the files that the run had")
    found = dict(measured(results, configuration))
    found |= {
        path.name: current({"record": "calibration"} | read_json(path), str(path)) for path in calibrations
    }
    if not found:
        raise UserError(f"{results}: nothing was measured there; --results names the folder of a run")
    settings = Figures.model_validate(configuration.get("figures", {})).model_dump()
    scenarios = used(configuration["scenarios"], list(found.values()))
    about = About(
        title=title or ("The default run" if command == "make run" else command),
        command=command,
        code=list(code) or commits_of(list(found.values())),
        told=" ".join(told.split()),
        figures=list(figures) or figures_of(configuration, results, list(found.values())),
        compared=list(compared),
        answer=answer,
        configuration=configuration | {"figures": settings, "scenarios": scenarios},
    )
    write_run(out, about, list(found.values()), found)


def figures_of(
    configuration: Mapping[str, Any], results: Path, records: Sequence[Mapping[str, Any]]
) -> list[str]:
    """The figures that a page shows of those that a run drew, each of records that there are."""
    kinds = {record["record"] for record in records}
    drawn = sorted(path.stem for path in results.glob("figures/*.png") if NEEDS.get(path.stem) in kinds)
    if configuration.get("engine") != "vllm":
        return drawn
    return [name for name in OF_AN_ENGINE if name in drawn][:MOST]


def measured(results: Path, configuration: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every record in a results folder of the scenarios that a configuration names, in its order, with a key that says where it stood.

    Raises UserError for a file that was measured with another configuration; data_dir may differ where nothing was put.
    """
    asked = Asked(Stages.of(configuration))
    for pattern, section in MEASURED.items():
        scenarios = configuration.get(section, {}).get("scenarios")
        for path in sorted(results.glob(pattern), key=lambda path: _place(path, scenarios or [])):
            if scenarios is None or _family(path, scenarios) in scenarios:
                place, records = path.relative_to(results), read_jsonl([path])
                _require_own(path, records, f"results/{place}", asked)
                for number, record in enumerate(records, 1):
                    yield f"{place}:{number}", record


def _require_own(path: Path, records: Sequence[Mapping[str, Any]], name: str, asked: Asked) -> None:
    made, wanted = identity_in(path), asked.wanted(name)
    if made is None or wanted is None:
        return
    spec: Mapping[str, Any] = next((record["spec"] for record in records if record.get("spec")), {})
    told = json.loads(wanted.spec)
    if "data_dir" in spec and not uses_data_dir(spec.get("scenario")):
        told["data_dir"] = spec["data_dir"]
    if made.spec == identity_of(told, made.code).spec:
        return
    words = f"other contents of {', '.join(wanted.files)}" if spec else "another configuration"
    for key, had, has in differences(spec, told) if spec else ():
        words = f"{key} {json.dumps(had)}, and the configuration has {json.dumps(has)}"
        break
    raise UserError(f"{path}: measured with {words}; keep a run with the configuration that it had")


def used(scenarios: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of a configuration's scenarios those that have records; 'dram' has those of dram-64."""
    names = {name_before_device(str(record.get("scenario"))) for record in records}
    names |= {re.sub(r"-\d+$", "", name) for name in names}
    return {name: rules for name, rules in scenarios.items() if name in names}


def _family(path: Path, scenarios: Sequence[str]) -> str:
    """The scenario of the configuration that a file is of."""
    name = name_before_device(path.parent.name if path.parent.parent.name in ("sweep", "tune") else path.stem)
    return name if name in scenarios else re.sub(r"-\d+$", "", name)


def _place(path: Path, scenarios: Sequence[str]) -> tuple[int, list[tuple[bool, int, str]]]:
    """By the scenario's place in the configuration, then by path with numbers as numbers."""
    family = _family(path, scenarios)
    parts = [part for part in re.split(r"(\d+)", str(path)) if part]
    natural = [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]
    return scenarios.index(family) if family in scenarios else len(scenarios), natural


if __name__ == "__main__":
    sys.exit(run_stage("keep_run", main))
