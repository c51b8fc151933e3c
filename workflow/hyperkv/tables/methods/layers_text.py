"""The layers in words: a sentence per scenario and operation, and the verdict on the reference project's claim."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from ...records.stats import Interval
from ...records.templates import filled
from .substitution import WHOLE, WORDS, serialization_verdict


def layers_text(table: pd.DataFrame) -> str:
    """Sentences and verdicts at each scenario's largest value size and most connections, as text; "" without rows.

    table: rows of layers.csv. Layers that cannot be told from 0 have no share. Of what perf saw of the server's CPU the three
    largest categories are named, and where its network takes more than the raw socket's, why.
    """
    if table.empty:
        return ""
    compared = table[table["agrees"].notna()]
    agrees = compared["agrees"].astype(bool)
    wire = compared[(compared["layer"] == "wire") & ~agrees]
    more = wire[wire["sampled_cpu_s_per_gb"] > wire["server_cpu_s_per_gb"]]
    return filled(
        __file__,
        points=[_told(point) for point in _largest(table)],
        words=WORDS,
        compared=len(compared),
        agreeing=agrees.sum(),
        own_network=more["scenario"].unique().tolist(),
    )


def _largest(table: pd.DataFrame) -> Iterator[pd.DataFrame]:
    for _, rows in table.groupby(["scenario", "operation"], sort=False):
        rows = rows[rows["value_bytes"] == rows["value_bytes"].max()]
        yield rows[rows["connections"] == rows["connections"].max()]


def _told(point: pd.DataFrame) -> dict[str, Any]:
    """What the template says of the rows of one scenario, operation, size and number of connections."""
    first, layers = point.iloc[0], point[point["kind"] == "layer"]
    unknown = layers[layers["s_per_gb"].isna()]
    samples = point[(point["kind"] == "sample") & point["sampled_cpu_s_per_gb"].notna()]
    groups = {row["layer"]: row for row in _rows(point[point["kind"] == "group"])}
    shares = [_share(groups[name]) for name in ("serialization", "device", "server_side") if groups]
    return {
        "scenario": first["scenario"],
        "operation": first["operation"].upper(),
        "value": f"{first['value_bytes'] / 2**20:g} MiB {first['operation'].upper()}",
        "connections": int(first["connections"]),
        "whole": _rows(point[point["kind"] == WHOLE])[0],
        "told": _rows(layers[layers["share"].notna()].sort_values("share", ascending=False)),
        "hidden": _rows(layers[layers["share"].isna() & layers["s_per_gb"].notna()]),
        "unknown": _rows(unknown),
        "why": _why(point, unknown),
        "sampled_s": samples["sampled_cpu_s_per_gb"].sum(),
        "samples": _rows(samples.sort_values("sampled_cpu_s_per_gb", ascending=False).head(3)),
        "groups": groups,
        "left_out": {row["layer"]: row for row in _rows(point[point["kind"] == "left_out"])},
        "verdict": serialization_verdict(*shares) if shares else None,
    }


def _why(point: pd.DataFrame, unknown: pd.DataFrame) -> list[str]:
    """Reasons from the rungs whose absence leaves layers unknown."""
    rungs = {rung for definition in unknown["definition"] for rung in str(definition).split(" - ")}
    rows = point[(point["kind"] == "rung") & point["layer"].isin(rungs) & point["s_per_gb"].isna()]
    return [note for note in dict.fromkeys(rows["notes"].dropna()) if note]


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return table.to_dict("records")


def _share(row: dict[str, Any]) -> Interval:
    return Interval(
        *(None if pd.isna(row[name]) else float(row[name]) for name in ("share", "share_low", "share_high"))
    )
