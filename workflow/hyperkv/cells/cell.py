"""One cell: scenario x load x repeat. What the engines share: its configuration, its store and its record's frame."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil

from ...plugin.lmcache_striped.file_counts import FileCounts
from ...plugin.lmcache_striped.gate_counts import GateCounts
from ..base.digests import canonical_digest
from ..base.errors import UserError
from ..base.folders import nearest
from ..machine.counters import block_device_bytes
from ..machine.environment import environment
from ..machine.node import data_dir_of
from ..machine.own_folder import own_folder
from ..models.geometry import Geometry, load_geometry
from ..models.gpus import KvShare, gpus_of, kv_share
from ..models.serde import stored_share
from ..records.evidence import Evidence, excess, mixed_in
from ..stores.base import Counters, Store, StoreConfig
from ..stores.registry import make_store, store_class
from ..workloads import repeat_seed

_BOUND_FACTOR = 1.1
_LOWER = "set a lower {} or take a smaller workload"
_COMPACTING_FACTOR = 2.0  # a log-structured store holds a value twice while it compacts


@dataclass(frozen=True)
class CellSpec:
    """A cell's complete configuration.

    spec: the scenario's slice of the config. load: clients or requests/s. repeat: from 1. logs: folder for
    servers' output. folder: the job's own, where its stores put their files; None where nothing is measured (`with_folder`).
    elsewhere: the other node, where its store is; None for a store of this machine.
    """

    spec: dict[str, Any]
    load: int | float
    repeat: int
    logs: Path
    folder: Path | None = None
    elsewhere: Any = None

    @property
    def scenario(self) -> dict[str, Any]:
        """The scenario's own keys."""
        return self.spec["scenario"]

    @property
    def seed(self) -> int:
        """The workload's seed."""
        return repeat_seed(self.spec["seed"], self.repeat)

    @property
    def data_dir(self) -> Path:
        """The folder whose disk is measured: the scenario's own, else the config's."""
        return data_dir_of(self.data_dir_text)

    @property
    def data_dir_text(self) -> str:
        """The same as the configuration has it."""
        return self.scenario.get("data_dir") or self.spec["data_dir"]

    def with_folder(self, stack: contextlib.ExitStack) -> CellSpec:
        """The same cell with a new folder of its own on data_dir; `stack` removes it. Raises UserError."""
        what = f"{self.scenario['name']}, repeat {self.repeat}"
        cell = replace(self, folder=stack.enter_context(own_folder(self.data_dir, what)))
        if (node := self.scenario.get("node")) is None:
            return cell
        log = self.logs / f"{self.scenario['name']}-{self.repeat}-node.log"
        return replace(cell, elsewhere=stack.enter_context(_elsewhere(node, self.data_dir_text, what, log)))

    @property
    def directory(self) -> Path:
        """Where this cell's stores put their files."""
        assert self.folder is not None
        return self.folder

    @property
    def geometry(self) -> Geometry:
        """The model's KV geometry, in the scenario's KV dtype when it has one of its own."""
        return load_geometry(Path(self.spec["model"]), self.scenario.get("kv_dtype") or self.spec["kv_dtype"])

    @property
    def engines(self) -> int:
        """Engines that serve its requests together."""
        return self.spec.get("engines", 1)

    @property
    def salts(self) -> list[bytes]:
        """What keeps the KV of engines apart in their store: of each its own, or one for all where they share what they save."""
        if self.scenario.get("shared", True):
            return [b""]
        return [f"engine {number}".encode() for number in range(self.engines)]

    @property
    def gpus(self) -> int:
        """GPUs that it was asked to use, of all engines together; on a CPU ranks: what figures per GPU are divided by."""
        return self.engines * self.share.ranks

    @property
    def share(self) -> KvShare:
        """What each GPU of an engine holds of the KV."""
        return kv_share(self.geometry, gpus_of(self.spec))

    @property
    def stored_bytes_per_token(self) -> int:
        """Bytes of one token in the store, copies of KV heads included; with a serde fewer than its KV has."""
        share = stored_share(self.scenario.get("serde"), self.geometry)
        return round(self.share.stored_bytes_per_token * share)

    def at(self, load: int | float) -> CellSpec:
        """The same cell at another load."""
        return replace(self, load=load)


def _elsewhere(node: Mapping[str, Any], data_dir: str, what: str, log: Path) -> Any:
    """The other node of this job; imported where a scenario's store is there, as a store's own module is."""
    return import_module("workflow.hyperkv.stores.elsewhere.store").opened(node, data_dir, what, log)


