"""Stage teardown_array: unmount the array, stop it, and leave its disks blank. All that is on it is lost.

python -m workflow.hyperkv.array.teardown_array --spec JSON [--out results/array/array.json]

Needs root, and `consent: true`. A second run changes nothing and says so. Exit status: as provision_array.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ..base.cli import run_stage
from .inspect_array import announced, say_initramfs
from .planning.look import look
from .planning.privilege import only_one, refuse_without_consent, refuse_without_root
from .planning.teardown_plan import lines_at_boot, plan_teardown
from .record import RECORD
from .refusal import FAILED, ArrayError
from .settings import ArraySettings
from .steps.commands import execute

STAGE = "teardown_array"


def main() -> None:
    """Parse the command line and tear down."""
    parser = argparse.ArgumentParser(
        prog="python -m workflow.hyperkv.array.teardown_array", description=__doc__
    )
    parser.add_argument("--spec", required=True, type=json.loads, help="config section `array`, JSON")
    parser.add_argument("--out", type=Path, default=RECORD, help="the record, which is removed")
    arguments = parser.parse_args()
    settings = ArraySettings.of(arguments.spec)
    with only_one():
        teardown(settings, arguments.out)


def teardown(settings: ArraySettings, out: Path) -> None:
    """Take the array apart and remove its record. Raises ArrayError."""
    machine, plan = look(settings, plan_teardown, after_change=False, every_disk=True)
    refuse_without_root(settings, machine, STAGE)
    if plan.refusals:
        raise ArrayError(plan.refusals)
    if plan.steps:
        print("\n".join(announced(plan, "These commands are next:")), flush=True)
        refuse_without_consent(settings)
        execute(plan.steps, lambda line: print(line, flush=True))
        machine, left = look(settings, plan_teardown, after_change=True, every_disk=True)
        if left.steps or left.refusals:
            there = "; ".join([*(refusal.text for refusal in left.refusals), *map(str, left.steps)])
            raise ArrayError.of(FAILED, f"array {settings.name}: not all of it is gone ({there}); run again")
    out.unlink(missing_ok=True)
    for file in lines_at_boot(settings, machine):
        for entry in file.ours:
            line = file.line(entry)
            print(f"{file.path} still has this line; remove it (array.persist: true does):\n  {line}")
    say_initramfs(machine, plan.steps)
    outcome = "torn down" if plan.lost else "there was none, its lines are removed"
    print(f"hyperkv {STAGE}: {settings.name}: {outcome if plan.steps else 'unchanged, there is none'}")


if __name__ == "__main__":
    sys.exit(run_stage(STAGE, main))
