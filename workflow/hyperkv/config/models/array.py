"""Section `array`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .texts import Name, text
from .values import Boolean, Count, Positive, Section, Several, Size, key, section, whole

Device = text("path", r"^/dev/[^\s,]+$")


MountOption = Annotated[str, Field(pattern=r"^[a-z0-9_]+(=[^\s,]+)?$")]


class Baseline(Section):
    """What `snakemake baseline_array` measures of the device under data_dir, whatever the source."""

    block_bytes: Annotated[list[Size], Field(min_length=1)] = key(
        "bytes", "Sizes of one read or write.", ["4 KiB", "64 KiB", "1 MiB", "4 MiB"]
    )
    queue_depths: Annotated[Several[whole(1, 1024)], Field(min_length=1)] = key(
        "requests", "Reads or writes under way at once; threads for our own reader.", [1, 8, 32]
    )
    point_s: Positive = key("seconds", "Length of one fio run.", 5)
    file_bytes: Size = key("bytes", "Size of fio's file, written in full before the first run.", "1 GiB")
    reader_bytes: Size = key(
        "bytes",
        "Bytes that our own reader writes and reads per point, at most 256 values per thread.",
        "256 MiB",
    )
    repeats: Count = key("repeats", "Independent repetitions.", 3)


class Array(Section):
    """What the stores' files are on: a folder as it is, or a RAID0 of NVMe disks that `snakemake provision_array` makes.

    Provisioning is never part of a run, and needs root, the devices named and `consent`.
    """

    source: Literal["path", "raid0"] = key(
        "word",
        "`path` takes data_dir as it is (`snakemake inspect_array` says what that is: memory, the network, one disk); "
        "`raid0` takes the array described here, and every measurement checks at its start that it is there.",
        "path",
    )
    name: text("name", "^[a-z][a-z0-9_]{0,11}$") = key(
        None,
        "Name of the md array and label of its file system; by it an array is known to be ours.",
        "hyperkv",
    )
    devices: list[Device] = key(
        None,
        "Whole disks, by names under /dev/disk/by-id; at least two for raid0. `snakemake inspect_array` lists them.",
        [],
    )
    consent: Boolean = key(
        "boolean",
        "Whether provision_array and teardown_array may run the commands that they print; without, they print them and "
        "stop. Measuring needs no consent.",
        False,
    )
    overwrite: Boolean = key(
        "boolean",
        "Whether what the devices hold may be lost, data without a signature included; it is listed first. Never what is "
        "mounted or in use.",
        False,
    )
    allow_unequal: Boolean = key(
        "boolean",
        "Whether the disks may differ in size; what exceeds the smallest is striped over fewer disks.",
        False,
    )
    allow_any_block_device: Boolean = key("boolean", "Whether disks other than NVMe may be used.", False)
    raid_chunk_bytes: Size = key(
        "bytes",
        "Bytes that go to one disk before the next (md's chunk); a power of two of at least 4 KiB.",
        "512 KiB",
    )
    file_system: Literal["xfs", "ext4"] = key(
        "word", "File system that is made on the array, aligned to it.", "xfs"
    )
    mount: text("path", r"^/\S+$") = key(
        None,
        "Where the array is mounted; the stores' files go to its folder `hyperkv`.",
        "/mnt/hyperkv",
    )
    mount_options: list[MountOption] = key("words", "Options it is mounted with.", ["noatime"])
    owner: Name | None = key(
        None,
        "User, by name or number, who owns the folder for the stores' files; null for who runs sudo, else root.",
        None,
    )
    persist: Boolean = key(
        "boolean",
        "Whether /etc/fstab and mdadm.conf get the lines by which the array is there after a reboot, in the place of "
        "those of an earlier array of this name or mount point that were written here; teardown_array takes them out "
        "again. A copy of the file as it was is kept beside it. Without, the lines are printed.",
        False,
    )
    baseline: Baseline = section(Baseline)
