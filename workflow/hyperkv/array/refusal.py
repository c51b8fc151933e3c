"""Why the array stages stop, and the exit status of each reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..base.errors import UserError

UNFIT = 2  # a setting, a missing tool, or a device that is missing or unfit
FOREIGN = 3  # a device holds something that is not this array's
IN_USE = 4  # a device, the array or its mount point is in use
FAILED = 5  # a command failed; run again to resume
NOT_ROOT = 6  # the message has the commands
NOT_THERE = 7  # the array is not as results/array/array.json says


@dataclass(frozen=True, order=True)
class Refusal:
    """One reason not to go on. status: the exit status, one of the above. text: what, what is there, what to do; one line."""

    status: int
    text: str


class ArrayError(UserError):
    """An array stage stops: one line per reason; exit_status is the gravest reason's (foreign data, in use last)."""

    def __init__(self, refusals: Iterable[Refusal]):
        reasons = list(dict.fromkeys(refusals))
        super().__init__("\n".join(reason.text for reason in reasons))
        self.exit_status = max(reason.status for reason in reasons)

    @classmethod
    def of(cls, status: int, text: str) -> ArrayError:
        """One that stops for one reason."""
        return cls([Refusal(status, text)])
