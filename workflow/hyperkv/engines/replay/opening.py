"""The tiers of a cell's engines: started, and reached."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace

from ....plugin.lmcache_striped.second_use import SecondUse
from ...cells.cell import CellSpec, check_room, open_store
from ...connectors.registry import make_connector, options_of
from ...stores.registry import store_class
from ...workloads import Conversation, longest_context
from ...workloads.payload import Payload
from ...workloads.working_set import working_set
from .tiers import RealTiers, Tier


def saved_bytes(cell: CellSpec, conversations: Sequence[Conversation]) -> int:
    """What the scenario's store is given to keep: the working set of its workload."""
    chunk = cell.scenario["chunk_tokens"]
    answers = cell.scenario["save_decode_cache"]
    return len(cell.salts) * working_set(conversations, cell.share.stored_bytes(chunk), chunk, answers)


def start_tiers(
    cell: CellSpec, conversations: Sequence[Conversation], stack: contextlib.ExitStack
) -> tuple[list[list[Tier]], float]:
    """Of each engine the tiers below HBM, the scenario's own store last, and the seconds spent starting them.

    An engine has a pool of its own, and all of them one store, reached over one connector.
    """
    scenario = cell.scenario
    if scenario["tier"] == "none":
        return [[] for _ in range(cell.engines)], 0.0
    started = time.perf_counter()
    value_bytes = cell.share.stored_bytes(scenario["chunk_tokens"])
    saved = saved_bytes(cell, conversations)
    check_room(cell, saved)

    def tier(name: str, store: str, connector: str, capacity_bytes: int | None, bottom: bool) -> Tier:
        uses = SecondUse() if bottom and scenario.get("save") == "second_use" else None
        opened = open_store(cell, store, value_bytes, capacity_bytes, stack, bottom)
        if bottom:
            opened.require_room(saved)
        options = options_of(connector, scenario) if bottom else {}
        made = make_connector(connector, opened, scenario["connections"], scenario["timeout_s"], **options)
        evicts = scenario["page_cache"] == "evict"
        return Tier(name, opened, stack.enter_context(made), evicts, uses)

    own = store_class(scenario["store"])
    is_pool, pool_bytes = own.held_by_engine == "pool", scenario["dram_pool_bytes"]
    bound = scenario[own.bound_key] if own.bound_key else None
    each: list[list[Tier]] = []
    for number in range(cell.engines):
        tiers = [] if is_pool or not pool_bytes else [tier("dram", "dram", "inprocess", pool_bytes, False)]
        if is_pool or not number:
            tiers.append(
                tier("dram" if is_pool else "store", scenario["store"], scenario["connector"], bound, True)
            )
        else:
            shared = each[0][-1]
            tiers.append(replace(shared, uses=None if shared.uses is None else SecondUse(), saved=set()))
        each.append(tiers)
    for tiers in each[1:]:
        tiers[-1].connector.shape = each[0][-1].connector.shape
    return each, time.perf_counter() - started


def real_tiers(cell: CellSpec, conversations: Sequence[Conversation], tiers: Sequence[Tier]) -> RealTiers:
    """What an engine looks for, loads and saves."""
    chunk_tokens = cell.scenario["chunk_tokens"]
    payload = Payload(cell.share.stored_bytes(chunk_tokens), cell.seed)
    return RealTiers(tiers, payload, longest_context(conversations) // chunk_tokens)


def once(each: Sequence[Sequence[Tier]]) -> list[Tier]:
    """The tiers of all engines, one that they share once; the first engine's store is the last of all."""
    return list({id(tier.connector): tier for tiers in reversed(each) for tier in tiers}.values())
