"""Figure tune: a search's history, what its parameters did, and its finalists.

python -m workflow.hyperkv.figures.tune --table results/tables/tune.csv --evidence results/tune/NAME/evidence.json --svg F.svg --png F.png
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..base.cli import run_stage
from ..base.errors import UserError
from ..records.frames import Asked, read_json
from ..records.record_file import Identity
from ..records.scenario import worded
from ..records.stats import median_interval
from .axes import log_y
from .command import Picture
from .style import note, read_table

# Okabe and Ito's palette.
_TRIAL, _BEST, _OWN, _WINNER = "#0072B2", "#D55E00", "#000000", "#009E73"
_METRICS = {
    "ttft_p50_ms": "TTFT p50 (ms), lower is better",
    "goodput_rps": "goodput (requests/s), higher is better",
}


def main(*, table: Path, evidence: Path, asked: Asked = None, picture: Picture) -> None:
    """Draw the figure.

    Args:
        table: tune.csv.
        evidence: evidence.json of the search.
    """
    rows, found = read_table(table), read_evidence(evidence, asked)
    picture.save(lambda: draw_tune(rows, found))


def read_evidence(path: Path, asked: Mapping[str, Identity] | None = None) -> dict[str, Any]:
    """evidence.json of a search. asked: as for read_jsonl. Raises UserError for one that is damaged or of another search."""
    evidence = read_json(path)
    if asked is not None and evidence.get("made") != str(asked.get(str(path.parent))):
        raise UserError(
            f"{path}: it is of another search than the one asked for; delete the file to search again"
        )
    return evidence


def draw_tune(table: pd.DataFrame, evidence: Mapping[str, Any]) -> Figure:
    """Cost of every trial with the best so far, importances, and the engine's cells of the finalists.

    table: tune.csv. evidence: evidence.json of the search.
    """
    rows = table[table["scenario"] == evidence["scenario"]]
    figure, (history, bars, finals) = plt.subplots(
        1, 3, figsize=(15, 4.8), gridspec_kw={"width_ratios": [1.2, 0.9, 1.2]}
    )
    _draw_history(history, rows[rows["level"] == "store"])
    _draw_importances(bars, evidence["study"]["importances"])
    _draw_cells(finals, rows[rows["level"] == "engine"], evidence)
    figure.suptitle(_title(evidence), fontsize=11)
    figure.tight_layout()
    figure.text(0.02, -0.01, _finalists_text(evidence), fontsize=8, va="top")
    return figure


def _title(evidence: Mapping[str, Any]) -> str:
    study = evidence["study"]
    engine = (
        "replay (modelled GPU, real stores and bytes)"
        if evidence["engine"] == "replay"
        else evidence["engine"]
    )
    counts = f"{study['trials']} trials in {study['spent_s'] / 60:.1f} min, {study['failed']} failed"
    return f"{evidence['scenario']}: {_verdict(evidence)}\n{counts}; engine {engine}"


def _verdict(evidence: Mapping[str, Any]) -> str:
    """The evidence's words, with the winner's number in place of its values."""
    proof = evidence["before_after"]
    if proof is None or proof["gain"] is None:
        return evidence["in_words"].removeprefix(f"{evidence['scenario']}: ")
    number = next(
        item["candidate"] for item in evidence["finalists"] if item["parameters"] == proof["parameters"]
    )
    interval = "" if proof["gain_low"] is None else f" [{proof['gain_low']:.2f}, {proof['gain_high']:.2f}]"
    words = f"no. {number} is {proof['gain']:.2f}{interval} times as good as the scenario as it is"
    return f"{words}; {'better' if evidence['better'] else 'not proved better, so that stays'}"


def _finalists_text(evidence: Mapping[str, Any]) -> str:
    """What the finalists' numbers stand for, a line each."""
    own = evidence["finalists"][0]["parameters"]
    lines = [
        f"no. {item['candidate']}: {worded(item['parameters'], own)}" for item in evidence["finalists"][1:]
    ]
    return "\n".join(textwrap.fill(line, 230, subsequent_indent="      ") for line in lines)


