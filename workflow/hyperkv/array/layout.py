"""How the array is to look once it is mounted: alignment, options, and the lines that bring it back at boot."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..machine.mounts import Mount
from .settings import ArraySettings
from .steps.boot_files import escaped

EXT4_BLOCK_BYTES = 4096
_SECTOR_BYTES = 512
_NOT_SHOWN = ("defaults", "nofail", "auto", "noauto", "user", "nouser", "_netdev")


FSTAB = "/etc/fstab"
MARK = "x-hyperkv"
BOOT_OPTIONS = ("nofail", "x-systemd.device-timeout=30")
HOST = "any"


def fstab_line(settings: ArraySettings, fs_uuid: str) -> str:
    """The line that mounts the array at boot, marked as written here; a machine without the array starts all the same."""
    options = ",".join([*settings.mount_options, *BOOT_OPTIONS, f"{MARK}={settings.name}"])
    fields = (f"UUID={fs_uuid}", settings.mount, settings.file_system, options)
    return f"{' '.join(map(escaped, fields))} 0 0"


def mdadm_line(settings: ArraySettings, uuid: str, full_name: str) -> str:
    """The line of mdadm.conf that gives the array its name at boot. full_name: as its members have it, host included.

    A disk from elsewhere may have any host there, more words for the line too: such a name is left out, and the UUID is enough.
    """
    named = [f"name={full_name}"] if re.fullmatch(r"[A-Za-z0-9_.:+-]+", full_name) else []
    return " ".join(["ARRAY", settings.node, "metadata=1.2", *named, f"UUID={with_colons(uuid)}"])


def with_colons(uuid: str) -> str:
    """An md UUID as mdadm writes it, from sysfs's with dashes."""
    digits = uuid.replace("-", "")
    return ":".join(digits[i : i + 8] for i in range(0, 32, 8))


def misalignment(settings: ArraySettings, mount: Mount) -> str | None:
    """How a mounted file system's stripe differs from the array's; None when it is the same.

    XFS lists sunit and swidth in sectors of 512 bytes, ext4 stripe in its blocks of 4096 bytes.
    """
    unit, width = settings.raid_chunk_bytes, settings.raid_chunk_bytes * len(settings.devices)
    if mount.file_system == "xfs":
        wanted = {"sunit": unit // _SECTOR_BYTES, "swidth": width // _SECTOR_BYTES}
    else:
        wanted = {"stripe": width // EXT4_BLOCK_BYTES}
    wrong = [f"{key}={mount.option(key)}" for key, value in wanted.items() if mount.option(key) != str(value)]
    right = ",".join(f"{key}={value}" for key, value in wanted.items())
    return f"{', '.join(wrong)} instead of {right}" if wrong else None


def unlisted(options: Iterable[str], mount: Mount) -> list[str]:
    """Those of the options that the kernel does not list for a mount, those apart that it never lists."""
    return [word for word in options if word not in (*mount.options, *_NOT_SHOWN)]


def readable(size: int) -> str:
    """'2.0 GiB', '3.6 TiB'."""
    units = ["bytes", "KiB", "MiB", "GiB", "TiB"]
    power = min(max(size.bit_length() - 1, 0) // 10, len(units) - 1)
    return f"{size / (1 << 10 * power):.{0 if power < 3 else 1}f} {units[power]}"
