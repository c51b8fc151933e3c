"""Whether the stores of the scenarios that are still to be measured fit on the file systems of their data_dir, before a run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import replay_cells, vllm_running
from .cells import CellSpec, check_disk
from .config import measured_workload, sweep_spec
from .errors import UserError
from .workloads.factory import make_workload

OTHER_TARGETS = (
    *("inspect_array", "provision_array", "teardown_array", "baseline_array", "fetch_trace"),
    *(
        "build_kvrocks",
        "build_patched_kvrocks",
        "fetch_kvrocks_dependencies",
        "build_engine",
        "build_loadgen",
        "build_striped",
    ),
    *("profile", "stores", "layers", "predict", "ladder", "tune"),
)
_OTHER_MODES = ("--lint", "--unlock", "--cleanup-metadata", "--list-rules", "--report", "--touch")


def measures_here(workflow: Any, argv: Sequence[str]) -> bool:
    """Whether this Snakemake is the one that was asked to run, its jobs run on this machine, and they may measure scenarios.

    workflow: Snakemake's, as the Snakefile sees it: its targets are not known then, and only executors that submit have nodes.
    """
    return (
        workflow.is_main_process
        and workflow.nodes is None
        and not {*OTHER_TARGETS, *_OTHER_MODES}.intersection(argv)
    )


def require_room(config: Mapping[str, Any], scenarios: Sequence[str], sweep: Path) -> None:
    """Raises UserError when a scenario without its record would not fit, naming the key, the bytes needed and those free.

    scenarios: names. sweep: the folder of the records. A folder that is known where the job runs only (a variable that is not
    set, an array that is not mounted), and a trace that is still to be fetched, are left to the job, which looks again.
    """
    trace = measured_workload(config).get("trace")
    array = config["array"]
    if trace is not None and not Path(trace).exists():
        return
    if array["source"] != "path" and not os.path.ismount(array["mount"]):
        return
    for name in scenarios:
        scenario = config["scenarios"][name]
        if scenario["tier"] == "none":
            continue
        spec = json.loads(sweep_spec(config, name))
        for repeat in range(1, config["experiment"]["repeats"] + 1):
            if not (sweep / name / f"{repeat}.jsonl").exists():
                key = f"scenarios.{scenario['family']}.data_dir" if scenario["data_dir"] else "data_dir"
                _require(CellSpec(spec, 1, repeat, Path()), key)


def _require(cell: CellSpec, key: str) -> None:
    try:
        cell.data_dir  # noqa: B018
    except UserError:
        return
    if cell.spec["engine"] == "vllm":
        saved = vllm_running.saved_bytes(cell)
    else:
        saved = replay_cells.saved_bytes(cell, make_workload(cell.spec["workload"], cell.seed))
    try:
        check_disk(cell, saved)
    except UserError as error:
        raise UserError(f"config: {key}: {error}") from None
