"""Who may change disks: root, one at a time, and only with consent."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from .facts import Machine
from .plan import Plan, plan_provision, plan_teardown
from .refusal import IN_USE, NOT_ROOT, UNFIT, ArrayError, Refusal
from .settings import ArraySettings

_LOCK = Path("/run/lock/hyperkv-array")


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Hold the machine's lock for changing arrays; nothing without root. Raises ArrayError when another has it."""
    if os.geteuid() != 0:
        yield
        return
    _LOCK.parent.mkdir(parents=True, exist_ok=True)
    with _LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = "array: another provision_array or teardown_array is running; wait for it"
            raise ArrayError([Refusal(IN_USE, text)]) from None
        yield


def refuse_without_root(settings: ArraySettings, machine: Machine, stage: str) -> None:
    """Raises ArrayError with the commands for an administrator when this user is not root."""
    if machine.root:
        return
    plan_it = plan_provision if stage == "provision_array" else plan_teardown
    raise ArrayError(
        [Refusal(NOT_ROOT, for_administrator(settings, plan_it(settings, machine.assuming_blank()), stage))]
    )


def for_administrator(settings: ArraySettings, plan: Plan, stage: str) -> str:
    """One message, several lines: what root is to run, and how to do without.

    plan: made as if the disks were blank, since only root can read what is on them.
    """
    if plan.refusals:
        return "\n".join(refusal.text for refusal in plan.refusals)
    module = f"workflow.hyperkv.array.{stage.removesuffix('_array')}"
    command = shlex.join(["sudo", sys.executable, "-m", module, "--spec", settings.spec()])
    lines = [
        f"needs root; as an administrator run, in {Path.cwd()}:",
        f"  {command}",
        *(["which looks at the disks first, and on blank ones runs:"] if plan.steps else []),
        *(f"  {step}" for step in plan.steps),
        "or set array.source: path and data_dir to a folder that is there",
    ]
    return "\n".join(lines)


def refuse_without_consent(settings: ArraySettings) -> None:
    """Raises ArrayError unless the config consents to what was printed."""
    if not settings.consent:
        text = "array.consent: it is false, so none of these commands was run; set it to true if that is what you want"
        raise ArrayError([Refusal(UNFIT, text)])
