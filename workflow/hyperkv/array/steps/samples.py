"""The places of a disk that a look reads, to tell one full of data that no signature names from a blank one."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

BLOCK_BYTES = 4096
_EDGE = 256
_SPREAD = 512


def places(size_bytes: int) -> tuple[range, range, range]:
    """Numbers of blocks of 4 KiB: the first MiB, 512 or so spread evenly, the last MiB."""
    blocks = size_bytes // BLOCK_BYTES
    start, end = min(_EDGE, blocks), max(blocks - _EDGE, min(_EDGE, blocks))
    return range(start), range(start, end, max((end - start) // _SPREAD, 1)), range(end, blocks)


def first_data(path: str) -> int | None:
    """Offset in bytes of the first sampled block that holds anything but zeros; None where all are zeros. Raises OSError.

    A block that was never written reads as zeros, and so does a trimmed one of most drives.
    """
    with _opened(path, os.O_RDONLY) as (device, size):
        os.posix_fadvise(device, 0, 0, os.POSIX_FADV_RANDOM)
        for block in (block for part in places(size) for block in part):
            found = os.pread(device, BLOCK_BYTES, block * BLOCK_BYTES)
            if len(found) < BLOCK_BYTES:
                raise OSError(errno.EIO, "it ends before its size", path)
            if found.strip(b"\0"):
                return block * BLOCK_BYTES
        os.posix_fadvise(device, 0, 0, os.POSIX_FADV_DONTNEED)
    return None


def zero(path: str) -> None:
    """Write zeros to the sampled blocks, the first MiB with its superblock last, when the others are on the device.

    Raises OSError, also when something holds the device.
    """
    with _opened(path, os.O_WRONLY | os.O_EXCL) as (device, size):
        for part in reversed(places(size)):
            for block in part:
                if os.pwrite(device, bytes(BLOCK_BYTES), block * BLOCK_BYTES) < BLOCK_BYTES:
                    raise OSError(errno.EIO, "it ends before its size", path)
            os.fsync(device)


@contextlib.contextmanager
def _opened(path: str, flags: int) -> Iterator[tuple[int, int]]:
    """A device and its size in bytes."""
    device = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield device, os.lseek(device, 0, os.SEEK_END)
    finally:
        os.close(device)
