"""What runs for a scenario of engine `vllm`: the store, LMCache's server and vLLM, in that order."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import redis

from ...base.errors import StoreError, UserError
from ...base.secret import write_private
from ...cells.cell import CellSpec, built_environments, check_room, open_store
from ...connectors import gated, vllm_own
from ...machine.counters import block_device_bytes
from ...machine.environment import gpu_lines
from ...machine.interpreter import import_path
from ...machine.page_cache import CachedFiles
from ...machine.processes import free_port
from ...machine.watch import every
from ...models.gpus import VISIBLE, check_settings, require_gpus
from ...records.effective import Effective, asked_of
from ...stores.base import DIRECT, Store
from ...stores.held import Held
from ...stores.registry import bypasses_processes, store_class
from ...workloads import Conversation, longest_context
from ...workloads.context_limit import ROOM_TOKENS, ContextLimit, check_context
from ...workloads.factory import make_workload
from ...workloads.working_set import working_set
from . import aiperf, lmcache
from .command import WITHOUT_MAIN, block_bytes_of, command, settings_of, variables
from .server import EngineServers, ServerCommand

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
        servers: EngineServers,
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
        return every(_EVICT_EVERY_S, self.evict) if self.evict and _evicts(cell) else contextlib.nullcontext()

    def empty_buffer(self, cell: CellSpec) -> None:
        """Empty a pool before a store whose device is to answer, and a buffer of vLLM's own offloading."""
        pool = cell.scenario["dram_pool_bytes"]
        if vllm_own.behind_pool(cell.scenario) and (_evicts(cell) or not pool):
            self.servers.reset_hbm(pool=True)
        if cell.scenario["connector"] in lmcache.SERVED and pool and _evicts(cell):
            self.servers.empty_lmcache_pool()

    def make_cold(self, cell: CellSpec) -> None:
        """Put what was saved where it is when far more is saved than RAM holds, on the device alone: where the scenario says so."""
        if self.evict and _evicts(cell):
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


def _evicts(cell: CellSpec) -> bool:
    return cell.scenario["tier"] == "ssd" and cell.scenario["page_cache"] == "evict"


def start(cell: CellSpec, stack: contextlib.ExitStack) -> Running:
    """Start the store, then LMCache's server, then vLLM. Raises UserError before anything, or EngineError."""
    started = time.perf_counter()
    settings, scenario, geometry = settings_of(cell.spec), cell.scenario, cell.geometry
    share, chunk_tokens = cell.share, scenario["chunk_tokens"]
    chunk_bytes, staging = share.stored_bytes(chunk_tokens), settings["staging_bytes"]
    check_settings(settings, geometry, "")
    require_gpus(settings, len(gpu_lines()) or None, os.environ.get(VISIBLE))
    lmcache.check(scenario, settings["device"], settings["block_tokens"], chunk_bytes, staging)
    model_dir = _model_dir(cell, settings)
    words = aiperf.words_of(model_dir / "tokenizer.json")
    limit = ContextLimit.of_vllm(geometry)
    check_context(cell.spec["workload"], context_tokens(cell) - ROOM_TOKENS, limit)
    saved = 0
    if scenario["tier"] != "none":
        check_room(cell, saved := saved_bytes(cell), staging)
    store = None
    if scenario["tier"] != "none" and not store_class(scenario["store"]).held_by_engine:
        value_bytes = share.value_bytes(chunk_tokens)
        store = open_store(cell, scenario["store"], value_bytes, scenario["capacity_bytes"], stack)
        store.require_room(saved)
    files = cell.directory / "engine"
    port, mp_port, http_port, *ports = (free_port() for _ in range(3 + _PROGRAM_PORTS))
    held = Held.of(
        scenario, files / "kv", share, geometry, saved, lmcache.buffer_bytes(scenario, staging), tuple(ports)
    )
    for folder in (held.folder, files / "metrics"):
        folder.mkdir(parents=True)
    own = store_class(scenario["store"]) if "store" in scenario else None
    if own is not None:
        own.prepare(held)
    offload = lmcache.offload(
        gated.fed(scenario, port, files, cell.spec["slo"]),
        staging,
        held,
        [] if store is None else store.endpoints,
        mp_port,
        http_port,
        share.values_per_chunk,
        settings["device"],
    )
    config_file = None
    if offload.config is not None:
        config_file = files / "lmcache.yaml"
        write_private(config_file, lmcache.rendered(offload.config))
    python, built = cell.spec["engine_python"], built_environments(cell.spec).get("engine", {})
    log, ready_s = cell.logs / f"{scenario['name']}-{cell.repeat}", settings["ready_timeout_s"]
    commands = []
    if offload.server is not None:
        argv = [python, "-c", lmcache.COMMAND, "server", *offload.server, *past_buffer(cell, built)]
        own_log, first = log.with_name(log.name + "-lmcache.log"), settings["device"] == "cuda"
        commands.append(
            ServerCommand("lmcache server", argv, http_port, "/healthcheck", own_log, ready_s, first)
        )
    for program in () if own is None else own.beside_engine(held):
        words = [f"{name}={value}" for name, value in program.environment.items()]
        argv = ["env", *words, python, *program.words]
        own_log = log.with_name(f"{log.name}-{program.label.replace(' ', '-')}.log")
        commands.append(ServerCommand(program.label, argv, program.port, program.health, own_log, ready_s))
    argv = command(
        python,
        model_dir,
        settings,
        geometry,
        scenario["kv_dtype"] or cell.spec["kv_dtype"],
        context_tokens(cell),
        port,
        offload.transfer,
        WITHOUT_MAIN,
    )
    own_log = log.with_name(f"{log.name}-vllm.log")
    commands.append(ServerCommand("vllm", argv, port, "/health", own_log, ready_s))
    environment = variables(settings, config_file, files / "metrics")
    environment |= {} if own is None else own.variables(held)
    environment |= vllm_own.variables(scenario, settings["device"], import_path())
    servers = stack.enter_context(EngineServers(commands, environment))
    running = Running(servers, store, model_dir, words, chunk_bytes)
    if own is not None and own.held_by_engine == "folder":
        running.folder = held.folder
        running.evict = CachedFiles(held.folder).evict
    running.start_s = time.perf_counter() - started
    elsewhere = bypasses_processes(scenario) or scenario.get("connector") in DIRECT
    running.counted_at = files if elsewhere else None
    running.effective = replace(servers.told(cell.share.values_per_chunk), pair=built.get("pair"))
    return running


