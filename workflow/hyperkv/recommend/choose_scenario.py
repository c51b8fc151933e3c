"""Stage choose_scenario: which scenario to run, why, and its files ready to copy; the honest answer may be to compute again.

python -m workflow.hyperkv.recommend.choose_scenario --spec '{...}' --table results/tables/cells.csv --cells results/sweep/*/*.jsonl --out results/recommended/recommendation.json --readme results/recommended/README.txt --files results/recommended/files
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from tabulate import tabulate

from ..base.cli import run_stage
from ..base.errors import UserError
from ..records.frames import add_asked, read_csv, read_jsonl
from ..records.hardware import gpu_words, machine_words
from ..records.record_file import Identity
from ..records.stats import Interval
from ..tables.environment import unique_environments
from .engine_files import EngineSlice
from .files import Files, Place
from .ranking import COMPARED_FACTS, Candidate, Comparison, Objective, Ranking, ranked
from .recommendation_text import answer, doubt, number, objective_words, with_interval
from .recommended_files import files_of, measured_place

SCHEMA_VERSION = 1


def main() -> None:
    """Parse the command line; write the recommendation, its files and a text that says why."""
    parser = argparse.ArgumentParser(
        prog="python -m workflow.hyperkv.recommend.choose_scenario", description=__doc__
    )
    parser.add_argument(
        "--spec",
        required=True,
        help='JSON: {"recommend": {...}, "slo": {...}, "vllm": {...}, "python": ..., "own": {...}}',
    )
    parser.add_argument("--table", required=True, type=Path, help="cells.csv")
    parser.add_argument("--cells", required=True, nargs="+", type=Path, help="its records, JSONL")
    parser.add_argument("--out", required=True, type=Path, help="JSON file for the recommendation")
    parser.add_argument("--readme", required=True, type=Path, help="text file for the same in words")
    parser.add_argument("--files", required=True, type=Path, help="folder for the files to copy")
    add_asked(parser)
    arguments = parser.parse_args()
    spec = json.loads(arguments.spec)
    cells = read_csv(arguments.table, keep_default_na=False, na_values=[""])
    objective = Objective.of(spec["recommend"], spec["slo"])
    ranking = ranked(cells, objective)
    used = evidence_of(ranking.chosen, arguments.cells, arguments.asked)
    files = rendered_files(used[0][1], spec) if used else Files()
    arguments.files.mkdir(parents=True, exist_ok=True)
    write_files(files, arguments.files)
    recommendation = recommendation_of(ranking, objective, spec, files, used, cells)
    arguments.out.write_text(json.dumps(recommendation, indent=2) + "\n")
    arguments.readme.write_text(readme(recommendation))
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
    """The engine's interpreter: the record's, else the config's when it is there, else python3."""
    named = record["spec"].get("engine_python") or (
        spec["python"] if Path(spec["python"]).exists() else "python3"
    )
    return str(Path(named).absolute()) if "/" in named else named


def write_files(files: Files, folder: Path) -> None:
    """Scripts can be executed; a configuration is its owner's alone."""
    for name, text in files.texts.items():
        path = folder / name
        path.touch(0o700 if name.endswith(".sh") else 0o600 if name.endswith((".conf", ".yaml")) else 0o644)
        path.write_text(text)


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
        "objective": {
            "word": objective.word,
            "metric": objective.metric,
            "unit": objective.unit,
            "label": objective.label,
            "higher_is_better": objective.higher_is_better,
            "load": objective.load,
            "tps_per_user_min": objective.tps_per_user_min,
            "slo": spec["slo"],
        },
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
        "files": files.about,
        "not_written": files.missing,
        "notes": [*files.notes, *parity_notes(ranking)],
        "servers": files.servers,
    }


def again(record: Mapping[str, Any]) -> str:
    """The command line that measures a record's scenario and repeat again."""
    text, repeat = json.dumps(record["spec"], sort_keys=True), str(record["repeat"])
    argv = [
        "python",
        "-m",
        "workflow.hyperkv.sweep.measure_scenario",
        "--spec",
        text,
        "--repeat",
        repeat,
        "--out",
        "again.jsonl",
    ]
    return shlex.join(argv)


def words_of(column: pd.Series) -> str | None:
    """The different words of a column, None when it has none."""
    return ", ".join(dict.fromkeys(column.dropna().astype(str))) or None


