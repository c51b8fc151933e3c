"""Records of every version as records of the newest: all that is known of what older ones lack, or say otherwise.

2  asked and effective: the engine is asked what it runs; gpus; points have connections and their server's memory.
3  a closing line ends a file of records (record_file.py).
4  every engine fills every key of the evidence, null where it cannot know: vLLM's chunks are not compared byte by byte;
   CPU time is finer than a tick.
5  the pair of vLLM and LMCache.
6  what was read from the store's files (connector direct).
7  what a gate found and left, and how well it predicted; first uses that were not saved; what the store itself moved per second,
   and how far it was held to a shaped device.
8  energy; a store of the observatory may be damaged in another way than by values that changed places.
9  what the network to a store at a place gives; hits of what another engine saved.
10 dram_pool_bytes is all memory of a pool. Before, what LMCache's server kept free for loads stood beside it, and kept things, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from pydantic import ValidationError

from ..base.errors import UserError
from .effective import Effective, versions_of
from .evidence import Evidence
from .kinds.bits import Coded
from .kinds.calibration import Calibration
from .kinds.cell import Cell, RequestColumns, Single, Values
from .kinds.pairs import Tried
from .kinds.profile import Baseline, Limit, Point, Rung
from .kinds.record import SCHEMA_VERSION, Part, Record
from .kinds.tune import Finalist, Trial

Line = dict[str, Any]
KINDS: dict[str, type[Record]] = {
    kind.model_fields["record"].default: kind
    for kind in (Cell, Single, Point, Limit, Rung, Baseline, Trial, Finalist, Calibration, Tried, Coded)
}


def current(record: Mapping[str, Any], where: str) -> Line:
    """A record as the newest version has it, as a dict. where: begins the refusal of one that is none, UserError."""
    kind, version = record.get("record"), record.get("schema_version", 1)
    if kind not in KINDS or not isinstance(version, int):
        raise UserError(f"{where}: not a record of a kind that is known; delete the file to measure it again")
    if version > SCHEMA_VERSION:
        raise UserError(
            f"{where}: a record of version {version}, and versions to {SCHEMA_VERSION} are known; read it with the newer "
            f"checkout that wrote it"
        )
    try:
        made = upgraded(record)
        KINDS[kind].model_validate(made)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise UserError(
            f"{where}: {kind} record, {key}: {first['msg']}; delete the file to measure it again"
        ) from None
    except (LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"{where}: {kind} record without {error}; delete the file to measure it again"
        ) from None
    return made


def upgraded(record: Mapping[str, Any]) -> Line:
    """A record of any version as one of the newest, not yet checked. Raises LookupError for one that lacks what it had to have."""
    made, version = dict(record), record.get("schema_version", 1)
    for step, by_kind in _STEPS.items():
        if version < step and (change := by_kind.get(record["record"])):
            made = change(made)
    return made | {"schema_version": SCHEMA_VERSION}


def _swept_to_2(record: Line) -> Line:
    spec, scenario = record["spec"], record["spec"]["scenario"]
    word, below = scenario.get("kv_dtype") or spec["kv_dtype"], scenario["tier"] != "none"
    asked = Effective(
        chunk_tokens=scenario.get("chunk_tokens") if below else None,
        save_decode_cache=scenario.get("save_decode_cache") if below else None,
        kv_dtype="bfloat16" if word == "auto" and record["engine"] == "vllm" else word,
        kv_bytes_per_token=record.get("kv_bytes_per_token"),
        gpus=1,
    )
    told = Effective(save_decode_cache=_saved_by_version(record) if below else None)
    return {"gpus": 1, **record, "asked": asdict(asked), "effective": asdict(told)}


def _saved_by_version(record: Line) -> bool | None:
    """Whether answers were saved where it was left to the engine.

    LMCache's server saved them always until 0.5.5, from 0.5.6 on only when told (lmcache.mp.save_decode_cache); vLLM's
    offloading saves prompts only unless told from 0.25 on (offload_prompt_only). None for what is older or not known.
    """
    scenario = record["spec"]["scenario"]
    if record["engine"] == "replay" or scenario["connector"] not in ("mp", "striped_mp", "offloading"):
        return scenario.get("save_decode_cache")
    versions = versions_of(record["environment"], {})
    if scenario["connector"] == "offloading":
        vllm = _version("vllm", versions)
        return False if vllm is not None and vllm >= (0, 25) else None
    lmcache = _version("lmcache", versions)
    return None if lmcache is None else lmcache < (0, 5, 6)


def _version(name: str, versions: str | None) -> tuple[int, ...] | None:
    found = re.search(rf"\b{name} (\d+)\.(\d+)(?:\.(\d+))?", versions or "")
    return None if found is None else tuple(int(part or 0) for part in found.groups())


def _point_to_2(record: Line) -> Line:
    unknown = dict.fromkeys(
        ("store_page_faults", "store_rss_bytes", "settled_write_bytes", "settled_set_bytes")
    )
    connections = record["spec"]["scenario"].get("connections")
    empty = {"connections": connections, "notes": [], "store_before": {}, "store_after": {}}
    return empty | unknown | record


def _point_to_4(record: Line) -> Line:
    """CPU time of 0 was less than a tick of 10 ms; since then it is read from the process's own clock."""
    return record | {"store_cpu_s": record["store_cpu_s"] or None}


