"""A run takes up what an earlier one left: its lock, its jobs and its half-written files; beside a live run it stops."""

from __future__ import annotations

import argparse
import base64
import binascii
import contextlib
import errno
import fcntl
import io
import json
import os
import shutil
import socket
import struct
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..base.errors import UserError, say
from ..base.parent import GRACE_S, end_those_of, process_identity, those_of, wait_for_those_of
from ..records.record_file import is_whole
from .last_words import AGAIN, few, refusal_line

OWN = Path(".snakemake")
OUTPUTS = Path("results")
_LOCK = OWN / "hyperkv.lock"
_MOMENT_S = 1.0
_FLOCK = "hhqqi4x"  # struct flock of Linux: type, whence, start, length, pid
_ROOM_BYTES = 1 << 16
_OWN_PARTS = ("locks", "metadata", "incomplete", "log")
_NOT_MADE = ("reference", "data", "cache")  # of OUTPUTS: shipped, or checked where it is used
_DEPTH = 2
# Of Snakemake's command line: what only looks, or puts a lock away.
_LOOKING = (
    "dryrun", "lint", "list_target_rules", "list_rules", "print_compilation", "containerize", "report", "unlock",
    "generate_unit_tests", "dag", "rulegraph", "filegraph", "d3dag", "list_conda_envs", "list_changes", "summary",
    "list_input_changes", "list_params_changes", "list_untracked", "detailed_summary", "nolock",
)  # fmt: skip
_held: list[int] = []  # descriptors of locks, kept until this process ends


@dataclass(frozen=True)
class Run:
    """A run that holds, or held, the folder: its process and session, the machine and when it began."""

    identity: str
    pid: int
    session: int
    host: str
    since: str

    @classmethod
    def this(cls) -> Run:
        """This process."""
        began = time.strftime("%Y-%m-%d %H:%M")
        return cls(
            process_identity(os.getpid()) or "", os.getpid(), os.getsid(0), socket.gethostname(), began
        )

    @classmethod
    def read(cls, text: str) -> Run | None:
        """What `written` wrote; None for anything else."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None

    def alive(self) -> bool:
        """Whether its process runs on this machine."""
        return process_identity(self.pid) == self.identity

    def written(self) -> str:
        """As a line of a file."""
        return json.dumps(asdict(self)) + "\n"


def take_up(command: Sequence[str]) -> None:
    """Hold this folder until the process ends, and put in order what an earlier run left, a printed line for each.

    command: Snakemake's arguments; one that makes no files neither waits nor changes anything. Raises UserError when
    another run is alive here, or a folder cannot be written.
    """
    if not executes(command):
        return
    with _in_one_line():
        _require_writable()
        before = _hold(_LOCK)
        if _held:
            _end_jobs_of(before)
            _put_locks_away(before)
            _put_files_in_order()


def executes(command: Sequence[str]) -> bool:
    """Whether a command line of Snakemake's makes files. One that cannot be read counts as one that does."""
    words = options_of(command)
    afterwards = ("report",) if getattr(words, "report_after_run", False) else ()
    return not any(getattr(words, name, None) for name in _LOOKING if name not in afterwards)


def options_of(command: Sequence[str]) -> argparse.Namespace:
    """What Snakemake reads in its arguments and profiles; without an option when it cannot."""
    from snakemake.cli import parse_args

    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            return parse_args(list(command))[1]
    except (SystemExit, Exception):
        return argparse.Namespace()


def _require_writable() -> None:
    """Raises OSError, naming what is not a folder, is not to be written by this user, or has no room."""
    for folder in (OWN, OUTPUTS):
        folder.mkdir(exist_ok=True)
        try:
            with tempfile.TemporaryFile(dir=folder) as probe:
                probe.write(bytes(_ROOM_BYTES))
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(folder)) from error
    for path in _written_to():
        if os.path.lexists(path) and not os.access(path, os.W_OK):
            path.stat()  # of a link to nowhere, this says so
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def _written_to() -> Iterator[Path]:
    """Folders that a run makes files in, and files that it opens again: records of Snakemake, and logs."""
    for top, deep in ((OWN, _OWN_PARTS), (OUTPUTS, ())):
        for folder, folders, files in os.walk(top):
            parts = Path(folder).relative_to(top).parts
            if not parts:
                folders[:] = [name for name in folders if (name in deep if deep else name not in _NOT_MADE)]
            if len(parts) >= _DEPTH:
                folders.clear()
            yield Path(folder)
            if deep or parts[:1] == ("logs",):
                yield from (Path(folder, name) for name in files)


def _hold(path: Path) -> Run | None:
    """Lock the folder for as long as this process lives, and return the run that held it before.

    By lockf, so over NFS too, and not by the jobs; on a file system without locks nothing is held.
    """
    path.parent.mkdir(exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise UserError(_beside(_holder(descriptor))) from None
        os.close(descriptor)
        return None
    before = _run_in(descriptor)
    if before and before.alive():
        before = None  # it works elsewhere: this folder is a copy of its own
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, Run.this().written().encode(), 0)
    _held.append(descriptor)
    return before


