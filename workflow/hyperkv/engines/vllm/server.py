"""vLLM and, when the scenario has one, an LMCache server before it: started, probed and ended in order."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests

from ...base import direct_http
from ...base.errors import StoreError, UserError
from ...machine.environment import nvidia_smi
from ...machine.processes import LOOPBACK, OwnedProcess
from ...models.gpus import VISIBLE
from ...records.effective import Effective
from ...stores.reach import beyond_loopback
from .failures import cause, engine_error
from .metrics import counters
from .told import lmcache_facts, unknown_keys, vllm_facts

_LOG_LINES = 30
_LOG_LINES_READ = 400
_GPU_FREE_TIMEOUT_S = 60.0
_GPU_SLACK_BYTES = 1 << 30
_PAGE_TIMEOUT_S = 30.0


class EngineError(UserError):
    """vLLM or LMCache did not start, or died; the message names the log."""


@dataclass(frozen=True)
class ServerCommand:
    """A server's command line, where its health and its counters are, its log, and the time it may take to start.

    awaited: whether the next one starts when it is ready; else beside it, for one that waits for it itself.
    """

    label: str
    argv: Sequence[str]
    port: int
    health: str
    log: Path
    ready_timeout_s: float
    awaited: bool = True


class Engines:
    """The servers of one engine or several, as those of one: what they count is summed, and they say the same of themselves.

    A context manager: they start one after the other.
    """

    def __init__(self, each: Sequence[EngineServers]):
        self.each = list(each)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Engines:
        with contextlib.ExitStack() as stack:
            for servers in self.each:
                stack.enter_context(servers)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def urls(self) -> list[str]:
        """Base URL of each vLLM."""
        return [servers.url for servers in self.each]

    def check_alive(self) -> None:
        """Raises StoreDied when a server is gone."""
        for servers in self.each:
            servers.check_alive()

    def told(self, ranks: int) -> Effective:
        """What each says of itself (EngineServers.told). Raises EngineError when they do not say the same."""
        first, *others = (servers.told(ranks) for servers in self.each)
        if unlike := [other for other in others if other != first]:
            raise EngineError(f"the engines are not alike: {first} and {unlike[0]}")
        return first

    def counters(self) -> dict[str, int | None]:
        """Totals of all of them; None for what none of them has on its page."""
        found = [servers.counters() for servers in self.each]
        columns = {name: [counted[name] for counted in found] for name in found[0]}
        return {name: _sum(column) for name, column in columns.items()}

    def reset_hbm(self, pool: bool = False) -> None:
        """Empty the prefix cache of each (EngineServers.reset_hbm)."""
        for servers in self.each:
            servers.reset_hbm(pool)

    def empty_lmcache_pool(self) -> None:
        """Empty the pool of each LMCache server (EngineServers.empty_lmcache_pool)."""
        for servers in self.each:
            servers.empty_lmcache_pool()

    def io_bytes(self) -> tuple[int, int]:
        """(read, written) bytes of block devices by all processes."""
        read, written = zip(*(servers.io_bytes() for servers in self.each), strict=True)
        return sum(read), sum(written)

    def log_marks(self) -> list[list[int]]:
        """How much each server has written, for log_lines."""
        return [servers.log_marks() for servers in self.each]

    def log_lines(self, since: Sequence[Sequence[int]] | None = None) -> list[str]:
        """Every line that the servers wrote since their start, or since log_marks said `since`."""
        marks = [None] * len(self.each) if since is None else since
        return [line for own, mark in zip(self.each, marks, strict=True) for line in own.log_lines(mark)]


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


class EngineServers:
    """A context manager around the servers of one engine, in order of start; the last one is vLLM."""

    def __init__(self, commands: Sequence[ServerCommand], environment: Mapping[str, str]):
        self._commands = list(commands)
        self._environment = dict(environment)
        self._visible = environment.get(VISIBLE, os.environ.get(VISIBLE))
        self._running: list[OwnedProcess] = []
        self._gpu_bytes: int | None = None

    @property
    def url(self) -> str:
        """Base URL of vLLM."""
        return f"http://{LOOPBACK}:{self._commands[-1].port}"

    def __enter__(self) -> EngineServers:
        self._gpu_bytes = gpu_memory_used(self._visible)
        try:
            starting = []
            for command in self._commands:
                starting.append((command, self._start(command)))
                while command.awaited and starting:
                    _wait_ready(*starting.pop(0))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End the groups, the last started first, and wait until their GPU memory is free."""
        while self._running:
            self._running.pop().stop(30.0)
        wait_for_gpu_memory(self._gpu_bytes, self._visible)

    def _start(self, command: ServerCommand) -> OwnedProcess:
        process = OwnedProcess(command.argv, log=command.log, label=command.label, env=self._environment)
        self._running.append(process)
        process.start()
        return process

    def check_alive(self) -> None:
        """Raises StoreDied when a server is gone."""
        for process in self._running:
            process.check_alive()

    def pages(self) -> tuple[str, str]:
        """vLLM's /metrics, and the LMCache server's or an empty text."""
        found = [self._get(command, "/metrics") for command in self._commands]
        return found[-1], found[0] if len(found) > 1 else ""

    def told(self, ranks: int) -> Effective:
        """What vLLM and LMCache say of themselves. ranks: see told.lmcache_facts.

        Raises EngineError when LMCache does not know a key of its configuration.
        """
        engine, lines = self._commands[-1], self.log_lines()
        if unknown := unknown_keys(lines):
            raise EngineError(f"lmcache: {', '.join(unknown)} is no key of this LMCache; leave it out")
        info = _json(engine, "/server_info?config_format=json")
        server = self._commands[0] if len(self._commands) > 1 else None
        config = _json(server, "/config") or _json(server, "/conf") if server else {}
        return Effective(**vllm_facts(info, lines) | lmcache_facts(config, lines, ranks))

    def counters(self) -> dict[str, int | None]:
        """Totals of both pages (vllm_metrics.counters). Raises StoreDied or EngineError."""
        return counters(*self.pages())

    def reset_hbm(self, pool: bool = False) -> None:
        """Empty vLLM's own prefix cache. pool: and the pool of its offloading, whose files stay; it is waited for until what moves
        has moved. Raises EngineError.
        """
        page = f"{self.url}/reset_prefix_cache" + ("?reset_external=true" if pool else "")
        deadline = time.monotonic() + _PAGE_TIMEOUT_S
        while True:
            answer = direct_http.request("POST", page, timeout=_PAGE_TIMEOUT_S)
            if answer.status_code != 200:
                raise EngineError(f"vllm refused /reset_prefix_cache with status {answer.status_code}")
            if not pool or not answer.text or answer.json().get("success", True):
                return
            if time.monotonic() > deadline:
                raise EngineError(f"vllm did not empty its pool within {_PAGE_TIMEOUT_S:.0f} s")
            time.sleep(0.1)

    def empty_lmcache_pool(self) -> None:
        """Empty the pool of the LMCache server beside vLLM, but what it moves; its stores keep what they have. Raises EngineError."""
        server = self._commands[0]
        page = f"http://{LOOPBACK}:{server.port}/cache/clear"
        answer = direct_http.request("POST", page, timeout=_PAGE_TIMEOUT_S)
        if answer.status_code != 200:
            raise EngineError(f"{server.label} refused /cache/clear with status {answer.status_code}")

    def _get(self, command: ServerCommand, path: str) -> str:
        try:
            answer = _request(command, path)
            answer.raise_for_status()
        except requests.RequestException as error:
            self.check_alive()
            raise EngineError(f"{command.label} does not answer {path}: {error}") from error
        return answer.text

    def io_bytes(self) -> tuple[int, int]:
        """(read, written) bytes of block devices by all processes of the servers' groups, from /proc/PID/io."""
        read = written = 0
        for process in self._members():
            try:
                io = process.io_counters()
            except psutil.Error:
                continue
            read, written = read + io.read_bytes, written + io.write_bytes
        return read, written

    def _members(self) -> list[psutil.Process]:
        found = []
        for owned in self._running:
            try:
                parent = psutil.Process(owned.pid)
                found += [parent, *parent.children(recursive=True)]
            except (psutil.Error, StoreError):
                continue
        return found

    def log_marks(self) -> list[int]:
        """How much each server has written, for log_lines."""
        return [process.written() for process in self._running]

    def log_lines(self, since: Sequence[int] | None = None) -> list[str]:
        """Every line that the servers wrote since their start, or since log_marks said `since`."""
        marks = [0] * len(self._running) if since is None else since
        return [
            line for process, mark in zip(self._running, marks, strict=True) for line in process.lines(mark)
        ]


