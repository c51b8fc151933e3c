"""Stage inspect_array: what disks there are, what is on them, and what provision_array would do. Changes nothing.

python -m workflow.hyperkv.array.inspect_array --spec JSON --data-dir FOLDER

Without root it cannot read signatures, and says so.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ..base.cli import run_stage
from ..base.errors import printable
from ..machine.node import expanded
from ..machine.place import place_of
from ..machine.probe import call
from .layout import readable
from .planning.facts import Disk, Machine
from .planning.fitness import in_use
from .planning.gather import gather
from .planning.plan import Plan, plan_provision
from .settings import ArraySettings
from .steps.commands import Edit, Step
from .verify import seen_without_root


def main() -> None:
    """Parse the command line and print what there is."""
    parser = argparse.ArgumentParser(
        prog="python -m workflow.hyperkv.array.inspect_array", description=__doc__
    )
    parser.add_argument("--spec", required=True, type=json.loads, help="config section `array`, JSON")
    parser.add_argument("--data-dir", required=True, type=expanded, help="where the stores' files go")
    arguments = parser.parse_args()
    settings = ArraySettings.of(arguments.spec)
    machine = gather(settings, every_disk=True)
    print("\n".join([*listing(machine), "", *outlook(settings, machine, seen_without_root(settings))]))
    print(f"\nThe stores' files go to {arguments.data_dir}: {place_of(arguments.data_dir, call).note()}.")


def listing(machine: Machine) -> list[str]:
    """The lines that say what every disk is, what uses it or is on it, and what arrays there are; labels may hold anything."""
    lines = [*machine.complaints, "Disks:" if machine.disks else "There are no disks here that lsblk shows."]
    for disk in machine.disks:
        lines += [f"  {disk.name}", f"    {described(disk)}", f"    {state(disk)}"]
    if not machine.root:
        lines.append(
            "Signatures are not read without root: a disk that shows nothing may still hold something."
        )
    for md in machine.arrays:
        where = ", ".join(mount.target for mount in machine.mounts_of(md)) or "not mounted"
        lines.append(
            f"Array {md.path}: {md.level or 'no level'} of {', '.join(md.members)}, {md.state}, {where}"
        )
    return list(map(printable, lines))


def outlook(settings: ArraySettings, machine: Machine, record: Mapping[str, Any] | None) -> list[str]:
    """The lines that say what provision_array would do. record: of the array that is there, as far as no root sees it."""
    if settings.source != "raid0":
        return ["array.source is path: nothing is provisioned, data_dir is used as it is."]
    if not settings.devices:
        return ["array.devices names none; name at least two of the above for provision_array."]
    if not machine.root and record is not None:
        return ["provision_array would change nothing: the array is there as array.json says."]
    plan = plan_provision(settings, machine if machine.root else machine.assuming_blank())
    if plan.refusals:
        return ["provision_array would refuse:", *(f"  {printable(item.text)}" for item in plan.refusals)]
    if not plan.steps:
        return ["provision_array would change nothing."]
    return announced(plan, "provision_array would run:")


def announced(plan: Plan, heading: str) -> list[str]:
    """What a plan destroys, and its commands under a heading."""
    lost = ["This is lost:", *(f"  {line}" for line in plan.lost)] if plan.lost else []
    return list(map(printable, [*lost, heading, *(f"  {step}" for step in plan.steps)]))


def say_initramfs(machine: Machine, steps: Sequence[Step]) -> None:
    """Print what is left to do where an edited mdadm.conf has a copy in the initramfs."""
    if machine.initramfs and any(
        isinstance(step, Edit) and step.path == machine.mdadm_conf for step in steps
    ):
        print(
            f"{machine.mdadm_conf} has changed. The initramfs may have a copy: `{machine.initramfs}` makes it anew. "
            f"Until then only the array's name may be another after a reboot; it is found by its UUID."
        )


def described(disk: Disk) -> str:
    """Size, kind, model and serial of a disk."""
    medium = "rotating" if disk.rotational else "not rotating"
    words = [
        readable(disk.size_bytes),
        disk.transport or "transport unknown",
        medium,
        disk.model,
        disk.serial,
        disk.path,
    ]
    return ", ".join(word for word in words if word)


def state(disk: Disk) -> str:
    """What uses a disk, or what is on it."""
    used = next(iter(in_use(disk)), None)
    if used is not None:
        return used.text.removeprefix(f"{disk.name}: ").partition(";")[0]
    return f"holds {disk.holds()}"


if __name__ == "__main__":
    sys.exit(run_stage("inspect_array", main))