def _draw_history(axes: Axes, rows: pd.DataFrame) -> None:
    known = rows[rows["value"].notna()]
    complete, pruned = (known[known["state"] == state] for state in ("complete", "pruned"))
    failed = rows[rows["state"] == "failed"]
    axes.plot(complete["number"], complete["value"], "o", color=_TRIAL, label="complete", markersize=5)
    axes.plot(
        pruned["number"], pruned["value"], "o", color=_TRIAL, markerfacecolor="none", label="ended early"
    )
    if len(complete):
        best = complete["value"].cummin()
        axes.step(complete["number"], best, where="post", color=_BEST, label="best so far")
        own = complete[complete["number"] == rows["number"].min()]
        axes.plot(own["number"], own["value"], "D", color=_OWN, label="the scenario as it is", zorder=4)
    if len(failed):
        top = known["value"].max() * 1.25 if len(known) else 1.0
        axes.plot(failed["number"], [top] * len(failed), "x", color="#666666", label="failed")
    log_y(axes)
    axes.set(
        xlabel="trial",
        ylabel="s per 1,000 tokens (SET and GET, weighted)",
        title="The store alone",
    )
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.3)
    axes.legend(fontsize=8, ncols=2, loc="upper right")


def _draw_importances(axes: Axes, importances: Mapping[str, float] | None) -> None:
    axes.set_title("What told good trials from others")
    if not importances:
        axes.text(0.5, 0.5, "too few complete trials", ha="center", va="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    names = sorted(importances, key=lambda name: importances[name])
    short = [name.removeprefix("settings.").removeprefix("environment.") for name in names]
    bars = axes.barh(range(len(names)), [importances[name] for name in names], color=_TRIAL)
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    axes.set_yticks(range(len(names)), short, fontsize=8)
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.15)
    axes.set_xlabel("importance (PED-ANOVA, in sum 1)")


def _draw_cells(axes: Axes, rows: pd.DataFrame, evidence: Mapping[str, Any]) -> None:
    """Medians over repeats with their intervals: the finals from left to right, then the proof."""
    metric = evidence["objective"]["metric"]
    groups = [
        (phase, int(number), own)
        for phase in ("finals", "proof")
        for number, own in rows[rows["phase"] == phase].groupby("number")
    ]
    for place, (phase, number, own) in enumerate(groups):
        valid = own[own["state"] == "valid"]
        colour = _OWN if number == 0 else _WINNER if phase == "proof" else _TRIAL
        axes.plot([place] * len(valid), valid["value"], ".", color=colour, alpha=0.45)
        invalid = own[(own["state"] == "invalid") & own["value"].notna()]
        axes.plot([place] * len(invalid), invalid["value"], "o", markerfacecolor="white", color=colour)
        interval = median_interval(list(valid["value"]))
        if interval.median is None:
            note(
                axes, "no valid\ncell", (place, 0.04), (0, 0), xycoords=("data", "axes fraction"), ha="center"
            )
            continue
        axes.plot(place, interval.median, "_", markersize=22, markeredgewidth=2.5, color=colour)
        if interval.low is not None and interval.high is not None:
            axes.plot([place, place], [interval.low, interval.high], color=colour, alpha=0.35, linewidth=4)
    names = ["as it is" if number == 0 else f"no. {number}" for _, number, _ in groups]
    axes.set_xticks(range(len(groups)), names, fontsize=8)
    for phase, words in (("finals", "chosen on these requests"), ("proof", "proof, on others")):
        places = [place for place, (of, _, _) in enumerate(groups) if of == phase]
        if places:
            middle = sum(places) / len(places)
            axes.text(middle, -0.13, words, ha="center", fontsize=8, transform=axes.get_xaxis_transform())
            axes.axvline(places[0] - 0.5, color="#999999", linewidth=0.8)
    axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.set_ylim(bottom=0)
    axes.grid(axis="x", visible=False)
    axes.set(ylabel=_METRICS[metric], title=f"With the engine, load {evidence['objective']['load']}")


if __name__ == "__main__":
    sys.exit(run_stage("draw_tune", main))
