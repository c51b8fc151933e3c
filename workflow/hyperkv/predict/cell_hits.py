"""The hit rate of one cell, predicted by the simulation of its very own requests."""

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
from ..records.scenario import gated
from ..workloads import Conversation
from ..workloads.factory import make_workload, prefixes_known
from .predict_hit_rates import MOST_REQUESTS, NOT_ONE_BY_ONE, Simulation, capacities_of
from .scenario_tiers import EngineFacts, tiers_below
from .single_requests import BY_GATE

_SAME = 0.01  # prompt tokens that may be counted otherwise by an engine's tokenizer


def predicted_hit_rate(record: Mapping[str, Any]) -> float | None:
    """Share of a cell's prompt tokens that its tiers serve, over the requests of its measured window; None without any tier.

    Of the measurement nothing is taken but its settings, save_decode_cache as the running engine showed it: the requests are made
    anew of the cell's workload and seed, in the order in which they would be sent if every answer took as long as any other.

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
    load = int(record["load"])
    active = spec.get("active_conversations") or load
    return json.dumps(spec, sort_keys=True), load, record["repeat"], int(active)


@lru_cache(maxsize=4)
def _simulation(spec: str, load: int, repeat: int, active: int) -> Simulation:
    own = json.loads(spec)
    made = _conversations(CellSpec(own | {"scenario": {}}, load, repeat, Path()))
    one_by_one = own["engine"] == "vllm" and made[0].turns[0].arrival_s is not None
    if not one_by_one and own.get("loop", "closed") != "closed":
        raise UserError("with an open loop the order of the requests is not known before")
    return Simulation.of(made, *((1, 1) if one_by_one else (load, active)))


def _conversations(cell: CellSpec) -> Sequence[Conversation]:
    replay = cell.spec["engine"] == "replay"
    return make_workload(cell.spec["workload"], cell.seed) if replay else conversations_of(cell)


def _require_same(run: Simulation, sent: Sequence[int]) -> None:
    """Refuse to compare with requests that this version makes otherwise, or that were not all answered."""
    if len(sent) != len(run.prompts) or abs(np.sum(sent) - run.prompts.sum()) > _SAME * run.prompts.sum():
        raise UserError("the requests that were answered are not those that its workload and seed make today")