def _holder(descriptor: int) -> Run | None:
    """Who has the lock; one that has just taken it needs a moment to say so."""
    deadline = time.monotonic() + _MOMENT_S
    while True:
        run = _run_in(descriptor)
        if (run and (run.host != socket.gethostname() or run.alive())) or time.monotonic() > deadline:
            return run
        time.sleep(0.01)


def _run_in(descriptor: int) -> Run | None:
    return Run.read(os.pread(descriptor, 4096, 0).decode(errors="replace"))


def _beside(other: Run | None) -> str:
    who = f"pid {other.pid} on {other.host}, since {other.since}" if other else "its pid is not known"
    pid = other.pid if other else "PID"
    return (
        f"another run works in this folder ({who}); wait for it, or end it there: `kill {pid}` ends it after its running "
        f"jobs, `kill -9 {pid}` at once, and what was measured is kept; then run the same command again"
    )


def _end_jobs_of(before: Run | None) -> None:
    """Jobs of a run that was killed are ending; they are waited for, as what they hold is needed."""
    if before and those_of(before.identity, before.session):
        say(f"waiting for the jobs of the killed run (pid {before.pid}) to end")
        if not wait_for_those_of(before.identity, before.session, GRACE_S + 5):
            end_those_of(before.identity, before.session)


def _put_locks_away(before: Run | None) -> None:
    """Remove Snakemake's locks, which have no owner any more."""
    from snakemake.persistence.file import FilePersistence

    if any((OWN / "locks").glob("*.lock")):
        FilePersistence().unlock()
        who = f" (pid {before.pid} on {before.host}, since {before.since})" if before else ""
        say(f"an earlier run{who} was killed; its lock is taken up")


def _put_files_in_order() -> None:
    """Keep each whole file among those that were being made, and remove the others, so that their jobs run again."""
    kept, removed = [], []
    marked = _marked(OWN / "incomplete")
    if queued := sorted({job for marker, _ in marked if (job := _job_of(marker))}):
        jobs = " ".join(queued)
        say(f"jobs of an earlier run may still wait or run (squeue); to end them: scancel {jobs}")
    if busy := [file for _, file in marked if _is_output(file) and _is_being_measured(file)]:
        raise UserError(
            f"a job of an earlier run still measures {few(busy)}; wait for it, or end it (on a cluster: squeue, scancel), "
            f"{AGAIN}"
        )
    for marker, file in marked:
        if not _is_output(file) or not os.path.lexists(file):
            continue
        if not file.is_symlink() and file.is_file() and is_whole(file):
            kept.append(file)
        else:
            _remove(file)
            removed.append(file)
        marker.unlink(missing_ok=True)
    if removed:
        say(f"made again, as an earlier run did not finish them: {few(removed)}")
    if kept:
        say(f"kept, as they are whole though an earlier run ended before it noted them: {few(kept)}")


def _marked(folder: Path) -> list[tuple[Path, Path]]:
    """Snakemake's marks of files whose jobs began and did not end, each with the file.

    A mark's path is the file's path in Base64, in pieces where it is long, all but the last behind an @
    (FilePersistence._record_path).
    """
    found = []
    for parent, _, names in os.walk(folder):
        pieces = [piece.removeprefix("@") for piece in Path(parent).relative_to(folder).parts]
        for name in names:
            with contextlib.suppress(binascii.Error, ValueError):
                text = base64.b64decode("".join([*pieces, name]), altchars=b"-_", validate=True).decode()
                found.append((Path(parent, name), Path(text)))
    return sorted(found)


def _is_being_measured(file: Path) -> bool:
    """Whether a process, on any node, holds the lock of the file's journal (journal.py). It is looked at and not taken."""
    try:
        with file.with_name(file.name + ".lock").open("rb") as lock:
            asked = struct.pack(_FLOCK, fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
            return struct.unpack(_FLOCK, fcntl.fcntl(lock, fcntl.F_GETLK, asked))[0] != fcntl.F_UNLCK
    except OSError:
        return False


def _job_of(marker: Path) -> str | None:
    """The scheduler's id of the job that was to make a file, '' or None for a job of this machine."""
    try:
        return str(json.loads(marker.read_text())["external_jobid"] or "")
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _is_output(file: Path) -> bool:
    """Whether a path is below the results folder, without a way out of it by links or dots."""
    inside = not file.is_absolute() and ".." not in file.parts and file.parts[:1] == OUTPUTS.parts
    return (
        inside
        and len(file.parts) > 1
        and OUTPUTS.resolve() in [file.parent.resolve(), *file.parent.resolve().parents]
    )


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


@contextlib.contextmanager
def _in_one_line() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(refusal_line(error, str(OWN))) from None