class StoreWindow:
    """The counters of a store, or of one process's several, and the block device's, over the part of a run that counts.

    changes: their totals between `begin` and `end`, empty without a store; block: (read, written) bytes, None when the system
    does not tell.
    """

    def __init__(self, stores: Sequence[Store], directory: Path):
        self._stores, self._directory = list(dict.fromkeys(stores)), directory
        self._before: Counters | None = None
        self._after: Counters | None = None
        self._block: tuple[int, int] | None = None
        self.block: tuple[int, int] | None = None
        self.notes: list[str] = []

    def _block_bytes(self) -> tuple[int, int] | None:
        told = self._stores[0].block_bytes if self._stores else block_device_bytes
        return told(self._directory)

    def begin(self) -> None:
        """Take the counters. Raises StoreDied or StoreError."""
        self._before = self._counters()
        self._block = self._block_bytes()

    def end(self) -> None:
        """Take them again. Raises StoreDied or StoreError."""
        for store in self._stores:
            store.check_alive()
        self._after = self._counters()
        self.notes = [note for store in self._stores[:1] for note in store.notes()]
        block = self._block_bytes()
        if block and self._block:
            self.block = (block[0] - self._block[0], block[1] - self._block[1])

    def _counters(self) -> Counters | None:
        found = [store.counters() for store in self._stores]
        if len(found) < 2:
            return found[0] if found else None

        def total(name: str) -> int | None:
            each = [getattr(counters, name) for counters in found]
            return None if None in each else sum(each)

        served, taken, hits, misses = map(total, ("served_bytes", "taken_bytes", "hits", "misses"))
        return Counters(served, taken, hits, misses, found[0].process, found[0].details)

    @property
    def changes(self) -> dict[str, Any]:
        return self._after.minus(self._before) if self._before and self._after else {}

    @property
    def details_before(self) -> dict[str, Any]:
        """What only this store tells, at the beginning."""
        return self._before.details if self._before else {}

    @property
    def details_after(self) -> dict[str, Any]:
        """The same, at the end."""
        return self._after.details if self._after else {}

    def evidence(self, files: FileCounts | None = None) -> dict[str, Any]:
        """The store's and the device's part of what a cell's Evidence is made of. files: what connector direct read of the store's."""
        counted, alike = (
            self.changes,
            ("served_bytes", "taken_bytes", "device_read_bytes", "device_write_bytes"),
        )
        own = ("hits", "misses", "cpu_s", "rss_bytes", "page_faults")
        read, written = self.block or (None, None)
        network = self._stores[0].network if self._stores else None
        found = {
            **{name: counted.get(name) for name in alike},
            **{f"store_{name}": counted.get(name) for name in own},
            "block_read_bytes": read,
            "block_write_bytes": written,
            "store_errors": self.details_after.get("background_errors"),
            "file_stripes": None if files is None else files.from_files,
            "get_stripes": None if files is None else files.by_get,
            "retried_stripes": None if files is None else files.retried,
            "network_rtt_s": None if network is None else network.round_trip_s,
            "network_gbps": None if network is None else network.gbps,
        }
        if files is not None and found["served_bytes"] is not None:
            found["served_bytes"] += files.file_bytes
        return found

    @property
    def _placed(self) -> bool:
        return bool(self._stores) and self._stores[0].config.place is not None

    def notes_of(self, evidence: Evidence) -> list[str]:
        """The store's notes, and what the evidence says of its counters."""
        return [*self.notes, *excess(evidence), *(mixed_in(evidence) if self._placed else [])]


def gate_evidence(counts: GateCounts | None) -> dict[str, Any]:
    """The gate's part of what a cell's Evidence is made of; all null without one."""
    told = ("load_error", "load_error_p90", "prompt_error", "prompt_error_p90")
    return {
        "gate_lookups": None if counts is None else counts.lookups,
        "gate_found_chunks": None if counts is None else counts.found_chunks,
        "gate_left_chunks": None if counts is None else counts.left_chunks,
        **{f"gate_{name}": None if counts is None else getattr(counts, name) for name in told},
    }


