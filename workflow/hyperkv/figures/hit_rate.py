"""Figure hit_rate: the predicted hit rate against the chunk size, with what was measured beside it.

python -m workflow.hyperkv.figures.hit_rate --tables results/predict/hit_rates.csv results/tables/cells.csv --svg F.svg --png F.png
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ..base.cli import run_stage
from ..records.templates import size_words
from .axes import sizes_x
from .command import Picture, TwoTables, draw_tables
from .looks import TIER_COLOURS, colour_of, marker_of
from .style import empty, legend_beside, note, unique_legend

TIER_WORDS = {"hbm": "HBM", "dram": "DRAM", "ssd": "SSD"}
DASHES = ("-", "--", "-.", ":")
FURTHER_MARKERS = ("^", "D", "P", "X")
LOOKUPS = {"prompt": "for the whole prompt (LMCache)", "rest": "for what HBM did not have (replay)"}
SECOND_USE = "saved at the second use"
NOT_KNOWN = "not predicted: the trace has lengths alone,\nprefixes are not known"
ALONE = "an unbounded store alone, no HBM\n(HBM adds smaller blocks and answers)"


def main(*, tables: TwoTables, picture: Picture) -> None:
    """Draw the figure.

    Args:
        tables: hit_rates.csv and cells.csv.
    """
    draw_tables(draw_hit_rate, tables, picture)


def draw_hit_rate(hit_rates: pd.DataFrame, cells: pd.DataFrame) -> Figure:
    """Hit rate against chunk: a row per case and number of active conversations, a column per save_decode_cache.

    hit_rates, cells: those tables, cells perhaps without rows: nothing was measured.
    """
    rows = hit_rates
    if rows.empty:
        return empty(
            "Nothing is predicted: of several engines (experiment.engines) the hit rates are measured"
        )
    panels = rows.groupby(["case", "active_conversations"], sort=False)
    answers = sorted(rows["save_decode_cache"].unique(), reverse=True)
    figure, grid = plt.subplots(
        len(panels), len(answers), figsize=(1.8 + 4.4 * len(answers), 1.1 + 3.8 * len(panels)),
        sharex=True, sharey=True, squeeze=False,
    )  # fmt: skip
    for (_, of_panel), line in zip(panels, grid, strict=True):
        names = _line_names(of_panel)
        for axes, saved in zip(line, answers, strict=True):
            chosen = of_panel[of_panel["save_decode_cache"] == saved]
            measured = len(cells) > 0 and chosen.iloc[0]["counted"] == "window"
            _draw_predicted(
                axes, chosen, names, _measured_at_second_use(cells, chosen) if measured else set()
            )
            if measured:
                _draw_measured(axes, cells[_saved_so(cells, saved, saved == answers[0])], chosen)
            if chosen["ceiling_hit_rate"].isna().all():
                note(axes, NOT_KNOWN, (0.5, 0.5), (0, 0), xycoords="axes fraction", ha="center", fontsize=9)
            what = "prompts and answers saved" if saved else "prompts saved only"
            axes.set_title(what, fontsize=9, loc="left")
        heading = note(
            line[0], _case_title(of_panel.iloc[0]), (0, 1), (0, 18), xycoords="axes fraction", fontsize=9
        )
        heading.set_in_layout(False)
        line[0].set_ylabel("hit rate (share of prompt tokens)")
        told = f"tiers below HBM are asked\n{LOOKUPS[of_panel.iloc[0]['lookup']]}"
        legend_beside(line[-1], *unique_legend(line), told, alignment="left", handlelength=None)
    for axes in grid[-1]:
        axes.set_xlabel("chunk (tokens)")
    first = grid[0, 0]
    sizes_x(first, rows["chunk_tokens"].unique())
    first.set_ylim(0, 1)
    first.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    figure.suptitle(
        "Predicted hit rate against chunk size: LRU tiers simulated exactly, without time, GPU or store\n"
        "lines: mean over seeds, bands: their range",
        fontsize=10,
        y=0.985,
        va="bottom",
    )
    figure.tight_layout(h_pad=4.5)
    return figure


def _line_names(rows: pd.DataFrame) -> dict[str, str]:
    """Legend texts by set of tiers, small before large; sets with the same hit rates share the first one's line."""
    ordered = sorted((_order(own.iloc[0]), tiers) for tiers, own in rows.groupby("tiers", sort=False))
    found: dict[tuple[float, ...], list[str]] = {}
    for _, tiers in ordered:
        rates = rows[rows["tiers"] == tiers].sort_values(["save_decode_cache", "chunk_tokens"])["hit_rate"]
        found.setdefault(tuple(rates), []).append(tiers)
    label = {tiers: _tiers_label(own.iloc[0], rows) for tiers, own in rows.groupby("tiers", sort=False)}
    return {same[0]: "\n= ".join(label[tiers] for tiers in same) for same in found.values()}


