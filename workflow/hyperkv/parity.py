"""Like for like: what rows that are compared must share."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from .errors import UserError

SHARED = ("engine", "comparable_digest")
SHARED_BY_CACHING = ("chunk_tokens", "connections", "save_decode_cache")


def require_parity(rows: pd.DataFrame, vary: Sequence[str], who: str = "figures") -> None:
    """Refuse to compare scenarios that differ in more than the named columns.

    rows: of scenarios.csv, cells.csv, cost.csv or cost_repeats.csv. who: begins the message. Raises UserError naming the
    column that differs.
    """
    caching = rows[rows["tier"] != "none"]
    fixed = dict.fromkeys(SHARED, rows) | dict.fromkeys(SHARED_BY_CACHING, caching)
    for column, compared in fixed.items():
        found = compared[column].unique()
        if column not in vary and len(found) > 1:
            raise UserError(
                f"{who}: scenarios {', '.join(compared['scenario'].unique())} differ in {column} "
                f"({', '.join(map(str, found))}); compare like with like: measure them under one config (snakemake sweep) or set figures.chunk_tokens"
            )
