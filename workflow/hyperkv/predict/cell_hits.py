"""The hit rate of one cell, predicted of its very own requests: by the simulation, below LMCache's server by a play with the modelled GPU, since
what its pool keeps goes by the second."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..base.errors import UserError
from ..cells.cell import CellSpec
from ..engines.vllm.command import settings_of
from ..engines.vllm.running import conversations_of
from ..records.repeats import CLOSED, OPEN, loop_as, loop_of
from ..records.scenario import gated
from ..workloads import Conversation
from ..workloads.factory import make_workload, prefixes_known
from .played import MEMORY_GBPS, Play, has_server_pool
from .predict_hit_rates import MOST_REQUESTS, NOT_ONE_BY_ONE, Simulation, capacities_of
from .scenario_tiers import EngineFacts, tiers_below
from .single_requests import BY_GATE, gpu_file, model_of

_SAME = 0.01  # prompt tokens that may be counted otherwise by an engine's tokenizer
_BY_THE_CLOCK = "with an open loop the order of the requests is not known before"


def predicted_hit_rate(
    record: Mapping[str, Any], gpus: Sequence[Path] = (), gbps: float | None = None
) -> float | None:
    """Share of a cell's prompt tokens that its tiers serve, over the requests of its measured window; None without any tier.

    gpus: files of the GPUs that may be the one that it ran on. gbps: 10^9 bytes/s of its store, None where nobody knows: then as memory.

    Of the measurement nothing is taken but its settings, save_decode_cache as the running engine showed it: the requests are made
    anew of the cell's workload and seed, in the order in which they would be sent if every answer took as long as any other, or as the
    modelled GPU answers them.

    Raises UserError saying why nothing is predicted.
    """
    scenario = record["spec"]["scenario"]
    if record["spec"].get("engines", 1) > 1:
        raise UserError("of several engines the hit rates are measured")
    facts = _facts(record)
    sizes = facts.less_copies(facts.hbm | tiers_below(scenario))
    if not sizes:
        return None
    _require_predictable(record, sizes)
    run = _simulation(*_workload_of(record))
    _require_same(run, record["requests"]["prompt_tokens"])
    if record["engine"] == "vllm" and has_server_pool(scenario):
        return _played(record, facts, gpus, gbps)
    if loop_of(record) == OPEN:
        raise UserError(_BY_THE_CLOCK)
    replay = record["engine"] == "replay"
    if replay and len(run.prompts) > MOST_REQUESTS:
        raise UserError(NOT_ONE_BY_ONE)
    chunk = scenario["chunk_tokens"]
    told = record["effective"]["save_decode_cache"]
    found = run.found(
        capacities_of(
            sizes, facts.geometry.chunk_bytes(facts.block_tokens), facts.geometry.chunk_bytes(chunk)
        ),
        scenario["save_decode_cache"] if told is None else told,
        facts.block_tokens,
        chunk,
        2 if scenario.get("save") == "second_use" else 1,
        "rest" if replay else "prompt",
    )
    window = slice(run.order.window)
    hits = sum(tokens[window].sum() for tokens in found.hits.values())
    return float(hits / run.prompts[window].sum())


def _played(record: Mapping[str, Any], facts: EngineFacts, gpus: Sequence[Path], gbps: float | None) -> float:
    spec, told = record["spec"], record["effective"]
    scenario = dict(spec["scenario"])
    if scenario.get("save") == "second_use" or scenario.get("bound_bytes"):
        raise UserError("below LMCache's pool a store that does not keep all that is saved is not played")
    own = {"prefix_caching": bool(facts.hbm), "block_tokens": facts.block_tokens}
    scenario["vllm"] = {**scenario["vllm"], **own}
    if told["save_decode_cache"] is not None:
        scenario["save_decode_cache"] = told["save_decode_cache"]
    cell = CellSpec(spec | {"scenario": scenario}, record["load"], record["repeat"], Path())
    file = gpu_file(record, gpus)
    begins_s = record["requests"]["arrival_s"] if loop_of(record) == OPEN else None
    play = Play(cell, model_of(record, file), file, gbps or MEMORY_GBPS, None, told["buffer_bytes"], begins_s)
    return play.hit_rate()


def _facts(record: Mapping[str, Any]) -> EngineFacts:
    """HBM, blocks, GPUs and KV geometry that a cell's engine had: as it told, else as it was asked."""
    spec, told = record["spec"], record["effective"]
    engine = spec["replay"] if record["engine"] == "replay" else settings_of(spec)
    cell = CellSpec(dict(spec), record["load"], record["repeat"], Path())
    known = {
        key: engine[key] if told[key] is None else told[key] for key in ("prefix_caching", "block_tokens")
    }
    hbm = {"hbm_bytes": engine["hbm_kv_bytes"]} if known["prefix_caching"] else {}
    return EngineFacts(hbm, known["block_tokens"], record["gpus"], cell.geometry)


def _require_predictable(record: Mapping[str, Any], sizes: Mapping[str, int | None]) -> None:
    spec, scenario = record["spec"], record["spec"]["scenario"]
    if gated(scenario):
        raise UserError(BY_GATE)
    if "hbm_bytes" in sizes and sizes["hbm_bytes"] is None:
        raise UserError("how much HBM holds is not known: vllm.hbm_kv_bytes is not set")
    if not prefixes_known(spec["workload"]):
        raise UserError("the trace has lengths alone, prefixes are not known")


def _workload_of(record: Mapping[str, Any]) -> tuple[str, int, int, int]:
    """What a cell's requests are made of: its slice of the config without the scenario as JSON, its load, its repeat, conversations under way."""
    spec = {key: value for key, value in record["spec"].items() if key != "scenario"}
    load = record["load"]
    active = spec.get("active_conversations") or load
    return json.dumps(spec, sort_keys=True), load, record["repeat"], int(active)


@lru_cache(maxsize=4)
def _simulation(spec: str, load: float, repeat: int, active: int) -> Simulation:
    own = json.loads(spec)
    made = _conversations(CellSpec(own | {"scenario": {}}, load, repeat, Path()))
    loop = loop_as(own["engine"], own["workload"]["kind"], own.get("loop", CLOSED))
    if loop == OPEN and any(len(each.turns) > 1 for each in made):
        raise UserError(_BY_THE_CLOCK)
    return Simulation.of(made, *((int(load), active) if loop == CLOSED else (1, 1)))


def _conversations(cell: CellSpec) -> Sequence[Conversation]:
    replay = cell.spec["engine"] == "replay"
    return make_workload(cell.spec["workload"], cell.seed) if replay else conversations_of(cell)


def _require_same(run: Simulation, sent: Sequence[int]) -> None:
    """Refuse to compare with requests that this version makes otherwise, or that were not all answered."""
    if len(sent) != len(run.prompts) or abs(np.sum(sent) - run.prompts.sum()) > _SAME * run.prompts.sum():
        raise UserError("the requests that were answered are not those that its workload and seed make today")
