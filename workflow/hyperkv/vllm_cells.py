"""Cells of engine `vllm`: AIPerf -> vLLM -> LMCache -> store, started once for a scenario x repeat.

Before the loads come single requests (point `single`): per prompt length the TTFT of a prompt that is computed,
and of the same prompt again after vLLM's own cache was emptied. Both answers must name the same tokens: that
proves what the tier returned. Each load has its own conversations (its seed contains the load), so that no load
finds what an earlier one saved.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import redis

from . import aiperf
from .cells import CellSpec, StoreWindow, check_room, frame, open_store, per_byte
from .engines import lmcache
from .engines.lmcache_log import Transfers, transfers
from .engines.single_request import Answer, send
from .engines.vllm_command import MODEL_NAME, command, settings_of, variables
from .engines.vllm_metrics import changes
from .engines.vllm_server import EngineError, EngineServers, ServerCommand
from .errors import StoreError, UserError
from .evidence import device_share, judge
from .geometry import Geometry
from .processes import OwnedProcess, free_port
from .samples import window_values
from .stores.base import Store, prepare_directory
from .stores.server import ServerStore
from .watch import every, run_watched
from .workloads import Conversation, longest_context
from .workloads.factory import make_workload

SINGLE = "single"
_ANSWER_TOKENS = 4
_PING_TIMEOUT_S = 8.0
_SETTLE_TIMEOUT_S = 30.0
_QUIET_S = 0.5
_EVICT_EVERY_S = 0.5
_ENGINE_FIGURES = ("load_gbps", "save_gbps", "save_stall_s", "gpu_busy_share")


def points(spec: dict[str, Any]) -> list[Any]:
    """What a job of this scenario measures, in order: single requests when there are any, then its loads."""
    return [*([SINGLE] if spec["latency"]["prompt_tokens"] else []), *spec["loads"]]


class Measurement:
    """One scenario x repeat (see cells.Measurement): the servers run while it is open.

    After an error in a cell they are started anew for the next one.
    """

    def __init__(self, spec: dict[str, Any], repeat: int, logs: Path):
        self._cell = CellSpec(spec, 0, repeat, logs)
        self._running: _Running | None = None
        self._unusable: str | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Measurement:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        shutil.rmtree(self._cell.directory, ignore_errors=True)

    def _stop(self) -> None:
        self._running = None
        stack, self._stack = self._stack, contextlib.ExitStack()
        stack.close()

    def measure(self, key: Any) -> dict[str, Any]:
        """The record of single requests, or of the cell at load `key`; an invalid one when a server died or hung.

        Raises UserError when the servers do not start. When they do not survive the warm-up, no point is tried.
        """
        if self._unusable is not None:
            return _lost(self._cell.at(0 if key == SINGLE else key), key, self._unusable)
        if self._running is None:
            self._running = _start(self._cell, self._stack)
        running = self._running
        try:
            if not running.warm:
                self._warm_up(running)
            return (
                measure_single(self._cell, running)
                if key == SINGLE
                else measure_load(self._cell.at(key), running)
            )
        except (StoreError, EngineError) as error:
            self._stop()
            return _lost(self._cell.at(0 if key == SINGLE else key), key, str(error))

    def _warm_up(self, running: _Running) -> None:
        try:
            _warm_up(self._cell, running)
        except (StoreError, EngineError) as error:
            self._unusable = f"warm-up: {error}"
            raise type(error)(self._unusable) from error
        running.warm = True


class _Running:
    """What runs for a scenario: the engine's servers and the store below them."""

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
        self.start_s = 0.0
        self.warm = False

    def check(self) -> None:
        """Raises StoreDied or StoreError when a server is dead or the store does not answer in time."""
        self.servers.check_alive()
        if self.store is None:
            return
        self.store.check_alive()
        if isinstance(self.store, ServerStore):
            try:
                with self.store.client(_PING_TIMEOUT_S) as client:
                    client.ping()
            except redis.RedisError as error:
                self.store.check_alive(1.0)
                raise StoreError(
                    f"store {self.store.name} does not answer PING within {_PING_TIMEOUT_S:.0f} s: {error}"
                ) from error

    def evicting(self, cell: CellSpec) -> contextlib.AbstractContextManager[None]:
        """Takes the store's files out of the page cache all the time, where the scenario says so."""
        if self.store is None or cell.scenario["tier"] != "ssd" or cell.scenario["page_cache"] != "evict":
            return contextlib.nullcontext()
        return every(_EVICT_EVERY_S, self.store.evict_page_cache)

    def settle(self, saved_before: int = 0, expected_bytes: int = 0) -> None:
        """Wait until what was saved has arrived, half a minute at most.

        expected_bytes: what must arrive on top of `saved_before` (see saved_bytes), since a server that stalls is
        quiet, too; 0 when that is not known: then until less than a chunk arrives in a while.
        """
        deadline = time.monotonic() + _SETTLE_TIMEOUT_S
        last, since = self.saved_bytes(), time.monotonic()
        while time.monotonic() < deadline:
            if expected_bytes and self.store is not None:
                if self.saved_bytes() >= saved_before + expected_bytes:
                    return
            elif time.monotonic() > since + _QUIET_S:
                return
            elif (now := self.saved_bytes()) >= last + self.chunk_bytes:
                last, since = now, time.monotonic()
            time.sleep(0.05)

    def served_bytes(self) -> int | None:
        """Bytes that the store has served, None without a server."""
        return self.store.counters().served_bytes if self.store is not None else None

    def saved_bytes(self) -> int:
        """Bytes that the store took, or without a server those written by the engine's processes."""
        if self.store is not None:
            return self.store.counters().taken_bytes or 0
        return self.servers.io_bytes()[1]