def _wait_ready(command: ServerCommand, process: OwnedProcess) -> None:
    try:
        process.wait_ready(lambda: _answers(command), command.ready_timeout_s)
    except StoreError as error:
        lines, told = "\n".join(process.tail(_LOG_LINES)), process.tail(_LOG_LINES_READ)
        print(f"the last {_LOG_LINES} lines of {command.log}:\n{lines}", flush=True)
        raised = engine_error(told)
        known = cause(told) or (f"{command.label}'s engine: {raised}" if raised else error)
        raise EngineError(f"{known}; the whole log: {command.log}") from error
    if others := beyond_loopback(process.listening_addresses()):
        print(
            f"hyperkv: warning: {command.label} listens on {' '.join(others)} beside loopback, where others can reach it",
            file=sys.stderr,
        )


def _request(command: ServerCommand, path: str, timeout_s: float = _PAGE_TIMEOUT_S) -> requests.Response:
    return direct_http.request("GET", f"http://{LOOPBACK}:{command.port}{path}", timeout=timeout_s)


def _json(command: ServerCommand, path: str) -> dict[str, Any]:
    """A page's JSON object; empty when there is no such page."""
    try:
        answer = _request(command, path)
        found = answer.json() if answer.status_code == 200 else {}
    except (requests.RequestException, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _answers(command: ServerCommand) -> bool:
    try:
        return _request(command, command.health, 2).status_code == 200
    except requests.RequestException:
        return False


def gpu_memory_used(visible: str | None) -> int | None:
    """Bytes in use on the GPUs of CUDA_VISIBLE_DEVICES, on all where it is not set; None where nvidia-smi does not tell."""
    numbers = nvidia_smi("memory.used", "noheader,nounits", visible)
    return sum(map(int, numbers)) << 20 if numbers and all(n.isdigit() for n in numbers) else None


def wait_for_gpu_memory(
    before: int | None, visible: str | None, timeout_s: float = _GPU_FREE_TIMEOUT_S
) -> None:
    """Wait until those GPUs hold no more than `before` bytes and a little. Raises EngineError past the time-out."""
    deadline = time.monotonic() + timeout_s
    while before is not None:
        used = gpu_memory_used(visible)
        if used is None or used <= before + _GPU_SLACK_BYTES:
            return
        if time.monotonic() > deadline:
            raise EngineError(
                f"vllm left {(used - before) >> 20} MiB of GPU memory in use after its end; look at nvidia-smi"
            )
        time.sleep(0.2)
