"""Stage tables: from raw records to tidy CSV and Parquet; workflow/schemas/columns.yaml is their dictionary.

python -m workflow.hyperkv.tables.tables --spec '{...}' --cells results/sweep/*/*.jsonl --out results/tables
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from ..base.cli import run_stage
from ..records import hardware
from ..records.effective import FACTS, facts_of
from ..records.frames import add_asked, known, read_jsonl, spread, write_table
from ..records.journal import canonical_digest
from ..records.parity import require_one_configuration, unlike
from ..records.stats import iso_tps_ratio, median_interval
from ..records.subtitles import workload_words

COLUMNS_PATH = Path("workflow/schemas/columns.yaml")
SUMMARISED = (
    "rps_per_gpu",
    "goodput_rps",
    "tps_per_user",
    "ttft_p50_ms",
    "ttft_p95_ms",
    "itl_p50_ms",
    "hit_rate",
    "external_hit_rate",
    "load_gbps",
    "save_gbps",
    "device_share",
)
_SCENARIO_KEYS = (
    "tier",
    "store",
    "connector",
    "chunk_tokens",
    "connections",
    "stripe_bytes",
    "processes",
    "dram_pool_bytes",
)


def main() -> None:
    """Parse the command line and write the tables."""
    parser = argparse.ArgumentParser(prog="python -m workflow.hyperkv.tables.tables", description=__doc__)
    parser.add_argument(
        "--spec", required=True, help='JSON: {"figures": {"baseline": ..., "chunk_tokens": ...}}'
    )
    parser.add_argument("--cells", required=True, nargs="+", type=Path, help="JSONL files of the sweep")
    parser.add_argument("--out", required=True, type=Path, help="folder for the tables")
    add_asked(parser)
    arguments = parser.parse_args()
    found = read_jsonl(arguments.cells, arguments.asked)
    records = [record for record in found if record["record"] == "cell"]
    cells = cells_table(records)
    require_one_configuration(cells, "tables")
    spec = json.loads(arguments.spec)
    baseline = spec["figures"]["baseline"] or default_baseline(cells, spec)
    arguments.out.mkdir(parents=True, exist_ok=True)
    scenarios = scenarios_table(cells)
    write_table(cells, arguments.out / "cells")
    requests_table(records).to_parquet(arguments.out / "requests.parquet", index=False)
    scenarios.to_csv(arguments.out / "scenarios.csv", index=False)
    ratios_table(cells, baseline).to_csv(arguments.out / "ratios.csv", index=False)
    sweep_time_table(records).to_csv(arguments.out / "sweep_time.csv", index=False)
    columns_table().to_csv(arguments.out / "columns.csv", index=False)
    latency_table([record for record in found if record["record"] == "single"]).to_csv(
        arguments.out / "latency.csv", index=False
    )
    environments = unique_environments(found)
    (arguments.out / "environment.json").write_text(json.dumps(environments, indent=2) + "\n")


def cells_table(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row per cell: identity, values, evidence, validity."""
    rows = []
    for record in records:
        scenario = record["spec"]["scenario"]
        rows.append(
            {
                **{
                    key: record[key]
                    for key in ("engine", "scenario", "load", "repeat", "seed", "spec_digest", "model")
                },
                **gpu_of(record),
                "gpus": gpus_in(record),
                **{key: scenario.get(key) for key in _SCENARIO_KEYS},
                **facts_of(record),
                "workload": workload_words(record["spec"]["workload"]),
                "chunk_bytes": record["chunk_bytes"],
                "comparable_digest": comparable_digest(record),
                "valid": record["valid"],
                "reasons": "; ".join(record["reasons"]),
                "served_from": record["served_from"],
                **record["values"],
                **record["evidence"],
                "notes": "; ".join(record.get("notes", [])),
                **{key: record[key] for key in ("start_s", "measured_s", "cell_s", "started_at")},
                **hardware.columns_of([record]),
            }
        )
    return pd.DataFrame(rows)


def gpu_of(record: dict[str, Any]) -> dict[str, str | None]:
    """The modelled GPU and the model its figures were scaled from; of a real engine the GPUs it ran on, or "CPU"."""
    if record["gpu_model"] is not None:
        return {"gpu": record["gpu_model"]["name"], "gpu_scaled_from": record["gpu_model"]["scaled_from"]}
    names = [line.split(",")[0] for line in record["environment"]["gpu"]]
    device = {**record["spec"]["vllm"], **record["spec"]["scenario"]["vllm"]}["device"]
    return {"gpu": ", ".join(dict.fromkeys(names)) if device == "cuda" else "CPU", "gpu_scaled_from": None}


_UNTOLD = {"gpus": 1} | dict.fromkeys((*FACTS, "workload"))


def gpus_in(record: Mapping[str, Any]) -> int:
    """GPUs that a record's figures per GPU are divided by; records from before there were several have one."""
    return record.get("gpus") or 1


