"""What the page says, worked out from the tables: sentences and rows, nothing about HTML. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..recommend.recommendation_text import number, with_interval
from ..records.hardware import gpu_words
from ..records.stats import Interval

QUESTION = "What does it cost, and what does it buy, to keep an LLM's KV cache on SSD instead of in DRAM, and what limits it?"
_GIB = 1 << 30


@dataclass(frozen=True)
class Table:
    """A table as texts. numeric: indices of columns of numbers. marked: indices of rows that need attention."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: Sequence[int] = ()
    marked: Sequence[int] = ()


def interval_text(row: Mapping[str, Any], name: str) -> str:
    """'11.2 [10.4, 12.5]' of a row's columns of that name; '-' when it was not measured."""
    ends = [
        None if pd.isna(row.get(key)) else float(row[key]) for key in (name, f"{name}_low", f"{name}_high")
    ]
    return "-" if ends[0] is None else with_interval(Interval(*ends))


def price_of_ssd(scenarios: pd.DataFrame, ratios: pd.DataFrame) -> str:
    """One sentence: DRAM against the best SSD scenarios at the highest load, and where SSD bytes came from.

    Of SSD scenarios those with the DRAM scenario's chunk size, when there are any.
    scenarios, ratios: those tables. Only valid cells are in ratios.
    """
    ssd = scenarios[scenarios["tier"] == "ssd"]
    if ssd.empty:
        only = set(scenarios["tier"]) == {"none"}
        missing = "Nothing but recompute was measured" if only else "No SSD store was measured"
        return f"{missing}, so this run says nothing about SSDs."
    if ratios.empty:
        return "No valid DRAM scenario was measured that SSD scenarios could be compared with."
    rows = ratios[(ratios["at"] == "load") & (ratios["metric"] == "rps_per_gpu") & ratios["ratio"].notna()]
    rows = rows[rows["scenario"].isin(ssd["scenario"])]
    chunks = scenarios.drop_duplicates("scenario").set_index("scenario")["chunk_tokens"]
    alike = rows[rows["scenario"].map(chunks) == chunks.get(ratios.iloc[0]["baseline"])]
    rows = alike if len(alike) else rows
    if rows.empty and (facts := _unlike(ratios[ratios["scenario"].isin(ssd["scenario"])])):
        return f"The SSD scenarios and {ratios.iloc[0]['baseline']} differ in {facts}, so the two cannot be compared."
    if rows.empty:
        return "No SSD scenario is valid where DRAM is, so the two cannot be compared."
    load = int(rows["load"].max())
    rows = rows[rows["load"] == load].sort_values("ratio")
    connectors = ssd.drop_duplicates("scenario").set_index("scenario")["connector"]
    best = rows.iloc[0]
    others = rows[
        rows["scenario"].map(connectors).eq("inprocess") != (connectors[best["scenario"]] == "inprocess")
    ]
    parts = [f"{interval_text(best, 'ratio')} times the requests of {_how(best, connectors)}"]
    if len(others):
        parts.append(
            f"{interval_text(others.iloc[0], 'ratio')} times those of {_how(others.iloc[0], connectors)}"
        )
    return (
        f"At {load} client{'s' * (load != 1)} {_baseline(scenarios, best['baseline'])} serves {' and '.join(parts)}"
        f"{_from_device(ssd[ssd['scenario'].isin(rows['scenario'])])}."
    )


def _unlike(ratios: pd.DataFrame) -> str:
    """The facts in which they differ from the baseline, empty when in none."""
    told = ratios["unlike"].dropna() if "unlike" in ratios else ()
    return ", ".join(dict.fromkeys(fact for text in told for fact in text.split(", ")))


def _baseline(scenarios: pd.DataFrame, name: str) -> str:
    store = scenarios.loc[scenarios["scenario"] == name, "store"]
    return f"the DRAM pool ({name})" if (store == "dram").any() else f"scenario {name}"


def _how(row: pd.Series, connectors: pd.Series) -> str:
    reached = "without a server" if connectors[row["scenario"]] == "inprocess" else "behind a server"
    return f"the best SSD scenario {reached} ({row['scenario']})"


def _from_device(ssd: pd.DataFrame) -> str:
    shares = ssd.loc[ssd["valid"], "device_share"].dropna()
    if shares.empty:
        return ""
    low, high = percent(shares.min()), percent(shares.max())
    return f"; of the bytes loaded from SSD, {low if low == high else f'{low} to {high}'} were read from the block device"


