"""What runs for a scenario of engine `vllm`: the store, LMCache's server and vLLM, in that order."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from ...base.errors import StoreError
from ...cells.cell import CellSpec, frame
from ...connectors import vllm_own
from ...machine.counters import block_device_bytes
from ...machine.processes import variables_of
from ...machine.watch import every
from ...records.effective import Effective, asked_of
from ...stores.base import Store
from ...stores.registry import has_store, store_class
from ...workloads import Conversation, longest_context
from ...workloads.context_limit import ROOM_TOKENS
from ...workloads.factory import make_workload
from ...workloads.working_set import working_set
from . import lmcache
from .command import block_bytes_of, settings_of, variables
from .server import Engines

ANSWER_TOKENS = 4  # of a single request
_EVICT_EVERY_S = 0.5
_PROGRAM_PORTS = 4
_PAST_BUFFER = "--disable-l1-retrieval"


@dataclass(frozen=True)
class Patience:
    """Seconds that a store has for an answer, and what was saved for arriving: in all, when it is quiet, and when it stalls."""

    ping_s: float = 8.0
    settle_s: float = 30.0
    quiet_s: float = 0.5
    stalled_s: float = 8.0


@dataclass(frozen=True)
class Moved:
    """Bytes in all: served and taken by the store, and read by it from block devices.

    Without a store: None, and what the engine's processes wrote to block devices and read from them; where a device moves bytes past
    them, what the whole machine did, None where that is not counted.
    """

    served: int | None
    saved: int
    device_read: int | None


class Running:
    """What runs for a scenario: the engine's servers and the store below them."""

    patience = Patience()

    def __init__(
        self,
        servers: Engines,
        store: Store | None,
        model_dir: Path,
        words: Sequence[str],
        chunk_bytes: int,
    ):
        self.servers, self.store, self.model_dir, self.words = servers, store, model_dir, words
        self.chunk_bytes = chunk_bytes
        self.vocabulary: int = json.loads((model_dir / "config.json").read_text())["vocab_size"]
        self.evict = None if store is None else store.evict_page_cache
        self.start_s, self.warm = 0.0, False
        self.counted_at: Path | None = None
        self.folder: Path | None = None
        self.effective = Effective()

    def check(self) -> None:
        """Raises StoreDied or StoreError when a server is dead or the store does not answer in time."""
        self.servers.check_alive()
        if self.store is None:
            return
        self.store.check_alive()
        for server in self.store.servers:
            try:
                with server.client(self.patience.ping_s) as client:
                    client.ping()
            except redis.RedisError as error:
                server.check_alive(1.0)
                told = f"does not answer PING within {self.patience.ping_s:.0f} s"
                raise StoreError(f"store {server.name} {told}: {error}") from error

    def evicting(self, cell: CellSpec) -> contextlib.AbstractContextManager[None]:
        """Takes the store's files out of the page cache all the time, where the scenario says so."""
        return every(_EVICT_EVERY_S, self.evict) if self.evict and evicts(cell) else contextlib.nullcontext()

    def make_room(self, cell: CellSpec) -> None:
        """Empty a pool of LMCache's server that is all there is: what it has no room for at once it does not save."""
        if cell.scenario.get("connector") in lmcache.SERVED and not has_store(cell.scenario):
            self.servers.empty_lmcache_pool()

    def empty_buffer(self, cell: CellSpec) -> None:
        """Empty a pool before a store, which is to answer, and a buffer of vLLM's own offloading."""
        pool, cold = cell.scenario["dram_pool_bytes"], cell.scenario["page_cache"] == "evict"
        if vllm_own.behind_pool(cell.scenario) and (cold or not pool):
            self.servers.reset_hbm(pool=True)
        if cold and lmcache.keeps_free(cell.scenario):
            self.servers.empty_lmcache_pool()

    def make_cold(self, cell: CellSpec, push: bool) -> None:
        """Put what was saved where it is when far more is saved than RAM holds, on the device alone: where the scenario says so.

        push: also what the store still has in its write buffers, which others then have to fill.
        """
        if self.evict and evicts(cell):
            if push:
                if self.store is not None:
                    self.store.push_out_writes()
                self.settle()
            self.evict()

    def settle(self, saved_before: int = 0, expected_bytes: int = 0) -> None:
        """Wait until what was saved has arrived and the store has written what it set out to, half a minute at most.

        expected_bytes: what must arrive on top of `saved_before` (see saved_bytes): a server that stalls is quiet,
        too, and is given `stalled_s` to go on; 0 when that is not known: then until less than a chunk arrives in
        `quiet_s`.
        """
        deadline = time.monotonic() + self.patience.settle_s
        self._wait_arrived(saved_before, expected_bytes, deadline)
        while time.monotonic() < deadline and self._flushing():
            time.sleep(0.05)

    def _flushing(self) -> bool:
        """Whether the store is still writing full memtables, which takes as much of the processor as a load does."""
        return self.store is not None and self.store.counters().details.get("memtables_to_flush", 0) > 0

    def _wait_arrived(self, saved_before: int, expected_bytes: int, deadline: float) -> None:
        known = bool(expected_bytes) and self.store is not None
        quiet_s = self.patience.stalled_s if known else self.patience.quiet_s
        last, since = self.saved_bytes(), time.monotonic()
        while time.monotonic() < deadline:
            now = self.saved_bytes()
            if known and now >= saved_before + expected_bytes:
                return
            if now >= last + self.chunk_bytes:
                last, since = now, time.monotonic()
            elif time.monotonic() > since + quiet_s and (known or not self._saving()):
                return
            time.sleep(0.05)

    def _saving(self) -> bool:
        """Whether an LMCache server has chunks on their way to its store."""
        counted = self.servers.counters()
        return (counted["saves_begun"] or 0) > (counted["saves_done"] or 0)

    def moved(self) -> Moved:
        """What has been moved until now."""
        if self.store is None:
            read, written = self.servers.io_bytes()
            if self.counted_at is None:
                return Moved(None, written, read)
            block = block_device_bytes(self.counted_at)
            return Moved(None, written, None if block is None else block[0])
        counted = self.store.counters()
        from_device = counted.process.device_read_bytes
        if self.counted_at is not None:
            block = block_device_bytes(self.counted_at)
            from_device = 0 if block is None else block[0]
        return Moved(counted.served_bytes, counted.taken_bytes or 0, from_device)

    def saved_bytes(self) -> int:
        """Bytes saved until now (see Moved)."""
        return self.moved().saved


