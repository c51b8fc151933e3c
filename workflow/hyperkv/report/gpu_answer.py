"""The answer for machines with a GPU, of measured runs: for which models and prompts their SSD pays, and which GB/s the others need."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ...plugin.lmcache_striped.gate import TTFT
from ..predict.single_requests import of_pool
from ..records.hardware import short_gpu
from ..records.kept_run import KeptRun
from ..records.repeats import CLOSED, words_of_loads
from ..records.stats import interval_word
from ..records.templates import filled, number, size_words
from ..tables.cells import cells_table
from ..tables.methods.over_recompute import cell_ratios, measured_break_even, single_ratios
from .rows import percent

MODELS = Path("config/models")
_GROUP = ["gpu", "model", "kv_dtype", "gpus"]
PAYS, LOSES, UNDECIDED, NEEDS = "pays", "loses", "undecided", "needs"
_HITS = ("hbm_hit_tokens", "dram_hit_tokens", "hit_tokens")
_NEARLY = 0.9  # of a prompt's tokens; the rest is computed, as of a chunk that is not full
Key = tuple[str, ...]
Groups = dict[Key, "Group"]


@dataclass
class Group:
    """What one verdict says of a model, a KV format and a GPU: of its shortest and longest prompt."""

    name: str
    told_needs: bool
    prompts: list[dict[str, Any]] = field(default_factory=list)


def answer(runs: Sequence[KeptRun]) -> list[str]:
    """Lines of Markdown: a sentence each, or a list; none when no run has anything of an SSD beside recompute.

    Of prompts the scenario that loads fastest counts, without gate or shaped device; of loads the one that serves most at the highest load that
    was served from SSD, of an open loop the one whose first tokens come soonest, and the same with gate ttft. Of a model that has nothing of an
    SSD the engine's own pool tells which GB/s it needs. Scenarios may be split among runs; of one that several have the last counts.
    """
    if not runs:
        return []
    prompts, loads, pools = (
        pd.concat([rows(run).assign(place=place) for place, run in enumerate(runs)])
        for rows in (prompt_rows, load_rows, pool_rows)
    )
    gpus = {*prompts["gpu"], *loads["gpu"]}
    found: dict[str, Groups] = {PAYS: {}, LOSES: {}, UNDECIDED: {}, NEEDS: {}}
    best_prompts = [*_best(prompts, ["prompt_tokens"], "ratio", lowest=True)]
    closed = loads["loop"].eq(CLOSED)
    best_loads = [
        *_best(loads[closed], ["workload", "gate"], "rps_ratio", lowest=False),
        *_best(loads[~closed], ["workload", "gate"], "ttft_ratio", lowest=True),
    ]
    for row in best_prompts:
        kind = verdict(row)
        group = _group(found[kind], row, gpus, told_needs=kind == LOSES)
        group.prompts = [*group.prompts[:1], _prompt_words(row)]
    asked: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in best_loads:
        words = _load_words(row)
        asked.setdefault(_name(row, gpus), {}).setdefault(words["asked"], []).append(words)
    measured = {_key(row) for row in [*best_prompts, *best_loads]}
    for row in _best(pools, ["prompt_tokens"], "ratio", lowest=True) if gpus else ():
        if _key(row) not in measured:
            group = _group(found[NEEDS], row, {*gpus, row["gpu"]}, told_needs=True)
            group.prompts = [*group.prompts[:1], _prompt_words(row)]
    ssd = _ssd_words([row["gave_gbps"] for row in best_prompts])
    where = f"On {short_gpu(*gpus)} " if len(gpus) == 1 else ""
    told: list[str] = []
    for kind, groups in found.items():
        if groups:
            words = {"groups": [*groups.values()], "ssd": ssd, "where": where, "first": not told}
            told.append(filled(__file__, kind, **words).strip())
    if asked:
        names = dict.fromkeys(
            [*(group.name for groups in found.values() for group in groups.values()), *asked]
        )
        in_order = [(name, *each) for name in names for each in asked.get(name, {}).items()]
        told.append(filled(__file__, "loads", asked=in_order, where=where, first=not told).strip())
    if not told:
        return []
    repeats = sorted({int(row["repeats"]) for row in [*best_prompts, *best_loads]})
    caveat = filled(__file__, "caveat", repeats=repeats, interval=interval_word(repeats[-1]))
    return "\n\n".join([*told, caveat]).splitlines()


def quoted(lines: Sequence[str]) -> str:
    """Lines as a quotation of Markdown."""
    return "".join(f"> {line}".rstrip() + "\n" for line in lines)


def prompt_rows(run: KeptRun) -> pd.DataFrame:
    """Single requests that a run loaded from SSD, all of each: rows of single_ratios, with `needs_gbps` and `gave_gbps`."""
    singles = single_ratios(run.of("single"))
    return _whole(singles, singles["tier"].eq("ssd") & singles["gate"].isna() & singles["shape"].isna())


def pool_rows(run: KeptRun) -> pd.DataFrame:
    """Single requests that the engine's own pool served, which tell what a store would have to deliver: as prompt_rows."""
    singles = single_ratios(run.of("single"))
    rows = _whole(
        singles, pd.Series([of_pool(row) for row in singles.to_dict("records")], singles.index, bool)
    )
    return rows[rows["needs_gbps"].notna()]


