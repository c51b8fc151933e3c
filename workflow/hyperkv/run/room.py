"""Whether the stores of the scenarios that are still to be measured fit on the file systems of their data_dir, before a run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..base.errors import UserError
from ..cells.cell import CellSpec, check_disk
from ..config.plan import measured_workload, sweep_spec
from ..engines.replay import opening as replay_opening
from ..engines.vllm import running as vllm_running
from ..workloads.factory import make_workload, read_by


def require_room(config: Mapping[str, Any], cells: Iterable[tuple[str, int]]) -> None:
    """Raises UserError when a scenario that is to be measured would not fit, naming the key, the bytes needed and those free.

    cells: names of scenarios and repeats. A trace or texts that are still to be made and an array that is not mounted are left to the
    job, which looks again.
    """
    read = map(Path, read_by(measured_workload(config)))
    array = config["array"]
    if not all(path.exists() for path in read):
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
