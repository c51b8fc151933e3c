"""A look at the machine together with the plan that follows from it."""

from __future__ import annotations

from collections.abc import Callable

from ...machine.probe import call
from ..settings import ArraySettings
from .facts import Machine
from .gather import gather
from .plan import Plan

_LOOKS = 3


def look(
    settings: ArraySettings,
    plan_it: Callable[[ArraySettings, Machine], Plan],
    *,
    after_change: bool,
    every_disk: bool = False,
) -> tuple[Machine, Plan]:
    """The machine, and what plan_it makes of it.

    After a change udev may still be following it, links to devices included: what a plan refuses then counts when it
    is refused again with udev idle, at the third look at the latest.
    """
    for _ in range(_LOOKS):
        machine = gather(settings, every_disk=every_disk)
        plan = plan_it(settings, machine)
        if not (after_change and plan.refusals):
            break
        if machine.udev:
            call(["udevadm", "settle", "--timeout=30"])
    return machine, plan
