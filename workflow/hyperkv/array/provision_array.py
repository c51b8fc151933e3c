"""Stage provision_array: make the array that the config describes, or take it up where it was left.

python -m workflow.hyperkv.array.provision_array --spec JSON [--out results/array/array.json]

Looks at the machine, plans, prints all commands, runs them, and looks again until nothing is left to do. A second run
changes nothing and says so. Needs root, and `consent: true`.
Exit status: 0 done or nothing to do, 2 unfit setting, tool or device, 3 foreign data, 4 in use, 5 a command failed (run
again to resume), 6 needs root, 130 interrupted (run again to resume).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from ..base.cli import run_stage
from .inspect_array import announced, say_initramfs
from .planning.facts import Machine
from .planning.fitness import array_of, members_of, our_array
from .planning.look import look
from .planning.plan import listed_at_boot, plan_provision
from .planning.privilege import only_one, refuse_without_consent, refuse_without_root
from .record import RECORD, document, recorded_uuid, write_record
from .refusal import FAILED, ArrayError
from .settings import ArraySettings
from .steps.commands import Step, execute
from .verify import seen_without_root

_ROUNDS = 5
STAGE = "provision_array"


def main() -> None:
    """Parse the command line and provision."""
    parser = argparse.ArgumentParser(
        prog="python -m workflow.hyperkv.array.provision_array", description=__doc__
    )
    parser.add_argument("--spec", required=True, type=json.loads, help="config section `array`, JSON")
    parser.add_argument(
        "--out", type=Path, default=RECORD, help="the record that measurements are verified against"
    )
    arguments = parser.parse_args()
    settings = ArraySettings.of(arguments.spec)
    with only_one():
        provision(settings, arguments.out)


def provision(settings: ArraySettings, out: Path) -> None:
    """Bring the machine to the mounted array and write its record. Raises ArrayError."""
    if os.geteuid() != 0 and (there := seen_without_root(settings, out)):
        print(f"hyperkv {STAGE}: {settings.name} at {there['mount']}: unchanged")
        return
    ran: list[Step] = []
    for _ in range(_ROUNDS):
        machine, plan = look(settings, plan_provision, after_change=bool(ran))
        refuse_without_root(settings, machine, STAGE)
        if plan.refusals:
            raise ArrayError(plan.refusals)
        if not plan.steps:
            break
        print("\n".join(announced(plan, "These commands are next:")), flush=True)
        refuse_without_consent(settings)
        execute(plan.steps, lambda line: print(line, flush=True))
        ran += plan.steps
    else:
        steps = "; ".join(map(str, plan.steps))
        raise ArrayError.of(
            FAILED, f"array {settings.name}: these commands succeed and change nothing: {steps}"
        )
    written = _record(settings, machine, out)
    say_initramfs(machine, ran)
    outcome = "provisioned" if ran else "unchanged; array.json written" if written else "unchanged"
    print(f"hyperkv {STAGE}: {settings.name} at {settings.mount}: {outcome}")


def _record(settings: ArraySettings, machine: Machine, out: Path) -> bool:
    """Write the record of the array that is mounted, and say what makes it come back at boot."""
    members = members_of(settings, machine)
    uuid = our_array(settings, members)
    md = array_of(machine, uuid, members) if uuid is not None else None
    mount = machine.mounted_at(settings.mount)
    if md is None or mount is None:
        raise ArrayError.of(FAILED, f"array {settings.name}: gone while it was being looked at; run again")
    for file in listed_at_boot(settings, machine, md):
        for note in file.notes():
            print(note)
    if (earlier := recorded_uuid(out)) not in (None, md.uuid):
        print(
            f"{out} was of array {earlier}, which is not there any more (disks of a cloud come back empty after a stop): "
            f"what was on it is lost; it is now of {md.uuid}."
        )
    return write_record(out, document(settings, members, md, mount))


if __name__ == "__main__":
    sys.exit(run_stage(STAGE, main))
