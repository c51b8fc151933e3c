"""Stage prediction_figures: what was predicted, with what was measured beside it, each as SVG and PNG.

python -m workflow.hyperkv.figures.predictions --figure hit_rate --tables results/predict/hit_rates.csv results/tables/cells.csv --svg F.svg --png F.png
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, PercentFormatter, ScalarFormatter

from ..base.cli import run_stage
from ..predict.break_even_text import required_words
from ..records.hardware import mixed
from .figures import COLOURS, MARKERS, labels, read_table, save, styles

# A set of tiers takes the colour of its lowest one.
TIER_COLOURS = {"hbm": "#E69F00", "dram": COLOURS["dram"], "ssd": COLOURS["rocksdb"]}
TIER_WORDS = {"hbm": "HBM", "dram": "DRAM", "ssd": "SSD"}
DASHES = ("-", "--", "-.", ":")
FURTHER_MARKERS = ("^", "D", "P", "X")
LOOKUPS = {"prompt": "for the whole prompt (LMCache)", "rest": "for what HBM did not have (replay)"}
_PANEL_LETTERS = 56  # that a panel of break_even is wide
ALONE = "an unbounded store alone, no HBM\n(HBM adds smaller blocks and answers)"


def main() -> None:
    """Parse the command line and draw one figure."""
    parser = argparse.ArgumentParser(
        prog="python -m workflow.hyperkv.figures.predictions", description=__doc__
    )
    parser.add_argument("--figure", required=True, choices=sorted(DRAWINGS), help="which figure")
    parser.add_argument(
        "--tables", required=True, nargs="+", type=Path,
        help="hit_rates.csv and cells.csv, or break_even.csv and placed_stores.csv",
    )  # fmt: skip
    parser.add_argument("--svg", required=True, type=Path)
    parser.add_argument("--png", required=True, type=Path)
    arguments = parser.parse_args()
    tables = {path.stem: read_table(path) for path in arguments.tables}
    note = mixed([table for name, table in tables.items() if name in ("cells", "placed_stores")])
    save(lambda: DRAWINGS[arguments.figure](tables), arguments.svg, arguments.png, note)


def draw_hit_rate(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Hit rate against chunk: a row per case and number of active conversations, a column per save_decode_cache.

    tables: hit_rates, cells (without rows or missing: nothing measured).
    """
    rows = tables["hit_rates"]
    measured = tables.get("cells", pd.DataFrame())
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
            _draw_predicted(axes, chosen, names)
            if len(measured) and _is_experiment(chosen):
                _draw_measured(
                    axes,
                    measured[_saved_so(measured, saved, saved == answers[0])],
                    chosen,
                )
            what = "prompts and answers saved" if saved else "prompts saved only"
            axes.set_title(what, fontsize=9, loc="left")
        heading = line[0].annotate(
            _case_title(of_panel.iloc[0]),
            (0, 1),
            (0, 18),
            "axes fraction",
            textcoords="offset points",
            fontsize=9,
        )
        heading.set_in_layout(False)
        line[0].set_ylabel("hit rate (share of prompt tokens)")
        handles, texts = _unique_legend(line)
        line[-1].legend(
            handles, texts, fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5),
            title=f"tiers below HBM are asked\n{LOOKUPS[of_panel.iloc[0]['lookup']]}", title_fontsize=8, alignment="left",
        )  # fmt: skip
    for axes in grid[-1]:
        axes.set_xlabel("chunk (tokens)")
    first = grid[0, 0]
    first.set_xscale("log", base=2)
    first.set_xticks(sorted(rows["chunk_tokens"].unique()))
    first.xaxis.set_major_formatter(ScalarFormatter())
    first.minorticks_off()
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