def _whole(singles: pd.DataFrame, wanted: pd.Series) -> pd.DataFrame:
    """Those rows of which nearly all tokens were loaded, with what they need."""
    whole = singles["ratio"].notna() & singles["valid"].eq(True) & singles["loaded_share"].gt(_NEARLY)
    rows = singles[wanted & whole].copy()
    found = [measured_break_even(singles, row) for row in rows.to_dict("records")]
    rows["needs_gbps"], rows["gave_gbps"] = [needs.median for needs, _ in found], [gave for _, gave in found]
    return rows


def load_rows(run: KeptRun) -> pd.DataFrame:
    """Cells of a run at the highest load that SSD served, a row per scenario: its facts and its ratios to recompute."""
    records = run.of("cell")
    own = {record["scenario"]: record["spec"]["scenario"] for record in records}
    shaped = {name for name, scenario in own.items() if scenario.get("shape")}
    cells = cells_table(records)
    valid = cells[cells["valid"].astype(bool)]
    summed = {name: valid.groupby(["scenario", "load"])[name].transform("sum") for name in _HITS}
    first = valid.assign(**summed).drop_duplicates(["scenario", "load"])
    rows = cell_ratios(cells).merge(first, on=["scenario", "load"])
    rows = rows.assign(gate=rows["gate"].fillna(""))
    pools = rows[rows["store"].eq("dram")].drop_duplicates(same := ["load", "dram_pool_bytes"])
    alone = pools["rps_ratio"].where(pools["loop"].eq(CLOSED), pools["ttft_ratio"])
    rows = rows.merge(pools[same].assign(alone=alone), on=same, how="left")
    from_ssd = (
        rows["tier"].eq("ssd") & rows["served_from"].str.contains("ssd") & ~rows["scenario"].isin(shaped)
    )
    rows = rows[from_ssd & rows["rps_ratio"].notna() & rows["gate"].isin(["", TTFT])]
    return rows[rows["load"] == rows["load"].max()]


def verdict(row: Mapping[str, Any]) -> str:
    """Whether a prompt takes less time loaded than computed, for sure; the median decides where there is no interval."""
    known = pd.notna(row["ratio_low"])
    low, high = (row["ratio_low"], row["ratio_high"]) if known else (row["ratio"], row["ratio"])
    return PAYS if high < 1 else LOSES if low > 1 else UNDECIDED


