"""What the scenarios of engine vllm will do under load, and how long measuring them takes, before there is a GPU: engine replay plays
their requests, with a modelled device in the store's place.

    make foretell GBPS=1.6 CONFIG="config/experiments/gpu.yaml config/experiments/gpu/documents.yaml"

GPU and model are those of `gpu` and `model`. A store of tier ssd is a device of `gbps`, one behind a shaped device that one, any other is
memory; a pool keeps what that of the scenario's connector does (predict/played.py), and a gate decides as in a cell. A request and a hit take besides
what single ones do (predict/request_time.py). Not modelled: lookups that take long.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..base.cli import run_stage
from ..base.errors import UserError
from ..base.options import Files, Positive
from ..cells.cell import CellSpec
from ..cells.samples import window_values
from ..config.config import checked
from ..config.plan import sweep_spec
from ..config.scenarios import loads_of, selected
from ..engines.replay.gating import curve_points
from ..engines.replay.request import ReplayResult
from ..engines.vllm.command import settings_of
from ..engines.vllm.running import saved_bytes
from ..models.geometry import load_geometry
from ..models.gpu import GpuModel, document_of, load_gpu
from ..predict.break_even_text import required_words
from ..predict.played import MEMORY_GBPS, Play, step_tokens
from ..predict.request_time import REQUEST_S, break_even_gbps, times_of_full_hit
from ..records.hardware import short_gpu
from ..records.repeats import load_unit
from .configuration import merged
from .jobs import pool_warnings

# As runs on H200s took them (results/reference/h200/2026-11-30-gate), seconds: vLLM, with its store and LMCache's server beside it, a GB of dummy
# weights on each GPU, the job besides, a load besides its requests, and each single request besides its answer. A machine's first vLLM
# takes a minute more.
START_S, WEIGHTS_S_PER_GB, JOB_S, LOAD_S, SINGLE_S = 40.0, 0.5, 15.0, 18.0, 0.7


def main(
    *,
    config: Files,
    gbps: Positive,
    write_gbps: Positive | None = None,
    memory_gbps: Positive = MEMORY_GBPS,
    out: Path,
) -> None:
    """Play every load of every scenario, with the first repeat's requests.

    Args:
        config: the configuration's files, in order.
        gbps: 10^9 bytes/s that the disk reads.
        write_gbps: that it writes; as many without.
        memory_gbps: of a store in memory, as LMCache gets it.
        out: CSV file, a row per scenario and load.
    """
    written = merged(config, "--config", "name the files that a run is to have")
    full = checked(written)
    if full["engine"] != "vllm":
        raise UserError(
            "config: engine: replay has no need of being foretold: it measures on this machine; choose vllm"
        )
    table = pd.DataFrame(list(foretold(full, gbps, memory_gbps, write_gbps)))
    out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(out, index=False)
    print(
        told(table, full["experiment"]["repeats"]) + played_on(full, gbps, write_gbps) + break_even(full),
        *(f"{line}\n" for line in pool_warnings(full, [(name, 1) for name in table["scenario"]])),
        sep="",
        end="",
    )


def foretold(
    config: Mapping[str, Any], gbps: float, memory_gbps: float, write_gbps: float | None = None
) -> Iterator[dict[str, Any]]:
    """A row per scenario and load of a checked configuration; figures over recompute's at this load are empty without one."""
    none: dict[Any, dict[str, Any]] = {}
    over_keys = ("rps", "ttft_p50_s")
    names = selected(config, config["experiment"]["scenarios"])
    for name in sorted(names, key=lambda name: config["scenarios"][name]["tier"] != "none"):
        spec = json.loads(sweep_spec(config, name))
        for load in loads_of(config, name):
            disk = spec["scenario"]["tier"] == "ssd"
            speeds = (gbps, write_gbps) if disk else (memory_gbps, None)
            row = _row(CellSpec(spec, load, 1, Path()), Path(config["gpu"]), *speeds)
            if row["tier"] == "none":
                none.setdefault(load, row)
            over = none.get(load, {"rps": math.nan, "ttft_p50_s": math.nan})
            yield row | {f"{key}_over_none": row[key] / over[key] for key in over_keys}


def played_on(config: Mapping[str, Any], gbps: float, write_gbps: float | None = None) -> str:
    """Which GPU and model that was, and which disk: a line."""
    geometry = load_geometry(Path(config["model"]), config["kv_dtype"])
    gpus = config["vllm"]["tensor_parallel"]
    name = short_gpu(document_of(Path(config["gpu"]))["name"])
    count = f"{gpus} x " if gpus > 1 else ""
    disk = f"{gbps:g} GB/s" + (f", {write_gbps:g} where it writes" if write_gbps else "")
    return f"{geometry.name} with {geometry.kv_dtype} KV on {count}{name} (gpu: {config['gpu']}), a disk of {disk}.\n"