def candidate_row(candidate: Candidate) -> dict[str, Any]:
    """A candidate's numbers and facts."""
    return {
        "scenario": candidate.scenario,
        "load": candidate.load,
        **interval_row("value", candidate.interval),
        "repeats": len(candidate.values),
        **candidate.facts,
    }


def comparison_row(comparison: Comparison) -> dict[str, Any]:
    """The same of another one, and how many times better the chosen one is."""
    return {
        **candidate_row(comparison.other),
        **interval_row("chosen_is_better", comparison.ratio),
        "told_apart": comparison.apart,
        "doubt": doubt(comparison).strip(" ()"),
    }


def interval_row(name: str, interval: Interval) -> dict[str, float | None]:
    return {name: interval.median, f"{name}_low": interval.low, f"{name}_high": interval.high}


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
}


def _unlike_facts(one: Candidate, other: Candidate) -> list[str]:
    """The facts in which two candidates differ; without a tier there is nothing to save."""
    computes = "none" in (one.facts["tier"], other.facts["tier"])
    held_to = [name for name in COMPARED_FACTS if not (computes and name == "save_decode_cache")]
    return [name for name in held_to if one.facts[name] != other.facts[name]]


def readme(recommendation: Mapping[str, Any]) -> str:
    """The recommendation for a person with a terminal."""
    objective, chosen = recommendation["objective"], recommendation["chosen"]
    parts = [textwrap.fill(recommendation["answer"], 110), "", f"Objective: {objective_words(objective)}."]
    parts += [
        f"Engine {recommendation['engine']}, model {recommendation['model']}, GPU {recommendation['gpu'] or 'of the machine'}."
    ]
    if chosen is not None:
        parts += [f"Measured on: {'; '.join(recommendation['machines'])}."]
        parts += ["", ranking_table(recommendation)]
    if left_out := recommendation["left_out"]:
        parts += [
            "",
            "Left out:",
            *(f"  {item['scenario']} at load {item['load']}: {item['reason']}" for item in left_out),
        ]
    if recommendation["files"]:
        parts += [
            "",
            "In files/:",
            tabulate(
                [[f"  {name}", about] for name, about in recommendation["files"].items()], tablefmt="plain"
            ),
        ]
        parts += ["", *install_lines(recommendation)]
    parts += [f"Not written: {name}: {reason}" for name, reason in recommendation["not_written"].items()]
    if recommendation["notes"]:
        parts += [
            "",
            *(textwrap.fill(f"- {note}", 110, subsequent_indent="  ") for note in recommendation["notes"]),
        ]
    if recommendation["evidence"]["records"]:
        parts += ["", "Records:", *(f"  {path}" for path in recommendation["evidence"]["records"])]
    return "\n".join(parts) + "\n"


def ranking_table(recommendation: Mapping[str, Any]) -> str:
    """The chosen scenario and the others, the best first after it."""
    objective = recommendation["objective"]
    rows = [
        [
            row["scenario"],
            row["load"],
            with_interval(Interval(row["value"], row["value_low"], row["value_high"])),
            number(row["tps_per_user"]),
            row["served_from"],
            better_words(row),
        ]
        for row in [recommendation["chosen"], *recommendation["others"]]
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


def install_lines(recommendation: Mapping[str, Any]) -> list[str]:
    """How the files are used, as commands."""
    files = recommendation["files"]
    scripts = [f"sh files/{server['script']}" for server in recommendation["servers"]]
    scripts += [f"sh files/{name}" for name in ("lmcache-server.sh", "vllm.sh") if name in files]
    return ["To try, each in its own terminal:", *(f"  {line}" for line in scripts)] + (
        [
            "As services: copy the .service files to /etc/systemd/system, the others to the folder that they name,",
            "give these to the user of User= (chown), then systemctl daemon-reload and systemctl enable --now.",
            *_password_lines(recommendation["servers"]),
        ]
        if recommendation["servers"]
        else []
    )


def _password_lines(servers: Sequence[Mapping[str, Any]]) -> list[str]:
    """What services need whose password is in a variable of the shell."""
    names = dict.fromkeys(found for server in servers if (found := server["password"].get("password_env")))
    return [
        f"The services need ${name}: EnvironmentFile= in each, a file that root alone reads."
        for name in names
    ]


if __name__ == "__main__":
    sys.exit(run_stage("choose_scenario", main))