def frame(cell: CellSpec, geometry: Geometry, variables: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """What Cell and Single say of themselves: identity, configuration, environment. variables: the engine's."""
    where = environment(cell.data_dir, variables)
    if cell.elsewhere is not None:
        where["store_node"] = cell.elsewhere.environment
    return {
        "engine": cell.spec["engine"],
        "scenario": cell.scenario["name"],
        "repeat": cell.repeat,
        "seed": cell.seed,
        "spec_digest": canonical_digest(cell.spec),
        "spec": cell.spec,
        "model": geometry.name,
        "gpus": cell.gpus,
        "kv_bytes_per_token": geometry.kv_bytes_per_token,
        "chunk_bytes": cell.share.stored_bytes(cell.scenario["chunk_tokens"]),
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": where | built_environments(cell.spec),
    }


def built_environments(spec: dict[str, Any]) -> dict[str, Any]:
    """What the engine's and the load generator's own environments say of themselves, as `engine` and `loadgen`."""
    found = {name: Path(path) for name, path in spec.get("environment_records", {}).items()}
    return {name: json.loads(path.read_text()) for name, path in found.items() if path.exists()}


def open_store(
    cell: CellSpec,
    name: str,
    value_bytes: int,
    capacity_bytes: int | None,
    stack: contextlib.ExitStack,
    bottom: bool = True,
) -> Store:
    """Start a store in the cell's folder; `stack` ends it. bottom: it is the scenario's own store, not a pool's."""
    scenario = cell.scenario
    log = cell.logs / f"{scenario['name']}-{cell.repeat}-{name}.log"
    place = (cell.directory / name, value_bytes, log, capacity_bytes)
    config = StoreConfig.of(scenario, *place) if bottom else StoreConfig(*place)
    if bottom and cell.elsewhere is not None:
        return stack.enter_context(cell.elsewhere.store(name, config))
    return stack.enter_context(make_store(name, config))


def check_room(cell: CellSpec, saved_bytes: int, buffer_bytes: int = 0) -> None:
    """Refuse a cell that cannot fit on the disk or in memory, before anything is measured.

    saved_bytes: what its store is given to keep, the working set (working_set.py) and what is saved besides. A DRAM pool of each engine is in
    memory as a whole from the start, as is an engine's buffer (buffer_bytes, the pool included); a server in RAM holds what it is given, up to its
    capacity_bytes. A store at a place has neither here.
    """
    check_disk(cell, saved_bytes)
    scenario = cell.scenario
    elsewhere = bool(scenario.get("place"))
    needed = cell.engines * max(scenario["dram_pool_bytes"] or 0, buffer_bytes)
    keys = "dram_pool_bytes" if scenario["dram_pool_bytes"] else "vllm.staging_bytes" if buffer_bytes else ""
    in_ram = store_class(scenario["store"]).bound_key == "capacity_bytes"
    if in_ram and not elsewhere and not _on_disk(scenario):
        kept, key = _within_bound(scenario, saved_bytes), "bound_bytes"
        if kept is None:
            kept, key = min(saved_bytes, scenario["capacity_bytes"] or saved_bytes), "capacity_bytes"
        if cell.elsewhere is not None:
            there = f"in memory of node {cell.elsewhere.node.name}"
            _refuse(cell, kept, cell.elsewhere.available_bytes, there, _LOWER.format(key))
        else:
            needed += kept
            keys = key + (f" or {keys}" if keys else "")
    _refuse(cell, needed, psutil.virtual_memory().available, "in memory", _LOWER.format(keys))


def check_disk(cell: CellSpec, saved_bytes: int) -> None:
    """Refuse a cell whose store does not fit on the file system of its data_dir, which may be a tmpfs.

    saved_bytes: as for check_room; a store that writes values anew needs twice that while it compacts. The folder need not be there yet.
    """
    if not _on_disk(cell.scenario):
        return
    if cell.elsewhere is None:
        folder = cell.data_dir
        where, free = f"on the disk of {folder}", shutil.disk_usage(nearest(folder)).free
    else:
        where, free = cell.elsewhere.disk_words, cell.elsewhere.free_bytes
    factor = _BOUND_FACTOR
    if not store_class(cell.scenario["store"]).keeps_once(cell.scenario["settings"]):
        where += f", where a store that compacts takes twice its {saved_bytes / 1e9:.1f} GB"
        factor = _COMPACTING_FACTOR
    needed = _within_bound(cell.scenario, saved_bytes)
    if needed is None:
        needed = int(saved_bytes * factor)
    _refuse(cell, needed, free, where, "choose another data_dir or a smaller workload")


def _within_bound(scenario: Mapping[str, Any], saved_bytes: int) -> int | None:
    """Bytes of a store that keeps to bound_bytes; None of one without a bound."""
    bound = scenario.get("bound_bytes")
    return None if bound is None else int(min(saved_bytes, bound * _BOUND_FACTOR))


def _on_disk(scenario: Mapping[str, Any]) -> bool:
    return not scenario.get("place") and (scenario["tier"] == "ssd" or bool(scenario.get("data_dir")))


def _refuse(cell: CellSpec, needed: int, free: int, where: str, mend: str) -> None:
    if needed > free:
        raise UserError(
            f"scenario {cell.scenario['name']}: about {needed / 1e9:.1f} GB needed {where}, {free / 1e9:.1f} GB free; {mend} "
            f"({needed:,} bytes needed, {free:,} free)"
        )
