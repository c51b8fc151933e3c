"""The layers in words: a sentence per scenario and operation, and the verdict on the reference project's claim."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from ...records.stats import Interval
from .substitution import UNEXPLAINED, WHOLE, serialization_verdict

CLAIM = "network serialization, not disk I/O"
WORDS = {
    "wire": "wire",
    "protocol": "protocol",
    "server_memory": "server memory",
    "engine": "storage engine in memory",
    "cold_engine": "cold start of the engine",
    "device": "device",
    "client": "client (redis-py)",
    "copy": "copy in memory",
    UNEXPLAINED: "unexplained",
}
_OPERATION = {"set": "SET", "get": "GET"}


def layers_text(table: pd.DataFrame) -> str:
    """Sentences and verdicts at each scenario's largest value size and most connections, as text; "" without rows.

    table: rows of layers.csv.
    """
    if table.empty:
        return ""
    points = list(_largest(table))
    checks = _agreement(table)
    verdicts = [line for point in points if (line := verdict_line(point)) is not None]
    parts = [
        "Where the time goes, medians over repeats with 95 % intervals; shares of the measured whole. SET to a warm "
        "server, GET from an SSD's store cold:",
        *[line for point in points for line in (f"  {sentence(point)}", *sampled_lines(point))],
        f'"{CLAIM}":',
        *[f"  {line}" for line in verdicts or ["undecided: no scenario here has both a wire and a device"]],
        *checks,
    ]
    return "\n".join(["", *parts]) + "\n"


def sentence(point: pd.DataFrame) -> str:
    """'for 16 MiB GET from kvrocks (2 connections, 3.1 s/GB [3, 3.3]): 61 % [57, 65] server memory, ...'.

    point: the rows of one scenario, operation, size and number of connections. Layers that cannot be told from 0 have no
    share.
    """
    first = point.iloc[0]
    whole = point[point["kind"] == WHOLE].iloc[0]
    preposition = "from" if first["operation"] == "get" else "to"
    count = int(first["connections"])
    head = (
        f"for {first['value_bytes'] / 2**20:g} MiB {_OPERATION[first['operation']]} {preposition} {first['scenario']} "
        f"({count} connection{'s' * (count > 1)}, {_seconds(whole)})"
    )
    if pd.isna(whole["s_per_gb"]):
        return f"{head}: not measured ({whole['notes']})"
    layers = point[point["kind"] == "layer"]
    told = layers[layers["share"].notna()].sort_values("share", ascending=False)
    shares = [f"{_percent(row)} {WORDS[row['layer']]}" for _, row in told.iterrows()]
    unknown = layers[layers["s_per_gb"].isna()]
    hidden = layers[layers["share"].isna() & layers["s_per_gb"].notna()]
    if pd.isna(whole["s_per_gb_low"]):
        one = (
            "one repeat"
            if whole["repeats"] == 1
            else f"one alone of {whole['repeats']} repeats was measured, which"
        )
        return f"{head}: {one} has no interval, so no shares"
    parts = [", ".join(shares) if shares else "no layer can be told from 0"]
    if len(hidden):
        parts.append(f"not distinguishable from 0: {_names(hidden)}")
    if len(unknown):
        parts.append(f"not measured: {_names(unknown)}{_why(point, unknown)}")
    if pd.notna(whole["copies_per_byte"]):
        parts.append(
            f"its server copies each byte {whole['copies_per_byte']:.1f} times (in plain copies' CPU time)"
        )
    return f"{head}: {'; '.join(parts)}"


def _why(point: pd.DataFrame, unknown: pd.DataFrame) -> str:
    """' (reason)' from the rungs whose absence leaves layers unknown, '' when they tell none."""
    rungs = {rung for definition in unknown["definition"] for rung in str(definition).split(" - ")}
    rows = point[(point["kind"] == "rung") & point["layer"].isin(rungs) & point["s_per_gb"].isna()]
    notes = [note for note in dict.fromkeys(rows["notes"].dropna()) if note]
    return f" ({'; '.join(notes)})" if notes else ""


def sampled_lines(point: pd.DataFrame) -> list[str]:
    """What perf saw of the server's CPU during the whole, the three largest categories; none when it was not sampled."""
    samples = point[(point["kind"] == "sample") & point["sampled_cpu_s_per_gb"].notna()]
    total = samples["sampled_cpu_s_per_gb"].sum()
    if not total:
        return []
    largest = samples.sort_values("sampled_cpu_s_per_gb", ascending=False).head(3)
    parts = [
        f"{100 * row['sampled_cpu_s_per_gb'] / total:.0f} % {row['layer'].replace('_', ' ')}"
        for _, row in largest.iterrows()
    ]
    return [f"    sampled, {total:.2f} CPU s/GB of its server: {', '.join(parts)}"]


