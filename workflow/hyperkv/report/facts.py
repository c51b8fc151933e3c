"""What the page says of a run as a whole: what its cells prove, on what they rest and what they cannot say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from ..records.evidence import told_not_saved
from ..records.hardware import gpu_words
from ..records.repeats import is_closed
from .rows import percent


def evidence_items(cells: pd.DataFrame) -> list[tuple[str, str]]:
    """Names and values of what the cells prove."""
    valid = int(cells["valid"].sum())
    items = [("Cells (scenario x load x repeat)", f"{len(cells)}, {valid} of them valid")]
    items.append(("Repeats", f"{cells['repeat'].nunique()}"))
    for name, title in (
        ("sent_requests", "Requests sent"),
        ("failed_requests", "Requests that failed"),
        ("corrupt_chunks", "Chunks that came back wrong"),
    ):
        items.append((title, _total(cells, name)))
    why = told_not_saved(note for notes in cells["notes"].dropna() for note in notes.split("; "))
    told = [_total(cells, "dropped_chunks"), *(f"{chunks:,}: {reason}" for reason, chunks in why.items())]
    items.append(("Chunks not saved for want of room", "; ".join(told)))
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


def bounds(cells: pd.DataFrame) -> dict[str, Any]:
    """What bounds what this run can say: its GPUs in words, the model that their times are scaled from, the fewest repeats, and whether
    clients wait for their answers.
    """
    scaled = cells["gpu_scaled_from"].dropna().unique() if "gpu_scaled_from" in cells else []
    return {
        "replay": "replay" in set(cells["engine"]),
        "gpus": gpu_words(cells),
        "scaled_from": ", ".join(map(str, scaled)),
        "repeats": int(cells.groupby(["scenario", "load"])["repeat"].nunique().min()),
        "closed": is_closed(cells),
        "ssd": bool((cells["tier"] == "ssd").any()),
    }


def measured_words(cells: pd.DataFrame) -> str:
    """'24 November 2026', or the first and the last day of the cells."""
    days = pd.to_datetime(cells["started_at"], utc=True).dt.date
    first, last = (f"{day.day} {day:%B %Y}" for day in (days.min(), days.max()))
    return first if first == last else f"{first} to {last}"


def commit_of(environments: Iterable[Mapping[str, Any]]) -> str | None:
    """The commit that everything was measured with, None when there are several or none."""
    commits = {environment["git"]["commit"] for environment in environments if environment.get("git")}
    return commits.pop() if len(commits) == 1 else None