def _draw_predicted(axes: Axes, rows: pd.DataFrame, names: Mapping[str, str]) -> None:
    """The unbounded store alone and a line per set of tiers; bands are ranges over seeds."""
    seen: dict[str, int] = {}
    for tiers, name in names.items():
        line = rows[rows["tiers"] == tiers]
        lowest = [word for word in TIER_WORDS if pd.notna(line.iloc[0][f"{word}_bytes"])][-1:]
        kind = lowest[0] if lowest else "none"
        style = {"color": TIER_COLOURS.get(kind, "#666666"), "linestyle": DASHES[seen.get(kind, 0) % 4]}
        seen[kind] = seen.get(kind, 0) + 1
        axes.fill_between(
            line["chunk_tokens"], line["hit_rate_low"], line["hit_rate_high"],
            color=style["color"], alpha=0.13, linewidth=0,
        )  # fmt: skip
        axes.plot(line["chunk_tokens"], line["hit_rate"], label=name, linewidth=1.8, **style)
    alone = rows[rows["tiers"] == rows.iloc[0]["tiers"]]
    axes.plot(
        alone["chunk_tokens"], alone["ceiling_hit_rate"], color="black", linewidth=1.2, linestyle=(0, (2, 2)),
        label=ALONE, zorder=4,
    )  # fmt: skip


def _draw_measured(axes: Axes, cells: pd.DataFrame, predicted: pd.DataFrame) -> None:
    """The mean over valid repeats that the sweep measured at its highest load, as hollow markers, one look per store and tiers.

    Of the scenarios that `predicted` names, those whose KV has the format that is predicted.
    """
    rows = cells[cells["valid"] & (cells["load"] == cells["load"].max())]
    rows = rows.assign(store=rows["store"].replace("", "none"), tiers="")
    told = "scenarios" in predicted and predicted["scenarios"].notna().any()
    sets = {str(tiers): own.iloc[0] for tiers, own in predicted.groupby("tiers", sort=False)} if told else {}
    if told:
        tiers_of = {name: tiers for tiers, row in sets.items() for name in str(row["scenarios"]).split("; ")}
        rows = rows.assign(tiers=rows["scenario"].map(tiers_of)).dropna(subset=["tiers"])
        alike = [_same_format(row, sets[row["tiers"]]) for _, row in rows.iterrows()]
        rows = rows[pd.Series(alike, index=rows.index, dtype=bool)]
    seen: dict[str, int] = {}
    for (store, tiers), of_store in rows.groupby(["store", "tiers"], sort=False):
        again = seen[store] = seen.get(store, -1) + 1
        marker = MARKERS.get(store, "v") if not again else FURTHER_MARKERS[(again - 1) % len(FURTHER_MARKERS)]
        extra = _differing(sets[tiers], predicted, hbm=True) if tiers else []
        means = of_store.groupby(["scenario", "chunk_tokens"])["hit_rate"].mean().reset_index()
        axes.plot(
            means["chunk_tokens"], means["hit_rate"], linestyle="none", marker=marker, markersize=7,
            markerfacecolor="none", markeredgecolor=COLOURS.get(store, "#999999"), markeredgewidth=1.4, zorder=5,
            label=", ".join([_measured_label(of_store.iloc[0]), *extra]),
        )  # fmt: skip


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


