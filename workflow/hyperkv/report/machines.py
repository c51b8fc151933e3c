"""The same experiment on several machines: every scenario over its own machine's recompute, and whether the intervals overlap.

python -m workflow.hyperkv.report.machines --runs results/reference/h200/2026-11-30-a results/reference/h200/2026-11-30-b
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

from ..base.cli import run_stage
from ..base.errors import UserError
from ..base.options import Files
from ..records.frames import read_jsonl
from ..records.hardware import columns_of
from ..records.kept_run import ABOUT, KeptRun, commits_of, read_run
from ..records.parity import differences, unlike
from ..records.repeats import loop_of, words_of_loads
from ..records.templates import filled
from ..tables.cells import cells_table
from ..tables.methods.over_recompute import cell_ratios, single_facts, single_ratios
from .rows import Table, interval_text, markdown

# Of a record's spec what may differ from machine to machine, what says how much was measured, and what each scenario has for itself.
_PLACES = ("data_dir", "engine_python", "loadgen_python", "made_model_dir", "environment_records")
_MUCH = ("loads", "latency")
_DIRTY = "-dirty"
_WORDS = {True: "yes", False: "no", None: "-"}
_RATIOS = {"rps_ratio": "RPS/GPU", "ttft_ratio": "TTFT p50", "ratio": "TTFT"}


@dataclass(frozen=True)
class Measured:
    """Records of one machine. code: commits, '-dirty' where the checkout was changed."""

    name: str
    records: Sequence[dict[str, Any]]
    code: Sequence[str]

    @cached_property
    def experiment(self) -> dict[str, Any]:
        """What all its records share, but for places."""
        spec = self.records[0]["spec"]
        found = {key: value for key, value in spec.items() if key not in (*_PLACES, *_MUCH, "scenario")}
        return found | {"vllm": {key: value for key, value in spec.get("vllm", {}).items() if key != "pairs"}}

    @cached_property
    def scenarios(self) -> dict[str, dict[str, Any]]:
        """Its scenarios' own keys."""
        return {each["scenario"]: each["spec"]["scenario"] for each in self.records}

    @cached_property
    def facts(self) -> pd.DataFrame:
        """What ran, a row per record."""
        return pd.DataFrame([single_facts(record) for record in self.records])

    @cached_property
    def ratios(self) -> pd.DataFrame:
        """A row per ratio to recompute: scenario, at, ratio (of _RATIOS), value and the ends of its interval."""
        cells = [record for record in self.records if record["record"] == "cell"]
        found = cell_ratios(cells_table(cells)) if cells else pd.DataFrame()
        singles = single_ratios([record for record in self.records if record["record"] == "single"])
        loop = loop_of(cells[0]) if cells else None
        rows = [
            *_rows(found, "load", lambda load: words_of_loads([load], loop)),
            *_rows(singles, "prompt_tokens", "{:,.0f} tokens".format),
        ]
        return pd.DataFrame(rows, columns=["scenario", "at", "ratio", "value", "value_low", "value_high"])


def main(*, runs: Files) -> None:
    """Print the comparison as Markdown.

    Args:
        runs: folders of results/reference, or of results, of one experiment.
    """
    if len(runs) < 2:
        raise UserError("--runs: name two folders at least, of one experiment on two machines")
    measured = [read(folder) for folder in runs]
    for one, other in pairwise(measured):
        if differs := different(one, other):
            raise UserError(f"{other.name}: not the experiment of {one.name}: {differs}")
    print(text(measured))


def read(folder: Path) -> Measured:
    """The cells and single requests of a kept run or of a results folder. Raises UserError for one without any."""
    if (folder / ABOUT).exists():
        return measured_of(read_run(folder))
    records = read_jsonl(sorted(folder.glob("sweep/*/*.jsonl")))
    if not records:
        raise UserError(f"{folder}: neither a kept run nor results with a sweep; --runs names such folders")
    return Measured(str(folder), records, commits_of(records))


def measured_of(run: KeptRun) -> Measured:
    """The cells and single requests of a kept run."""
    return Measured(run.name, run.of("cell", "single"), run.about.code)


def different(one: Measured, other: Measured) -> str:
    """In which words two are not the same experiment; empty when they are."""
    if not (one.records and other.records):
        return "it has no cells and no single requests"
    if keys := [key for key, *_ in differences(one.experiment, other.experiment)]:
        return f"{', '.join(keys)} not alike"
    for scenario, own in one.facts.groupby("scenario", sort=False):
        others = other.facts[other.facts["scenario"] == scenario]
        if len(others) and (facts := [fact for fact in unlike(own, others) if fact != "comparable_digest"]):
            values = (f"{fact} {own.iloc[0][fact]} and {others.iloc[0][fact]}" for fact in facts)
            return f"{scenario} ran with {', '.join(values)}"
    if not {*map(tuple, _places(one))} & {*map(tuple, _places(other))}:
        return "no ratio to recompute is in both"
    return ""


