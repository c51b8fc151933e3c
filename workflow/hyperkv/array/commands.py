"""Steps of a plan as a shell would take them, and the one place that runs them."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .refusal import FAILED, ArrayError, Refusal

PROBE_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Run:
    """A command. fails_as: exit status of the stage when it fails. timeout_s: longest time it may take."""

    argv: tuple[str, ...]
    fails_as: int = FAILED
    timeout_s: float = 120.0

    def __str__(self) -> str:
        return shlex.join(self.argv)


@dataclass(frozen=True)
class AddLine:
    """Append a line to a file that may not be there yet."""

    path: str
    line: str

    def __str__(self) -> str:
        return f"echo {shlex.quote(self.line)} >> {shlex.quote(self.path)}"


@dataclass(frozen=True)
class DropLine:
    """Remove every line of a file that equals `line`."""

    path: str
    line: str

    def __str__(self) -> str:
        return (
            f"grep -vxF {shlex.quote(self.line)} {shlex.quote(self.path)}  # and put the result in its place"
        )


Step = Run | AddLine | DropLine


@dataclass(frozen=True)
class Output:
    """What a command left: its exit status (127: no such program, 124: took too long), stdout and stderr."""

    status: int
    text: str
    errors: str = ""


def call(argv: Sequence[str], timeout_s: float = PROBE_TIMEOUT_S) -> Output:
    """Run a command in its own process group, without input, in English; late or interrupted, the group is killed."""
    env = {**os.environ, "LC_ALL": "C", "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    try:
        process = subprocess.Popen(
            argv, env=env, start_new_session=True, text=True, errors="replace", **pipes
        )
    except FileNotFoundError:
        return Output(127, "", f"there is no program {argv[0]}")
    except PermissionError:
        return Output(126, "", f"{argv[0]} may not be run")
    try:
        text, errors = process.communicate(timeout=timeout_s)
    except BaseException as error:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            return Output(124, "", f"it did not end within {timeout_s:.0f} s")
        raise
    return Output(process.returncode, text, errors)


def execute(steps: Sequence[Step], say: Callable[[str], None]) -> None:
    """Carry out steps in order, each announced as `+ command`. Raises ArrayError at the first that fails."""
    for step in steps:
        say(f"+ {step}")
        if isinstance(step, Run):
            done = call(step.argv, step.timeout_s)
            if done.status:
                raise ArrayError([Refusal(step.fails_as, _failure(step, done))])
        else:
            _edit(step)


def _failure(step: Run, done: Output) -> str:
    said = [line.strip() for line in f"{done.text}\n{done.errors}".splitlines() if line.strip()]
    return f"`{step}` failed (status {done.status}): {said[-1] if said else 'it said nothing'}; mend that and run again"


def _edit(step: AddLine | DropLine) -> None:
    """Replace a file by one with the line added or removed, its mode kept."""
    path = Path(step.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.read_text().splitlines() if path.exists() else []
    mode = path.stat().st_mode & 0o7777 if path.exists() else 0o644
    kept = [line for line in lines if line != step.line]
    temporary = path.with_name(f".{path.name}.hyperkv")
    temporary.write_text(
        "".join(f"{line}\n" for line in [*kept, *([step.line] if isinstance(step, AddLine) else [])])
    )
    temporary.chmod(mode)
    os.replace(temporary, path)