def _order(row: pd.Series) -> tuple[float, ...]:
    """Fastest lowest tier first, then by its size and those of the tiers above."""
    sizes = [row[f"{name}_bytes"] for name in TIER_WORDS]
    there = [index for index, size in enumerate(sizes) if pd.notna(size)]
    return (there[-1] if there else -1, *(0 if pd.isna(size) else size for size in reversed(sizes)))


def _draw_predicted(axes: Axes, rows: pd.DataFrame, names: Mapping[str, str], second: set[str]) -> None:
    """The unbounded store alone and a line per set of tiers, two for those in `second`; bands are ranges over seeds."""
    seen: Counter[str] = Counter()
    for tiers, name in names.items():
        line = rows[rows["tiers"] == tiers]
        lowest = [word for word in TIER_WORDS if pd.notna(line.iloc[0][f"{word}_bytes"])][-1:]
        kind = lowest[0] if lowest else "none"
        colour, chunks = TIER_COLOURS.get(kind, "#666666"), line["chunk_tokens"]
        look: dict[str, Any] = {"color": colour, "linestyle": DASHES[seen[kind] % 4], "linewidth": 1.8}
        seen[kind] += 1
        band: dict[str, Any] = {"color": colour, "alpha": 0.13, "linewidth": 0}
        axes.fill_between(chunks, line["hit_rate_low"], line["hit_rate_high"], **band)
        axes.plot(chunks, line["hit_rate"], label=name, **look)
        if tiers in second:
            look |= {"linestyle": (0, (1, 1)), "linewidth": 1.2}
            axes.plot(chunks, line["second_use_hit_rate"], label=f"{name}, {SECOND_USE}", **look)
    alone = rows[rows["tiers"] == rows.iloc[0]["tiers"]]
    look = {"color": "black", "linewidth": 1.2, "linestyle": (0, (2, 2)), "zorder": 4}
    axes.plot(alone["chunk_tokens"], alone["ceiling_hit_rate"], label=ALONE, **look)


def _draw_measured(axes: Axes, cells: pd.DataFrame, predicted: pd.DataFrame) -> None:
    """The mean over valid repeats that the sweep measured at its highest load, as hollow markers, one look per store, tiers and save.

    Of the scenarios that `predicted` names, those whose KV has the format that is predicted.
    """
    rows = cells[cells["valid"] & (cells["load"] == cells["load"].max())]
    rows = rows.assign(store=rows["store"].replace("", "none"), tiers="")
    told = "scenarios" in predicted and predicted["scenarios"].notna().any()
    sets = {str(tiers): own.iloc[0] for tiers, own in predicted.groupby("tiers", sort=False)} if told else {}
    if told:
        rows = rows.assign(tiers=rows["scenario"].map(_tiers_of(predicted))).dropna(subset=["tiers"])
        alike = [_same_format(row, sets[row["tiers"]]) for _, row in rows.iterrows()]
        rows = rows[pd.Series(alike, index=rows.index, dtype=bool)]
    seen: Counter[str] = Counter()
    rows = rows.assign(second=_at_second_use(rows))
    for (store, tiers, second), of_store in rows.groupby(["store", "tiers", "second"], sort=False):
        again = seen[store]
        marker = FURTHER_MARKERS[(again - 1) % len(FURTHER_MARKERS)] if again else marker_of(store)
        seen[store] += 1
        extra = _differing(sets[tiers], predicted, hbm=True) if tiers else []
        extra += [SECOND_USE] if second else []
        means = of_store.groupby(["scenario", "chunk_tokens"])["hit_rate"].mean().reset_index()
        axes.plot(
            means["chunk_tokens"], means["hit_rate"], linestyle="none", marker=marker, markersize=7,
            markerfacecolor="none", markeredgecolor=colour_of(store), markeredgewidth=1.4, zorder=5,
            label=", ".join([_measured_label(of_store.iloc[0]), *extra]),
        )  # fmt: skip


