"""Processes with an owner: started in their own group, watched, and gone when the owner leaves."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import psutil

from ..base.errors import StoreDied, StoreError, UserError, printable
from ..base.folders import HELD
from ..base.shared_memory import SharedMemory
from ..base.surroundings import past_proxies, without_threads
from .counters import ProcessCounters, process_counters

LOOPBACK = "127.0.0.1"
_GIVEN_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")  # to connections, by the kernel
_LEAST_PORT, _PORTS_TRIED = 10_000, 20
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_MARK = "HYPERKV_OWNED"
# vLLM's processes write their titles (setproctitle) over their environment, by which base.parent knows them, unless this is set.
_LEGIBLE = {"SPT_NOENV": "1"}
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LIBC = ctypes.CDLL(None, use_errno=True)


def _end_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies, so that even kill -9 of a stage leaves nothing."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _adopt_orphans(adopt: bool) -> None:
    """Ask Linux to make this process the parent of what its children leave behind, so that a daemon is not lost."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, int(adopt), 0, 0, 0)


def option_words(options: Mapping[str, object]) -> list[str]:
    """--NAME VALUE of each option, as words of a command line."""
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def free_port(host: str = LOOPBACK) -> int:
    """A TCP port of an address of this machine that was free a moment ago, of those that no connection is given meanwhile."""
    with contextlib.suppress(OSError):
        given_from = int(_GIVEN_PORTS.read_text().split()[0])
        for _ in range(_PORTS_TRIED if given_from > _LEAST_PORT else 0):
            with contextlib.suppress(OSError):
                return _bound(host, _LEAST_PORT + secrets.randbelow(given_from - _LEAST_PORT))
    return _bound(host, 0)


