"""The tables of a kept run's page beside those of rows.py, as texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ..predict.break_even_text import required_words
from ..records.hardware import disk_words, hardware_words, short_gpu
from ..records.repeats import is_closed, load_unit, single_anchor, used, words_of_loads
from ..records.templates import number
from ..tables.methods.predicted_text import HIT_RATE, OFF, UNITS, WORDS
from .rows import Table, interval_text, percent

_PASSES = {"computed": "computed", "saved": "computed and saved", "loaded": "from the tier"}
_ENGINE = ("vllm", "lmcache", "torch", "aiperf")
_FIRST_TOKENS = {"ttft_ratio": "TTFT p50", "ttft_p95_ratio": "TTFT p95"}
_RATIOS = {"rps_ratio": "RPS"} | _FIRST_TOKENS
_OPERATIONS = {"set": "SET", "get_warm": "GET, warm", "get_cold": "GET, cold"}


def latency_rows(latency: pd.DataFrame) -> Table:
    """TTFT of single requests, a row per scenario and prompt length, a column per pass; hollow ones say so."""
    rows: list[list[str]] = []
    marked: list[int] = []
    ids: list[str] = []
    for (scenario, tokens), group in latency.groupby(["scenario", "prompt_tokens"], sort=False):
        found = {row["pass"]: interval_text(row, "ttft_s") for _, row in group.iterrows()}
        valid = bool(group["valid"].all())
        if not valid:
            marked.append(len(rows))
        ids.append(single_anchor(scenario, tokens))
        texts = [found.get(name, "") for name in _PASSES]
        prompts = f"{group['prompts'].max()}"
        rows.append([str(scenario), f"{tokens:,}", *texts, prompts, "yes" if valid else "no"])
    headers = [
        "scenario",
        "prompt tokens",
        *(f"TTFT, s, {words}" for words in _PASSES.values()),
        "prompts",
        "valid",
    ]
    return Table(headers, rows, range(1, 6), marked, ids)


def predicted_rows(predicted: pd.DataFrame) -> Table | None:
    """What was predicted beside what was measured, a row per scenario, its prompt lengths or loads in one; None where nothing was compared.

    A row with one that is further off than allowed is marked.
    """
    rows: list[list[str]] = []
    marked: list[int] = []
    compared = predicted.dropna(subset=["verdict"])
    for (quantity, scenario), own in compared.groupby(["quantity", "scenario"], sort=False):
        if (own["verdict"] == OFF).any():
            marked.append(len(rows))
        rates = quantity == HIT_RATE
        at = [f"{row['load']:g}" if rates else f"{row['prompt_tokens']:,.0f}" for _, row in own.iterrows()]
        values = [
            [percent(value) if rates else f"{value:.3g}" for value in own[key]]
            for key in ("predicted", "measured")
        ]
        unit = "" if rates else f", {UNITS[quantity].replace('10^9 bytes', 'GB')}"
        texts = map(", ".join, [at, *values, [f"{100 * error:+.0f} %" for error in own["error"]]])
        rows.append([WORDS[quantity] + unit, str(scenario), *texts])
    headers = ["what", "scenario", "prompt tokens, or load", "predicted", "measured", "error"]
    return Table(headers, rows, range(3, 6), marked) if rows else None


def single_rows(singles: pd.DataFrame) -> Table:
    """TTFT of single requests, a row per prompt length and scenario: medians, and how many times recompute's it is from the tier."""
    rows: list[list[str]] = []
    marked: list[int] = []
    for row in singles.sort_values("prompt_tokens", kind="stable").to_dict("records"):
        if not row["valid"]:
            marked.append(len(rows))
        first = row["computed_s"] if row["tier"] == "none" else row["saved_s"]
        times = (number(value) if pd.notna(value) else "-" for value in (first, row["loaded_s"]))
        rows.append([f"{row['prompt_tokens']:,}", str(row["scenario"]), *times, _ratio_text(row, "ratio")])
    headers = ["prompt tokens", "scenario", "TTFT first, s", "TTFT from the tier, s", "times recompute's"]
    return Table(headers, rows, (0, 2, 3, 4), marked)