def _tiers_of(predicted: pd.DataFrame) -> dict[str, str]:
    """The set of tiers of each measured scenario."""
    sets = predicted.dropna(subset=["scenarios"]).drop_duplicates("tiers")
    return {
        name: tiers
        for tiers, names in zip(sets["tiers"], sets["scenarios"], strict=True)
        for name in names.split("; ")
    }


def _at_second_use(cells: pd.DataFrame) -> pd.Series:
    """Which cells save at the second use."""
    return cells.get("save", pd.Series(index=cells.index, dtype=object)).eq("second_use")


def _measured_at_second_use(cells: pd.DataFrame, predicted: pd.DataFrame) -> set[str]:
    """The sets of tiers of which there are such cells."""
    if "scenarios" not in predicted:
        return set()
    return set(cells[_at_second_use(cells)]["scenario"].map(_tiers_of(predicted)).dropna())


def _saved_so(cells: pd.DataFrame, saved: bool, first: bool) -> pd.Series:
    """Which cells stand in a column: those that saved so, and in the first one those without a tier, which save nothing."""
    return (cells["save_decode_cache"] == saved) | (cells["store"].fillna("").eq("") & first)


def _same_format(cell: pd.Series, predicted: pd.Series) -> bool:
    """Whether a cell's KV has the format of a predicted row, as far as the cell tells."""
    found = cell.get("kv_dtype")
    return pd.isna(found) or found in ("auto", predicted["kv_dtype"])


def _differing(row: pd.Series, rows: pd.DataFrame, hbm: bool = False) -> list[str]:
    """Words for the KV format and blocks of a predicted row, and with `hbm` its HBM, where `rows` do not agree on them."""
    found = []
    if hbm and rows["hbm_bytes"].nunique(dropna=False) > 1:
        found.append("no HBM" if pd.isna(row["hbm_bytes"]) else f"HBM {_size(row['hbm_bytes'])}")
    if "kv_dtype" in rows and rows["kv_dtype"].nunique() > 1:
        found.append(str(row["kv_dtype"]))
    if "block_tokens" in rows and rows["block_tokens"].nunique() > 1:
        found.append(f"blocks of {row['block_tokens']}")
    return found


def _measured_label(row: pd.Series) -> str:
    if row["store"] == "none":
        return "measured: HBM alone"
    pool = f", {_size(row['dram_pool_bytes'])}" if pd.notna(row["dram_pool_bytes"]) else ""
    return f"measured: {row['store']}{pool}"


def _case_title(row: pd.Series) -> str:
    swept = "What the sweep measures; markers: engine replay, mean of its repeats"
    name = swept if row["counted"] == "window" else f"Case {row['case']}"
    clients = f"{row['clients']} client{'s' if row['clients'] > 1 else ''}"
    return (
        f"{name}\n{row['model']}, {row['workload']}, {row['active_conversations']} conversations at once by {clients}, "
        f"{row['requests']:,} requests, {row['seeds']} seed{'s' if row['seeds'] > 1 else ''}"
    )


def _tiers_label(row: pd.Series, rows: pd.DataFrame) -> str:
    """The tiers that are there with their sizes: 'HBM 4 GiB + SSD unbounded', and what else `rows` do not agree on."""
    parts = [
        f"{word} {_size(row[f'{name}_bytes'])}"
        for name, word in TIER_WORDS.items()
        if pd.notna(row[f"{name}_bytes"])
    ]
    return ", ".join([" + ".join(parts) or "no tier", *_differing(row, rows)])


def _size(size_bytes: float) -> str:
    return "unbounded" if size_bytes == float("inf") else size_words(size_bytes)


if __name__ == "__main__":
    sys.exit(run_stage("draw_hit_rate", main))
