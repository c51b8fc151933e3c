"""results/array/array.json: what was provisioned, as a document."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..base.durable import replace_durably
from ..machine.mounts import Md, Mount
from .layout import fstab_line, mdadm_line
from .planning.facts import Disk
from .settings import ArraySettings

RECORD = Path("results/array/array.json")
SCHEMA_VERSION = 1
_STRIPE_OPTIONS = ("sunit", "swidth", "stripe")


def document(settings: ArraySettings, disks: list[Disk], md: Md, mount: Mount) -> dict[str, Any]:
    """The record of a mounted array. disks: its members in the order of settings.devices; no time, so that it repeats."""
    fs_uuid = (md.content or {}).get("UUID")
    name = next((disk.member.full_name for disk in disks if disk.member is not None), settings.name)
    return {
        "schema_version": SCHEMA_VERSION,
        **settings.identity(),
        "level": md.level,
        "md_uuid": md.uuid,
        "members": [
            {"by_id": disk.name, "serial": disk.serial, "model": disk.model, "size_bytes": disk.size_bytes}
            for disk in disks
        ],
        "fs_uuid": fs_uuid,
        "options": list(mount.options),
        "stripe": {key: int(value) for key in _STRIPE_OPTIONS if (value := mount.option(key))},
        "data_dir": settings.data_dir,
        "at_boot": {
            "mdadm.conf": mdadm_line(settings, md.uuid or "", name),
            "fstab": fstab_line(settings, fs_uuid) if fs_uuid else None,
        },
    }


def recorded_uuid(path: Path) -> str | None:
    """The md UUID of a record that is there; None without one that can be read."""
    try:
        return json.loads(path.read_text())["md_uuid"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_record(path: Path, record: Mapping[str, Any]) -> bool:
    """Write the record, whole, unless the file already says the same; whether it was written.

    Under sudo the file and its folder become the caller's; a link in the place of one of them is not followed.
    """
    text = json.dumps(record, indent=2, sort_keys=True) + "\n"
    if path.exists() and path.read_text() == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    under_sudo = os.geteuid() == 0 and "SUDO_UID" in os.environ
    caller = (int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"])) if under_sudo else None

    def prepare(written: Path) -> None:
        written.chmod(0o644)
        if caller is not None:
            os.chown(written, *caller)

    replace_durably(path, text.encode(), prepare)
    if caller is not None:
        for folder in (path.parent, path.parent.parent):
            if folder.lstat().st_uid == 0:
                os.chown(folder, *caller, follow_symlinks=False)
    return True
