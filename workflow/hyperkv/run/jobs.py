"""What the jobs of a run are going to do, as Snakemake's graph has it once it is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..base.errors import UserError
from ..config.plan import on_array
from ..config.scenarios import loads_of
from ..machine.memory_dir import memory_folder
from ..machine.node import where_files_go
from ..stores.elsewhere.nodes import NEEDED
from .room import pool_warnings, require_room

_ON_DATA_DIR = ("profile_store", "profile_limits", "profile_layers", "baseline_array")


def planned_cells(workflow: Any, config: dict[str, Any]) -> int:
    """Cells of the measure_scenario jobs that this run is going to execute; a scenario's single requests are one."""
    single = bool(config["engine"] == "vllm" and config["latency"]["prompt_tokens"])
    jobs = _planned(workflow, "measure_scenario")
    return sum(len(loads_of(config, job.wildcards.scenario)) + single for job in jobs)


def planned_places(workflow: Any, config: dict[str, Any]) -> list[str]:
    """Where the stores' files of this run's jobs go. Raises UserError when one has nowhere, or no room, to put them."""
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
        require_room(config, _cells(workflow))
        if _planned(workflow, "profile_layers"):
            memory_folder(Path(config["layers"]["memory_dir"]), 0)
    return places


def planned_losses(workflow: Any, config: dict[str, Any]) -> list[str]:
    """A line for each pool that may lose what this run's jobs save."""
    return pool_warnings(config, _cells(workflow))


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
