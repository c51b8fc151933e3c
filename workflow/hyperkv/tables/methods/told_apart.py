"""Which figure of the sweep tells its scenarios apart, where throughput hardly does and waiting does."""

from __future__ import annotations

import pandas as pd

from ...records.repeats import at_common_load, load_words


def told_apart(scenarios: pd.DataFrame) -> str:
    """A sentence where RPS/GPU at the highest common load lies within all intervals and TTFT p50 does not; else "".

    scenarios: that table; invalid rows take no part, and a row without an interval leaves it unsaid, as do several pairs of vLLM
    and LMCache, which are not compared.
    """
    if "pair" in scenarios and scenarios["pair"].nunique() > 1:
        return ""
    rows = scenarios[scenarios["valid"].astype(bool)]
    rows = at_common_load(rows) if len(rows) else rows
    if (
        rows["load"].nunique() != 1
        or _apart(rows, "rps_per_gpu") is not False
        or not _apart(rows, "ttft_p50_ms")
    ):
        return ""
    ends = (rows.loc[place] for place in (rows["ttft_p50_ms"].idxmin(), rows["ttft_p50_ms"].idxmax()))
    least, most = (f"{row['ttft_p50_ms']:.3g} ms ({row['scenario']})" for row in ends)
    return (
        f"At {load_words(rows)} RPS/GPU hardly tells the scenarios apart, all their intervals overlap; "
        f"TTFT p50 does: {least} to {most}."
    )


def _apart(rows: pd.DataFrame, column: str) -> bool | None:
    """Whether some interval ends before another begins; None where one is not known."""
    low, high = rows[f"{column}_low"], rows[f"{column}_high"]
    return None if low.isna().any() or high.isna().any() else bool(low.max() > high.min())
