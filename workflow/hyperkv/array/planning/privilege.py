"""Who may change disks: root, one at a time, and only with consent."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shlex
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from ..refusal import IN_USE, NOT_ROOT, UNFIT, ArrayError
from ..settings import ArraySettings
from .facts import Machine
from .plan import Plan, plan_provision
from .teardown_plan import plan_teardown

LOCK = Path("/run/hyperkv-array.lock")


@contextlib.contextmanager
def only_one(path: Path = LOCK) -> Iterator[None]:
    """Hold the machine's lock for changing arrays; nothing without root.

    The lock is a file that only root can make and change. Raises ArrayError when another has it, or it is no such file.
    """
    if os.geteuid() != 0:
        yield
        return
    with _own_file(path) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = "array: another provision_array or teardown_array is running; wait for it"
            raise ArrayError.of(IN_USE, text) from None
        yield


@contextlib.contextmanager
def _own_file(path: Path) -> Iterator[int]:
    """A file opened without following a link at its place or changing what it holds. Raises ArrayError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        why = "it is a link" if error.errno == errno.ELOOP else error.strerror
        raise ArrayError.of(IN_USE, f"{path}: cannot be the lock ({why}); remove it") from error
    try:
        found = os.fstat(opened)
        if (
            not stat.S_ISREG(found.st_mode)
            or found.st_uid not in (os.geteuid(), os.getuid())
            or found.st_nlink != 1
        ):
            text = f"{path}: cannot be the lock (it is not a plain file of this user's alone); remove it"
            raise ArrayError.of(IN_USE, text)
        yield opened
    finally:
        os.close(opened)


def refuse_without_root(settings: ArraySettings, machine: Machine, stage: str) -> None:
    """Raises ArrayError when this user is not root, the commands for an administrator printed before."""
    if machine.root:
        return
    plan_it = plan_provision if stage == "provision_array" else plan_teardown
    plan = plan_it(settings, machine.assuming_blank())
    if plan.refusals:
        raise ArrayError(plan.refusals)
    print("\n".join(for_administrator(settings, plan, stage)), flush=True)
    text = (
        f"{stage} needs root: an administrator runs the commands above, or set array.source: path and data_dir to a folder "
        f"that is there"
    )
    raise ArrayError.of(NOT_ROOT, text)


def for_administrator(settings: ArraySettings, plan: Plan, stage: str) -> list[str]:
    """The lines that root is to run. plan: made as if the disks were blank, since only root can read what is on them."""
    module = f"workflow.hyperkv.array.{stage}"
    command = shlex.join(["sudo", sys.executable, "-m", module, "--spec", settings.spec()])
    return [
        f"As an administrator, in {Path.cwd()}:",
        f"  {command}",
        *(["It looks at the disks first; on blank ones it runs:"] if plan.steps else []),
        *(f"  {step}" for step in plan.steps),
    ]


def refuse_without_consent(settings: ArraySettings) -> None:
    """Raises ArrayError unless the config consents to what was printed."""
    if not settings.consent:
        text = "array.consent: it is false, so none of these commands was run; set it to true if that is what you want"
        raise ArrayError.of(UNFIT, text)
