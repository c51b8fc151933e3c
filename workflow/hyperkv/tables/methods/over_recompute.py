"""Every scenario over recompute of the same run, pair and configuration: ratios paired by repeat, with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ...base.digests import canonical_digest
from ...predict.request_time import required_gbps
from ...predict.single_requests import loads_of, of_pool
from ...records import hardware
from ...records.effective import facts_of
from ...records.parity import unlike
from ...records.repeats import known, pass_of, said_once
from ...records.scenario import gate_of
from ...records.stats import Interval, median, median_interval, spread

RATIOS = {"rps_ratio": "rps_per_gpu", "ttft_ratio": "ttft_p50_ms", "ttft_p95_ratio": "ttft_p95_ms"}
CELLS = (
    "scenario",
    "load",
    "repeats",
    "unlike",
    *(f"{name}{end}" for name in RATIOS for end in ("", "_low", "_high")),
)
_OWN = ("tier", "store", "connector", "gate", "shape")
_ALIKE = ("gpu", "gpus", "model", "pair", "kv_dtype", "prompt_tokens")
SINGLES = (
    "scenario", *_OWN, *_ALIKE, "computed_s", "computed_s_low", "computed_s_high", "saved_s", "loaded_s", "loaded_s_low",
    "loaded_s_high", "loaded_bytes", "loaded_share", "ratio", "ratio_low", "ratio_high", "repeats", "unlike", "valid", "reasons",
)  # fmt: skip


def cell_ratios(cells: pd.DataFrame) -> pd.DataFrame:
    """One row per caching scenario and load: its RPS/GPU, median TTFT and 95th percentile as so many times those of recompute, over repeats in
    which both are valid.

    cells: that table, of one machine. Empty where there is no recompute to take a ratio to; `unlike` then names the facts in which the
    nearest differs.
    """
    rows = []
    valid = cells[cells["valid"].astype(bool)]
    for (scenario, load), own in valid[valid["tier"] != "none"].groupby(["scenario", "load"], sort=False):
        control, facts = _control(valid[valid["tier"] == "none"], own)
        pairs = own.merge(control, on=["repeat", "load"], suffixes=("", "_of_control")).sort_values("repeat")
        row: dict[str, Any] = {
            "scenario": scenario,
            "load": load,
            "repeats": len(pairs),
            "unlike": _words(facts),
        }
        for name, column in RATIOS.items():
            found = known(pairs[column] / pairs[f"{column}_of_control"].replace(0, math.nan))
            row |= spread(name, median_interval(found))
        rows.append(row)
    return pd.DataFrame(rows, columns=list(CELLS))


def single_ratios(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per scenario and prompt length of single requests: median TTFT computed (with a tier: and saved) and loaded, in seconds, and
    loaded as so many times what recompute took, a median over repeats of medians over a repeat's prompts.

    records: of kind single, of one machine. loaded_bytes, loaded_share: of a prompt's KV. Only requests that proved themselves are in medians.
    """
    rows = []
    samples = pd.DataFrame([row for record in records for row in _samples(record)])
    for (_, tokens), own in (
        samples.groupby(["scenario", "prompt_tokens"], sort=False) if len(samples) else ()
    ):
        good = own[own["faults"] == ""]
        control, facts = _control(
            samples[(samples["tier"] == "none") & (samples["prompt_tokens"] == tokens)], own
        )
        times = {name: good[good["pass"] == name] for name in ("computed", "saved", "loaded")}
        computed = control[(control["pass"] == "computed") & (control["faults"] == "")]
        ratio = (
            times["loaded"].groupby("repeat")["ttft_s"].median()
            / computed.groupby("repeat")["ttft_s"].median()
        )
        found = [value for value in known(ratio) if value is not None]
        told: dict[str, Any] = {
            name: own.iloc[0][name] for name in SINGLES[: SINGLES.index("prompt_tokens") + 1] if name in own
        }
        told |= {
            **spread("computed_s", median_interval(known(computed["ttft_s"]))),
            "saved_s": median(known(times["saved"]["ttft_s"])),
            **spread("loaded_s", median_interval(known(times["loaded"]["ttft_s"]))),
            "loaded_bytes": median(known(times["loaded"]["kv_bytes"])),
            "loaded_share": median(known(times["loaded"]["kv_share"])),
            **spread("ratio", median_interval(found)),
            "repeats": len(found),
            "unlike": _words(facts),
            "valid": len(good) == len(own),
            "reasons": said_once(own["faults"]),
        }
        rows.append(told)
    return pd.DataFrame(rows, columns=list(SINGLES))


