"""Whether the stores of the scenarios that are still to be measured fit on the file systems of their data_dir, and the prompts of all
clients LMCache's pools, before a run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..base.errors import UserError
from ..cells.cell import CellSpec, check_disk
from ..config.checks.memory import small_pools
from ..config.plan import measured_workload, sweep_spec
from ..engines.replay import opening as replay_opening
from ..engines.vllm import running as vllm_running
from ..workloads import repeat_seed
from ..workloads.factory import make_workload, read_by


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
    if config["engine"] != "vllm" or config["experiment"]["loop"] != "closed" or not found:
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