def verdicts_sentence(claims: pd.DataFrame) -> str:
    """'Claims: 3 confirmed, 2 refuted, 4 undecided.'"""
    counts = [f"{(claims['verdict'] == word).sum()} {word}" for word in ("confirmed", "refuted", "undecided")]
    return f"Claims: {', '.join(counts)}."


def ratios_rows(ratios: pd.DataFrame) -> Table | None:
    """DRAM over every other scenario, at the highest common load and at equal TPS/user; None when there is none."""
    if ratios.empty:
        return None
    rows = []
    for scenario, group in ratios.groupby("scenario", sort=False):
        at_load = group[group["at"] == "load"]
        highest = at_load[at_load["load"] == at_load["load"].max()]
        found = [
            *(highest[highest["metric"] == metric] for metric in ("rps_per_gpu", "ttft_p50_ms")),
            group[group["at"] == "tps_per_user"],
        ]
        texts = [interval_text(item.iloc[0], "ratio") if len(item) else "-" for item in found]
        load = f"{at_load['load'].max():.0f}" if len(at_load) else "-"
        rows.append([str(scenario), load, *texts])
    headers = [
        "scenario",
        "clients",
        "RPS/GPU at those clients",
        "TTFT p50 at those clients",
        "RPS/GPU at equal TPS/user",
    ]
    return Table(headers, rows, range(1, 5))


def scenario_rows(scenarios: pd.DataFrame) -> Table:
    """One row per scenario and load, medians with intervals."""
    columns = ("rps_per_gpu", "tps_per_user", "ttft_p50_ms", "ttft_p95_ms")
    rows, marked = [], []
    for index, (_, row) in enumerate(scenarios.iterrows()):
        valid = bool(row["valid"])
        rows.append(
            [
                row["scenario"],
                f"{row['load']:g}",
                *(interval_text(row, name) for name in columns),
                percent(row["hit_rate"]),
                str(row["served_from"]),
                percent(row["device_share"]),
                "yes" if valid else f"no, {row['valid_repeats']} of {row['repeats']}",
            ]
        )
        if not valid:
            marked.append(index)
    headers = ["scenario", "clients", "RPS/GPU", "TPS/user", "TTFT p50, ms", "TTFT p95, ms"]
    headers += ["hit rate", "served from", "read from device", "valid"]
    return Table(headers, rows, [*range(1, 7), 8], marked)


def percent(value: Any) -> str:
    """A share as '57 %', '-' when it is not known."""
    return "-" if pd.isna(value) else f"{value:.0%}".replace("%", " %")


def claims_rows(claims: pd.DataFrame) -> Table:
    """Every claim with its verdict and what decided it."""
    rows = []
    for _, row in claims.iterrows():
        value = Interval(
            *(None if pd.isna(row[key]) else float(row[key]) for key in ("value", "low", "high"))
        )
        measured = "-" if value.median is None else f"{with_interval(value)} {_word(row['unit'])}"
        texts = (_word(row[key]) for key in ("condition", "reason", "source"))
        rows.append([_word(row["statement"]), _word(row["verdict"]), measured, *texts])
    return Table(["claim", "verdict", "measured", "confirmed if", "why", "who says so"], rows, [])


_COSTS = {
    "usd_per_million_tokens": "USD per million tokens",
    "users_per_gpu": "users per GPU",
    "usd_per_hour": "USD per hour",
    "endurance_years": "years until a drive is worn",
}


def cost_rows(cost: pd.DataFrame) -> Table:
    """Cost of every scenario at the SLO, and of one that has no such row at each of its loads."""
    at_slo = set(cost.loc[cost["at"] == "slo", "scenario"])
    kept = cost[(cost["at"] == "slo") | ~cost["scenario"].isin(at_slo)]
    rows, marked = [], []
    for index, (_, row) in enumerate(kept.iterrows()):
        texts = {name: interval_text(row, name) for name in _COSTS}
        texts["users_per_gpu"] += " or more" if row["users_at_least"] else ""
        rows.append([_word(row["scenario"]), cost_condition(row), *texts.values()])
        if not row["valid"]:
            marked.append(index)
    return Table(["scenario", "at", *_COSTS.values()], rows, range(2, len(_COSTS) + 2), marked)