def _prompt_words(row: Mapping[str, Any]) -> dict[str, Any]:
    needs = row["needs_gbps"]
    told = {"tokens": f"{row['prompt_tokens']:,}", "ratio": _with_range(row, "ratio")}
    return told | {"needs": number(needs) if pd.notna(needs) else None}


def _load_words(row: Mapping[str, Any]) -> dict[str, Any]:
    """A DRAM pool is told where hits came from it, too, which share from below it, and what the same DRAM does alone: its requests/s, of an open loop
    its TTFT.
    """
    pool = row["dram_pool_bytes"] if row["dram_hit_tokens"] and pd.notna(row["dram_pool_bytes"]) else None
    below = 1 - (row["dram_hit_tokens"] + row["hbm_hit_tokens"]) / row["hit_tokens"] if pool else 0.0
    asked = [words_of_loads([row["load"]], row["loop"]), row["workload"].split(",")[0].replace("_", " ")]
    closed = row["loop"] == CLOSED
    word = "" if closed else "TTFT "
    alone = f"{word}{number(row['alone'])}" if pd.notna(row["alone"]) else "not measured"
    return {
        "asked": ", ".join([*asked, *([f"{size_words(pool)} DRAM pool (alone {alone})"] if pool else [])]),
        "gate": row["gate"] or None,
        "rps": _with_range(row, "rps_ratio") if closed else None,
        "ttft": _with_range(row, "ttft_ratio"),
        "p95": None if closed else _with_range(row, "ttft_p95_ratio"),
        "below": percent(below) if pool else None,
    }


def _with_range(row: Mapping[str, Any], name: str) -> str:
    """'1.52 (1.45 to 1.60)'; without the interval where there is none."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return number(row[name]) + (f" ({number(low)} to {number(high)})" if pd.notna(low) else "")


def _ssd_words(gave_gbps: Sequence[float | None]) -> str:
    """'an SSD of 1.5 to 1.8 GB/s', what prompts were loaded at; 'SSD' where nothing tells."""
    told = [value for value in gave_gbps if value is not None and pd.notna(value)]
    ends = dict.fromkeys(f"{value:.1f}" for value in (min(told), max(told))) if told else ()
    return f"an SSD of {' to '.join(ends)} GB/s" if told else "SSD"


def _model_words(name: str) -> str:
    """'Qwen3-32B' of 'qwen3-32b': the name in the model's own file, where there is one."""
    path = MODELS / f"{name}.json"
    return json.loads(path.read_text())["_name_or_path"].rpartition("/")[2] if path.exists() else name


def _best(rows: pd.DataFrame, at: Sequence[str], ratio: str, lowest: bool) -> Iterator[dict[str, Any]]:
    """The best scenario of each model, KV format, GPU and place `at`, of those with most repeats; of a scenario its last run counts."""
    for _, own in rows.groupby([*_GROUP, *at], sort=True):
        own = own[own["repeats"] == own["repeats"].max()].sort_values("place", kind="stable")
        own = own.drop_duplicates("scenario", keep="last")
        yield own.sort_values(ratio, ascending=lowest).iloc[0].to_dict()


def _group(groups: Groups, row: Mapping[str, Any], gpus: set[str], told_needs: bool = False) -> Group:
    """The group of a row."""
    return groups.setdefault(_key(row), Group(_name(row, gpus), told_needs))


def _key(row: Mapping[str, Any]) -> Key:
    return tuple(str(row[name]) for name in _GROUP)


def _name(row: Mapping[str, Any], gpus: set[str]) -> str:
    """'Qwen3-32B with fp8 KV'; with the GPU where there are several."""
    gpu, model, kv_dtype, number_of_gpus = _key(row)
    many = f"{number_of_gpus} x " if number_of_gpus != "1" else ""
    where = f" on {many}{short_gpu(gpu)}" if len(gpus) > 1 or many else ""
    return f"{_model_words(model)} with {kv_dtype.replace('bfloat16', 'bf16')} KV{where}"
