"""Figure sharing: what sharing one store among engines buys: who saved what was found, requests per second and TTFT.

python -m workflow.hyperkv.figures.sharing --tables results/tables/sharing.csv --spec '{"chunk_tokens": 64}' --svg F.svg --png F.png
"""

from __future__ import annotations

import sys

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.text import Annotation
from matplotlib.ticker import PercentFormatter

from ..base.cli import run_stage
from ..base.options import Spec
from ..records.parity import require_parity
from ..records.repeats import at_common_load, load_words
from .command import Picture, Table, draw_tables
from .looks import TIER_COLOURS
from .style import WIDTH, at_chunk, draw_interval, empty, label, legend_below, note, title

_PARTS = (
    ("held_share", TIER_COLOURS["hbm"], "the engine still had it (HBM, DRAM pool)"),
    ("own_share", TIER_COLOURS["dram"], "in the store, saved by the same engine"),
    ("other_share", TIER_COLOURS["ssd"], "in the store, saved by another engine"),
    ("unknown_share", "#999999", "in the store, by whom it was saved is not known"),
)
_COMPUTED = "#F2F2F2"
_GAP = 4  # points between a bar's end and what stands beside it
_PANELS = (
    ("rps_per_gpu", "rps_gain", "RPS/GPU (requests/s, median)"),
    ("ttft_p50_ms", "ttft_gain", "TTFT p50 (ms, median)"),
)


def main(*, tables: Table, spec: Spec, picture: Picture) -> None:
    """Draw the figure.

    Args:
        tables: sharing.csv.
        spec: JSON: {"chunk_tokens": size that is compared}.
    """
    draw_tables(draw_sharing, tables, picture, spec["chunk_tokens"])


def draw_sharing(sharing: pd.DataFrame, chunk_tokens: int) -> Figure:
    """A bar per scenario at the highest load that all have: prompt tokens by who saved them; beside it RPS/GPU and TTFT.

    sharing: that table. How many times better it is than the same with each engine's KV apart stands at the bars. Raises UserError when
    scenarios are not alike.
    """
    if sharing.empty:
        return empty("There was one engine (experiment.engines)")
    rows = at_common_load(at_chunk(sharing, chunk_tokens))
    require_parity(rows, vary=["tier", "store", "connector", "pair"])
    rows = rows.assign(unknown_share=rows["store_share"].where(rows["other_share"].isna()))
    rows = rows.sort_values("routing", kind="stable")
    height = 1.9 + 0.62 * len(rows)
    figure, panels = plt.subplots(1, 3, figsize=(WIDTH, height), sharey=True, width_ratios=(1.25, 1, 1))
    places = list(range(len(rows)))[::-1]
    _draw_found(panels[0], rows, places)
    for axes, (column, gained, words) in zip(panels[1:], _PANELS, strict=True):
        _draw_values(axes, rows, places, column, gained)
        axes.set_xlabel(words)
    panels[0].set_yticks(places, [_name(row) for _, row in rows.iterrows()], fontsize=8)
    panels[0].set_xlabel("share of all prompt tokens (median)")
    for axes in panels:
        axes.grid(axis="y", alpha=0)
    engines, gpus = int(rows["engines"].iloc[0]), int(rows["gpus"].iloc[0])
    text = f"What sharing one store buys: {engines} engines on {gpus} GPUs, {load_words(rows)} together"
    figure.suptitle(title(rows, text), fontsize=11)
    figure.tight_layout()
    handles = [Patch(facecolor=colour, edgecolor="#444444") for _, colour, _ in _PARTS] + [
        Patch(facecolor=_COMPUTED, edgecolor="#444444")
    ]
    texts = [*(words for *_, words in _PARTS), "computed"]
    if rows["unknown_share"].fillna(0).eq(0).all():
        del handles[3], texts[3]
    if not rows["valid"].astype(bool).all():
        handles.append(Patch(facecolor="white", edgecolor="#444444", hatch="//"))
        texts.append("hatched: not valid in every repeat, see sharing.csv")
    legend_below(
        figure, handles, texts, "x 1.2: so many times as good as the same with the KV of each engine apart"
    )
    for axes in panels[1:]:
        _make_room(axes)
    return figure


def _name(row: pd.Series) -> str:
    """A scenario, and who shares what."""
    if row["tier"] == "none":
        kept = "nothing is kept below HBM"
    elif row["store"] == "dram":
        kept = "a pool for each engine"
    else:
        kept = "KV shared by all" if row["shared"] else "KV of each engine apart"
    return f"{row['scenario']}: {label(row)}\n{kept}; a {row['routing']} goes to {'any engine' if row['routing'] == 'request' else 'one engine'}"


def _draw_found(axes: Axes, rows: pd.DataFrame, places: list[int]) -> None:
    left = pd.Series(0.0, index=rows.index)
    hatches = ["" if valid else "//" for valid in rows["valid"].astype(bool)]
    for column, colour, _ in _PARTS:
        width = rows[column].fillna(0.0)
        axes.barh(
            places, width, 0.62, left=left, color=colour, edgecolor="#444444", linewidth=0.6, hatch=hatches
        )
        for place, start, share in zip(places, left, width, strict=True):
            if share >= 0.06:
                axes.text(
                    start + share / 2,
                    place,
                    f"{share:.0%}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white",
                )
        left = left + width
    axes.barh(places, 1 - left, 0.62, left=left, color=_COMPUTED, edgecolor="#444444", linewidth=0.6)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))


def _draw_values(axes: Axes, rows: pd.DataFrame, places: list[int], column: str, gained: str) -> None:
    for place, (_, row) in zip(places, rows.iterrows(), strict=True):
        if pd.isna(row[column]):
            continue
        valid = bool(row["valid"])
        axes.barh(place, row[column], 0.62, color="#56B4E9" if valid else "white", edgecolor="#444444", linewidth=0.6, hatch="" if valid else "//")  # fmt: skip
        end = draw_interval(axes, row, column, place, elinewidth=1.2, capsize=3)
        if pd.notna(row[gained]):
            ends = [row[f"{gained}_{word}"] for word in ("low", "high")]
            told = "" if pd.isna(ends[0]) else f"\n({ends[0]:.2f} to {ends[1]:.2f})"
            note(axes, f"x {row[gained]:.2f}{told}", (end, place), (_GAP, 0), va="center")
    axes.set_xlim(left=0)


def _make_room(axes: Axes) -> None:
    """Widen the panel's range until what stands beside its bars is inside. Its size must be known."""
    frame = axes.get_window_extent()
    for text in axes.texts:
        assert isinstance(text, Annotation)
        box = text.get_window_extent()
        beside = frame.width - box.width - 2 * _GAP * axes.figure.dpi / 72
        axes.set_xlim(right=max(axes.get_xlim()[1], text.xy[0] * frame.width / beside))


if __name__ == "__main__":
    sys.exit(run_stage("draw_sharing", main))