def past_buffer(cell: CellSpec, built: dict[str, Any]) -> list[str]:
    """The option that keeps an LMCache server's buffer from serving what it still holds, where its version has one; a DRAM pool is
    meant to. built: what the engine's environment says of itself."""
    store = store_class(cell.scenario["store"])
    buffer_only = not cell.scenario["dram_pool_bytes"] and store.held_by_engine != "pool"
    return [option for option in (_PAST_BUFFER,) if buffer_only and option in built.get("server_options", [])]


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
    return asked_of(cell.scenario, settings, cell.geometry.kv_dtype, per_token, cell.gpus)


def _model_dir(cell: CellSpec, settings: dict[str, Any]) -> Path:
    """The folder vLLM serves. Raises UserError when a named one has no tokenizer or no config."""
    folder = Path(settings["model_dir"] or cell.spec["made_model_dir"])
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        if not (folder / name).exists():
            raise UserError(
                f"vllm.model_dir: {folder} has no {name}; download the whole model, tokenizer included"
            )
    return folder


def context_tokens(cell: CellSpec) -> int:
    """Tokens of the longest prompt with its answer that will be sent."""
    single = max(cell.spec["latency"]["prompt_tokens"], default=0) + ANSWER_TOKENS
    workload = max(
        (longest_context(conversations_of(cell.at(load))) for load in cell.spec["loads"]), default=0
    )
    return max(single, workload) + ROOM_TOKENS


def conversations_of(cell: CellSpec) -> Sequence[Conversation]:
    """The conversations of one load: the same for every scenario, others for every load and repeat."""
    found = make_workload(cell.spec["workload"], (cell.seed * 1009 + int(cell.load)) % 2**32)
    each = cell.spec["loadgen"]["conversations_per_client"]
    return found if each is None or cell.spec["loop"] != "closed" else found[: each * cell.load]


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
    return found + chunks * cell.share.stored_bytes(chunk) + _pushed_out_bytes(cell)


def _pushed_out_bytes(cell: CellSpec) -> int:
    """What single requests have the store save besides (Running.make_cold)."""
    if not _evicts(cell):
        return 0
    each = store_class(cell.scenario["store"]).pushing_bytes(cell.scenario["settings"])
    prompts = len(cell.spec["latency"]["prompt_tokens"]) * cell.spec["latency"]["prompts"]
    return prompts * cell.scenario.get("processes", 1) * each
