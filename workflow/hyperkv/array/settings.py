"""What the config's section `array` asks for."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..base.own_command import snakemake_command

RAID_CHUNK_MIN_BYTES = 4096
DATA_FOLDER = "hyperkv"
MOUNT_OPTIONS = ("noatime",)  # no write for every read
FILE_SYSTEMS = ("xfs", "ext4")
_IDENTITY = ("name", "devices", "raid_chunk_bytes", "file_system", "mount", "mount_options")


@dataclass(frozen=True)
class ArraySettings:
    """The keys of config section `array` that say what the array is and what may be done to get it.

    raid_chunk_bytes: bytes that go to one disk before the next. mount: where the file system appears.
    """

    source: str
    name: str
    devices: tuple[str, ...]
    consent: bool
    overwrite: bool
    allow_unequal: bool
    allow_any_block_device: bool
    raid_chunk_bytes: int
    file_system: str
    mount: str
    mount_options: tuple[str, ...]
    owner: str | None
    persist: bool

    @classmethod
    def of(cls, section: Mapping[str, Any]) -> ArraySettings:
        """The settings of a config section, which is mounted with MOUNT_OPTIONS."""
        values = {"mount_options": MOUNT_OPTIONS, **section}
        values |= {key: tuple(values[key]) for key in ("devices", "mount_options")}
        return cls(**values)

    @property
    def data_dir(self) -> str:
        """The folder on the array that holds the stores' files."""
        return f"{self.mount}/{DATA_FOLDER}"

    @property
    def node(self) -> str:
        """The array's device by its name."""
        return f"/dev/md/{self.name}"

    def spec(self) -> str:
        """JSON, as the rules hand it to the stages."""
        return json.dumps(asdict(self), sort_keys=True)

    def identity(self) -> dict[str, Any]:
        """What a measurement on the array depends on; not what may be done to get it."""
        return json.loads(json.dumps({key: getattr(self, key) for key in _IDENTITY}))


def mistakes(settings: ArraySettings) -> list[str]:
    """What is wrong with settings of source raid0 whatever the machine, a line each: the key, what is there, what to do."""
    wrong = []
    if len(settings.devices) < 2:
        named = settings.devices[0] if settings.devices else "none"
        wrong.append(
            f"array.devices: {named} is named; RAID0 needs at least two: with array.source: path, "
            f"`{snakemake_command('inspect_array', 1)}` lists what there is"
        )
    for device in sorted({name for name in settings.devices if settings.devices.count(name) > 1}):
        wrong.append(f"array.devices: {device} is named twice; name each disk once")
    size = settings.raid_chunk_bytes
    if size < RAID_CHUNK_MIN_BYTES or size & (size - 1):
        wrong.append(
            f"array.raid_chunk_bytes: {size} is no power of two of at least {RAID_CHUNK_MIN_BYTES}; "
            f"write one such as 512 KiB"
        )
    words = [
        ("name", settings.name),
        ("mount", settings.mount),
        *(("devices", name) for name in settings.devices),
    ]
    words += [("mount_options", option) for option in settings.mount_options]
    wrong += [
        f"array.{key}: {word!a} has white space or a character that cannot be printed; write it without"
        for key, word in words
        if not word.isprintable() or " " in word
    ]
    if posixpath.normpath(settings.mount) != settings.mount or not re.match("/[^/]", settings.mount):
        wrong.append(
            f"array.mount: {ascii(settings.mount)[1:-1]} is no absolute path without a slash at its end, or has empty "
            f"parts, . or ..; write one such as /mnt/hyperkv"
        )
    return wrong