def comparable_digest(record: dict[str, Any]) -> str:
    """Names what must be alike for two cells to stand in one figure beside the facts that parity compares by themselves:
    all but the scenario's own keys and kv_dtype."""
    spec = record["spec"]
    shared = {key: value for key, value in spec.items() if key not in ("scenario", "loads", "kv_dtype")}
    own = spec["scenario"].get("vllm")
    return canonical_digest({**shared, "scenario_vllm": own, "gpu_model": record["gpu_model"]})


def scenarios_table(cells: pd.DataFrame) -> pd.DataFrame:
    """One row per scenario x load: median and 95 % interval over repeats, of valid cells when there are any.

    cells: of cells_table, or read from a cells.csv, which from before there was the column has one GPU each and tells no facts.
    """
    rows = []
    cells = cells.assign(**{name: value for name, value in _UNTOLD.items() if name not in cells})
    identity = [
        "engine",
        "model",
        "gpu",
        "gpu_scaled_from",
        "gpus",
        "scenario",
        *_SCENARIO_KEYS,
        *FACTS,
        "workload",
        "chunk_bytes",
        "comparable_digest",
        "load",
    ]
    for _, group in cells.groupby(["scenario", "load"], sort=False):
        valid = group[group["valid"]]
        used = valid if len(valid) else group
        row = {key: used.iloc[0][key] for key in identity}
        row |= {"repeats": len(group), "valid_repeats": len(valid), "valid": len(valid) == len(group)}
        row["reasons"] = "; ".join(dict.fromkeys(filter(None, group["reasons"])))
        row["notes"] = "; ".join(dict.fromkeys(filter(None, group["notes"])))
        row["served_from"] = "/".join(dict.fromkeys(used["served_from"]))
        for name in SUMMARISED:
            row |= spread(name, median_interval(known(used[name]) if name in used else []))
        row |= hardware.joined(used)
        rows.append(row)
    return pd.DataFrame(rows)


def default_baseline(cells: pd.DataFrame, spec: dict[str, Any]) -> str | None:
    """The in-process DRAM scenario at the figures' chunk size, else any DRAM scenario, else None."""
    dram = cells[(cells["store"] == "dram") & (cells["connector"] == "inprocess")]
    preferred = dram[dram["chunk_tokens"] == spec["figures"]["chunk_tokens"]]
    for candidates in (preferred, dram):
        if len(candidates):
            return str(candidates.iloc[0]["scenario"])
    return None


def ratios_table(cells: pd.DataFrame, baseline: str | None) -> pd.DataFrame:
    """The baseline over every other scenario, paired by repeat: RPS/GPU and TTFT at equal load, RPS at equal TPS/user.

    Only valid cells count. A ratio that cannot be taken is empty, also where the two differ in more than where and how KV is
    kept: `unlike` then names the facts.
    """
    columns = [
        "baseline",
        "scenario",
        "at",
        "load",
        "metric",
        "ratio",
        "ratio_low",
        "ratio_high",
        "repeats",
        "unlike",
    ]
    rows: list[dict[str, Any]] = []
    valid = cells[cells["valid"]]
    reference = valid[valid["scenario"] == baseline].set_index(["repeat", "load"])
    for scenario, group in valid[valid["scenario"] != baseline].groupby("scenario", sort=False):
        facts = unlike(valid[valid["scenario"] == baseline], group)
        other = group.set_index(["repeat", "load"])
        shared = reference.index.intersection(other.index)
        for load in sorted({load for _, load in shared}):
            pairs = [key for key in shared if key[1] == load]
            for metric in ("rps_per_gpu", "ttft_p50_ms"):
                found = [
                    None if facts else _quotient(reference.loc[key, metric], other.loc[key, metric])
                    for key in pairs
                ]
                rows.append(_ratio_row(baseline, scenario, "load", load, metric, found, facts))
        found = [
            None if facts else iso_tps_ratio(_curve(reference, repeat), _curve(other, repeat))
            for repeat in sorted({repeat for repeat, _ in shared})
        ]
        rows.append(_ratio_row(baseline, scenario, "tps_per_user", None, "rps_per_gpu", found, facts))
    return pd.DataFrame(rows, columns=columns)


def _ratio_row(
    baseline: str | None,
    scenario: Any,
    at: str,
    load: int | None,
    metric: str,
    found: list[float | None],
    facts: Sequence[str],
) -> dict[str, Any]:
    interval = median_interval(found)
    return {
        "baseline": baseline,
        "scenario": scenario,
        "at": at,
        "load": load,
        "metric": metric,
        **spread("ratio", interval),
        "repeats": sum(value is not None for value in found),
        "unlike": ", ".join(facts) or None,
    }


def _quotient(numerator: float, denominator: float) -> float | None:
    return (
        None
        if pd.isna(numerator) or pd.isna(denominator) or not denominator
        else float(numerator / denominator)
    )


