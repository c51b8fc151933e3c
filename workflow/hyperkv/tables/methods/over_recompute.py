"""Every scenario over recompute of the same run, pair and configuration: ratios paired by repeat, with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ...base.digests import canonical_digest
from ...predict.predict_break_even import required_gbps
from ...records import hardware
from ...records.effective import facts_of
from ...records.parity import unlike
from ...records.repeats import known, pass_of, said_once
from ...records.stats import median, median_interval, spread

RATIOS = {"rps_ratio": "rps_per_gpu", "ttft_ratio": "ttft_p50_ms"}
CELLS = (
    "scenario",
    "load",
    "repeats",
    "unlike",
    *(f"{name}{end}" for name in RATIOS for end in ("", "_low", "_high")),
)
_OWN = ("tier", "store", "connector", "gate", "shape")
SINGLES = (
    "scenario", *_OWN, "gpu", "model", "pair", "kv_dtype", "prompt_tokens", "computed_s", "saved_s", "loaded_s", "loaded_bytes",
    "loaded_share", "ratio", "ratio_low", "ratio_high", "repeats", "unlike", "valid", "reasons",
)  # fmt: skip


def cell_ratios(cells: pd.DataFrame) -> pd.DataFrame:
    """One row per caching scenario and load: its RPS/GPU and median TTFT as so many times those of recompute, over repeats in
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
            "computed_s": median(known(computed["ttft_s"])),
            "saved_s": median(known(times["saved"]["ttft_s"])),
            "loaded_s": median(known(times["loaded"]["ttft_s"])),
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


def break_even_gbps(singles: pd.DataFrame, row: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """GB/s that a store must deliver for loading a prompt to take as long as computing it, and GB/s that this one did deliver.

    Measured: the prompt's bytes over what is left of the time when a hit from the DRAM pool of the same run is taken off, which
    is all of a hit but the store. None where there is no such pool or nothing was loaded; infinite where the pool itself is no faster.
    """
    pool = singles[
        (singles["store"] == "dram")
        & (singles["prompt_tokens"] == row["prompt_tokens"])
        & singles["loaded_s"].notna()
    ]
    for name in ("gpu", "model", "pair", "kv_dtype"):
        pool = pool[pool[name] == row[name]]
    if pool.empty or pd.isna(row["loaded_bytes"]) or pd.isna(row["computed_s"]):
        return None, None
    rest_s = float(pool["loaded_s"].min())
    return (
        required_gbps(row["loaded_bytes"], row["computed_s"], rest_s),
        required_gbps(row["loaded_bytes"], row["loaded_s"], rest_s),
    )


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
        **{name: record[name] for name in ("scenario", "engine", "repeat", "model", "gpus")},
        **facts_of(record),
        "gpu": hardware.gpu_of(record)["gpu"],
        "comparable_digest": _engine_digest(record["spec"]),
    }


def _samples(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row per request of a record, with the facts."""
    common, size = single_facts(record), record["kv_bytes_per_token"]
    return [
        {
            **common,
            "pass": pass_of(record, sample),
            "faults": "; ".join(sample["faults"]),
            "kv_bytes": sample["cached_tokens"] * size,
            "kv_share": sample["cached_tokens"] / sample["prompt_tokens"],
            "prompt_tokens": sample["prompt_tokens"],
            "ttft_s": sample["ttft_s"],
        }
        for sample in record["samples"]
    ]


def _engine_digest(spec: Mapping[str, Any]) -> str:
    """Names what must be alike for two single requests to be compared: the engine's settings; there is no load, nobody else, no SLO."""
    settings = {
        key: value for key, value in spec.get("vllm", {}).items() if key not in ("pairs", "ready_timeout_s")
    }
    return canonical_digest([spec["engine"], spec["model"], settings, spec["scenario"].get("vllm")])