def text(measured: Sequence[Measured]) -> str:
    """The comparison as Markdown; of one experiment, see `different`."""
    unlike_keys = _unlike_scenarios(measured)
    table = compared(measured, [*unlike_keys])
    cells = table.groupby(["scenario", "at"], sort=False)["overlap"]
    decided = cells.agg(lambda found: found.notna().all())
    overlapping = cells.agg(lambda found: found.eq(True).all())
    apart = [f"{scenario} at {at}" for (scenario, at), yes in overlapping[decided].items() if not yes]
    columns = [columns_of(each.records) for each in measured]
    told = {name: [column[name] for column in columns] for name in ("hardware", "disk")}
    told["code"] = [", ".join(map(_commit_words, each.code)) or None for each in measured]
    return filled(
        __file__,
        facts=markdown(_facts(told, [each.name for each in measured])),
        same_code=_alike(told["code"]),
        unlike=unlike_keys,
        cells=len(cells),
        decided=int(decided.sum()),
        overlapping=int(overlapping[decided].sum()),
        apart=apart,
        table=markdown(_shown(table, [each.name for each in measured])),
    )


def compared(measured: Sequence[Measured], without: Sequence[str] = ()) -> pd.DataFrame:
    """A row per ratio that two at least have: scenario, at, ratio, a text per run, and `overlap`: whether all intervals that there are have
    a value in common; None where fewer than two have one. without: scenarios that are left out."""
    rows = []
    together = pd.concat([each.ratios.assign(run=each.name) for each in measured])
    for (scenario, at, ratio), own in together.groupby(["scenario", "at", "ratio"], sort=False):
        if scenario in without or len(own) < 2:
            continue
        known = own.dropna(subset=["value_low"])
        overlap = bool(known["value_low"].max() <= known["value_high"].min()) if len(known) > 1 else None
        texts = {row["run"]: interval_text(row, "value") for row in own.to_dict("records")}
        rows.append({"scenario": scenario, "at": at, "ratio": ratio, "overlap": overlap, **texts})
    return pd.DataFrame(
        rows, columns=["scenario", "at", "ratio", "overlap", *(each.name for each in measured)]
    )


def _facts(told: Mapping[str, Sequence[str | None]], names: Sequence[str]) -> Table:
    rows = [
        [name, *(text or "not told" for text in texts), _WORDS[_alike(texts)]] for name, texts in told.items()
    ]
    return Table(["measured with", *names, "alike"], rows)


def _alike(texts: Sequence[str | None]) -> bool | None:
    """Whether runs tell the same; None where one does not tell, or tells no more than from what its code was changed."""
    known = {text.replace(_DIRTY, "") for text in texts if text}
    if len(known) > 1:
        return False
    return None if any(text is None or _DIRTY in text for text in texts) else True


def _commit_words(commit: str) -> str:
    return commit[:7] + _DIRTY * commit.endswith(_DIRTY)


def _shown(table: pd.DataFrame, names: Sequence[str]) -> Table:
    rows = [
        [
            row["scenario"],
            row["at"],
            row["ratio"],
            *("-" if pd.isna(row[name]) else row[name] for name in names),
            _WORDS[row["overlap"]],
        ]
        for row in table.to_dict("records")
    ]
    apart = [place for place, row in enumerate(rows) if row[-1] == "no"]
    headers = ["scenario", "at", "times recompute's", *names, "overlap"]
    return Table(headers, rows, range(3, 3 + len(names)), apart)


def _rows(found: pd.DataFrame, at: str, words: Callable[[Any], str]) -> Iterator[dict[str, Any]]:
    for row in found.to_dict("records"):
        for name, title in _RATIOS.items():
            if pd.notna(row.get(name)):
                ends = {f"value{end}": row[f"{name}{end}"] for end in ("", "_low", "_high")}
                yield {"scenario": row["scenario"], "at": words(row[at]), "ratio": title, **ends}


def _places(measured: Measured) -> list[list[str]]:
    return measured.ratios[["scenario", "at", "ratio"]].values.tolist()


def _unlike_scenarios(measured: Sequence[Measured]) -> dict[str, list[str]]:
    """Scenarios whose own keys differ among the runs, with these keys."""
    found: dict[str, list[str]] = {}
    for one, other in pairwise(measured):
        for scenario in [name for name in one.scenarios if name in other.scenarios]:
            if keys := [key for key, *_ in differences(one.scenarios[scenario], other.scenarios[scenario])]:
                found.setdefault(scenario, []).extend(keys)
    return found


if __name__ == "__main__":
    sys.exit(run_stage("machines", main))
