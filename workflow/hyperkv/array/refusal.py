"""Why the array stages stop, and the exit status of each reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..base.errors import UserError

UNFIT = 2
FOREIGN = 3
IN_USE = 4
FAILED = 5
NOT_ROOT = 6
NOT_THERE = 7

EXIT_STATUSES = {
    0: "done, or nothing to do",
    UNFIT: "a setting, a missing tool, or a device that is missing or unfit",
    FOREIGN: "a device holds something that is not this array's",
    IN_USE: "a device, the array or its mount point is in use",
    FAILED: "a command failed; run again to resume",
    NOT_ROOT: "needs root; the message has the commands",
    NOT_THERE: "the array is not as results/array/array.json says",
}


@dataclass(frozen=True, order=True)
class Refusal:
    """One reason not to go on. status: a key of EXIT_STATUSES. text: what, what is there, what to do; one line."""

    status: int
    text: str


class ArrayError(UserError):
    """An array stage stops: one line per reason; exit_status is the gravest reason's (foreign data, in use last)."""

    def __init__(self, refusals: Iterable[Refusal]):
        reasons = list(dict.fromkeys(refusals))
        super().__init__("\n".join(reason.text for reason in reasons))
        self.exit_status = max(reason.status for reason in reasons)
