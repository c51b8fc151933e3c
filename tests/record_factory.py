"""Specs of tiny cells, the real records they give, and variations of those."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

from workflow.hyperkv.cells.cell import CellSpec
from workflow.hyperkv.engines.replay.cells import measure_cell
from workflow.hyperkv.records.effective import Effective
from workflow.hyperkv.records.evidence import Evidence
from workflow.hyperkv.records.kinds.bits import Coded
from workflow.hyperkv.records.kinds.cell import Cell, Pass, RequestColumns, Single, Values
from workflow.hyperkv.records.kinds.profile import Limit, Point, Rung
from workflow.hyperkv.tables.methods.substitution import layers_of

STORES = {
    "none": {"tier": "none"},
    "dram": {"tier": "dram", "store": "dram", "connector": "inprocess", "dram_pool_bytes": 64 << 20},
    "files": {"tier": "ssd", "store": "files", "connector": "inprocess"},
}
_SCENARIO = {
    "chunk_tokens": 32,
    "connections": 2,
    "dram_pool_bytes": None,
    "capacity_bytes": None,
    "save_decode_cache": True,
    "settings": {},
    "preset": None,
    "environment": {},
    "ignored_settings": [],
    "page_cache": "evict",
    "port": 0,
    "timeout_s": 30,
    "data_dir": None,
    "kv_dtype": None,
}


def spec(folder: Path, scenario: str) -> dict[str, Any]:
    """The slice of a scenario of STORES: a few short conversations that overflow a small HBM."""
    return {
        "engine": "replay",
        "model": "config/models/llama-3.2-1b.json",
        "kv_dtype": "auto",
        "gpu": "config/gpus/h100.yaml",
        "data_dir": str(folder / "data"),
        "workload": {
            "kind": "multi_turn",
            "conversations": 4,
            "turns": [4, 4],
            "prefix_tokens": [64, 96],
            "user_tokens": [8, 16],
            "answer_tokens": [8, 16],
        },
        "replay": {
            "block_tokens": 16,
            "hbm_kv_bytes": 12 << 20,
            "max_num_batched_tokens": 2048,
            "max_num_seqs": 64,
            "prefix_caching": True,
            "staging_bytes": 16 << 20,
            "staging_full": "wait",
        },
        "evidence": {"device_share_min": 0.8},
        "slo": {"ttft_ms": None, "itl_ms": None},
        "scenario": {"name": scenario, **_SCENARIO, **STORES[scenario]},
        "loads": [1, 2],
        "seed": 1,
        "active_conversations": 4,
    }


def cell(folder: Path, scenario: str, load: int = 2, repeat: int = 1) -> CellSpec:
    """A tiny cell whose files lie under `folder`."""
    return CellSpec(spec(folder, scenario), load, repeat, folder / "logs")


def measured(folder: Path, scenario: str) -> dict[str, Any]:
    """The record of one tiny cell, as the sweep writes it."""
    return measure_cell(cell(folder, scenario)).dump() | {
        "measured_in_job": 1000.0,
        "job_started_at": 1000.0,
        "job_s": 10.0,
    }


def varied(
    record: dict[str, Any], values: dict[str, Any] | None = None, reasons: tuple[str, ...] = (), **keys: Any
) -> dict[str, Any]:
    """A copy of a record with other values, reasons that make it invalid, and other top-level keys."""
    copy = deepcopy(record) | keys
    copy["values"] |= values or {}
    return copy | {"valid": not reasons, "reasons": list(reasons)}


_SWEPT = {
    **{"engine": "replay", "scenario": "s", "load": 2, "repeat": 1, "seed": 1, "spec_digest": "", "spec": {}},
    **{
        "model": "m",
        "gpus": 1,
        "kv_bytes_per_token": 1,
        "chunk_bytes": 1,
        "started_at": "",
        "environment": {},
    },
    **{
        "asked": Effective(),
        "effective": Effective(),
        "valid": True,
        "reasons": [],
        "start_s": 0,
        "cell_s": 0,
    },
}
_PASS = dict.fromkeys(Pass.model_fields) | {"latency_s": 1, "tokens": [], "faults": []}


def unknown_cell(values: dict[str, Any]) -> Cell:
    """A valid cell of which nothing but some of its values is known."""
    return Cell(
        **_SWEPT,
        **{"engine_counters": {}, "engine_faults": [], "store_before": {}, "store_after": {}, "notes": []},
        **{"gpu_model": None, "served_from": "ram", "evidence": Evidence.unknown(), "measured_s": 0},
        values=Values(**dict.fromkeys(Values.model_fields) | {"requests": 1} | values),
        requests=RequestColumns(**{name: [] for name in RequestColumns.model_fields}),
    )


def completed(record: dict[str, Any]) -> dict[str, Any]:
    """A record made by hand (`record` names its kind) with what it lacks, as far as tables read it, unknown."""
    made = {
        "cell": unknown_cell({}).dump,
        "single": Single(**_SWEPT | {"load": None}, samples=[]).dump,
        "point": lambda: point("dram"),
        "limit": limit,
        "rung": lambda: rung("whole", None),
    }[record["record"]]()
    passes = [
        {key: value for key, value in _PASS.items() if key != "kind"} | each
        for each in record.get("samples", [])
    ]
    return made | record | _OPEN | ({"samples": passes} if passes else {})


_OPEN = {"schema_version": 2}  # files of such records need no closing line, so that a test can write them
_AT = {**_OPEN, "connections": 2, "measured_at": "2026-01-01T00:00:00+00:00"}


def point(
    scenario: str, operation: str = "set", size: int = 1 << 20, repeat: int = 1, **keys: Any
) -> dict[str, Any]:
    """A point record of the profile."""
    tier, store = ("dram", "dram") if scenario == "dram" else ("ssd", "files")
    settles = operation == "set" and tier == "ssd"
    made = {
        "scenario": scenario,
        "repeat": repeat,
        "value_bytes": size,
        "operation": operation,
        "cold": operation == "get_cold",
        "notes": [],
        "moved_bytes": 10**9,
        "elapsed_s": 1.0,
        "gbps": float(repeat),
        "store_cpu_s": 0.5,
        "store_page_faults": 300,
        "store_rss_bytes": 10**8,
        "device_read_bytes": 5 * 10**8,
        "device_write_bytes": None,
        "settled_write_bytes": 3 * 10**9 if settles else None,
        "settled_set_bytes": 15 * 10**8 if settles else None,
        "store_before": {},
        "store_after": {},
        "spec": {"scenario": {"tier": tier, "store": store, "connector": "inprocess"}},
    }
    return Point(**_AT | made | keys).dump()


def limit(name: str = "memcpy", size: int = 1 << 20, repeat: int = 1, **keys: Any) -> dict[str, Any]:
    """A limit record of the profile."""
    made = {"limit": name, "repeat": repeat, "value_bytes": size, "moved_bytes": 10**9, "elapsed_s": 0.1}
    return Limit(**_AT | made | {"gbps": 10.0 * repeat, "passes": 1, "cpu_s": 0.2} | keys).dump()


REST = {"settings": {}, "environment": {}, "ignored_settings": [], "port": 0, "timeout_s": 10}
VALKEY = {"tier": "dram", "store": "valkey", "connector": "resp"}
ROCKSDB = {"tier": "ssd", "store": "rocksdb", "connector": "resp"}


def rung(name: str, s_per_gb: float | None, repeat: int = 1, operation: str = "get", **keys: Any) -> dict:
    """A record of one rung of the layers, of scenario ROCKSDB unless `spec` says otherwise."""
    made = {
        "scenario": "rocksdb_resp",
        "repeat": repeat,
        "value_bytes": 1 << 20,
        "rung": name,
        "operation": operation,
        "passes": 1,
        "spec": {"scenario": ROCKSDB},
    }
    if s_per_gb is not None:
        made |= {
            "elapsed_s": s_per_gb,
            "moved_bytes": 10**9,
            "s_per_gb": s_per_gb,
            "server_cpu_s": s_per_gb / 2,
            "client_cpu_s": s_per_gb / 4,
            "server_page_faults": 100,
            "client_page_faults": 10,
        }
    return Rung(**_AT | made | keys).dump()


def rungs(
    repeats: int = 3, operation: str = "get", changes: dict[str, Any] | None = None, **layers: float
) -> list:
    """The rungs of repeats whose layers are known: by default 1 s/GB of wire and of every other layer a little more.

    layers: s/GB by layer of ROCKSDB, `unexplained` too. changes: fields of the record of rung `whole`. Every repeat is
    slower than the one before by 1 %, in every rung. A SET has no cold engine.
    """
    known = {"wire": 1.0, "protocol": 0.5, "server_memory": 0.25, "engine": 2.0, "cold_engine": 0.125}
    known |= {"device": 4.0, "unexplained": 0.0625} | layers
    names = {layer.rung: layer.name for layer in layers_of(ROCKSDB, operation)} | {"whole": "unexplained"}
    records = []
    for repeat in range(1, repeats + 1):
        total = 0.0
        for name, layer in names.items():
            total += known[layer]
            more = (changes or {}) if name == "whole" else {}
            records.append(rung(name, total * (0.99 + repeat / 100), repeat, operation, **more))
    return records


def coded(name: str, free: list[int], forced: list[int], loss: float, **more: Any) -> dict:
    """A format's record, with one answer and one text."""
    answer = {"prompt_tokens": 300, "stored_tokens": 256, "free": free, "forced": forced}
    text = {"text": "a", "prefix_tokens": 512, "forced": forced, "loss": loss}
    known = {"format": name, "control": "bf16", "model": "m", "device": "cpu", "chunk_tokens": 256, "kv_bytes": 5120,
             "stored_bytes": 2560, "encode_s": [], "decode_s": [], "error": 0.1, "answers": [answer], "texts": [text],
             "reason": ""}  # fmt: skip
    return Coded.model_validate(known | more).dump()
