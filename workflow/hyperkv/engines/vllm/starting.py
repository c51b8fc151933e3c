"""What is started for a scenario of engine `vllm`: its store, and for each engine LMCache's server and vLLM, in that order."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...base.errors import UserError
from ...base.secret import write_private
from ...base.surroundings import import_path
from ...cells.cell import CellSpec, built_environments, check_room, open_store
from ...connectors import gated, vllm_own
from ...machine.environment import gpu_lines
from ...machine.page_cache import CachedFiles
from ...machine.processes import free_port
from ...models.gpus import VISIBLE, check_settings, own_cores, own_gpus, require_gpus
from ...records.effective import buffer_bytes
from ...stores.base import DIRECT, Store
from ...stores.held import Held
from ...stores.registry import bypasses_processes, has_store, store_class
from ...workloads.context_limit import ROOM_TOKENS, ContextLimit, check_context
from . import aiperf, lmcache, refusals
from .command import WITHOUT_MAIN, command, settings_of, variables
from .running import Running, context_tokens, saved_bytes
from .server import Engines, EngineServers, ServerCommand

_PROGRAM_PORTS = 4
_PAST_BUFFER = "--disable-l1-retrieval"


@dataclass(frozen=True)
class _Base:
    """What the engines of a cell have in common. saved: bytes that their store is given to keep. built: what their environment says."""

    cell: CellSpec
    settings: dict[str, Any]
    store: Store | None
    model_dir: Path
    saved: int
    built: dict[str, Any]


def start(cell: CellSpec, stack: contextlib.ExitStack) -> Running:
    """Start the store, then of each engine LMCache's server and vLLM. Raises UserError before anything, or EngineError."""
    started = time.perf_counter()
    settings, scenario, geometry = settings_of(cell.spec), cell.scenario, cell.geometry
    share, chunk_tokens = cell.share, scenario["chunk_tokens"]
    chunk_bytes, staging = share.stored_bytes(chunk_tokens), settings["staging_bytes"]
    check_settings(settings, geometry, "", cell.engines)
    require_gpus(settings, len(gpu_lines()) or None, os.environ.get(VISIBLE), cell.engines)
    refusals.check(scenario, settings["device"], settings["block_tokens"], chunk_bytes, staging)
    model_dir = _model_dir(cell, settings)
    words = aiperf.words_of(model_dir / "tokenizer.json")
    limit = ContextLimit.of_vllm(geometry)
    check_context(cell.spec["workload"], context_tokens(cell) - ROOM_TOKENS, limit)
    saved = saved_bytes(cell) if scenario["tier"] != "none" else 0
    if scenario["tier"] != "none":
        check_room(cell, saved, buffer_bytes(scenario, staging))
    store = None
    if scenario["tier"] != "none" and not store_class(scenario["store"]).held_by_engine:
        value_bytes = share.value_bytes(chunk_tokens)
        store = open_store(cell, scenario["store"], value_bytes, scenario["capacity_bytes"], stack)
        store.require_room(saved)
    built = built_environments(cell.spec).get("engine", {})
    base = _Base(cell, settings, store, model_dir, saved, built)
    each, held = zip(*(_engine(base, number) for number in range(cell.engines)), strict=True)
    servers = stack.enter_context(Engines(each))
    running = Running(servers, store, model_dir, words, chunk_bytes)
    if "store" in scenario and store_class(scenario["store"]).held_by_engine == "folder":
        running.folder = held[0].folder
        running.evict = CachedFiles(running.folder).evict
    running.start_s = time.perf_counter() - started
    elsewhere = bypasses_processes(scenario) or scenario.get("connector") in DIRECT
    running.counted_at = _files(cell, 0) if elsewhere else None
    running.effective = replace(servers.told(share.values_per_chunk), pair=built.get("pair"))
    return running


def _files(cell: CellSpec, number: int) -> Path:
    """The folder of one of the engines."""
    return cell.directory / (f"engine-{number}" if number else "engine")