def _bound(host: str, port: int) -> int:
    with socket.socket(_family(host)) as probe:
        probe.bind((host, port))
        return probe.getsockname()[1]


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def require_free_port(port: int, key: str, host: str = LOOPBACK) -> None:
    """Refuse a port that something listens on. Raises UserError naming the config key and the holder."""
    with socket.socket(_family(host)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(
                f"{key}: port {port} on {host} is in use{_holder_of(port)}; stop that process or give "
                f"the scenario another port (0 picks a free one)"
            ) from error


def _holder_of(port: int) -> str:
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.status != psutil.CONN_LISTEN or not connection.laddr or not connection.pid:
                continue
            if connection.laddr.port == port:
                return f" by pid {connection.pid} ({psutil.Process(connection.pid).name()})"
    return ""


def variables_of(env: Mapping[str, str]) -> dict[str, str]:
    """The variables of a server that is told `env`: this process's own with them, less the threads of a job, past every proxy."""
    given = without_threads(os.environ) | dict(env)
    return given | past_proxies(given)


class OwnedProcess:
    """One server process in its own session; a context manager that ends the whole group, what left it, and its shared memory.

    argv: command. log: file that receives stdout and stderr. label: the name used in errors. final_counters:
    the process's totals at its end, once `stop` has ended it. What it writes is readable by its user alone.
    """

    _leaders: ClassVar[set[int]] = set()  # of all that run; a session of no leader was left by one

    stdin: ClassVar[int] = subprocess.DEVNULL
    stdout: ClassVar[int | None] = None  # the log

    def __init__(self, argv: Sequence[str], *, log: Path, label: str, env: Mapping[str, str] | None = None):
        self.argv = list(argv)
        self.log = log
        self.label = label
        self._mark = uuid.uuid4().hex
        self._env = variables_of(env or {}) | _LEGIBLE | {_MARK: self._mark}
        self._process: subprocess.Popen | None = None
        self._log_start = 0
        self._shared = SharedMemory(log.with_name(log.name + ".shared"))
        self.final_counters: ProcessCounters | None = None

    def __enter__(self) -> OwnedProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id. Raises StoreError when the process was not started."""
        if self._process is None:
            raise StoreError(f"{self.label} is not running")
        return self._process.pid

    def start(self) -> None:
        """Start the process. Raises UserError when the program is missing."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._shared.take_over()
        _adopt_orphans(True)
        try:
            with self.log.open("ab") as sink:
                self._log_start = sink.tell()
                self._process = subprocess.Popen(
                    self.argv,
                    stdin=self.stdin,
                    stdout=sink if self.stdout is None else self.stdout,
                    stderr=sink,
                    start_new_session=True,
                    preexec_fn=_end_with_parent,
                    umask=0o077,
                    pass_fds=tuple(HELD),
                    env=self._env,
                )
        except OSError as error:
            raise UserError(f"{self.label}: cannot run {self.argv[0]}: {error.strerror}") from error
        self._leaders.add(self._process.pid)

    def wait_ready(self, probe: Callable[[], bool], timeout_s: float = 30.0) -> None:
        """Poll `probe` until it is true. Raises StoreError with the log's end when the process dies or is late."""
        deadline = time.monotonic() + timeout_s
        while True:
            if (code := self.exit_code()) is not None:
                # It may leave its group between the first look and the second.
                there = self._strays() or _group_exists(self.pid) or self._strays()
                left = ", and left a process in the background, where it is not watched" if there else ""
                raise StoreError(
                    f"{self.label} ended with {describe_exit(code)} at start{left}: {self.last_line()}"
                )
            if probe():
                self._see_shared()
                return
            if time.monotonic() > deadline:
                raise StoreError(
                    f"{self.label} did not answer within {timeout_s:.0f} s; see {self.log}: {self.last_line()}"
                )
            time.sleep(0.01)

    def exit_code(self) -> int | None:
        """None while the process runs, else its exit code (negative: the signal)."""
        return None if self._process is None else self._process.poll()

    def listening_addresses(self) -> list[str]:
        """The addresses at which this process and its descendants take TCP connections, each once."""
        found: set[str] = set()
        with contextlib.suppress(psutil.Error):
            top = psutil.Process(self.pid)
            for process in (top, *top.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    connections = process.net_connections("tcp")
                    found |= {one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN}
        return sorted(found)

    def check_alive(self, grace_s: float = 0.0) -> None:
        """Raises StoreDied, naming how it ended, when the process is gone or goes within `grace_s` seconds."""
        if self._process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(grace_s)
            raise StoreDied(
                f"{self.label} (pid {self._process.pid}) died with {describe_exit(code)} while it was being "
                f"measured; see {self.log}"
            )

    def last_line(self) -> str:
        """The last line with a word in it that the process wrote, for one-line errors."""
        lines = [line for line in self.tail(30) if any(character.isalnum() for character in line)]
        return lines[-1].strip() if lines else "it wrote nothing"

    def tail(self, lines: int) -> list[str]:
        """The last lines that this process wrote, without those of an earlier start."""
        return self.lines()[-lines:]

    def written(self) -> int:
        """The log's size in bytes, for `lines`."""
        return self.log.stat().st_size if self.log.exists() else 0

    def lines(self, since: int = 0) -> list[str]:
        """Every line that this process wrote, or since `written` said `since`; none of an earlier start.

        They are without colours and printable: escapes stand for what else a terminal would act on.
        """
        if not self.log.exists():
            return []
        with self.log.open("rb") as log:
            log.seek(max(since, self._log_start))
            text = log.read().decode(errors="replace")
        return [printable(line.replace("\t", " ")) for line in _COLOUR.sub("", text).splitlines()]

    def stop(self, timeout_s: float = 15.0) -> None:
        """SIGTERM the group, then SIGKILL what is left; returns when no member remains.

        What of shared memory they leave behind, such as a pool of vLLM's, goes when nobody else has it mapped.
        """
        if self._process is None:
            return
        members = self._see_shared()
        process, self._process = self._process, None
        _signal_group(process.pid, signal.SIGTERM)
        _wait_without_reaping(process.pid, timeout_s)
        self.final_counters = process_counters(process.pid)
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()
        self._leaders.discard(process.pid)
        for stray in self._strays():
            members.append(stray.pid)
            with contextlib.suppress(psutil.Error):
                stray.kill()
        deadline = time.monotonic() + timeout_s
        while _group_exists(process.pid) or self._strays():
            if time.monotonic() > deadline:
                raise StoreError(f"{self.label} left a process in group {process.pid} that does not end")
            time.sleep(0.01)
        for pid in members:
            # Adopted, so nobody else waits for them.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        if not self._leaders:
            _adopt_orphans(False)
        self._shared.remove_unused()

    def _see_shared(self) -> list[int]:
        """Remember which shared memory is in use, and return the descendants' ids."""
        members = _descendants(self.pid)
        self._shared.see([self.pid, *members])
        return members

    def _strays(self) -> list[psutil.Process]:
        """Processes that left their session before their parent's end, and so became this process's own children."""
        found = []
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                session = os.getsid(child.pid)
                gone = child.status() == psutil.STATUS_ZOMBIE
                if (
                    session != os.getsid(0)
                    and session not in self._leaders
                    and not gone
                    and self._is_mine(child)
                ):
                    found.append(child)
        return found

    def _is_mine(self, process: psutil.Process) -> bool:
        """Whether it has this one's mark; a server that writes its title over its environment is known by its program."""
        if process.environ().get(_MARK) == self._mark:
            return True
        program = os.path.realpath(shutil.which(self.argv[0]) or self.argv[0])
        return process.exe() == program != os.path.realpath(sys.executable)

    def kill(self) -> None:
        """SIGKILL the group at once: a crash, for durability tests."""
        if self._process is not None:
            _signal_group(self._process.pid, signal.SIGKILL)
            self._process.wait()


def _wait_without_reaping(pid: int, timeout_s: float) -> None:
    """Wait for a child's end and leave it as a zombie, whose totals /proc still tells."""
    deadline = time.monotonic() + timeout_s
    options = os.WEXITED | os.WNOWAIT | os.WNOHANG
    with contextlib.suppress(ChildProcessError):
        while os.waitid(os.P_PID, pid, options) is None and time.monotonic() < deadline:
            time.sleep(0.005)


def _descendants(pid: int) -> list[int]:
    with contextlib.suppress(psutil.Error):
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    return []


def _signal_group(pgid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, number)


def _group_exists(pgid: int) -> bool:
    try:
        os.killpg(pgid, 0)
    except ProcessLookupError:
        return False
    return any(_is_running_member(process, pgid) for process in psutil.process_iter())


def _is_running_member(process: psutil.Process, pgid: int) -> bool:
    """Whether the process is of the group and not merely waiting to be reaped, by an init that may never do it."""
    try:
        return os.getpgid(process.pid) == pgid and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


def describe_exit(code: int) -> str:
    """'status 2' or 'signal 9 (SIGKILL)' for a Popen exit code; of SIGILL what it means."""
    if code >= 0:
        return f"status {code}"
    meaning = (
        ": this CPU lacks an instruction of it, it was built for another one"
        if -code == signal.SIGILL
        else ""
    )
    return f"signal {-code} ({signal.Signals(-code).name}{meaning})"
