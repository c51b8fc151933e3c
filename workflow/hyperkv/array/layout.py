"""How the array is to look once it is mounted: alignment, options, and the lines that bring it back at boot."""

from __future__ import annotations

from collections.abc import Iterable

from .facts import Mount
from .settings import ArraySettings

EXT4_BLOCK_BYTES = 4096
_SECTOR_BYTES = 512
_NOT_SHOWN = ("defaults", "nofail", "auto", "noauto", "user", "nouser", "_netdev")


def fstab_line(settings: ArraySettings, fs_uuid: str) -> str:
    """The line that mounts the array at boot; a machine without the array starts all the same."""
    options = ",".join([*settings.mount_options, "nofail", "x-systemd.device-timeout=30"])
    return f"UUID={fs_uuid} {settings.mount} {settings.file_system} {options} 0 0"


def mdadm_line(settings: ArraySettings, uuid: str) -> str:
    """The line of mdadm.conf that gives the array its name at boot."""
    digits = uuid.replace("-", "").replace(":", "")
    colons = ":".join(digits[i : i + 8] for i in range(0, 32, 8))
    return f"ARRAY {settings.node} metadata=1.2 name=any:{settings.name} UUID={colons}"


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