def _unique_legend(panels: list[Axes]) -> tuple[list, list[str]]:
    """Handles and texts of all panels of a row, each text once."""
    found = {
        text: handle
        for axes in panels
        for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    return list(found.values()), list(found)


def _is_experiment(rows: pd.DataFrame) -> bool:
    """Whether a case is what the sweep measures: then the requests of its measured window count."""
    return rows.iloc[0]["counted"] == "window"


def _case_title(row: pd.Series) -> str:
    measured = row["counted"] == "window"
    name = (
        "What the sweep measures; markers: engine replay, mean of its repeats"
        if measured
        else f"Case {row['case']}"
    )
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
    if size_bytes == float("inf"):
        return "unbounded"
    return f"{size_bytes / 2**30:g} GiB" if size_bytes >= 2**30 else f"{size_bytes / 2**20:g} MiB"


def draw_break_even(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """TTFT against prompt length for the first model, a panel per GPU: recompute, pinned DRAM and every store.

    tables: break_even, placed_stores.
    """
    rows = tables["break_even"]
    rows = rows[rows["model"] == rows.iloc[0]["model"]]
    stores = tables["placed_stores"]
    stores = stores[stores["model"] == rows.iloc[0]["model"]]
    gpus = list(dict.fromkeys(rows["gpu"]))
    columns = min(2, len(gpus))
    lines = -(-len(gpus) // columns)
    figure, grid = plt.subplots(
        lines, columns, figsize=(1.2 + 4.6 * columns, 1 + 3.5 * lines), sharex=True, sharey=True, squeeze=False
    )  # fmt: skip
    for axes, gpu in zip(grid.flat, gpus, strict=False):
        _draw_gpu(axes, rows[rows["gpu"] == gpu], stores[stores["gpu"] == gpu])
    for axes in grid.flat[len(gpus) :]:
        axes.axis("off")
    for axes in grid[:, 0]:
        axes.set_ylabel("TTFT of one prompt (s)")
    for axes in grid[-1]:
        axes.set_xlabel("prompt (tokens), all of it in the store")
    _token_axes(grid[0, 0], sorted(rows["prompt_tokens"].unique()))
    figure.suptitle(
        f"Load or compute a prompt's KV: {rows.iloc[0]['model']}, modelled on an idle GPU;\n"
        "without what engine and connector spend per request and per chunk",
        fontsize=11,
    )
    figure.tight_layout()
    handles, texts = _unique_legend(list(grid.flat))
    if stores.empty:
        handles.append(Line2D([], [], linestyle="none"))
        texts.append("no store was profiled")
    machine = (
        ""
        if stores.empty
        else f"\nalone on {stores.iloc[0]['machine']}\n(GB/s of GET, page cache, value, connections)"
    )
    figure.legend(
        handles, texts, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=3,
        title=f"below the black line, loading wins; stores measured{machine}" if machine else None, title_fontsize=8,
        alignment="left",
    )  # fmt: skip
    return figure


def _draw_gpu(axes: Axes, rows: pd.DataFrame, stores: pd.DataFrame) -> None:
    prompts = rows["prompt_tokens"]
    axes.plot(prompts, rows["prefill_s"], color="black", linewidth=2.4, label="recompute (modelled)")
    axes.plot(
        prompts, rows["copy_s"] + rows["step_s"], color="#666666", linestyle=(0, (5, 2)), linewidth=1.8,
        label="pinned DRAM: copy to the GPU only (modelled)",
    )  # fmt: skip
    looks, names = styles(stores), labels(stores)
    for scenario, line in stores.groupby("scenario", sort=False):
        first = line.iloc[0]
        cold = "cold" if first["operation"] == "get_cold" and first["cold"] else "warm"
        value = f"{first['value_bytes'] / 2**20:g} MiB, {first['connections']} conn."
        text = f"{names[scenario]}: {first['gbps']:.2g} GB/s, {cold}, {value}"
        axes.plot(line["prompt_tokens"], line["ttft_s"], label=text, **{**looks[scenario], "markersize": 4})
    at = rows.iloc[(prompts - 8192).abs().argmin()]
    several = pd.notna(at["gpus_for_weights"]) and at["gpus_for_weights"] > 1
    count = f"{int(at['gpus_for_weights'])} x " if several else ""
    required = at["required_node_gbps" if several else "required_gbps"]
    steps = "step times measured" if pd.isna(at["assumption"]) else "step times not measured"
    if pd.notna(at["scaled_from"]):
        steps += f", scaled from {at['scaled_from']}"
    note = f"break-even at {at['prompt_tokens']:,} tokens: {required_words(required, ' GB/s')}"
    told = f"{count}{at['gpu'].removesuffix(' (derived)')}, {steps}"
    axes.set_title("\n".join([*textwrap.wrap(told, _PANEL_LETTERS), note]), fontsize=9)


def _token_axes(axes: Axes, sizes: list[int]) -> None:
    def tokens(value: float, _: int) -> str:
        return f"{value / 1024:g}k" if value >= 1024 else f"{value:g}"

    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes)
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(FuncFormatter(tokens))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


DRAWINGS: dict[str, Callable[[Mapping[str, pd.DataFrame]], Figure]] = {
    "hit_rate": draw_hit_rate,
    "break_even": draw_break_even,
}


if __name__ == "__main__":
    sys.exit(run_stage("prediction_figures", main))