def cost_condition(row: Mapping[str, Any]) -> str:
    """'427 TPS/user, TTFT p95 500 ms' of a row at the SLO, 'load 4' of one at a load."""
    if row["at"] != "slo":
        return f"load {row['load']:g}"
    bounds = (("slo_tps_per_user", "{} TPS/user"), ("slo_ttft_p95_ms", "TTFT p95 {} ms"))
    return ", ".join(text.format(number(row[name])) for name, text in bounds if pd.notna(row[name]))


def layers_rows(layers: pd.DataFrame, names: Mapping[str, str]) -> Table | None:
    """Where the time of a SET and a GET goes: the layers that can be told from 0, the largest first; None without any.

    layers: that table. names: layers in words. Each store at its largest value and most connections.
    """
    rows = []
    for (scenario, operation), group in layers.groupby(["scenario", "operation"], sort=False):
        at = group[group["value_bytes"] == group["value_bytes"].max()]
        at = at[at["connections"] == at["connections"].max()]
        whole = at[at["kind"] == "whole"]
        parts = at[(at["kind"] == "layer") & at["distinguishable"].eq(True) & at["share"].notna()]
        if whole.empty or parts.empty or whole["s_per_gb"].isna().all():
            continue
        shares = [
            f"{percent(row['share'])} [{percent(row['share_low'])}, {percent(row['share_high'])}] {names.get(row['layer'], row['layer'])}"
            for _, row in parts.sort_values("share", ascending=False).iterrows()
        ]
        size = f"{at['value_bytes'].iloc[0] / (1 << 20):g} MiB"
        rows.append(
            [
                _word(scenario),
                str(operation).upper(),
                size,
                f"{at['connections'].iloc[0]}",
                interval_text(whole.iloc[0], "s_per_gb"),
                ", ".join(shares),
            ]
        )
    headers = ["store", "operation", "value", "connections", "s/GB", "shares of it"]
    return Table(headers, rows, (2, 3, 4)) if rows else None


def ranking_rows(recommendation: Mapping[str, Any]) -> Table | None:
    """The chosen scenario first, then the others; None when nothing was chosen."""
    if recommendation["chosen"] is None:
        return None
    objective = recommendation["objective"]
    rows = []
    for row in (recommendation["chosen"], *recommendation["others"]):
        better = "chosen"
        if "chosen_is_better" in row:
            doubt = f" ({row['doubt']})" if row["doubt"] else ""
            better = interval_text(row, "chosen_is_better") + doubt
        rows.append(
            [row["scenario"], f"{row['load']}", interval_text(row, "value"), row["served_from"], better]
        )
    headers = ["scenario", "clients", f"{objective['metric']}, {objective['unit']}", "served from"]
    return Table([*headers, "chosen is better by, times"], rows, (1, 2, 4))


def left_out_rows(recommendation: Mapping[str, Any]) -> Table | None:
    """Scenarios and loads that took no part in the choice; None when all did."""
    rows = [[item["scenario"], str(item["load"]), item["reason"]] for item in recommendation["left_out"]]
    return Table(["scenario", "clients", "reason"], rows, (1,)) if rows else None


def evidence_items(cells: pd.DataFrame) -> list[tuple[str, str]]:
    """Names and values of what the cells prove."""
    valid = int(cells["valid"].sum())
    items = [("Cells (scenario x clients x repeat)", f"{len(cells)}, {valid} of them valid")]
    items.append(("Repeats", f"{cells['repeat'].nunique()}"))
    for name, title in (
        ("sent_requests", "Requests sent"),
        ("failed_requests", "Requests that failed"),
        ("corrupt_chunks", "Chunks that came back wrong"),
        ("dropped_chunks", "Chunks not saved for want of room"),
    ):
        items.append((title, _total(cells, name)))
    for name, title in (
        ("loaded_bytes", "Loaded from tiers"),
        ("device_read_bytes", "Read from block devices"),
    ):
        if name in cells and cells[name].notna().any():
            items.append((title, f"{cells[name].sum() / 1e9:,.1f} GB"))
    for tier, group in cells.groupby("tier", sort=False):
        counts = group["served_from"].value_counts()
        words = ", ".join(f"{count} from {word}" for word, count in counts.items())
        items.append((f"Tier {tier} was served", words))
    shares = cells.loc[(cells["tier"] == "ssd") & cells["valid"], "device_share"].dropna()
    if len(shares):
        items.append(
            (
                "Bytes read from the device per byte loaded, valid SSD cells",
                f"{percent(shares.min())} to {percent(shares.max())}",
            )
        )
    return items