def _curve(cells: pd.DataFrame, repeat: int) -> list[tuple[float, float]]:
    rows = cells.loc[repeat].dropna(subset=["tps_per_user", "rps_per_gpu"])
    return [(float(x), float(y)) for x, y in zip(rows["tps_per_user"], rows["rps_per_gpu"], strict=True)]


def requests_table(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row per request of every cell: the raw samples."""
    identity = ["scenario", "load", "repeat"]
    parts = [pd.DataFrame({key: record[key] for key in identity} | record["requests"]) for record in records]
    return pd.concat(parts, ignore_index=True)


LATENCY_COLUMNS = (
    "engine",
    "model",
    "gpu",
    "gpus",
    "scenario",
    "tier",
    "store",
    "connector",
    "chunk_tokens",
    "kv_dtype",
    "prompt_tokens",
    "pass",
    "prompts",
    "cached_tokens",
    "ttft_s",
    "ttft_s_low",
    "ttft_s_high",
    "valid",
    "reasons",
    *hardware.COLUMNS,
)


def latency_table(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row per scenario, prompt length and pass of single requests: the median TTFT over prompts and repeats.

    pass: computed (no tier), saved (computed, and saved to the tier), loaded (the same prompt from the tier).
    """
    rows = []
    groups: dict[tuple[str, int, str], list[tuple[dict[str, Any], dict[str, Any]]]] = {}
    for record in records:
        for sample in record["samples"]:
            key = (record["scenario"], sample["prompt_tokens"], pass_of(record, sample))
            groups.setdefault(key, []).append((record, sample))
    for (scenario, tokens, kind), found in groups.items():
        record = found[0][0]
        own = record["spec"]["scenario"]
        rows.append(
            {
                "engine": record["engine"],
                "model": record["model"],
                "gpu": gpu_of({"gpu_model": None, **record})["gpu"],
                "gpus": gpus_in(record),
                "scenario": scenario,
                **{key: own.get(key) for key in ("tier", "store", "connector", "chunk_tokens")},
                "kv_dtype": facts_of(record)["kv_dtype"],
                "prompt_tokens": tokens,
                "pass": kind,
                "prompts": len(found),
                "cached_tokens": min(sample["cached_tokens"] for _, sample in found),
                **spread("ttft_s", median_interval([sample["ttft_s"] for _, sample in found])),
                "valid": not any(sample.get("faults") for _, sample in found),
                "reasons": "; ".join(
                    dict.fromkeys(fault for _, sample in found for fault in sample.get("faults", []))
                ),
                **hardware.columns_of(record for record, _ in found),
            }
        )
    return pd.DataFrame(rows, columns=LATENCY_COLUMNS)


def pass_of(record: dict[str, Any], sample: dict[str, Any]) -> str:
    """The word of a single request's pass."""
    if record["spec"]["scenario"]["tier"] == "none":
        return "computed"
    return "saved" if sample["pass"] == "first" else "loaded"


def sweep_time_table(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row: the jobs' wall time against the cells' measured time plus server starts.

    Cells kept from a job that was stopped count in neither, nor do records from before there were a job's times. stage_s spans all jobs, Snakemake's own time
    between them included; it is empty when the records come from several runs (a gap of over a minute).
    """
    timed = [record for record in records if "job_started_at" in record]
    jobs = {(r["scenario"], r["repeat"]): (r["job_started_at"], r["job_s"]) for r in timed}
    own = [record for record in timed if record["measured_in_job"] == record["job_started_at"]]
    cells_s = sum(record["cell_s"] for record in own)
    starts_s = sum(record["start_s"] for record in own)
    jobs_s = sum(seconds for _, seconds in jobs.values())
    spans = sorted((start, start + seconds) for start, seconds in jobs.values())
    gaps = [later[0] - earlier[1] for earlier, later in itertools.pairwise(spans)]
    one_run = max(gaps, default=0.0) < 60
    stage_s = spans[-1][1] - spans[0][0] if one_run and spans else None
    row = {
        "cells": len(records),
        "jobs": len(jobs),
        "cells_s": cells_s,
        "server_starts_s": starts_s,
        "jobs_s": jobs_s,
        "stage_s": stage_s,
        "jobs_over_cells": jobs_s / cells_s if cells_s else None,
        "stage_over_cells": stage_s / cells_s if stage_s and cells_s else None,
    }
    return pd.DataFrame([row])


def columns_table() -> pd.DataFrame:
    """The data dictionary as a table: one row per column of every table."""
    dictionary = yaml.safe_load(COLUMNS_PATH.read_text())
    return pd.DataFrame(
        [
            {"table": table, "column": column, "unit": entry["unit"], "description": entry["description"]}
            for table, columns in dictionary.items()
            for column, entry in columns.items()
        ]
    )


def unique_environments(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The different environments the records come from."""
    found: dict[str, dict[str, Any]] = {}
    for record in records:
        found[json.dumps(record["environment"], sort_keys=True)] = record["environment"]
    return list(found.values())


if __name__ == "__main__":
    sys.exit(run_stage("tables", main))
