"""Like for like: what rows that are compared must share."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from .errors import UserError

SHARED = ("engine", "comparable_digest")
SHARED_BY_CACHING = ("chunk_tokens", "connections", "save_decode_cache")
_WITHOUT_CONNECTIONS = ("inprocess", "offloading")


def require_parity(rows: pd.DataFrame, vary: Sequence[str], who: str = "figures") -> None:
    """Refuse to compare scenarios that differ in more than the named columns.

    Connections are those to all processes of a store together. rows: of scenarios.csv, cells.csv, cost.csv or
    cost_repeats.csv. who: begins the message. Raises UserError naming the column that differs.
    """
    caching = rows[rows["tier"] != "none"]
    connected = _connected(caching)
    fixed = (
        dict.fromkeys(SHARED, rows) | dict.fromkeys(SHARED_BY_CACHING, caching) | {"connections": connected}
    )
    for column, compared in fixed.items():
        found = compared[column].unique()
        if column not in vary and len(found) > 1:
            raise UserError(
                f"{who}: scenarios {', '.join(compared['scenario'].unique())} differ in {column} "
                f"({', '.join(map(str, found))}); compare like with like: measure them under one config (snakemake sweep) or set figures.chunk_tokens"
            )


def _connected(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows whose connector has connections, in all; what runs inside vLLM without a server has none."""
    kept = rows[~((rows["engine"] == "vllm") & rows["connector"].isin(_WITHOUT_CONNECTIONS))]
    if "processes" not in kept:
        return kept
    processes = pd.to_numeric(kept["processes"]).fillna(1).astype(int)
    return kept.assign(connections=kept["connections"] * processes)