def main_rows(scenarios: pd.DataFrame, ratios: pd.DataFrame, cells: pd.DataFrame) -> Table:
    """A row per scenario and load: what was measured, where hits came from, and how many times recompute's it is: requests/s and TTFT, of an open
    loop, which asks for as many everywhere, TTFT alone; its median says little where there are two humps.

    scenarios, cells: those tables; ratios: of over_recompute.cell_ratios.
    """
    repeats = {key: used(own) for key, own in cells.groupby(["scenario", "load"])}
    found = scenarios.merge(ratios.drop(columns="repeats"), on=["scenario", "load"], how="left")
    rows, several = [], "pair" in scenarios and scenarios["pair"].nunique() > 1
    ratio_titles = _RATIOS if is_closed(scenarios) else _FIRST_TOKENS
    for row in found.to_dict("records"):
        origin = _origin_words(row, repeats[row["scenario"], row["load"]])
        rows.append(
            [
                f"{row['scenario']} ({row['pair']})" if several else str(row["scenario"]),
                f"{row['load']:g}",
                *(_ratio_text(row, name) for name in ratio_titles),
                interval_text(row, "rps_per_gpu"),
                interval_text(row, "ttft_p50_ms"),
                percent(row["hit_rate"]),
                origin,
                f"{row['valid_repeats']} of {row['repeats']}",
            ]
        )
    titles = (f"{title}, times recompute's" for title in ratio_titles.values())
    headers = ["scenario", load_unit(scenarios), *titles]
    headers += ["RPS/GPU", "TTFT p50, ms", "hit rate", "from", "valid"]
    bad = [place for place, valid in enumerate(found["valid"]) if not valid]
    return Table(headers, rows, range(1, len(headers) - 2), bad)


def _origin_words(row: Mapping[str, Any], repeats: pd.DataFrame) -> str:
    """'80 % DRAM, ssd (99 % read)': shares of hits that HBM and the DRAM before the store served, then where the store's bytes came from."""
    hits = repeats[["hit_tokens", "hbm_hit_tokens", "dram_hit_tokens"]].apply(pd.to_numeric).sum()
    before = {"HBM": hits["hbm_hit_tokens"], "DRAM": 0 if row["store"] == "dram" else hits["dram_hit_tokens"]}
    words = [f"{percent(tokens / hits['hit_tokens'])} {name}" for name, tokens in before.items() if tokens]
    if row["served_from"] != "nothing" or not words:
        read = "" if pd.isna(row["device_share"]) else f" ({percent(row['device_share'])} read)"
        words.append(f"{row['served_from']}{read}")
    return ", ".join(words)


