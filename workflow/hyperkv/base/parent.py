"""Nothing outlives what started it: a stage ends with its Snakemake, and what a stage started ends with the stage.

A process that starts others names itself in the environment. A stage has a guard beside it: this file, run as a program,
in a process group of its own. It needs nothing from the stage, so it acts on one that was killed, stopped or hangs in C code.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

VARIABLE = "HYPERKV_PARENT"
GRACE_S = 30.0
_END_S = 5.0
_PERIOD_S = 0.2
_GONE = "ZX"


def process_identity(pid: int) -> str | None:
    """'boot/namespace/pid/start': names a process until the machine restarts, though pids come again; None when it is gone."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return None if state in _GONE else f"{_here()}/{pid}/{fields[18]}"


def _here() -> str:
    """This machine since its start, and which processes are seen from here: pids mean something within both alone.

    '-' stands for what a sandbox does not tell.
    """
    boot, namespace = "-", "-"
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with contextlib.suppress(OSError):
        namespace = str(os.stat("/proc/self/ns/pid").st_ino)
    return f"{boot}/{namespace}"


def announce() -> None:
    """Name this process to all that it starts from now on, as what they must not outlive."""
    os.environ[VARIABLE] = process_identity(os.getpid()) or ""


@contextlib.contextmanager
def ends_with_parent() -> Iterator[None]:
    """End this process when the one that announced itself to it dies, or the shell between them, and at the end of the
    block all that was started in it.

    It is ended by SIGTERM, and by SIGKILL GRACE_S seconds later. Without an announcement, or with one that a scheduler
    carried here from another machine, only the second holds.
    """
    given = os.environ.get(VARIABLE, "")
    stage = process_identity(os.getpid()) or ""
    parents = [given] if given.startswith(f"{_here()}/") else []
    if parents and _was_told(os.getppid(), given):
        parents.append(process_identity(os.getppid()) or given)
    words = [sys.executable, "-I", "-S", os.path.abspath(__file__), str(GRACE_S), stage, *parents]
    # It keeps stdout, so that whoever reads to its end knows that all is gone.
    guard = subprocess.Popen(words, cwd="/", stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    announce()
    try:
        yield
    finally:
        os.environ.pop(VARIABLE)
        os.environ.update({VARIABLE: given} if given else {})
        end_those_of(stage)
        guard.kill()
        guard.wait()


def those_of(identity: str, session: int | None = None) -> list[int]:
    """Processes of this machine that run and to which `identity` was announced; of one session, or of all.

    What a scheduler started in the name of a run, on this machine by chance, is of another session than the run.
    """
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    told = [pid for pid in pids if pid != os.getpid() and _was_told(pid, identity) and process_identity(pid)]
    return told if session is None else [pid for pid in told if _session_of(pid) == session]


def _session_of(pid: int) -> int | None:
    with contextlib.suppress(ProcessLookupError):
        return os.getsid(pid)
    return None


def _was_told(pid: int, identity: str) -> bool:
    with contextlib.suppress(OSError):
        return f"{VARIABLE}={identity}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return False


def end_those_of(identity: str, session: int | None = None) -> None:
    """Kill them, and what they start meanwhile; returns when none is left, or after 5 s."""
    deadline = time.monotonic() + _END_S
    while identity and (left := those_of(identity, session)) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def wait_for_those_of(identity: str, session: int, within_s: float) -> bool:
    """Whether all of them end by themselves in time."""
    deadline = time.monotonic() + within_s
    while those_of(identity, session):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def guard(grace_s: float, stage: str, *parents: str) -> None:
    """Wait for the end of any of these processes, named by their identities; then end the stage and what it started."""
    os.setpgid(0, 0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    _wait([stage, *parents], None)
    for number, patience_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, None)):
        if process_identity(_pid(stage)) == stage:
            with contextlib.suppress(OSError):
                os.kill(_pid(stage), number)
                os.kill(_pid(stage), signal.SIGCONT)
            _wait([stage], patience_s)
    end_those_of(stage)


def _pid(identity: str) -> int:
    return int(identity.split("/")[2])


def _wait(identities: list[str], timeout_s: float | None) -> None:
    """Until one of them is gone, or for so long. By file descriptors; where the kernel has none, by looking."""
    with contextlib.ExitStack() as stack:
        poll, counted = select.poll(), True
        for identity in identities:
            try:
                descriptor = os.pidfd_open(_pid(identity))
            except ProcessLookupError:
                return
            except (AttributeError, OSError):
                counted = False
                continue
            stack.callback(os.close, descriptor)
            poll.register(descriptor, select.POLLIN)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while all(process_identity(_pid(identity)) == identity for identity in identities):
            left_s = None if deadline is None else deadline - time.monotonic()
            if left_s is not None and left_s <= 0:
                return
            wait_s = left_s if counted else min(_PERIOD_S, left_s or _PERIOD_S)
            poll.poll(None if wait_s is None else wait_s * 1000)


if __name__ == "__main__":
    guard(float(sys.argv[1]), *sys.argv[2:])