def _engine(base: _Base, number: int) -> tuple[EngineServers, Held]:
    """The servers of one of the engines, not started, and what it holds itself."""
    cell, settings = base.cell, base.settings
    scenario, geometry, share, staging = cell.scenario, cell.geometry, cell.share, settings["staging_bytes"]
    files = _files(cell, number)
    port, mp_port, http_port, *ports = (free_port() for _ in range(3 + _PROGRAM_PORTS))
    buffer = buffer_bytes(scenario, staging)
    held = Held.of(scenario, files / "kv", share, geometry, base.saved, buffer, tuple(ports))
    for folder in (held.folder, files / "metrics"):
        folder.mkdir(parents=True)
    own = store_class(scenario["store"]) if "store" in scenario else None
    if own is not None:
        own.prepare(held)
    told = scenario | {"engines": cell.engines} if cell.engines > 1 else scenario
    offload = lmcache.offload(
        gated.fed(told, port, files, cell.spec["slo"]),
        staging,
        held,
        [] if base.store is None else base.store.endpoints,
        mp_port,
        http_port,
        share.values_per_chunk,
        settings["device"],
    )
    config_file = None
    if offload.config is not None:
        config_file = files / "lmcache.yaml"
        write_private(config_file, lmcache.rendered(offload.config))
    python, ready_s = cell.spec["engine_python"], settings["ready_timeout_s"]
    log = cell.logs / (f"{scenario['name']}-{cell.repeat}" + (f"-engine{number}" if number else ""))
    commands = []
    if offload.server is not None:
        argv = [python, "-c", lmcache.COMMAND, "server", *offload.server, *past_buffer(cell, base.built)]
        own_log = log.with_name(log.name + "-lmcache.log")
        commands.append(
            ServerCommand("lmcache server", argv, http_port, "/healthcheck", own_log, ready_s, awaited=False)
        )
    for program in () if own is None else own.beside_engine(held):
        words = [f"{name}={value}" for name, value in program.environment.items()]
        argv = ["env", *words, python, *program.words]
        own_log = log.with_name(f"{log.name}-{program.label.replace(' ', '-')}.log")
        commands.append(ServerCommand(program.label, argv, program.port, program.health, own_log, ready_s))
    argv = command(
        python,
        _named(base, files),
        settings,
        geometry,
        scenario["kv_dtype"] or cell.spec["kv_dtype"],
        context_tokens(cell),
        port,
        offload.transfer,
        WITHOUT_MAIN,
    )
    commands.append(
        ServerCommand("vllm", argv, port, "/health", log.with_name(log.name + "-vllm.log"), ready_s)
    )
    environment = variables(settings, config_file, files / "metrics", _own_cores(cell, settings, number))
    environment |= {} if own is None else own.variables(held)
    environment |= vllm_own.variables(scenario, settings["device"], import_path())
    environment |= _own_gpus(cell, settings, number)
    return EngineServers(commands, environment), held


def _named(base: _Base, files: Path) -> Path:
    """The folder that an engine serves: LMCache names KV by it, so that engines that share nothing have each its own."""
    if len(base.cell.salts) == 1:
        return base.model_dir
    link = files / "model"
    link.symlink_to(base.model_dir.absolute())
    return link


def _own_gpus(cell: CellSpec, settings: Mapping[str, Any], number: int) -> dict[str, str]:
    """What gives each of several engines GPUs of its own."""
    if cell.engines == 1 or settings["device"] != "cuda":
        return {}
    variable = settings["environment"].get(VISIBLE, os.environ.get(VISIBLE))
    return {VISIBLE: own_gpus(variable, cell.share.ranks, number)}


def _own_cores(cell: CellSpec, settings: Mapping[str, Any], number: int) -> str | None:
    """What gives, on a CPU, each of several engines and ranks cores of its own; None for all to the one that there is."""
    ranks = cell.share.ranks
    if cell.engines * ranks == 1 or settings["device"] != "cpu":
        return None
    return own_cores(sorted(os.sched_getaffinity(0)), ranks, number, cell.engines)


def past_buffer(cell: CellSpec, built: dict[str, Any]) -> list[str]:
    """The option that keeps an LMCache server's buffer from serving what it still holds, where its version has one; a DRAM pool is
    meant to. built: what the engine's environment says of itself."""
    buffer_only = not cell.scenario["dram_pool_bytes"] and has_store(cell.scenario)
    return [option for option in (_PAST_BUFFER,) if buffer_only and option in built.get("server_options", [])]


def _model_dir(cell: CellSpec, settings: dict[str, Any]) -> Path:
    """The folder vLLM serves. Raises UserError when a named one has no tokenizer or no config."""
    folder = Path(settings["model_dir"] or cell.spec["made_model_dir"])
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        if not (folder / name).exists():
            raise UserError(
                f"vllm.model_dir: {folder} has no {name}; download the whole model, tokenizer included"
            )
    return folder