def evicts(cell: CellSpec) -> bool:
    return cell.scenario["tier"] == "ssd" and cell.scenario["page_cache"] == "evict"


def _block_bytes_per_token(cell: CellSpec, settings: dict[str, Any]) -> float | None:
    """What vLLM should hold for each token of a block; None for layers whose blocks are padded to a state."""
    if cell.geometry.state_bytes:
        return None
    connector = lmcache.CONNECTOR_CLASSES.get(cell.scenario.get("connector", ""))
    return block_bytes_of(settings, cell.geometry, connector) / settings["block_tokens"]


def asked(cell: CellSpec) -> Effective:
    """What the scenario asks of vLLM and LMCache."""
    settings = settings_of(cell.spec)
    per_token = _block_bytes_per_token(cell, settings)
    return asked_of(cell.scenario, settings, cell.geometry.kv_dtype, per_token, cell.share.ranks)


def framed(cell: CellSpec) -> dict[str, Any]:
    """What Cell and Single say of themselves (cells.cell.frame), with the engine's variables instead of the job's."""
    told = variables(settings_of(cell.spec), None, cell.directory)
    return frame(cell, cell.geometry, variables_of(told))


def context_tokens(cell: CellSpec) -> int:
    """Tokens of the longest prompt with its answer that will be sent."""
    single = max(cell.spec["latency"]["prompt_tokens"], default=0) + ANSWER_TOKENS
    workload = max(
        (longest_context(conversations_of(cell.at(load))) for load in cell.spec["loads"]), default=0
    )
    return max(single, workload) + ROOM_TOKENS


def load_seed(cell: CellSpec) -> int:
    """What a cell's load adds to a seed: other requests at every load."""
    return int(cell.load) if float(cell.load).is_integer() else round(1e6 * cell.load)


def conversations_of(cell: CellSpec) -> Sequence[Conversation]:
    """The conversations of one load: the same for every scenario, others for every load and repeat."""
    found = make_workload(cell.spec["workload"], (cell.seed * 1009 + load_seed(cell)) % 2**32)
    each = cell.spec["loadgen"]["conversations_per_client"]
    return found if each is None or cell.spec["loop"] != "closed" else found[: each * int(cell.load)]


def proof_lengths(conversations: Sequence[Conversation]) -> tuple[int, int]:
    """Tokens of the two prompts that prove a load's tier: the middle one and the longest of the load's last prompts."""
    lengths = sorted(conversation.turns[-1].prompt_end for conversation in conversations)
    return lengths[len(lengths) // 2], lengths[-1]


def saved_bytes(cell: CellSpec) -> int:
    """What the scenario's store is given to keep over all points of a job.

    The working set of every load, whose conversations are its own, the prompts that prove
    each load, the single requests, and what pushes these out of write buffers. An LMCache server may save answers in any case.
    """
    scenario, chunk = cell.scenario, cell.scenario["chunk_tokens"]
    answers = scenario["save_decode_cache"] or scenario["connector"] in lmcache.SERVED
    latency, found = cell.spec["latency"], 0
    prompts = [tokens for tokens in latency["prompt_tokens"] for _ in range(latency["prompts"])]
    for load in cell.spec["loads"]:
        conversations = conversations_of(cell.at(load))
        found += working_set(conversations, cell.share.stored_bytes(chunk), chunk, answers)
        prompts += proof_lengths(conversations)
    chunks = sum((tokens + ANSWER_TOKENS) // chunk for tokens in prompts)
    return len(cell.salts) * (found + chunks * cell.share.stored_bytes(chunk)) + _pushed_out_bytes(cell)


def _pushed_out_bytes(cell: CellSpec) -> int:
    """What single requests have the store save besides (Running.make_cold)."""
    if not evicts(cell):
        return 0
    each = store_class(cell.scenario["store"]).pushing_bytes(cell.scenario["settings"])
    prompts = len(cell.spec["latency"]["prompt_tokens"]) * cell.spec["latency"]["prompts"]
    return prompts * cell.scenario.get("processes", 1) * each