def measured_break_even(singles: pd.DataFrame, row: Mapping[str, Any]) -> tuple[Interval, float | None]:
    """GB/s that a store must deliver for loading a prompt to take as long as computing it, and GB/s that this one did deliver.

    Measured: the prompt's bytes over what is left of the time when a hit from the engine's own pool is taken off, which is all of a hit but
    the store: a pool's own hit, else that of the pool that answers soonest of those that are alike (_ALIKE). None where there is no such
    pool, nothing was computed or loaded, or the pool itself is no faster.

    singles, row: of single_ratios.
    """
    pools = [
        other
        for other in singles.to_dict("records")
        if of_pool(other) and pd.notna(other["loaded_s"]) and all(other[name] == row[name] for name in _ALIKE)
    ]
    if not pools or pd.isna(row["loaded_bytes"]) or pd.isna(row["computed_s"]):
        return Interval(None, None, None), None
    pool = min(pools, key=lambda other: (other["scenario"] != row["scenario"], other["loaded_s"]))

    def gbps(taken: str, hit: str) -> float | None:
        found = required_gbps(row["loaded_bytes"], row[taken], pool[hit])
        return found if math.isfinite(found) else None

    needs = (("", ""), ("_high", "_low"), ("_low", "_high"))
    found = (gbps(f"computed_s{taken}", f"loaded_s{hit}") for taken, hit in needs)
    return Interval(*found), gbps("loaded_s", "loaded_s")


def _control(computed: pd.DataFrame, own: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Of the rows that were computed those of the scenario that `own` is compared with: the nearest, none of it when facts differ."""
    facts = {name: unlike(rows, own) for name, rows in computed.groupby("scenario", sort=False)}
    if not facts:
        return computed, []
    nearest = min(facts, key=lambda name: len(facts[name]))
    return computed[computed["scenario"].eq(nearest) & (not facts[nearest])], facts[nearest]


def _words(facts: Sequence[str]) -> str | None:
    return ", ".join(facts).replace("comparable_digest", "configuration") or None


def single_facts(record: Mapping[str, Any]) -> dict[str, Any]:
    """What decides what a record's single requests may be compared with, and what parity.unlike compares; of a cell, too."""
    own = record["spec"]["scenario"]
    return {
        **{name: own.get(name) for name in _OWN},
        "gate": gate_of(own),
        **{name: record[name] for name in ("scenario", "engine", "repeat", "model", "gpus")},
        **facts_of(record),
        "gpu": hardware.gpu_of(record)["gpu"],
        "comparable_digest": _engine_digest(record["spec"]),
    }


def _samples(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row per request of a record, with the facts."""
    common = single_facts(record)
    return [
        {
            **common,
            "pass": pass_of(record, sample),
            "faults": "; ".join(sample["faults"]),
            "kv_bytes": loaded_bytes,
            "kv_share": loaded_tokens / sample["prompt_tokens"],
            "prompt_tokens": sample["prompt_tokens"],
            "ttft_s": sample["ttft_s"],
        }
        for sample, loaded_tokens, loaded_bytes in loads_of(record)
    ]


def _engine_digest(spec: Mapping[str, Any]) -> str:
    """Names what must be alike for two single requests to be compared: the engine's settings; there is no load, nobody else, no SLO."""
    settings = {
        key: value for key, value in spec.get("vllm", {}).items() if key not in ("pairs", "ready_timeout_s")
    }
    return canonical_digest([spec["engine"], spec["model"], settings, spec["scenario"].get("vllm")])
