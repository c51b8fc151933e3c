"""What the jobs of a run are going to do, as Snakemake's graph has it once it is there: where their files go and whether there is room,
what may be lost, and which stores others can reach."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ...plugin.lmcache_striped.secret import Secret
from ..base.errors import UserError
from ..cells.cell import CellSpec, check_disk
from ..config.checks.memory import small_pools
from ..config.plan import measured_workload, on_array, sweep_spec
from ..config.scenarios import loads_of
from ..engines.replay import opening as replay_opening
from ..engines.vllm import running as vllm_running
from ..machine.environment import has_gpu
from ..machine.memory_dir import memory_folder
from ..machine.node import where_files_go
from ..records.repeats import CLOSED, loop_as
from ..stores.elsewhere.nodes import NEEDED
from ..stores.placed.place import Place
from ..stores.reach import in_the_clear
from ..stores.registry import store_class
from ..workloads import repeat_seed
from ..workloads.factory import make_workload, read_by

_ON_DATA_DIR = ("profile_store", "profile_limits", "profile_layers", "baseline_array")


def planned_cells(workflow: Any, config: dict[str, Any]) -> int:
    """Cells of the measure_scenario jobs that this run is going to execute; a scenario's single requests are one."""
    single = bool(config["engine"] == "vllm" and config["latency"]["prompt_tokens"])
    jobs = _planned(workflow, "measure_scenario")
    return sum(len(loads_of(config, job.wildcards.scenario)) + single for job in jobs)


def planned_places(workflow: Any, config: dict[str, Any]) -> list[str]:
    """Where the stores' files of this run's jobs go. Raises UserError when one has nowhere, or no room, to put them, or no GPU here."""
    for job in _planned(workflow, "measure_scenario"):
        name = job.wildcards.scenario
        if config["scenarios"][name].get("node") and workflow.executor_plugin.name != "slurm":
            raise UserError(f"config: scenarios.{name}.place.node: {NEEDED}")
    own = [
        config["scenarios"][job.wildcards.scenario].get("data_dir") or config["data_dir"]
        for job in _planned(workflow, "measure_scenario", "search_settings")
    ]
    folders = dict.fromkeys([*own, *(config["data_dir"] for _ in _planned(workflow, *_ON_DATA_DIR))])
    places = [where_files_go(folder, workflow.non_local_exec, bool(on_array(config))) for folder in folders]
    if not workflow.non_local_exec:
        if _planned(workflow, "measure_scenario", "search_settings"):
            require_gpu(config)
        require_room(config, _cells(workflow))
        if _planned(workflow, "profile_layers"):
            memory_folder(Path(config["layers"]["memory_dir"]), 0)
    return places


def planned_losses(workflow: Any, config: dict[str, Any]) -> list[str]:
    """A line for each pool that may lose what this run's jobs save."""
    return pool_warnings(config, _cells(workflow))


def open_stores(scenarios: Mapping[str, Mapping[str, Any]], names: Iterable[str]) -> list[str]:
    """A line for every named scenario whose settings let its store be reached without a password, or whose KV crosses a network."""
    lines = []
    for name in sorted(set(names)):
        scenario = scenarios[name]
        where = f"scenarios.{scenario.get('family', name)}"
        if (place := Place.of(scenario)) is not None:
            told = (in_the_clear(f"store {scenario['store']}", endpoint) for endpoint in place.endpoints)
            lines += [f"{where}.place: {line}" for line in told if line is not None]
        if scenario["tier"] == "none" or not scenario.get("settings"):
            continue
        password = Secret.of(scenario) is not None
        line = store_class(scenario["store"]).exposure(scenario["settings"], password)
        lines += [] if line is None else [f"{where}.settings.bind: {line}"]
    return list(dict.fromkeys(lines))


def made_files(workflow: Any) -> list[str]:
    """Files that the jobs of this run made."""
    return [file for job in workflow.dag.needrun_jobs(exclude_finished=False) for file in job.output]


def asked_files(workflow: Any) -> list[str]:
    """Files that this run was asked for: its targets', and for a target without files of its own those that it names."""
    return [file for job in workflow.dag.targetjobs for file in (job.output or job.input)]


def _cells(workflow: Any) -> list[tuple[str, int]]:
    """Names of scenarios and repeats of the measure_scenario jobs."""
    jobs = _planned(workflow, "measure_scenario")
    return [(job.wildcards.scenario, int(job.wildcards.repeat)) for job in jobs]


def _planned(workflow: Any, *rules: str) -> list[Any]:
    """Jobs of those rules, whatever a workflow that has this one as a module put before their names."""
    return [job for job in workflow.dag.needrun_jobs() if job.rule.name.endswith(rules)]


def require_gpu(config: Mapping[str, Any]) -> None:
    """Raises UserError when the engine that is to be measured needs a GPU and this machine has none: before anything is built for it."""
    if config["engine"] == "vllm" and config["vllm"]["device"] == "cuda" and not has_gpu():
        raise UserError(
            "config: vllm.device: cuda, and there is no NVIDIA GPU here; run the same command where there is one; "
            "config/engine-cpu.yaml needs none, and `make foretell` tells what one will serve"
        )


def require_room(config: Mapping[str, Any], cells: Iterable[tuple[str, int]]) -> None:
    """Raises UserError when a scenario that is to be measured would not fit, naming the key, the bytes needed and those free.

    cells: names of scenarios and repeats. A trace or texts that are still to be made and an array that is not mounted are left to the
    job, which looks again.
    """
    array = config["array"]
    if not _is_there(config):
        return
    if array["source"] != "path" and not os.path.ismount(array["mount"]):
        return
    for name, repeat in cells:
        scenario = config["scenarios"][name]
        if scenario["tier"] == "none":
            continue
        spec = json.loads(sweep_spec(config, name))
        key = f"scenarios.{scenario['family']}.data_dir" if scenario["data_dir"] else "data_dir"
        _require(CellSpec(spec, 1, repeat, Path()), key)


def pool_warnings(config: Mapping[str, Any], cells: Iterable[tuple[str, int]]) -> list[str]:
    """A line for pools that may lose what is to be saved, see small_pools. cells: as for require_room."""
    found = sorted(set(cells))
    loop = loop_as(config["engine"], config["workload"]["kind"], config["experiment"]["loop"])
    if config["engine"] != "vllm" or loop != CLOSED or not found:
        return []
    if not _is_there(config):
        return []
    workload, seed = measured_workload(config), config["experiment"]["seed"]
    made = [
        make_workload(workload, repeat_seed(seed, repeat)) for repeat in sorted({each for _, each in found})
    ]
    return small_pools(config, dict.fromkeys(name for name, _ in found), made)


def _is_there(config: Mapping[str, Any]) -> bool:
    """Whether the files of which the workload is read are there."""
    return all(path.exists() for path in map(Path, read_by(measured_workload(config))))


def _require(cell: CellSpec, key: str) -> None:
    try:
        cell.data_dir  # noqa: B018
    except UserError:
        return
    if cell.spec["engine"] == "vllm":
        saved = vllm_running.saved_bytes(cell)
    else:
        saved = replay_opening.saved_bytes(cell, make_workload(cell.spec["workload"], cell.seed))
    try:
        check_disk(cell, saved)
    except UserError as error:
        raise UserError(f"config: {key}: {error}") from None