def break_even(config: Mapping[str, Any]) -> str:
    """From how many GB/s on a single request's first token comes sooner loaded than computed: a line."""
    geometry = load_geometry(Path(config["model"]), config["kv_dtype"])
    gpu = load_gpu(Path(config["gpu"]), geometry, config["vllm"]["tensor_parallel"])
    needs = {
        tokens: break_even_gbps(times_of_full_hit(gpu, geometry, tokens))
        for tokens in config["latency"]["prompt_tokens"]
    }
    found = [f"{required_words(gbps, ' GB/s')} for {tokens:,} tokens" for tokens, gbps in needs.items()]
    return f"Break-even of single requests: {', '.join(found)}.\n" if found else ""


def _row(cell: CellSpec, gpu_file: Path, gbps: float, write_gbps: float | None) -> dict[str, Any]:
    scenario, gpu = cell.scenario, load_gpu(gpu_file, cell.geometry, cell.gpus)
    play = Play(cell, gpu, gpu_file, gbps, write_gbps)
    results = play.results()
    return {
        "scenario": scenario["name"],
        "tier": scenario["tier"],
        "load": cell.load,
        "loop": play.loop,
        "requests": len(results[0].requests),
        **pd.DataFrame(map(_figures, results)).mean().to_dict(),
        "saved_bytes": 0 if scenario["tier"] == "none" else saved_bytes(cell),
        "job_s": _job_s(cell, gpu),
    }


def _figures(result: ReplayResult) -> dict[str, float]:
    values = window_values([each.sample for each in result.requests], result.window_s)
    window = [each for each in result.requests if each.arrival_s < result.window_s]
    of_store = sum(each.tier_hit_tokens.get("store", 0) for each in window)
    return {
        "rps": values["rps_per_gpu"] or 0.0,
        "ttft_p50_s": REQUEST_S + (values["ttft_p50_ms"] or 0.0) / 1e3,
        "hit_rate": values["hit_rate"] or 0.0,
        "store_hit_rate": of_store / sum(each.prompt_tokens for each in window),
        "load_s": max(each.sample.finish_s for each in result.requests),
    }


def _job_s(cell: CellSpec, gpu: GpuModel) -> float:
    """Seconds of a job less its loads' requests: its servers, its single requests, computed twice at most, and what is around them."""
    latency = cell.spec["latency"]
    curve = np.array(curve_points(gpu, step_tokens(settings_of(cell.spec))))
    once_s = [SINGLE_S + float(np.interp(tokens, *curve.T)) for tokens in latency["prompt_tokens"]]
    weights_gb = (cell.geometry.weight_bytes or 0) / 1e9 / cell.gpus
    start_s = START_S + WEIGHTS_S_PER_GB * weights_gb
    return start_s + JOB_S + 2 * latency["prompts"] * sum(once_s) + LOAD_S * len(cell.spec["loads"])


def told(table: pd.DataFrame, repeats: int) -> str:
    """A line per scenario and load, and how long all of it takes."""
    by_scenario = table.groupby("scenario", sort=False)
    jobs_s = by_scenario["load_s"].sum() + by_scenario["job_s"].first()
    shown = pd.DataFrame(
        {
            "scenario": table["scenario"],
            load_unit(table): table["load"],
            "requests": table["requests"],
            "requests/s": table["rps"].map("{:.3g}".format),
            "over recompute's": table["rps_over_none"].map("{:.2f}".format),
            "TTFT p50, s": table["ttft_p50_s"].map("{:.3g}".format),
            "of recompute's": table["ttft_p50_s_over_none"].map("{:.2f}".format),
            "hits": table["hit_rate"].map("{:.0%}".format),
            "of the store": table["store_hit_rate"].map("{:.0%}".format),
            "load, s": table["load_s"].map("{:.0f}".format),
            "job, s": table["scenario"].map(jobs_s).map("{:.0f}".format),
        }
    )
    minutes = repeats * jobs_s.sum() / 60
    takes = f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"
    return (
        f"{shown.to_markdown(index=False, disable_numparse=True)}\n"
        f"{len(jobs_s)} jobs, {repeats} times: about {takes}. A store is given up to "
        f"{table['saved_bytes'].max() / 1e9:.0f} GB.\n"
    )


if __name__ == "__main__":
    sys.exit(run_stage("foretell", main))
