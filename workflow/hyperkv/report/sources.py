"""Where what the page shows was recorded: links to lines of the results folder, and the tables that have them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from ..records.frames import read_jsonl
from ..records.hardware import short_gpu
from ..records.record_file import Identity
from ..records.repeats import at_common_load, cell_anchor, load_unit
from ..tables.methods.pays_text import PAIR, TIER_WORDS, pair_anchor, times, too_many_gpus
from .rows import Cell, Link, Table, interval_text, percent, scenario_rows
from .run_rows import latency_rows


@dataclass
class Sources:
    """cells: by scenario, load and repeat the line of its record. singles: by scenario those of its single requests, a line
    per repeat. stores: by scenario the file of a store's points."""

    cells: dict[tuple[str, float, int], Link] = field(default_factory=dict)
    singles: dict[str, list[Link]] = field(default_factory=dict)
    stores: dict[str, Link] = field(default_factory=dict)


def sources_of(paths: Sequence[Path], page: Path, asked: Mapping[str, Identity] | None = None) -> Sources:
    """Where each record of JSONL files of the sweep and of the profile is, seen from a page. asked, errors: as of read_jsonl."""
    found = Sources()
    for path in paths:
        href = Path(os.path.relpath(path, page.parent)).as_posix()
        for line, record in enumerate(read_jsonl([path], asked), 1):
            if record["record"] == "cell":
                key = (record["scenario"], float(record["load"]), record["repeat"])
                found.cells[key] = Link(f"{path.name}:{line}", href)
            elif record["record"] == "single":
                found.singles.setdefault(record["scenario"], []).append(Link(f"{path.name}:{line}", href))
            elif record["record"] == "point":
                found.stores[record["scenario"]] = Link(record["scenario"], href)
    return found


def cell_rows(scenarios: pd.DataFrame, cells: pd.DataFrame, found: Mapping[tuple, Link]) -> Table:
    """scenario_rows, each row a place of the page that figures lead to, with links to the records of its repeats."""
    table = scenario_rows(scenarios)
    pairs = [(row["scenario"], float(row["load"])) for _, row in scenarios.iterrows()]
    repeats = {pair: list(own["repeat"]) for pair, own in cells.groupby(["scenario", "load"])}
    links = [
        [found[key] for repeat in repeats.get(pair, ()) if (key := (*pair, repeat)) in found]
        for pair in pairs
    ]
    rows: list[list[Cell]] = [[*row, own or "-"] for row, own in zip(table.rows, links, strict=True)]
    ids = [cell_anchor(*pair) for pair in pairs]
    return replace(table, headers=[*table.headers, "records"], rows=rows, ids=ids)


def single_rows(latency: pd.DataFrame, found: Mapping[str, Sequence[Link]]) -> Table:
    """latency_rows with links to the records of its repeats."""
    table = latency_rows(latency)
    rows = [[*row, found.get(str(row[0])) or "-"] for row in table.rows]
    return replace(table, headers=[*table.headers, "records"], rows=rows)


def sweep_rows(scenarios: pd.DataFrame) -> Table:
    """Medians at the highest load that all have, a row per scenario that leads to its cells; a hollow circle where not all are valid."""
    rows: list[list[Cell]] = []
    marked = []
    for _, row in at_common_load(scenarios).iterrows():
        if not row["valid"]:
            marked.append(len(rows))
        name = f"{'' if row['valid'] else '○ '}{row['scenario']}"
        link = [Link(name, f"#{cell_anchor(row['scenario'], row['load'])}")]
        columns = ("rps_per_gpu", "tps_per_user", "ttft_p50_ms", "ttft_p95_ms")
        texts = [interval_text(row, column).partition(" [")[0] for column in columns]
        rows.append([link, f"{row['load']:g}", *texts, percent(row["hit_rate"])])
    headers = ["scenario", load_unit(scenarios), "RPS/GPU", "TPS/user", "TTFT p50, ms", "TTFT p95, ms"]
    return Table([*headers, "hit rate"], rows, range(1, 7), marked)


def pays_rows(pays: pd.DataFrame, found: Mapping[str, Link]) -> Table:
    """Table pays with a row per model, GPU, KV format and prompt: times faster from each tier, and the stores that stand for them."""
    rows: list[list[Cell]] = []
    ids = []
    for keys, pair in pays.groupby(PAIR, sort=False):
        tiers = {row["tier"]: row for _, row in pair.iterrows()}
        many = too_many_gpus(pair)
        texts = [many or times(tiers.get(tier)) for tier in TIER_WORDS]
        stores = [found[name] for name in dict.fromkeys(pair["scenario"].dropna()) if name in found]
        model, gpu, kv_dtype, prompt = keys
        told = short_gpu(gpu) + (" *" if pair.iloc[0]["gpu_derived"] else "")
        rows.append([model, told, kv_dtype, f"{prompt:,}", *texts, stores or "-"])
        ids.append(pair_anchor(*keys))
    headers = ["model", "GPU", "KV", "prompt tokens", *TIER_WORDS.values(), "stores' records"]
    return Table(headers, rows, range(3, 7), ids=ids)
