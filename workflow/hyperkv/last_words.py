"""What a run says at its very end, in a line each, of errors that Snakemake tells as its own: a job killed, a disk full."""

from __future__ import annotations

import atexit
import contextlib
import errno
import getpass
import logging
import re
import signal
from pathlib import Path
from typing import Any

from .processes import describe_exit

AGAIN = "then run the same command again"
_STATUS = re.compile(r"returned non-zero exit status (\d+)|died with <Signals\.\w+: (\d+)>")
_SYSTEM = re.compile(r"\[Errno (\d+)\] ([^:\n]+)(?:: '([^'\n]+)')?")
_KILLED = {signal.SIGKILL: ", as the system does when memory runs out (dmesg tells) and `kill -9` does"}
_ROOM = (errno.ENOSPC, errno.EDQUOT)
_SHUT = (errno.EACCES, errno.EPERM, errno.EROFS)


class LastWords(logging.Handler):
    """Hears what Snakemake logs as errors; `lines` puts plainly what neither it nor a stage did."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._statuses: dict[str, int] = {}  # of a command, its shell's exit status
        self._jobs: dict[Any, dict[str, Any]] = {}
        self._system: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Keep of a log record what the lines are made of."""
        text, event = record.getMessage(), str(getattr(record, "event", ""))
        if event == "job_error":
            self._jobs[getattr(record, "jobid", None)] = vars(record)
        elif found := _STATUS.search(text):
            self._statuses[text] = int(found[1]) if found[1] else -int(found[2])
        elif getattr(record, "exception", "WorkflowError") != "WorkflowError":
            for number, what, path in _SYSTEM.findall(text)[-1:]:
                self._system[system_line(int(number), what, path)] = None

    def lines(self) -> list[str]:
        """One for each error, in the order in which they came."""
        jobs = [line for job in self._jobs.values() if (line := self._job_line(job))]
        return [*jobs, *self._system]

    def _job_line(self, job: dict[str, Any]) -> str | None:
        logs = [Path(name) for name in job.get("log") or []]
        if any(_spoke(log) for log in logs):
            return None
        command = str(job.get("shellcmd") or "")
        codes = [status for text, status in self._statuses.items() if command and command in text]
        name = logs[0].stem if logs else "a job"
        where = f"; see {logs[0]}" if logs else ""
        return f"hyperkv {job.get('rule_name')}: error: {name} {_end_of(codes, job.get('rule_msg'))}{where}, {AGAIN}"


def listen() -> None:
    """Hear Snakemake's errors from now on, and say the lines when this process ends."""
    from snakemake.logging import logger

    words = LastWords()
    logger.addHandler(words)
    atexit.register(_say, words)


def system_line(number: int, what: str, path: str) -> str:
    """What the system refused to Snakemake itself, and the remedy."""
    remedy = "mend that"
    if number in _ROOM:
        remedy = "free space on that disk"
    elif number in _SHUT:
        remedy = f"let {_user()} write there (after a run with sudo: `sudo chown -R {_user()} .snakemake results`)"
    return f"hyperkv: error: {f'{path}: ' if path else ''}{what}; {remedy}, {AGAIN}"


def _end_of(codes: list[int], said: Any) -> str:
    if codes:
        code = 128 - codes[-1] if codes[-1] > 128 else codes[-1]
        if code < 0:
            return f"was ended by {describe_exit(code)}{_KILLED.get(-code, '')}; what was measured is kept"
        return f"ended with {describe_exit(code)} and no reason"
    return f"failed: {' '.join(str(said).split())}" if said else "failed"


def _spoke(log: Path) -> bool:
    """Whether the stage itself said how it ended."""
    with contextlib.suppress(OSError):
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("hyperkv ")]
        return any(": error: " in line or ": interrupted" in line for line in lines)
    return False


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "this user"


def _say(words: LastWords) -> None:
    with contextlib.suppress(OSError):
        if lines := words.lines():
            print(*lines, sep="\n", flush=True)