def _cell_to_4(record: Line) -> Line:
    evidence = _filled(Evidence, record["evidence"])
    if record["engine"] == "vllm":
        evidence["corrupt_chunks"] = None
    requests = record["requests"]
    unknown = [None] * len(requests["turn"])
    return {
        **{"engine_counters": {}, "engine_faults": [], "store_before": {}, "store_after": {}, "notes": []},
        **record,
        "values": _filled(Values, record["values"]),
        "evidence": evidence,
        "requests": {name: requests.get(name, unknown) for name in RequestColumns.model_fields},
    }


def _cell_to_8(record: Line) -> Line:
    return _cell_with_evidence(record) | {"values": _filled(Values, record["values"])}


def _tried_to_8(record: Line) -> Line:
    made = {("damage" if key == "swapped" else key): value for key, value in record.items()}
    return made | {"damage": "swapped" if record["swapped"] else None}


def _single_to_4(record: Line) -> Line:
    samples = [{"device_read_bytes": None, "faults": [], **sample} for sample in record["samples"]]
    return record | {"samples": samples}


def _finalist_to_4(record: Line) -> Line:
    return record | {"cell": None if record["cell"] is None else upgraded(record["cell"])}


def _cell_with_evidence(record: Line) -> Line:
    return record | {"evidence": _filled(Evidence, record["evidence"])}


def _swept_to_5(record: Line) -> Line:
    """The pair by its version of vLLM: LMCache inside vLLM is sound before 0.26, and the reference pair was all there was then."""
    vllm = _version("vllm", versions_of(record["environment"], record["effective"]))
    pair = None if record["engine"] == "replay" or vllm is None else _pair(vllm)
    return record | {key: {**record[key], "pair": pair} for key in ("asked", "effective")}


def _swept_to_10(record: Line) -> Line:
    scenario, had = record["spec"].get("scenario", {}), record["asked"]["buffer_bytes"]
    pool = scenario.get("dram_pool_bytes")
    if not pool or not had or had <= pool:
        return record
    return record | {"spec": {**record["spec"], "scenario": {**scenario, "dram_pool_bytes": had}}}


def _pair(vllm: tuple[int, ...]) -> str:
    return "reference" if vllm < (0, 26) else "current"


def _filled(part: type[Part], values: Mapping[str, Any]) -> Line:
    """Values with every key of a part, in its order, null where they lack it."""
    return {name: values.get(name) for name in part.model_fields} | dict(values)


_STEPS: dict[int, dict[str, Callable[[Line], Line]]] = {
    2: {"cell": _swept_to_2, "single": _swept_to_2, "point": _point_to_2},
    4: {"cell": _cell_to_4, "point": _point_to_4, "single": _single_to_4, "finalist": _finalist_to_4},
    5: {"cell": _swept_to_5, "single": _swept_to_5, "finalist": _finalist_to_4},
    6: {"cell": _cell_with_evidence, "finalist": _finalist_to_4},
    7: {"cell": _cell_with_evidence, "finalist": _finalist_to_4},
    8: {"cell": _cell_to_8, "finalist": _finalist_to_4, "tried": _tried_to_8},
    9: {"cell": _cell_with_evidence, "finalist": _finalist_to_4},
    10: {"cell": _swept_to_10, "single": _swept_to_10, "finalist": _finalist_to_4},
}
