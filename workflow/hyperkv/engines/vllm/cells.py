"""Cells of engine `vllm`: AIPerf -> vLLM -> LMCache -> store, started once for a scenario x repeat.

Before the loads come single requests (point `single`, vllm_single). Each load has its own conversations (its seed
contains the load), so that no load finds what an earlier one saved.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...base.errors import StoreError
from ...cells.cell import CellSpec, StoreWindow
from ...cells.samples import window_values
from ...machine.meters import EnergyMeter, energy_metered
from ...machine.processes import OwnedProcess
from ...machine.watch import ProcessFailed, ProcessLate, run_watched
from ...models.gpus import VISIBLE
from ...records.effective import not_as_asked
from ...records.evidence import judge
from ...records.kinds.cell import Cell, Pass, Single, Values
from ...records.repeats import loop_as
from ...workloads import Conversation
from ...workloads.factory import workload_notes
from . import aiperf
from .command import MODEL_NAME, settings_of
from .evidence import (
    SINGLE,
    columns_of,
    engine_figures,
    evidence_of,
    faults_in,
    from_buffer,
    joules_per_mtoken,
    lost,
    of_gate,
    without_room,
)
from .failures import engine_error
from .lmcache_log import transfers
from .metrics import changes
from .running import Running, asked, conversations_of, framed, load_seed, proof_lengths
from .server import EngineError
from .single import faults_of, first_and_again, measure_single, warm_up
from .starting import start

ARTIFACTS = "measure"


def points(spec: dict[str, Any]) -> list[Any]:
    """What a job of this scenario measures, in order: single requests when there are any, then its loads."""
    return [*([SINGLE] if spec["latency"]["prompt_tokens"] else []), *spec["loads"]]


class Measurement:
    """One scenario x repeat. A context manager: the servers run while it is open.

    After an error in a cell they are started anew for the next one.
    """

    def __init__(self, spec: dict[str, Any], repeat: int, logs: Path):
        self._cell = CellSpec(spec, 0, repeat, logs)
        self._running: Running | None = None
        self._unusable: str | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Measurement:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _stop(self) -> None:
        self._running = None
        stack, self._stack = self._stack, contextlib.ExitStack()
        stack.close()

    def measure(self, key: Any) -> Cell | Single:
        """The record of single requests, or of the cell at load `key`; an invalid one when a server died or hung.

        Raises UserError when the servers do not start. When they do not survive the warm-up, no point is tried.
        """
        if self._unusable is not None:
            return lost(self._cell, key, self._unusable)
        if self._running is None:
            self._cell = self._cell.with_folder(self._stack)
            self._running = start(self._cell, self._stack)
        running = self._running
        try:
            if not running.warm:
                self._warm_up(running)
            return (
                measure_single(self._cell, running)
                if key == SINGLE
                else measure_load(self._cell.at(key), running)
            )
        except ProcessLate as error:
            # Its requests were given up, which ends LMCache 0.5.0: what the engine says of itself then is no cause.
            self._stop()
            return lost(self._cell, key, f"{error}; raise loadgen.timeout_s or lower the load")
        except (StoreError, EngineError) as error:
            died_of = engine_error(running.servers.log_lines())
            self._stop()
            return lost(self._cell, key, f"{error}; vllm's engine: {died_of}" if died_of else str(error))

    def _warm_up(self, running: Running) -> None:
        try:
            warm_up(self._cell, running)
        except (StoreError, EngineError) as error:
            self._unusable = f"warm-up: {error}"
            raise type(error)(self._unusable) from error
        running.warm = True


def measure_load(cell: CellSpec, running: Running) -> Cell:
    """Measure one load and return its record. Raises StoreDied, StoreError, EngineError or UserError."""
    started = time.perf_counter()
    conversations = conversations_of(cell)
    loop = loop_as("vllm", cell.spec["workload"]["kind"], cell.spec["loop"])
    folder = cell.directory / f"load-{cell.load}"
    folder.mkdir()
    proof = _proof(cell, running, conversations)
    lines = aiperf.trace_lines if loop == "trace" else aiperf.multi_turn_lines
    (folder / "input.jsonl").write_text("\n".join(lines(conversations, running.words)) + "\n")
    running.servers.reset_hbm()
    window = StoreWindow([] if running.store is None else [running.store], cell.data_dir)
    marks = running.servers.log_marks()
    with running.evicting(cell), _energy_metered(cell) as meter:
        window.begin()
        before, io_before = running.servers.counters(), running.servers.io_bytes()
        measuring = time.perf_counter()
        requests = _run_aiperf(cell, running, folder, len(conversations), loop)
        measured_s = time.perf_counter() - measuring
        counted, io_after = changes(before, running.servers.counters()), running.servers.io_bytes()
        window.end()
    log = transfers(running.servers.log_lines(marks), cell.share.values_per_chunk)
    io = (io_after[0] - io_before[0], io_after[1] - io_before[1])
    samples = [request.sample for request in requests if request.sample is not None]
    begun_s = aiperf.first_sent_s(folder / ARTIFACTS / aiperf.RECORDS)
    energy = meter.between(begun_s, begun_s + max((sample.finish_s for sample in samples), default=0.0))
    evidence = evidence_of(cell, requests, counted, log, window, io, energy)
    window_s = aiperf.window_s(requests, loop)
    verdict = judge(cell.scenario["tier"], evidence, cell.spec["evidence"]["device_share_min"])
    wanted = asked(cell)
    reasons = [
        *verdict.reasons,
        *not_as_asked(wanted, running.effective),
        *faults_in(cell, requests, conversations, log, evidence, counted),
        *proof,
    ]
    values = window_values(samples, window_s, cell.spec["slo"], cell.gpus)
    values |= engine_figures(cell, evidence, log)
    values["energy_j_per_mtoken"] = joules_per_mtoken(evidence, samples)
    about = framed(cell)
    return Cell(
        **about,
        load=cell.load,
        gpu_model=None,
        asked=wanted,
        effective=running.effective,
        valid=not reasons,
        reasons=reasons,
        served_from=verdict.served_from,
        values=Values.model_validate(values),
        evidence=evidence,
        engine_counters=counted,
        engine_faults=list(log.faults[:50]),
        store_before=window.details_before,
        store_after=window.details_after,
        notes=[
            *window.notes_of(evidence),
            *from_buffer(cell, evidence),
            *of_gate(cell, log),
            *without_room(cell, counted, log),
            *log.by_get,
            *log.unheard,
            *(about["environment"].get("engine") or {}).get("lacks", []),
            *workload_notes(cell.spec["workload"]),
        ],
        start_s=running.start_s,
        measured_s=measured_s,
        cell_s=time.perf_counter() - started,
        requests=columns_of(requests, window_s),
    )


def _energy_metered(cell: CellSpec) -> contextlib.AbstractContextManager[EnergyMeter]:
    settings = settings_of(cell.spec)
    gpus = cell.gpus if settings["device"] == "cuda" else 0
    return energy_metered(gpus, settings["environment"].get(VISIBLE, os.environ.get(VISIBLE)))


def _proof(cell: CellSpec, running: Running, conversations: Sequence[Conversation]) -> list[str]:
    """Two prompts of this load's lengths, computed and from the tier, none of them part of the load."""
    rng = np.random.default_rng([cell.seed, load_seed(cell), 1])
    samples: list[Pass] = []
    for tokens in proof_lengths(conversations):
        samples += first_and_again(cell, running, aiperf.token_ids(rng, running.vocabulary, tokens))
    return faults_of(samples)


def _run_aiperf(
    cell: CellSpec, running: Running, folder: Path, conversations: int, loop: str
) -> list[aiperf.Request]:
    options = cell.spec["loadgen"]
    loadgen = aiperf.Loadgen(
        cell.spec["loadgen_python"],
        running.servers.urls,
        MODEL_NAME,
        running.model_dir,
        options["request_timeout_s"],
        cell.seed,
    )
    artifacts = folder / ARTIFACTS
    argv = aiperf.command(loadgen, folder / "input.jsonl", conversations, artifacts, loop, cell.load)
    log = cell.logs / f"{cell.scenario['name']}-{cell.repeat}-aiperf.log"
    process = OwnedProcess(argv, log=log, label="aiperf", env={"AIPERF_LOG_LEVEL": "WARNING"})
    try:
        run_watched(process, [running.check], options["timeout_s"])
    except ProcessFailed as error:
        # So it ends when no request was answered, which is the load's fault and not its own.
        if failure := aiperf.unanswered(artifacts / aiperf.RECORDS):
            raise EngineError(f"measure: no request was answered, first: {failure}") from error
        raise
    return aiperf.read_records(artifacts / aiperf.RECORDS)
