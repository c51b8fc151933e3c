"""The files of a recommended scenario, by the renderers that a measurement uses; only paths and ports are others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..base.errors import UserError
from ..cells.cell import CellSpec
from ..machine.node import expanded
from ..models.gpus import tensor_parallel_of
from ..stores.placed import place as store_place
from ..stores.reach import in_the_clear
from ..stores.registry import store_class
from .engine_files import EngineSlice, add_engine, engine_settings
from .files import Files, Place
from .store_files import add_store

_ANYWHERE = Path("/var/lib/hyperkv")


def files_of(record: Mapping[str, Any], engine: EngineSlice, place: Place) -> Files:
    """Render a cell record's scenario: the store's configuration, unit and command line, and the engine's."""
    files = Files()
    cell = CellSpec(record["spec"], record["load"], record["repeat"], Path())
    there = store_place.Place.of(cell.scenario)
    if there is not None:
        files.password = there.password
        files.notes += there_notes(cell.scenario["store"], there)
    elif cell.scenario["tier"] != "none" and store_class(cell.scenario["store"]).is_server:
        ranks = tensor_parallel_of(engine_settings(cell, engine))
        add_store(files, cell, place, ranks, record["environment"]["cores"])
    try:
        add_engine(files, cell, engine, place)
    except UserError as error:
        files.missing["vllm.sh, lmcache.yaml"] = str(error)
    return files


def there_notes(store: str, there: store_place.Place) -> list[str]:
    """What to know of a store that no file starts."""
    lines = [in_the_clear(f"store {store}", endpoint) for endpoint in there.endpoints]
    started = f"store {store} is there already, at {' '.join(there.addresses)}: no file starts it, and keys have no prefix of a run"
    return [started, *filter(None, lines)]


def measured_place(record: Mapping[str, Any]) -> Path:
    """Folder `recommended` on the disk that a record was measured on, which this machine need not have.

    Where only the measuring node knows the variables of data_dir, it is below _ANYWHERE.
    """
    spec = record["spec"]
    try:
        folder = expanded(spec["scenario"].get("data_dir") or spec["data_dir"])
    except UserError:
        folder = _ANYWHERE
    return (folder / "recommended").absolute()
