"""Whether the array that a measurement is to run on is there: array.json against the machine, without root.

python -m workflow.hyperkv.array.verify --spec JSON [--record results/array/array.json]

Exit status: 0 it is, 7 it is not, with one line that says what differs and what to do.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..base.cli import run_stage
from ..base.own_command import snakemake_command
from ..machine.mounts import Md, Mount, Probe, file_system_uuid, md_device, mounts, serial_of
from ..machine.probe import call
from .layout import unlisted
from .record import RECORD
from .refusal import NOT_THERE, ArrayError
from .settings import ArraySettings

_FROM_CONFIG = ("name", "raid_chunk_bytes", "file_system", "mount")


def main() -> None:
    """Parse the command line and verify."""
    parser = argparse.ArgumentParser(prog="python -m workflow.hyperkv.array.verify", description=__doc__)
    parser.add_argument("--spec", required=True, type=json.loads, help="config section `array`, JSON")
    parser.add_argument("--record", type=Path, default=RECORD)
    arguments = parser.parse_args()
    record = verified(arguments.spec, arguments.record)
    print(f"hyperkv verify_array: {record['name']} is at {record['mount']}, md {record['md_uuid']}")


def verified(
    wanted: Mapping[str, Any], path: Path = RECORD, probe: Probe = call, top: Path = Path("/")
) -> dict[str, Any]:
    """The record of the array, which is mounted and as it says. wanted: ArraySettings.identity().

    Raises ArrayError, one line.
    """
    try:
        record: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise _not_there(
            f"array: there is no {path}, so no array was provisioned here; {_provision()}"
        ) from None
    except (OSError, json.JSONDecodeError) as error:
        raise _not_there(f"array: {path} cannot be read ({error}); {_provision()}") from error
    mount = next((item for item in reversed(mounts(probe)) if item.target == record["mount"]), None)
    md = md_device(mount.source.rpartition("/")[2], top) if mount is not None else None
    serials = {serial_of(name, top) for name in md.members} if md is not None else set()
    fs_uuid = file_system_uuid(md.path, top) if md is not None else None
    if (wrong := difference(wanted, record, mount, md, serials, fs_uuid)) is not None:
        raise _not_there(f"array: {wrong}")
    return record


def seen_without_root(settings: ArraySettings, path: Path = RECORD) -> dict[str, Any] | None:
    """The record of an array that is there as recorded, which needs no root to see; None otherwise."""
    with contextlib.suppress(ArrayError):
        return verified(settings.identity(), path)
    return None


def difference(
    wanted: Mapping[str, Any],
    record: Mapping[str, Any],
    mount: Mount | None,
    md: Md | None,
    serials: set[str | None],
    fs_uuid: str | None = None,
) -> str | None:
    """The first thing in which config, record and machine differ, with what to do; None when they agree.

    mount: what is at the record's mount point. md: the md device under it. serials: those of its members.
    fs_uuid: of the file system on it; None where that is not known.
    """
    for key in _FROM_CONFIG:
        if wanted[key] != record[key]:
            return f"config says {key} {wanted[key]}, array.json {record[key]}; change the config, or tear down and {_provision()}"
    if set(wanted["devices"]) != set(record["devices"]):
        return f"config names other devices than array.json ({', '.join(record['devices'])}); change the config, or tear down and {_provision()}"
    if mount is None:
        return f"nothing is mounted at {record['mount']}; {_provision()}"
    if md is None:
        return f"{record['mount']} is {mount.file_system} on {mount.source}, not the array {record['name']}; umount that and {_provision()}"
    found = {
        "md UUID": (md.uuid or record["md_uuid"], record["md_uuid"]),
        "level": (md.level, record["level"]),
        "RAID chunk": (md.raid_chunk_bytes, record["raid_chunk_bytes"]),
        "file system": (mount.file_system, record["file_system"]),
        "file system UUID": (fs_uuid or record["fs_uuid"], record["fs_uuid"] or fs_uuid),
        "members": (sorted(map(str, serials)), sorted(str(member["serial"]) for member in record["members"])),
    }
    for what, (there, recorded) in found.items():
        if there != recorded:
            return f"{record['mount']} ({md.path}) has {what} {_words(there)}, array.json says {_words(recorded)}; {_provision()}"
    stripe = [f"{key}={value}" for key, value in record["stripe"].items()]
    if missing := unlisted([*wanted["mount_options"], *stripe], mount):
        return f"{record['mount']} is mounted without {','.join(missing)}; umount it and {_provision()}"
    return None


def _words(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)


def _provision() -> str:
    return f"provision it (`{snakemake_command('provision_array', 1)}`) or set array.source: path"


def _not_there(text: str) -> ArrayError:
    return ArrayError.of(NOT_THERE, text)


if __name__ == "__main__":
    sys.exit(run_stage("verify_array", main))
