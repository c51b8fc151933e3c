"""Stage choose_scenario: which scenario to run, why, and its files ready to copy; the honest answer may be to compute again.

python -m workflow.hyperkv.recommend.choose_scenario --spec '{...}' --table results/tables/cells.csv --cells results/sweep/*/*.jsonl --out results/recommended/recommendation.json --readme results/recommended/README.txt --files results/recommended/files
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..base.cli import run_stage
from ..base.errors import UserError
from ..base.options import Spec
from ..records.frames import Asked, Cells, read_csv, read_jsonl
from ..records.record_file import Identity
from ..records.repeats import is_closed
from .engine_files import EngineSlice
from .files import Files, Place
from .ranking import Candidate, Objective, ranked
from .recommendation import pair_of, recommendation_of
from .recommendation_text import readme as readme_of
from .recommended_files import files_of, measured_place


def main(
    *, spec: Spec, table: Path, cells: Cells, asked: Asked = None, out: Path, readme: Path, files: Path
) -> None:
    """Write the recommendation, its files and a text that says why.

    Args:
        spec: JSON: {"recommend": {...}, "slo": {...}, "vllm": {...}, "python": {PAIR: ...}, "own": {...}}.
        table: cells.csv.
        cells: its records, JSONL.
        out: JSON file for the recommendation.
        readme: text file for the same in words.
        files: folder for the files to copy.
    """
    rows = read_csv(table, keep_default_na=False, na_values=[""])
    objective = Objective.of(spec["recommend"], spec["slo"], is_closed(rows))
    ranking = ranked(rows, objective)
    used = evidence_of(ranking.chosen, cells, asked)
    rendered = rendered_files(used[0][1], spec) if used else Files()
    files.mkdir(parents=True, exist_ok=True)
    write_files(rendered, files)
    recommendation = recommendation_of(ranking, objective, spec, rendered, used, rows)
    out.write_text(json.dumps(recommendation, indent=2) + "\n")
    readme.write_text(readme_of(recommendation))
    print(f"hyperkv choose_scenario: {recommendation['answer']}", file=sys.stderr)


def evidence_of(
    chosen: Candidate | None, paths: Sequence[Path], asked: Mapping[str, Identity] | None = None
) -> list[tuple[Path, dict[str, Any]]]:
    """The records of the chosen scenario at the load it was chosen at, with their files; none when nothing was chosen.

    Raises UserError when they are not among the files.
    """
    if chosen is None:
        return []
    own = [path for path in paths if path.parent.name == chosen.scenario]
    used = [
        (path, record)
        for path in own
        for record in read_jsonl([path], asked)
        if record["record"] == "cell" and record["load"] == chosen.load
    ]
    if not used:
        raise UserError(
            f"recommend: --cells has no record of {chosen.scenario} at load {chosen.load}, which the table has; "
            f"give all files of the sweep"
        )
    return used


def rendered_files(record: dict[str, Any], spec: Mapping[str, Any]) -> Files:
    """The files of one record's scenario."""
    section = spec["recommend"]
    place = Place(
        Path(section["data_dir"]).absolute() if section["data_dir"] else measured_place(record),
        Path(section["install_dir"]),
        section["port"],
        section["engine_port"],
        Path.cwd(),
    )
    own = spec["own"].get(record["scenario"], {"vllm": {}, "lmcache": {}})
    return files_of(record, EngineSlice(spec["vllm"], own, interpreter_of(record, spec)), place)


def interpreter_of(record: Mapping[str, Any], spec: Mapping[str, Any]) -> str:
    """The engine's interpreter: the record's, else the config's for its pair when it is there, else python3."""
    named = record["spec"].get("engine_python") or spec["python"].get(pair_of(record, spec)) or "python3"
    named = named if "engine_python" in record["spec"] or Path(named).exists() else "python3"
    return str(Path(named).absolute()) if "/" in named else named


def write_files(files: Files, folder: Path) -> None:
    """Scripts can be executed; a configuration is its owner's alone."""
    for name, text in files.texts.items():
        path = folder / name
        path.touch(0o700 if name.endswith(".sh") else 0o600 if name.endswith((".conf", ".yaml")) else 0o644)
        path.write_text(text)


if __name__ == "__main__":
    sys.exit(run_stage("choose_scenario", main))
