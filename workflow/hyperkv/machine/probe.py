"""Commands that only look: run in English, without input, and never for long."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

PROBE_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Output:
    """What a command left: its exit status (127: no such program, 124: took too long), stdout and stderr."""

    status: int
    text: str
    errors: str = ""


def call(argv: Sequence[str], timeout_s: float = PROBE_TIMEOUT_S) -> Output:
    """Run a command in its own process group, without input, in English; late or interrupted, the group is killed."""
    env = {**os.environ, "LC_ALL": "C", "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    try:
        process = subprocess.Popen(
            argv,
            env=env,
            start_new_session=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
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
