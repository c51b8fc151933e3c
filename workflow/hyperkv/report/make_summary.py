"""Stage make_summary: the answer and the main numbers of a run, for programs as JSON and for the terminal as text.

python -m workflow.hyperkv.report.make_summary --tables results/tables/cells.csv results/tables/scenarios.csv results/tables/ratios.csv results/tables/pays.csv results/tables/environment.json --recommendation results/recommended/recommendation.json --notes '["..."]' --out results/summary.json --text results/answer.txt
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd

from ..base.cli import run_stage
from ..base.options import Files, read_by
from ..records.frames import read_named
from ..records.hardware import disk_words, hardware_words, mixed
from ..records.repeats import at_common_load, at_own_load
from ..records.templates import filled
from ..tables.methods.pays_text import TOO_MANY, answer, caveat, pays_text
from .answer import price_of_ssd
from .run_rows import versions_of
from .summary import Environment, Evidence, Interval, Pays, Ratio, Recommendation, Scenario, Summary

NEEDED = ("cells", "scenarios", "ratios", "pays", "environment")
PATHS = {
    "page": "results/report/index.html",
    "recommended": "results/recommended/README.txt",
    "text": "results/tables/summary.txt",
    "tables": "results/tables",
    "figures": "results/figures",
    "columns": "results/tables/columns.csv",
    "summary": "results/summary.json",
}
WIDTH, MODELS = 120, 11  # of the terminal's text; with its header the grid has 12 rows
_FIGURES = ("rps_per_gpu", "tps_per_user", "ttft_p50_ms", "hit_rate")
_FEW = 2
Notes = Annotated[Sequence[str], read_by(json.loads)]


def main(*, tables: Files, recommendation: Path, notes: Notes = (), out: Path, text: Path) -> None:
    """Write both files.

    Args:
        tables: cells, scenarios, ratios, pays .csv and environment.json.
        recommendation: recommendation.json.
        notes: JSON list: what is left out of the run.
        out: JSON file.
        text: text file for the terminal.
    """
    found = read_named([*tables, recommendation], NEEDED)
    told = summary_of(found, notes)
    out.write_text(told.model_dump_json(indent=1) + "\n")
    text.write_text(terminal_text(told, found["pays"]))


def summary_of(found: Mapping[str, Any], notes: Sequence[str]) -> Summary:
    """The summary of a run. found: tables and JSON documents by name. notes: what is left out of the run."""
    cells, scenarios, pays = found["cells"], found["scenarios"], found["pays"]
    ratios, told = found["ratios"].dropna(subset=["baseline"]), found["recommendation"]
    return Summary(
        answer=" ".join(answer(pays)) if len(pays) else price_of_ssd(scenarios, ratios),
        caveat=caveat(pays) if len(pays) else "",
        pays=[_pays(*group) for group in pays.groupby(["tier", "kv_dtype", "prompt_tokens"], sort=False)],
        recommendation=_recommendation(told),
        **{name: told[name] for name in ("engine", "model", "gpu")},
        sweep=[_scenario(row) for _, row in at_common_load(scenarios).iterrows()],
        ratios=list(_ratios(ratios, scenarios)),
        evidence=_evidence(cells),
        environments=[_environment(each) for each in found["environment"]],
        notes=[*_doubts(cells), *filter(None, mixed([scenarios]).splitlines()), *notes],
        paths=PATHS,
    )


def terminal_text(summary: Summary, pays: pd.DataFrame) -> str:
    """What a run says at its end: at most 40 lines of at most 120 characters (a longer word stays whole).

    pays: that table; of its grid the first models, and the first GPUs for which there is room.
    """
    columns = pays["gpu"].nunique()
    head = pays_text(pays, MODELS, columns)
    while columns > 1 and max(map(len, head.splitlines())) > WIDTH:
        columns -= 1
        head = pays_text(pays, MODELS, columns)
    return filled(
        __file__,
        head=head or summary.answer,
        left_out=columns < pays["gpu"].nunique() or pays["model"].nunique() > MODELS,
        summary=summary,
    )


def _pays(group: tuple[Any, ...], rows: pd.DataFrame) -> Pays:
    tier, kv_dtype, prompt_tokens = group
    counts = rows["verdict"].value_counts()
    words = ("pays", "undecided", "loses", TOO_MANY)
    found = {word.lower().replace(" ", "_"): int(counts.get(word, 0)) for word in words}
    return Pays(tier=tier, kv_dtype=kv_dtype, prompt_tokens=prompt_tokens, **found)


def _recommendation(told: Mapping[str, Any]) -> Recommendation:
    chosen, objective = told["chosen"] or {}, told["objective"]
    return Recommendation(
        answer=told["answer"],
        scenario=chosen.get("scenario"),
        load=chosen.get("load"),
        metric=objective["metric"],
        unit=objective["unit"],
        value=_interval(chosen, "value"),
    )


def _scenario(row: pd.Series) -> Scenario:
    words: dict[str, Any] = {key: _known(row[key]) for key in ("store", "connector", "served_from")}
    plain = {key: row[key] for key in ("scenario", "tier", "load", "valid", "repeats", "valid_repeats")}
    words |= {name: _interval(row, name) for name in _FIGURES}
    return Scenario(**words, **plain)


def _ratios(ratios: pd.DataFrame, scenarios: pd.DataFrame) -> Iterator[Ratio]:
    on_ssd = scenarios[scenarios["tier"] == "ssd"]["scenario"]
    shown = pd.concat([at_own_load(ratios), ratios[ratios["load"].isna()]]).sort_index()
    for _, row in shown[shown["scenario"].isin(on_ssd)].iterrows():
        told = {key: _known(row[key]) for key in ("baseline", "scenario", "at", "load", "metric", "unlike")}
        yield Ratio(**told, ratio=_interval(row, "ratio"))


def _evidence(cells: pd.DataFrame) -> Evidence:
    names = {
        "sent_requests": "sent_requests",
        "failed_requests": "failed_requests",
        "wrong_chunks": "corrupt_chunks",
    }
    totals = {key: _total(cells, name) for key, name in names.items()}
    return Evidence(cells=len(cells), valid_cells=int(cells["valid"].sum()), **totals)


def _total(cells: pd.DataFrame, name: str) -> int | None:
    return int(cells[name].sum()) if name in cells and cells[name].notna().any() else None


def _environment(told: Mapping[str, Any]) -> Environment:
    git = told.get("git") or {}
    return Environment(
        machine=hardware_words(told),
        disk=disk_words(told.get("disk") or {}),
        system=", ".join(filter(None, [told.get("os"), told.get("kernel")])) or None,
        versions=versions_of(told),
        commit=git.get("commit"),
        edited=git.get("dirty"),
    )


def _doubts(cells: pd.DataFrame) -> Iterator[str]:
    """A line with the first invalid cells."""
    invalid = cells[~cells["valid"].astype(bool)]
    if len(invalid):
        told = [
            f"{row['scenario']} at load {row['load']:g}, repeat {row['repeat']}: {row['reasons']}"
            for _, row in invalid.head(_FEW).iterrows()
        ]
        rest = f"; and {len(invalid) - _FEW} more" if len(invalid) > _FEW else ""
        yield f"{len(invalid)} of {len(cells)} cells are invalid and drawn hollow: {'; '.join(told)}{rest}."


def _interval(row: Mapping[str, Any], name: str) -> Interval:
    ends = (_known(row.get(name + suffix)) for suffix in ("", "_low", "_high"))
    return Interval(**dict(zip(("value", "low", "high"), ends, strict=True)))


def _known(value: Any) -> Any:
    return None if pd.isna(value) else value


if __name__ == "__main__":
    sys.exit(run_stage("make_summary", main))
