"""Section `array`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from .texts import Name, Path, matches
from .values import Boolean, Section, Size, key

Device = Annotated[
    str, Field(pattern=r"^/dev/[^\s,]+$", json_schema_extra={"unit": "path"}), AfterValidator(matches("path"))
]
# What `snakemake baseline_array` measures of the device under data_dir, whatever the source: sizes and numbers of reads or
# writes under way (threads for our own reader), seconds of a run of fio and bytes of its file, which is written in full
# before, bytes that our own reader writes and reads per point, and repeats.
BASELINE = {
    "block_bytes": [4 << 10, 64 << 10, 1 << 20, 4 << 20],
    "queue_depths": [1, 8, 32],
    "point_s": 5,
    "file_bytes": 1 << 30,
    "reader_bytes": 256 << 20,
    "repeats": 3,
}


class Array(Section):
    """What the stores' files are on: a folder as it is, or a RAID0 of NVMe disks that `snakemake provision_array` makes.

    Provisioning is never part of a run, and needs root, the devices named and `consent`.
    """

    source: Literal["path", "raid0"] = "path"
    """`path` takes data_dir as it is (`snakemake inspect_array` says what that is: memory, the network,
    one disk); `raid0` takes the array described here, and every measurement checks at its start that it
    is there."""
    name: Name = key("hyperkv", pattern="^[a-z][a-z0-9_]{0,11}$")
    """Name of the md array and label of its file system; by it an array is known to be ours."""
    devices: list[Device] = key([])
    """Whole disks, by names under /dev/disk/by-id; at least two for raid0. `snakemake inspect_array`
    lists them."""
    consent: Boolean = False
    """Whether provision_array and teardown_array may run the commands that they print; without, they
    print them and stop. Measuring needs no consent."""
    overwrite: Boolean = False
    """Whether what the devices hold may be lost, data without a signature included; it is listed first.
    Never what is mounted or in use."""
    allow_unequal: Boolean = False
    """Whether the disks may differ in size; what exceeds the smallest is striped over fewer disks."""
    allow_any_block_device: Boolean = False
    """Whether disks other than NVMe may be used."""
    raid_chunk_bytes: Size = key("512 KiB")
    """Bytes that go to one disk before the next (md's chunk); a power of two of at least 4 KiB."""
    file_system: Literal["xfs", "ext4"] = "xfs"
    """File system that is made on the array, aligned to it."""
    mount: Path = key("/mnt/hyperkv", pattern=r"^/\S+$")
    """Where the array is mounted; the stores' files go to its folder `hyperkv`."""
    owner: Name | None = None
    """User, by name or number, who owns the folder for the stores' files; null for who runs sudo, else
    root."""
    persist: Boolean = False
    """Whether /etc/fstab and mdadm.conf get the lines by which the array is there after a reboot, in the
    place of those of an earlier array of this name or mount point that were written here; teardown_array
    takes them out again. A copy of the file as it was is kept beside it. Without, the lines are printed."""
