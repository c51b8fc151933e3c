"""The answer in a sentence: what SSD costs beside DRAM."""

from __future__ import annotations

import pandas as pd

from ..records.repeats import at_common_load, is_closed, load_words
from .rows import interval_text, percent

# By whether clients wait for their answers: otherwise all scenarios are asked for as many requests.
_COMPARED = {
    True: ("rps_per_gpu", "serves", "the requests"),
    False: ("ttft_p50_ms", "has", "the median TTFT"),
}


def price_of_ssd(scenarios: pd.DataFrame, ratios: pd.DataFrame) -> str:
    """One sentence: DRAM against the best SSD scenarios at the highest load that all have, and where SSD bytes came from; one for each pair of
    vLLM and LMCache.

    Of SSD scenarios those with the DRAM scenario's chunk size, when there are any.
    scenarios, ratios: those tables. Only valid cells are in ratios.
    """
    pairs = scenarios["pair"].dropna().unique() if "pair" in scenarios else []
    if len(pairs) < 2:
        return _of_pair(scenarios, ratios)
    told = []
    for pair in pairs:
        own = scenarios[scenarios["pair"] == pair]
        found = _of_pair(own, ratios[ratios["scenario"].isin(own["scenario"])])
        told.append(f"With pair {pair}: {found[0].lower()}{found[1:]}")
    return " ".join(told)


def _of_pair(scenarios: pd.DataFrame, ratios: pd.DataFrame) -> str:
    ssd = scenarios[scenarios["tier"] == "ssd"]
    if ssd.empty:
        only = set(scenarios["tier"]) == {"none"}
        missing = "Nothing but recompute served clients" if only else "No SSD store served clients"
        return f"{missing}, so this run does not tell what an SSD costs."
    if ratios.empty:
        return "No valid DRAM scenario was measured that SSD scenarios could be compared with."
    closed = is_closed(ratios)
    metric, serves, what = _COMPARED[closed]
    rows = ratios[(ratios["at"] == "load") & (ratios["metric"] == metric) & ratios["ratio"].notna()]
    rows = rows[rows["scenario"].isin(ssd["scenario"])]
    chunks = scenarios.drop_duplicates("scenario").set_index("scenario")["chunk_tokens"]
    alike = rows[rows["scenario"].map(chunks) == chunks.get(ratios.iloc[0]["baseline"])]
    rows = alike if len(alike) else rows
    if rows.empty and (facts := _unlike(ratios[ratios["scenario"].isin(ssd["scenario"])])):
        return f"The SSD scenarios and {ratios.iloc[0]['baseline']} differ in {facts}, so the two cannot be compared."
    if rows.empty:
        return "No SSD scenario is valid where DRAM is, so the two cannot be compared."
    rows = at_common_load(rows)
    load = rows["load"].max()
    rows = rows[rows["load"] == load].sort_values("ratio", ascending=closed)
    connectors = ssd.drop_duplicates("scenario").set_index("scenario")["connector"]
    best = rows.iloc[0]
    others = rows[
        rows["scenario"].map(connectors).eq("inprocess") != (connectors[best["scenario"]] == "inprocess")
    ]
    parts = [f"{interval_text(best, 'ratio')} times {what} of {_how(best, connectors)}"]
    if len(others):
        parts.append(
            f"{interval_text(others.iloc[0], 'ratio')} times those of {_how(others.iloc[0], connectors)}"
        )
    return (
        f"At {load_words(rows)} {_baseline(scenarios, best['baseline'])} {serves} {' and '.join(parts)}"
        f"{_from_device(ssd[ssd['scenario'].isin(rows['scenario'])])}."
    )


def _unlike(ratios: pd.DataFrame) -> str:
    """The facts in which they differ from the baseline, empty when in none."""
    told = ratios["unlike"].dropna() if "unlike" in ratios else ()
    return ", ".join(dict.fromkeys(fact for text in told for fact in text.split(", ")))


def _baseline(scenarios: pd.DataFrame, name: str) -> str:
    store = scenarios.loc[scenarios["scenario"] == name, "store"]
    return f"the DRAM pool ({name})" if (store == "dram").any() else f"scenario {name}"


def _how(row: pd.Series, connectors: pd.Series) -> str:
    reached = "without a server" if connectors[row["scenario"]] == "inprocess" else "behind a server"
    return f"the best SSD scenario {reached} ({row['scenario']})"


def _from_device(ssd: pd.DataFrame) -> str:
    shares = ssd.loc[ssd["valid"], "device_share"].dropna()
    if shares.empty:
        return ""
    low, high = percent(shares.min()), percent(shares.max())
    return f"; of the bytes loaded from SSD, {low if low == high else f'{low} to {high}'} were read from the block device"
