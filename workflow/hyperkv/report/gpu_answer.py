"""The answer for machines with a GPU, of measured runs: for which models and prompts their SSD pays, and which GB/s the others need."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from ..recommend.recommendation_text import number
from ..records.hardware import short_gpu
from ..records.kept_run import KeptRun
from ..records.templates import filled
from ..tables.cells import cells_table
from ..tables.methods.over_recompute import break_even_gbps, cell_ratios, single_ratios
from .rows import interval_text

_GROUP = ["gpu", "model", "kv_dtype"]
PAYS, LOSES, UNDECIDED, LOADS = "pays", "loses", "undecided", "loads"
_WHOLE = 0.9  # of a prompt's tokens; the rest is computed, as of a chunk that is not full
Groups = dict[tuple[str, ...], "Group"]


@dataclass
class Group:
    """What one verdict says of a model, a KV format and a GPU: of prompts, and of loads."""

    name: str
    prompts: list[dict[str, Any]] = field(default_factory=list)
    loads: list[dict[str, Any]] = field(default_factory=list)
    gave: str | None = None


def answer(runs: Sequence[KeptRun]) -> list[str]:
    """The sentences; none when no run has anything of an SSD beside recompute.

    Of prompts the scenario that loads fastest counts, without gate or shaped device; of loads the one that serves most at the highest load that
    was served from SSD, beside what is said of prompts. Scenarios may be split among runs; of one that several have the last counts.
    """
    if not runs:
        return []
    prompts, loads = (
        pd.concat([rows(run).assign(place=place) for place, run in enumerate(runs)])
        for rows in (prompt_rows, load_rows)
    )
    gpus = {*prompts["gpu"], *loads["gpu"]}
    found: dict[str, Groups] = {PAYS: {}, LOSES: {}, UNDECIDED: {}, LOADS: {}}
    best_prompts = [*_best(prompts, "prompt_tokens", "ratio", lowest=True)]
    best_loads = [*_best(loads, "workload", "rps_ratio", lowest=False)]
    for row in best_prompts:
        group = _group(found[verdict(row)], row, gpus)
        group.prompts.append(_prompt_words(row))
        group.gave = number(row["gave_gbps"]) if pd.notna(row["gave_gbps"]) else group.gave
    for row in best_loads:
        key = tuple(str(row[name]) for name in _GROUP)
        beside = next((groups for groups in found.values() if key in groups), found[LOADS])
        _group(beside, row, gpus).loads.append(_load_words(row))
    told = [filled(__file__, kind, groups=[*groups.values()]) for kind, groups in found.items() if groups]
    if not told:
        return []
    where = f"On {short_gpu(*gpus)} " if len(gpus) == 1 else ""
    first = f"{where}{told[0]}"
    repeats = sorted({int(row["repeats"]) for row in [*best_prompts, *best_loads]})
    sentences = [first, *told[1:], filled(__file__, "caveat", repeats=repeats)]
    return [f"{each[0].upper()}{each[1:]}" for each in sentences]


def prompt_rows(run: KeptRun) -> pd.DataFrame:
    """Single requests that a run loaded from SSD, all of each: rows of single_ratios, with `needs_gbps` and `gave_gbps`."""
    singles = single_ratios(run.of("single"))
    plain = singles["tier"].eq("ssd") & singles["gate"].isna() & singles["shape"].isna()
    whole = singles["ratio"].notna() & singles["valid"].eq(True) & singles["loaded_share"].gt(_WHOLE)
    rows = singles[plain & whole].copy()
    found = [break_even_gbps(singles, row) for row in rows.to_dict("records")]
    rows["needs_gbps"], rows["gave_gbps"] = ([pair[place] for pair in found] for place in (0, 1))
    return rows


def load_rows(run: KeptRun) -> pd.DataFrame:
    """Cells of a run at the highest load that SSD served, a row per scenario: its facts and its ratios to recompute."""
    records = run.of("cell")
    shaped = {record["scenario"] for record in records if record["spec"]["scenario"].get("shape")}
    cells = cells_table(records)
    first = cells[cells["valid"].astype(bool)].drop_duplicates(["scenario", "load"])
    rows = cell_ratios(cells).merge(first, on=["scenario", "load"])
    from_ssd = (
        rows["tier"].eq("ssd") & rows["served_from"].str.contains("ssd") & ~rows["scenario"].isin(shaped)
    )
    rows = rows[from_ssd & rows["rps_ratio"].notna()]
    return rows[rows["load"] == rows["load"].max()]


def verdict(row: Mapping[str, Any]) -> str:
    """Whether a prompt takes less time loaded than computed, for sure; the median decides where there is no interval."""
    known = pd.notna(row["ratio_low"])
    low, high = (row["ratio_low"], row["ratio_high"]) if known else (row["ratio"], row["ratio"])
    return PAYS if high < 1 else LOSES if low > 1 else UNDECIDED


def _prompt_words(row: Mapping[str, Any]) -> dict[str, Any]:
    needs = row["needs_gbps"]
    known = pd.notna(needs) and math.isfinite(needs)
    told = {"prompt_tokens": row["prompt_tokens"], "ratio": interval_text(row, "ratio")}
    return told | {"needs": number(needs) if known else None}


def _load_words(row: Mapping[str, Any]) -> dict[str, Any]:
    told = {"clients": f"{row['load']:g}", "workload": row["workload"].split(",")[0].replace("_", " ")}
    return told | {"rps": interval_text(row, "rps_ratio"), "ttft": interval_text(row, "ttft_ratio")}


def _best(rows: pd.DataFrame, at: str, ratio: str, lowest: bool) -> Iterator[dict[str, Any]]:
    """The best scenario of each model, KV format, GPU and place `at`, of those with most repeats; of a scenario its last run counts."""
    for _, own in rows.groupby([*_GROUP, at], sort=True):
        own = own[own["repeats"] == own["repeats"].max()].sort_values("place", kind="stable")
        own = own.drop_duplicates("scenario", keep="last")
        yield own.sort_values(ratio, ascending=lowest).iloc[0].to_dict()


def _group(groups: Groups, row: Mapping[str, Any], gpus: set[str]) -> Group:
    """The group of a row; its name has the GPU where there are several."""
    gpu, model, kv_dtype = (str(row[name]) for name in _GROUP)
    where = f" on {short_gpu(gpu)}" if len(gpus) > 1 else ""
    return groups.setdefault((gpu, model, kv_dtype), Group(f"{model} with KV in {kv_dtype}{where}"))