def verdict_line(point: pd.DataFrame) -> str | None:
    """'refuted for 16 MiB GET from ...: serialization 13 % [...], device 9 % [...], ...'; None without wire and device."""
    groups = point[point["kind"] == "group"].set_index("layer")
    if groups.empty:
        return None
    shares = [_interval(groups.loc[name]) for name in ("serialization", "device", "server_side")]
    first = point.iloc[0]
    words = ("wire + protocol + client", "device", "server's memory + engine")
    told = ", ".join(f"{word} {_span(share)}" for word, share in zip(words, shares, strict=True))
    place = f"{first['value_bytes'] / 2**20:g} MiB {_OPERATION[first['operation']]}, {first['scenario']}"
    return f"{serialization_verdict(*shares)} on this machine for {place}: {told}"


def _largest(table: pd.DataFrame) -> Iterator[pd.DataFrame]:
    for _, rows in table.groupby(["scenario", "operation"], sort=False):
        rows = rows[rows["value_bytes"] == rows["value_bytes"].max()]
        yield rows[rows["connections"] == rows["connections"].max()]


def _agreement(table: pd.DataFrame) -> list[str]:
    compared = table[table["agrees"].notna()]
    if compared.empty:
        return ["Not sampled (perf is not there or not allowed): substitution stands alone."]
    right = int(compared["agrees"].astype(bool).sum())
    return [
        f"Sampling by perf agrees with substitution within 20 % in {right} of {len(compared)} comparisons of the server's "
        f"CPU (column agrees of layers.csv).",
        *_own_network(compared),
    ]


def _own_network(compared: pd.DataFrame) -> list[str]:
    """Why samples of the wire exceed the raw socket's CPU, where they do not agree with it."""
    wire = compared[(compared["layer"] == "wire") & ~compared["agrees"].astype(bool)]
    more = wire[wire["sampled_cpu_s_per_gb"] > wire["server_cpu_s_per_gb"]]
    if more.empty:
        return []
    servers = ", ".join(dict.fromkeys(more["scenario"]))
    return [
        f"More network than the raw socket's was sampled in the server of {servers}: its network code is its own, and "
        f"substitution books what that takes beyond the wire under the engine (a store in RAM: under its memory)."
    ]


def _interval(row: pd.Series) -> Interval:
    return Interval(
        *(None if pd.isna(row[name]) else float(row[name]) for name in ("share", "share_low", "share_high"))
    )


def _span(share: Interval) -> str:
    if share.median is None:
        return "unknown"
    return (
        f"{share.median:.0%} [{share.low:.0%}, {share.high:.0%}]"
        if share.low is not None
        else f"{share.median:.0%}"
    )


def _percent(row: pd.Series) -> str:
    if pd.isna(row["share_low"]):
        return f"{100 * row['share']:.0f} %"
    return f"{100 * row['share']:.0f} % [{100 * row['share_low']:.0f}, {100 * row['share_high']:.0f}]"


def _seconds(row: pd.Series) -> str:
    if pd.isna(row["s_per_gb"]):
        return "unknown s/GB"
    if pd.isna(row["s_per_gb_low"]):
        return f"{row['s_per_gb']:.2f} s/GB"
    return f"{row['s_per_gb']:.2f} s/GB [{row['s_per_gb_low']:.2f}, {row['s_per_gb_high']:.2f}]"


def _names(rows: pd.DataFrame) -> str:
    return ", ".join(WORDS[name] for name in rows["layer"])