def _start(cell: CellSpec, stack: contextlib.ExitStack) -> _Running:
    """Start the store, then LMCache's server, then vLLM. Raises UserError before anything, or EngineError."""
    started = time.perf_counter()
    settings, scenario, geometry = settings_of(cell.spec), cell.scenario, cell.geometry
    chunk_bytes = geometry.chunk_bytes(scenario["chunk_tokens"])
    staging = settings["staging_bytes"]
    lmcache.check(scenario, settings["device"], settings["block_tokens"], chunk_bytes, staging)
    model_dir = _model_dir(cell, settings)
    words = aiperf.words_of(model_dir / "tokenizer.json")
    prepare_directory(cell.directory.parent)
    _check_room(cell, geometry)
    store = None
    if scenario["tier"] != "none" and scenario["store"] not in ("dram", "files"):
        store = open_store(cell, scenario["store"], chunk_bytes, scenario["capacity_bytes"], stack)
    files = cell.directory / "engine"
    for folder in (files / "kv", files / "metrics"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    port, mp_port, http_port = free_port(), free_port(), free_port()
    endpoint = store.endpoint if isinstance(store, ServerStore) else None
    offload = lmcache.offload(scenario, staging, files / "kv", endpoint, mp_port, http_port)
    config_file = None
    if offload.config is not None:
        config_file = files / "lmcache.yaml"
        config_file.write_text(json.dumps(offload.config, indent=1) + "\n")
    python = cell.spec["engine_python"]
    log = cell.logs / f"{scenario['name']}-{cell.repeat}"
    ready_s = settings["ready_timeout_s"]
    commands = []
    if offload.server is not None:
        argv = [python, "-m", "lmcache.cli.main", "server", *offload.server]
        commands.append(
            ServerCommand(
                "lmcache server",
                argv,
                http_port,
                "/healthcheck",
                log.with_name(log.name + "-lmcache.log"),
                ready_s,
            )
        )
    argv = command(
        python,
        model_dir,
        settings,
        geometry,
        scenario["kv_dtype"] or cell.spec["kv_dtype"],
        _context_tokens(cell),
        port,
        offload.transfer,
    )
    commands.append(
        ServerCommand("vllm", argv, port, "/health", log.with_name(log.name + "-vllm.log"), ready_s)
    )
    servers = stack.enter_context(
        EngineServers(commands, variables(settings, config_file, files / "metrics"))
    )
    running = _Running(servers, store, model_dir, words, chunk_bytes)
    running.start_s = time.perf_counter() - started
    return running


def _model_dir(cell: CellSpec, settings: dict[str, Any]) -> Path:
    """The folder vLLM serves. Raises UserError when a named one has no tokenizer or no config."""
    folder = Path(settings["model_dir"] or cell.spec["made_model_dir"])
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        if not (folder / name).exists():
            raise UserError(
                f"vllm.model_dir: {folder} has no {name}; download the whole model, tokenizer included"
            )
    return folder


def _context_tokens(cell: CellSpec) -> int:
    """Tokens of the longest prompt with its answer that will be sent."""
    single = max(cell.spec["latency"]["prompt_tokens"], default=0) + _ANSWER_TOKENS
    workload = max((longest_context(_conversations(cell.at(load))) for load in cell.spec["loads"]), default=0)
    return max(single, workload) + 8


def _conversations(cell: CellSpec) -> list[Conversation]:
    """The conversations of one load: the same for every scenario, others for every load and repeat."""
    return make_workload(cell.spec["workload"], (cell.seed * 1009 + int(cell.load)) % 2**32)


def _check_room(cell: CellSpec, geometry: Geometry) -> None:
    if cell.scenario["tier"] == "none":
        return
    tokens = sum(
        conversation.turns[-1].answer_end
        for load in cell.spec["loads"]
        for conversation in _conversations(cell.at(load))
    )
    check_room(cell, tokens * geometry.kv_bytes_per_token)


def _warm_up(cell: CellSpec, running: _Running) -> None:
    """Compile, allocate and connect: a few requests whose tokens occur nowhere else."""
    vocabulary = json.loads((running.model_dir / "config.json").read_text())["vocab_size"]
    rng = np.random.default_rng([cell.seed, 0])
    shortest = 2 * cell.scenario["chunk_tokens"] + 1
    for tokens in (shortest, *cell.spec["latency"]["prompt_tokens"][-1:]):
        for _ in range(cell.spec["loadgen"]["warm_up_requests"]):
            prompt = aiperf.token_ids(rng, vocabulary, min(tokens, _context_tokens(cell) - _ANSWER_TOKENS))
            for _ in range(2):
                send(running.servers.url, prompt, _ANSWER_TOKENS, cell.spec["loadgen"]["request_timeout_s"])
                running.servers.reset_hbm()
    running.settle()


def measure_single(cell: CellSpec, running: _Running) -> dict[str, Any]:
    """TTFT of single requests by prompt length: first (computed, and saved where there is a tier), then again."""
    started = time.perf_counter()
    vocabulary = json.loads((running.model_dir / "config.json").read_text())["vocab_size"]
    samples: list[dict[str, Any]] = []
    with running.evicting(cell):
        for tokens in cell.spec["latency"]["prompt_tokens"]:
            for number in range(cell.spec["latency"]["prompts"]):
                rng = np.random.default_rng([cell.seed, tokens, number])
                prompt = aiperf.token_ids(rng, vocabulary, tokens)
                samples += _first_and_again(cell, running, prompt)
    faults = _faults_of(cell, samples)
    return {
        **frame(cell, cell.geometry),
        "record": "single",
        "load": None,
        "valid": not faults,
        "reasons": faults,
        "samples": samples,
        "start_s": running.start_s,
        "cell_s": time.perf_counter() - started,
    }


def _first_and_again(cell: CellSpec, running: _Running, prompt: Sequence[int]) -> list[dict[str, Any]]:
    """One prompt computed and the same prompt again, vLLM's own cache emptied after each; a record of each pass."""
    timeout_s = cell.spec["loadgen"]["request_timeout_s"]
    found = []
    for kind in ("first", "again"):
        running.check()
        lines, served = len(running.servers.log_lines()), running.served_bytes()
        saved = running.saved_bytes()
        answer = send(running.servers.url, prompt, _ANSWER_TOKENS, timeout_s)
        moved = running.served_bytes()
        log = transfers(running.servers.log_lines()[lines:])
        found.append(
            {
                "pass": kind,
                **_answer_record(answer),
                "served_bytes": None if moved is None or served is None else moved - served,
                "retrieved_tokens": log.retrieved_tokens if _in_process(cell) else None,
                "retrieve_s": log.retrieve_s if _in_process(cell) else None,
            }
        )
        running.servers.reset_hbm()
        if kind == "first" and cell.scenario["tier"] != "none":
            running.settle(saved, log.stored_tokens * cell.geometry.kv_bytes_per_token)
    return found


def _in_process(cell: CellSpec) -> bool:
    """Whether LMCache runs inside vLLM, and so tells of every request in its log."""
    return cell.scenario["tier"] != "none" and cell.scenario["connector"] in ("inprocess", "redis", "resp")


def _answer_record(answer: Answer) -> dict[str, Any]:
    return {
        "prompt_tokens": answer.prompt_tokens,
        "cached_tokens": answer.cached_tokens,
        "ttft_s": answer.ttft_s,
        "latency_s": answer.latency_s,
        "tokens": list(answer.tokens),
        "first_logprob": answer.first_logprob,
    }


def proof_faults(
    samples: Sequence[dict[str, Any]], tier: str, chunk_tokens: int, kv_bytes_per_token: int, pool: bool
) -> list[str]:
    """What single requests disprove, a line each.

    A first pass must be computed; the same prompt again must find at least half of its whole chunks, must have
    moved what vLLM counts as a hit (by the store's bytes or LMCache's log), and must answer with the same first
    token. samples: pairs of both passes. pool: a DRAM pool is before the store, which then serves nothing.
    """
    faults = []
    for first, again in zip(samples[::2], samples[1::2], strict=True):
        length, found = first["prompt_tokens"], again["cached_tokens"]
        whole = (length - 1) // chunk_tokens * chunk_tokens
        if first["cached_tokens"]:
            faults.append(f"{first['cached_tokens']} of a new prompt's {length} tokens came from a cache")
        if first["tokens"][:1] != again["tokens"][:1]:
            faults.append(f"a prompt of {length} tokens got another first token from the tier than computed")
        if tier == "none":
            continue
        if whole and found < whole / 2:
            faults.append(f"{found} of {whole} saved tokens of a prompt of {length} were found again")
        if again["retrieved_tokens"] is not None and again["retrieved_tokens"] < found:
            faults.append(
                f"vLLM counts {found} tokens of a prompt of {length} as loaded, LMCache loaded {again['retrieved_tokens']}"
            )
        served = again["served_bytes"]
        if served is not None and not pool and served < found * kv_bytes_per_token:
            faults.append(
                f"vLLM counts {found} tokens of a prompt of {length} as loaded, the store served {served:,} bytes of "
                f"{found * kv_bytes_per_token:,}"
            )
    return list(dict.fromkeys(faults))


def _faults_of(cell: CellSpec, samples: Sequence[dict[str, Any]]) -> list[str]:
    scenario = cell.scenario
    pool = bool(scenario["dram_pool_bytes"])
    return proof_faults(
        samples, scenario["tier"], scenario["chunk_tokens"], cell.geometry.kv_bytes_per_token, pool
    )


def measure_load(cell: CellSpec, running: _Running) -> dict[str, Any]:
    """Measure one load and return its record (columns.yaml). Raises StoreDied, StoreError, EngineError or UserError."""
    started = time.perf_counter()
    conversations = _conversations(cell)
    geometry = cell.geometry
    loop = "trace" if conversations[0].turns[0].arrival_s is not None else cell.spec["loop"]
    folder = cell.directory / f"load-{cell.load}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    proof = _proof(cell, running, conversations)
    lines = aiperf.trace_lines if loop == "trace" else aiperf.multi_turn_lines
    (folder / "input.jsonl").write_text("\n".join(lines(conversations, running.words)) + "\n")
    if cell.spec["loadgen"]["prime"]:
        _run_aiperf(cell, running, folder, "prime", len(conversations), loop)
        running.settle()
    running.servers.reset_hbm()
    window = StoreWindow(running.store, cell.directory.parent)
    log_lines = len(running.servers.log_lines())
    with running.evicting(cell):
        window.begin()
        before, io_before = running.servers.counters(), running.servers.io_bytes()
        measuring = time.perf_counter()
        requests = _run_aiperf(cell, running, folder, "measure", len(conversations), loop)
        measured_s = time.perf_counter() - measuring
        counted, io_after = changes(before, running.servers.counters()), running.servers.io_bytes()
        window.end()
    log = transfers(running.servers.log_lines()[log_lines:])
    io = (io_after[0] - io_before[0], io_after[1] - io_before[1])
    evidence = _evidence(cell, geometry, requests, counted, log, window, io)
    samples = [request.sample for request in requests if request.sample is not None]
    window_s = aiperf.window_s(requests, loop)
    verdict = judge(cell.scenario["tier"], evidence, cell.spec["evidence"]["device_share_min"])
    reasons = [*verdict.reasons, *_faults(cell, requests, conversations, log, evidence), *proof]
    values = window_values(samples, window_s, cell.spec["slo"])
    return {
        **frame(cell, geometry),
        "gpu_model": None,
        "valid": not reasons,
        "reasons": reasons,
        "served_from": verdict.served_from,
        "values": values | _engine_figures(evidence, log),
        "evidence": evidence,
        "engine_counters": counted,
        "engine_faults": list(log.faults[:50]),
        "store_before": window.details_before,
        "store_after": window.details_after,
        "notes": window.notes,
        "start_s": running.start_s,
        "measured_s": measured_s,
        "cell_s": time.perf_counter() - started,
        "requests": _columns(requests, window_s),
    }


def _proof(cell: CellSpec, running: _Running, conversations: Sequence[Conversation]) -> list[str]:
    """Two prompts of this load's lengths, computed and from the tier, none of them part of the load."""
    rng = np.random.default_rng([cell.seed, int(cell.load), 1])
    vocabulary = json.loads((running.model_dir / "config.json").read_text())["vocab_size"]
    lengths = sorted(conversation.turns[-1].prompt_end for conversation in conversations)
    samples: list[dict[str, Any]] = []
    for tokens in (lengths[len(lengths) // 2], lengths[-1]):
        samples += _first_and_again(cell, running, aiperf.token_ids(rng, vocabulary, tokens))
    return _faults_of(cell, samples)


def _run_aiperf(
    cell: CellSpec, running: _Running, folder: Path, name: str, conversations: int, loop: str
) -> list[aiperf.Request]:
    options = cell.spec["loadgen"]
    loadgen = aiperf.Loadgen(
        cell.spec["loadgen_python"],
        running.servers.url,
        MODEL_NAME,
        running.model_dir,
        options["request_timeout_s"],
        cell.seed,
    )
    artifacts = folder / name
    argv = aiperf.command(loadgen, folder / "input.jsonl", conversations, artifacts, loop, cell.load)
    log = cell.logs / f"{cell.scenario['name']}-{cell.repeat}-aiperf.log"
    process = OwnedProcess(argv, log=log, label="aiperf", env={"AIPERF_LOG_LEVEL": "WARNING"})
    run_watched(process, [running.check], options["timeout_s"])
    return aiperf.read_records(artifacts / aiperf.RECORDS)


def _evidence(
    cell: CellSpec,
    geometry: Geometry,
    requests: Sequence[aiperf.Request],
    counted: dict[str, int | None],
    log: Transfers,
    window: StoreWindow,
    io: tuple[int, int],
) -> dict[str, Any]:
    """Totals of the run: tokens by source as vLLM counts them, bytes by the store's and the kernel's counters."""
    external = counted["external_hit_tokens"] or 0
    hbm, computed = counted["hbm_hit_tokens"] or 0, counted["computed_tokens"] or 0
    from_store = _store_tokens(cell, external, counted, window, geometry)
    samples = [request.sample for request in requests if request.sample is not None]
    files = cell.scenario.get("store") == "files"
    evidence: dict[str, Any] = {
        "sent_requests": len(requests),
        "failed_requests": len(requests) - len(samples),
        "queried_tokens": sum(sample.prompt_tokens for sample in samples),
        "hbm_hit_tokens": hbm,
        "dram_hit_tokens": external - from_store,
        "store_hit_tokens": from_store,
        "hit_tokens": hbm + external,
        "computed_tokens": computed,
        "retrieved_tokens": log.retrieved_tokens if _in_process(cell) else None,
        "loaded_bytes": from_store * geometry.kv_bytes_per_token
        if _has_store(cell)
        else external * geometry.kv_bytes_per_token,
        "saved_bytes": log.stored_tokens * geometry.kv_bytes_per_token if _in_process(cell) else None,
        **window.evidence(),
        "corrupt_chunks": 0,
        "dropped_chunks": 0,
    }
    if files:
        evidence |= {"device_read_bytes": io[0], "device_write_bytes": io[1]}
    return evidence | {"device_share": device_share(evidence)} | per_byte(evidence)


def _has_store(cell: CellSpec) -> bool:
    return cell.scenario["tier"] != "none" and cell.scenario["store"] != "dram"


def _store_tokens(
    cell: CellSpec, external: int, counted: dict[str, int | None], window: StoreWindow, geometry: Geometry
) -> int:
    """Of the tokens that came from outside HBM those from the store and not from the DRAM pool in front of it."""
    if not _has_store(cell):
        return 0
    if not cell.scenario["dram_pool_bytes"]:
        return external
    if counted["store_hit_tokens"] is not None:
        return min(external, counted["store_hit_tokens"])
    served = window.evidence()["served_bytes"]
    return external if served is None else min(external, served // geometry.kv_bytes_per_token)


def _faults(
    cell: CellSpec,
    requests: Sequence[aiperf.Request],
    conversations: Sequence[Conversation],
    log: Transfers,
    evidence: dict[str, Any],
) -> list[str]:
    """Why a cell is invalid beside the general rules: turns not sent, hits not loaded, faults in the logs."""
    found = []
    if missing := aiperf.missing_turns(requests, conversations):
        found.append(f"{len(missing)} turns were not sent, first {missing[0]}")
    if errors := [request.failed for request in requests if request.failed]:
        found.append(f"first failed request: {errors[0]}")
    external = evidence["dram_hit_tokens"] + evidence["store_hit_tokens"]
    if evidence["retrieved_tokens"] is not None and evidence["retrieved_tokens"] < external:
        found.append(
            f"vLLM counts {external} tokens as loaded, LMCache loaded {evidence['retrieved_tokens']}"
        )
    if log.faults:
        found.append(
            f"{len(log.faults)} lines of LMCache's errors and time-outs, first: {log.faults[0][:200]}"
        )
    return found


def _engine_figures(evidence: dict[str, Any], log: Transfers) -> dict[str, float | None]:
    """What the requests' samples do not tell: hits from below HBM, over the whole run, and LMCache's own GB/s."""
    asked = evidence["queried_tokens"]
    outside = evidence["dram_hit_tokens"] + evidence["store_hit_tokens"]
    saved = evidence["saved_bytes"]
    return {
        "external_hit_rate": outside / asked if asked else None,
        "load_gbps": evidence["loaded_bytes"] / log.retrieve_s / 1e9 if log.retrieve_s else None,
        "save_gbps": saved / log.store_s / 1e9 if saved and log.store_s else None,
        "save_stall_s": None,
        "gpu_busy_share": None,
    }


def _columns(requests: Sequence[aiperf.Request], window_s: float) -> dict[str, list[Any]]:
    """One list per column, one entry per request that was answered, in order of arrival (columns.yaml)."""
    answered = [(request, request.sample) for request in requests if request.sample is not None]
    columns: dict[str, list[Any]] = {
        "conversation": [request.conversation for request, _ in answered],
        "turn": [request.turn for request, _ in answered],
        "client": [None for _ in answered],
        "prompt_tokens": [sample.prompt_tokens for _, sample in answered],
        "answer_tokens": [sample.answer_tokens for _, sample in answered],
        "hit_tokens": [sample.hit_tokens for _, sample in answered],
        "arrival_s": [round(sample.arrival_s, 6) for _, sample in answered],
        "first_token_s": [round(sample.first_token_s, 6) for _, sample in answered],
        "finish_s": [round(sample.finish_s, 6) for _, sample in answered],
        "in_window": [sample.arrival_s < window_s for _, sample in answered],
    }
    unknown = (
        "hbm_hit_tokens",
        "dram_hit_tokens",
        "store_hit_tokens",
        "computed_tokens",
        "loaded_bytes",
        "admitted_s",
        "loaded_s",
        "load_s",
    )
    return columns | {name: [None] * len(answered) for name in unknown}


def _lost(cell: CellSpec, key: Any, reason: str) -> dict[str, Any]:
    """The record of a point that could not be measured: invalid, its figures unknown."""
    about = {**frame(cell, cell.geometry), "valid": False, "reasons": [reason], "start_s": 0.0, "cell_s": 0.0}
    if key == SINGLE:
        return {**about, "record": "single", "load": None, "samples": []}
    unknown = window_values([], 0.0) | dict.fromkeys(_ENGINE_FIGURES)
    window = StoreWindow(None, cell.directory.parent)
    nothing = dict.fromkeys(
        (
            "sent_requests",
            "failed_requests",
            "queried_tokens",
            "hbm_hit_tokens",
            "dram_hit_tokens",
            "store_hit_tokens",
            "hit_tokens",
            "computed_tokens",
            "retrieved_tokens",
            "loaded_bytes",
            "saved_bytes",
            "corrupt_chunks",
            "dropped_chunks",
            "device_share",
            "write_amplification",
            "store_cpu_s_per_gb",
        )
    )
    return {
        **about,
        "gpu_model": None,
        "served_from": "nothing",
        "values": unknown | {"requests": 0, "window_s": None},
        "evidence": {**nothing, **window.evidence()},
        "engine_counters": {},
        "engine_faults": [],
        "store_before": {},
        "store_after": {},
        "notes": [],
        "measured_s": 0.0,
        "requests": _columns([], 0.0),
    }