def invalid_rows(cells: pd.DataFrame | None, singles: pd.DataFrame | None) -> Table | None:
    """What is not valid and why, cells by load and single requests by prompt length; None when all is."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for row in [] if cells is None else cells[~cells["valid"].astype(bool)].to_dict("records"):
        found.setdefault((row["scenario"], row["reasons"]), {})[
            words_of_loads([row["load"]], row.get("loop"))
        ] = None
    for row in [] if singles is None else singles[~singles["valid"]].to_dict("records"):
        found.setdefault((row["scenario"], row["reasons"]), {})[f"{row['prompt_tokens']:,} tokens"] = None
    rows = [[scenario, ", ".join(places), reason] for (scenario, reason), places in found.items()]
    return Table(["scenario", "at", "reason"], rows) if rows else None


def _ratio_text(row: Mapping[str, Any], name: str) -> str:
    """A ratio with its interval, or the facts in which recompute differs, so that there is none."""
    return interval_text(row, name) if pd.isna(row["unlike"]) else f"unlike: {row['unlike']}"


def store_rows(stores: pd.DataFrame) -> Table:
    """GB/s of every store alone, a row per value size and connections, a column per operation."""
    rows = []
    for (scenario, size, connections), group in stores.groupby(
        ["scenario", "value_bytes", "connections"], sort=False
    ):
        found = {row["operation"]: interval_text(row, "gbps") for _, row in group.iterrows()}
        rows.append(
            [str(scenario), _size(size), str(connections), *(found.get(name, "-") for name in _OPERATIONS)]
        )
    headers = ["scenario", "value", "connections", *(f"{words}, GB/s" for words in _OPERATIONS.values())]
    return Table(headers, rows, range(1, 6))


def limit_rows(limits: pd.DataFrame) -> Table:
    """GB/s that the machine allows, a row per limit, value size and connections."""
    rows = [
        [row["limit"], _size(row["value_bytes"]), f"{row['connections']}", interval_text(row, "gbps")]
        for _, row in limits.iterrows()
    ]
    return Table(["limit", "value", "connections", "GB/s"], rows, (1, 2, 3))


def break_even_rows(break_even: pd.DataFrame, prompt_tokens: int) -> Table:
    """GB/s that a store must deliver to all GPUs of an engine together, and how many those are where it is not one: a row per
    model and KV format, a column per GPU."""
    at = break_even[break_even["prompt_tokens"] == prompt_tokens]
    gpus = list(dict.fromkeys(at["gpu"]))
    rows = []
    for (model, kv_dtype), own in at.groupby(["model", "kv_dtype"], sort=False):
        cells = {row["gpu"]: _required(row) for row in own.to_dict("records")}
        rows.append([str(model), str(kv_dtype), *(cells.get(gpu, "") for gpu in gpus)])
    return Table(["model", "KV", *map(short_gpu, gpus)], rows, range(2, len(gpus) + 2))


def _required(row: Mapping[str, Any]) -> str:
    gpus = row["gpus_for_weights"]
    if pd.isna(gpus):
        return required_words(row["required_gbps"])
    return required_words(row["required_node_gbps"]) + (f" ({gpus:.0f} GPUs)" if gpus > 1 else "")


def calibration_rows(records: Sequence[Mapping[str, Any]]) -> Table:
    """The figures that were fitted to step times, a row per figure, a column per model; last how far the fit is off."""
    names = list(records[0]["fit"]["coefficients"])
    rows = [[name, *(number(each["fit"]["coefficients"][name]) for each in records)] for name in names]
    for word in ("median", "max"):
        errors = [each["fit"]["quality"]["all"][f"{word}_relative_error"] for each in records]
        rows.append([f"{word} relative error", *(f"{error:.1%}".replace("%", " %") for error in errors)])
    headers = ["figure", *(f"{each['model']}, {each['mode'].replace('_', ' ')}" for each in records)]
    return Table(headers, rows, range(1, len(records) + 1))


def machine_rows(environments: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """What a run was measured on: names and values, several values of one joined."""
    found: dict[str, dict[str, None]] = {}
    for each in environments:
        gpu = each.get("gpu") if isinstance(each.get("gpu"), str) else None
        versions = versions_of(each)
        told = {
            "machine": hardware_words(each) or ", ".join(filter(None, [each.get("cpu"), gpu])),
            "disk": disk_words(each.get("disk") or {}),
            "versions": ", ".join(f"{name} {versions[name]}" for name in _told(versions)),
        }
        for name, value in told.items():
            if value:
                found.setdefault(name, {})[value] = None
    return [(name, "; ".join(values)) for name, values in found.items()]


def _told(versions: Mapping[str, str]) -> list[str]:
    """The packages that a page names: the engine's, where there is one."""
    return [name for name in _ENGINE if name in versions] if "vllm" in versions else [*versions]


def cells_words(cells: pd.DataFrame) -> str:
    """'15, 15 of them valid, 3 repeats; 3,302 requests, 0 failed; model, KV format and pair that ran'."""
    parts = [
        f"{len(cells)}, {int(cells['valid'].sum())} of them valid; {cells['repeat'].nunique()} repeat{'s' * (cells['repeat'].nunique() > 1)}"
    ]
    sent, failed = (cells[f"{name}_requests"].sum() for name in ("sent", "failed"))
    parts.append(f"{sent:,.0f} requests, {failed:,.0f} failed")
    ran = [", ".join(map(str, cells[name].dropna().unique())) for name in ("model", "kv_dtype", "pair")]
    parts.append(
        ", ".join(
            f"{name} {value}" for name, value in zip(("model", "KV", "pair"), ran, strict=True) if value
        )
    )
    return "; ".join(parts)


def versions_of(environment: Mapping[str, Any]) -> dict[str, str]:
    """Versions of the packages that a record's environment tells of; the engine's and the load generator's over the workflow's own."""
    found = {**environment.get("versions", {}), **environment.get("packages", {})}
    for made in ("engine", "loadgen"):
        found |= (environment.get(made) or {}).get("versions", {})
    return {name: version for name, version in found.items() if version}


def _size(size_bytes: float) -> str:
    return f"{size_bytes / 2**20:g} MiB" if size_bytes >= 2**20 else f"{size_bytes / 2**10:g} KiB"
