"""What a run says at its very end, in a line each, of errors that Snakemake tells as its own: a job killed, a disk full."""

from __future__ import annotations

import atexit
import contextlib
import errno
import getpass
import logging
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from ..machine.processes import describe_exit

_FEW = 3
AGAIN = "then run the same command again"
_STATUS = re.compile(r"returned non-zero exit status (\d+)|died with <Signals\.\w+: (\d+)>")
_SYSTEM = re.compile(r"\[Errno (\d+)\] ([^:)\n]+)(?:: '([^'\n]+)'|.* directory (\S+))?")
_KILLED: dict[int, str] = {
    signal.SIGKILL: ", as the system does when memory runs out (dmesg tells) and `kill -9` does"
}
_MISSING = re.compile(r"^(.+) \(missing locally", re.MULTILINE)
_ROOM = (errno.ENOSPC, errno.EDQUOT)
_SHUT = (errno.EACCES, errno.EPERM)
_TAKEN = (errno.EEXIST, errno.ENOTDIR)
_TOLD = range(2, 126)  # exit statuses with which run_stage has said a line; 130 is that of an interruption
_INTERRUPTED = 130
_OWN_WORDS = {
    "IncompleteFilesException": "a run was killed while it made these; the command without --dry-run takes them up, "
    "and --rerun-incomplete shows how",
    "LockException": f"another run works in this folder, or one was killed there: if none does, `snakemake --unlock`, {AGAIN}",
}


class LastWords(logging.Handler):
    """Hears what Snakemake logs as errors; `lines` puts plainly what neither it nor a stage did."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._statuses: dict[str, int] = {}  # by the text with the command: its shell's exit status
        self._jobs: dict[Any, dict[str, Any]] = {}
        self._system: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Keep of a log record what the lines are made of."""
        text, event = record.getMessage(), str(getattr(record, "event", ""))
        if event == "job_error":
            self._jobs[getattr(record, "jobid", None)] = vars(record)
        elif found := _STATUS.search(text):
            self._statuses[text] = int(found[1]) if found[1] else -int(found[2])
        elif words := _OWN_WORDS.get(getattr(record, "exception", "")):
            self._system[f"hyperkv: error: {words}"] = None
        elif not text.startswith("WorkflowError in file"):  # ours, and a line already
            self._system |= dict.fromkeys(f"hyperkv: error: {line}" for line in _lines_of(text))

    def lines(self) -> list[str]:
        """One for each error, in the order in which they came."""
        jobs = [line for job in self._jobs.values() if (line := self._job_line(job))]
        return [*jobs, *self._system]

    def _job_line(self, job: dict[str, Any]) -> str | None:
        logs = [Path(name) for name in job.get("log") or []]
        command = str(job.get("shellcmd") or "")
        codes = [status for text, status in self._statuses.items() if command and command in text]
        if (codes and (codes[-1] in _TOLD or codes[-1] == _INTERRUPTED)) or any(_spoke(log) for log in logs):
            return None
        name = logs[0].stem if logs else "a job"
        where = f"; see {logs[0]}" if logs else ""
        return f"hyperkv {job.get('rule_name')}: error: {name} {_end_of(codes, job.get('rule_msg'))}{where}, {AGAIN}"


def listen() -> None:
    """Hear Snakemake's errors from now on, and say the lines when this process ends.

    A log that cannot be written does not talk into the run, and an interrupt before there are jobs is a line, too.
    """
    from snakemake.logging import logger

    logging.raiseExceptions = False
    words = LastWords()
    logger.addHandler(words)
    atexit.register(_say, words)
    sys.excepthook = _one_line_of_an_interrupt


def _one_line_of_an_interrupt(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("hyperkv: interrupted; run the same command again", file=sys.stderr, flush=True)
    else:
        sys.__excepthook__(kind, error, trace)


def system_line(number: int, what: str, path: str) -> str:
    """What the system refused, and the remedy; number: errno, what: its text, path: '' where it is not known."""
    remedy = "mend that"
    if number in _ROOM:
        remedy = "free space on that disk"
    elif number in _SHUT:
        remedy = (
            f"let {_user()} write there (after a run with sudo: `sudo chown -R {_user()} .snakemake results`)"
        )
    elif number == errno.EROFS:
        remedy = "mount it writable, or move this folder to a disk that is"
    elif number in _TAKEN:
        remedy = "that name is for a folder: move away what has it"
    elif ".snakemake/" in path:
        remedy = "move that away (results stay)"
    return f"{f'{path}: ' if path else ''}{what}; {remedy}, {AGAIN}"


def refusal_line(error: OSError, otherwise: str = "") -> str:
    """The same of an error; otherwise: the path of one that names none."""
    path = str(error.filename2 or error.filename or otherwise)
    return system_line(error.errno or 0, error.strerror or str(error), path)


def few(paths: Sequence[Path]) -> str:
    """The first paths by name, and how many more there are."""
    rest = f" and {len(paths) - _FEW} more" if len(paths) > _FEW else ""
    return ", ".join(map(str, paths[:_FEW])) + rest


def _lines_of(text: str) -> Iterator[str]:
    """Of an error of Snakemake's own, with or without a traceback."""
    if gone := _MISSING.findall(text):
        yield f"{', '.join(gone)}: made and not there: it was removed, or a shared file system is late; see to that, {AGAIN}"
    elif found := _SYSTEM.findall(text):
        number, what, path, folder = found[-1]
        yield system_line(int(number), what, path or folder)
    elif text.startswith("Traceback"):
        error = [line for line in text.splitlines() if line and not line.startswith(" ")][-1]
        yield (
            f"Snakemake was stopped by {error}; if it is again, its records may be damaged: "
            f"`mv .snakemake/metadata .snakemake/metadata-aside` (results stay), {AGAIN}"
        )


def _end_of(codes: list[int], said: Any) -> str:
    if codes:
        code = codes[-1]
        number = -code if code < 0 else code - 128  # a shell's word for a signal
        if number in set(signal.Signals):
            return (
                f"was ended by {describe_exit(-number)}{_KILLED.get(number, '')}; what was measured is kept"
            )
        return f"ended with {describe_exit(code)} and no reason"
    return f"failed: {' '.join(str(said).split())}" if said else "left no output, or it was removed"


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
