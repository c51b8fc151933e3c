"""The tables that the page shows, as texts. Pure functions, nothing about HTML."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from tabulate import tabulate

from ..recommend.recommendation_text import with_interval
from ..records.repeats import at_own_load, load_unit
from ..records.stats import Interval
from ..records.templates import number
from ..tables.methods.cost_model import cost_anchor


@dataclass(frozen=True)
class Link:
    """A text that leads somewhere."""

    text: str
    href: str


Cell = str | Sequence[Link]


@dataclass(frozen=True)
class Table:
    """A table as texts. numeric: indices of columns of numbers. marked: indices of rows that need attention. ids: of the rows."""

    headers: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numeric: Sequence[int] = ()
    marked: Sequence[int] = ()
    ids: Sequence[str] = ()

    def brief(self, *columns: int, most: int | None = None) -> Table:
        """Some columns of it without intervals; most: the first rows, as many. Rows keep no ids: those are the whole table's."""
        rows = [[_median(row[column]) for column in columns] for row in self.rows[:most]]
        numeric = [place for place, column in enumerate(columns) if column in {*self.numeric}]
        return Table([self.headers[column] for column in columns], rows, numeric, self.marked)


def markdown(table: Table) -> str:
    """A table as Markdown; rows that need attention begin with a hollow circle."""
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in table.rows]
    for index in table.marked:
        cells[index][0] = f"○ {cells[index][0]}"
    numeric = {*table.numeric}
    align = ["right" if index in numeric else "left" for index in range(len(table.headers))]
    return tabulate(cells, table.headers, tablefmt="pipe", colalign=align, disable_numparse=True)


def _median(cell: Cell) -> Cell:
    return re.sub(r" \[[^]]*\]", "", cell) if isinstance(cell, str) else cell


def interval_text(row: Mapping[str, Any], name: str) -> str:
    """'11.2 [10.4, 12.5]' of a row's columns of that name; '-' when it was not measured."""
    ends = [
        None if pd.isna(row.get(key)) else float(row[key]) for key in (name, f"{name}_low", f"{name}_high")
    ]
    return "-" if ends[0] is None else with_interval(Interval(*ends))


def ratios_rows(ratios: pd.DataFrame) -> Table | None:
    """The baseline over every other scenario, each at the highest load that both have and at equal TPS/user; None when there is none.
    Where pairs of vLLM and LMCache have one each, it stands beside the scenario."""
    if ratios.empty:
        return None
    rows, several = [], ratios["baseline"].nunique() > 1
    highest = at_own_load(ratios[ratios["at"] == "load"])
    for scenario, group in ratios.groupby("scenario", sort=False):
        at_load = highest[highest["scenario"] == scenario]
        found = [
            *(at_load[at_load["metric"] == metric] for metric in ("rps_per_gpu", "ttft_p50_ms")),
            group[group["at"] == "tps_per_user"],
        ]
        texts = [interval_text(item.iloc[0], "ratio") if len(item) else "-" for item in found]
        load = f"{at_load['load'].max():g}" if len(at_load) else "-"
        own = f" ({group.iloc[0]['baseline']} over it)" if several else ""
        rows.append([f"{scenario}{own}", load, *texts])
    headers = ["scenario", load_unit(ratios), "RPS/GPU at this load", "TTFT p50 at this load"]
    headers += ["RPS/GPU at equal TPS/user"]
    return Table(headers, rows, range(1, 5))


def baseline_words(ratios: pd.DataFrame) -> str:
    """'dram', or 'none, dram' where pairs of vLLM and LMCache have a baseline each: what is over the scenarios."""
    return ", ".join(dict.fromkeys(map(str, ratios["baseline"])))


def scenario_rows(scenarios: pd.DataFrame) -> Table:
    """One row per scenario and load, medians with intervals; with its pair of vLLM and LMCache where there are several."""
    columns = ("rps_per_gpu", "tps_per_user", "ttft_p50_ms", "ttft_p95_ms")
    rows, several = [], "pair" in scenarios and scenarios["pair"].nunique() > 1
    for _, row in scenarios.iterrows():
        rows.append(
            [
                f"{row['scenario']} ({row['pair']})" if several else row["scenario"],
                f"{row['load']:g}",
                *(interval_text(row, name) for name in columns),
                percent(row["hit_rate"]),
                str(row["served_from"]),
                percent(row["device_share"]),
                "yes" if row["valid"] else f"no, {row['valid_repeats']} of {row['repeats']}",
            ]
        )
    headers = ["scenario", load_unit(scenarios), "RPS/GPU", "TPS/user", "TTFT p50, ms", "TTFT p95, ms"]
    headers += ["hit rate", "served from", "read from device", "valid"]
    return Table(headers, rows, [*range(1, 7), 8], _invalid(scenarios))


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
    rows = []
    for _, row in kept.iterrows():
        texts = {name: interval_text(row, name) for name in _COSTS}
        texts["users_per_gpu"] += " or more" if row["users_at_least"] else ""
        rows.append([_word(row["scenario"]), cost_condition(row), *texts.values()])
    ids = [cost_anchor(row) for _, row in kept.iterrows()]
    return Table(["scenario", "at", *_COSTS.values()], rows, range(2, len(_COSTS) + 2), _invalid(kept), ids)


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
        named = [_word(scenario), str(operation).upper(), size, f"{at['connections'].iloc[0]}"]
        rows.append([*named, interval_text(whole.iloc[0], "s_per_gb"), ", ".join(shares)])
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
            [row["scenario"], f"{row['load']:g}", interval_text(row, "value"), row["served_from"], better]
        )
    headers = ["scenario", "load", f"{objective['metric']}, {objective['unit']}", "served from"]
    return Table([*headers, "chosen is better by, times"], rows, (1, 2, 4))


def left_out_rows(recommendation: Mapping[str, Any]) -> Table | None:
    """Scenarios and loads that took no part in the choice; None when all did."""
    rows = [[item["scenario"], f"{item['load']:g}", item["reason"]] for item in recommendation["left_out"]]
    return Table(["scenario", "load", "reason"], rows, (1,)) if rows else None


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
            *map(_word, row[["served_from", "reasons"]]),
        ]
        for _, row in bad.iterrows()
    ]
    return Table(["scenario", load_unit(bad), "repeat", "served from", "reason"], rows, (1, 2))


def _invalid(rows: pd.DataFrame) -> list[int]:
    return [index for index, valid in enumerate(rows["valid"]) if not valid]


def _word(value: Any) -> str:
    """A cell's text, '' for an empty one."""
    return "" if pd.isna(value) else number(value) if isinstance(value, float) else str(value)