def _total(cells: pd.DataFrame, name: str) -> str:
    if name not in cells or cells[name].isna().all():
        return "not counted"
    return f"{cells[name].sum():,.0f}"


def invalid_rows(cells: pd.DataFrame) -> Table | None:
    """Every invalid cell with its reason; None when all are valid."""
    bad = cells[~cells["valid"]]
    if bad.empty:
        return None
    rows = [
        [
            _word(row["scenario"]),
            f"{row['load']:g}",
            f"{row['repeat']}",
            _word(row["served_from"]),
            _word(row["reasons"]),
        ]
        for _, row in bad.iterrows()
    ]
    return Table(["scenario", "clients", "repeat", "served from", "reason"], rows, (1, 2))


def limits(cells: pd.DataFrame, environments: Sequence[Mapping[str, Any]]) -> list[str]:
    """What this run cannot say."""
    found = []
    if "replay" in set(cells["engine"]):
        gpus = gpu_words(cells)
        found.append(
            f"Engine replay has no GPU. Real: stores and servers, every byte saved, looked up, loaded and compared, and the "
            f"time that took on this machine. Modelled: the GPU ({gpus}; step times of its file in config/gpus, which says whether they were measured), the copy between "
            f"host and GPU, and the capacity of HBM. Not in it: a real engine's own CPU work and its concurrent loads."
        )
    scaled = cells["gpu_scaled_from"].dropna().unique() if "gpu_scaled_from" in cells else []
    if len(scaled):
        found.append(
            f"The GPU's times for this model are scaled from {', '.join(map(str, scaled))}, not measured."
        )
    repeats = int(cells.groupby(["scenario", "load"])["repeat"].nunique().min())
    if repeats == 1:
        found.append("One repeat: there are no intervals, and no difference is told from chance.")
    else:
        found.append(
            f"Intervals are 95 % bootstrap intervals of the median over {repeats} repeats, each with its own requests; with "
            f"three or fewer that is their range."
        )
    if len(environments) > 1:
        found.append(f"The records come from {len(environments)} different environments.")
    if (cells["tier"] == "ssd").any():
        found.append("Clients are a closed loop over this workload; a service's working set may be larger.")
    found.append(
        "It holds for this workload, model and machine; another one is measured by the same command."
    )
    return found


def environment_items(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values of one environment."""
    disk = environment.get("disk") or {}
    git = environment.get("git")
    items = [
        ("CPU", f"{environment.get('cores')} x {environment.get('cpu') or 'unknown'}"),
        (
            "Memory",
            f"{environment['ram_bytes'] / _GIB:.0f} GiB" if environment.get("ram_bytes") else "unknown",
        ),
        ("GPU", "; ".join(environment.get("gpu") or []) or "none"),
        ("Disk", disk_words(disk)),
        ("System", f"{environment.get('os') or 'unknown'}, Linux {environment.get('kernel') or 'unknown'}"),
        ("Python", str(environment.get("python"))),
        (
            "Packages",
            ", ".join(f"{name} {version}" for name, version in environment.get("packages", {}).items()),
        ),
    ]
    state = "not a git checkout"
    if git:
        state = f"{git['commit'][:12]}{', with uncommitted changes' if git['dirty'] else ''}"
    return [*items, ("This repository", state)]


def disk_words(disk: Mapping[str, Any]) -> str:
    """'ext4 on vda, 252 GiB' and what more is known."""
    parts = [" on ".join(str(disk[key]) for key in ("file_system", "device") if disk.get(key))]
    parts += [str(disk["model"])] if disk.get("model") else []
    parts += [f"{disk['size_bytes'] / _GIB:.0f} GiB"] if disk.get("size_bytes") else []
    parts += [f"RAID {disk['level']} of {len(disk['members'])}"] if disk.get("level") else []
    return ", ".join(part for part in parts if part) or "unknown"


def commit_of(environments: Iterable[Mapping[str, Any]]) -> str | None:
    """The commit that everything was measured with, None when there are several or none."""
    commits = {environment["git"]["commit"] for environment in environments if environment.get("git")}
    return commits.pop() if len(commits) == 1 else None


def _word(value: Any) -> str:
    """A cell's text, '' for an empty one."""
    return "" if pd.isna(value) else number(value) if isinstance(value, float) else str(value)
