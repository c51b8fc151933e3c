"""What the kernel says about a process and a disk: the evidence that bytes really came from where they should."""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

_CPUCLOCK_SCHED = 2
_SECTOR_BYTES = 512


@dataclass(frozen=True)
class ProcessCounters:
    """Totals of one process: bytes it caused to be read from and written to a block device, CPU seconds (user and system,
    threads that ended included), RSS, page faults.

    Source: /proc/PID/io (read_bytes, write_bytes), /proc/PID/stat (minflt + majflt), /proc/PID/status (VmRSS). CPU seconds are of
    the process's own clock, in nanoseconds where /proc/PID/stat has steps of 10 ms; its number is that of
    clock_getcpuclockid(3), whose macro is ~pid << 3 | CPUCLOCK_SCHED. None where the kernel does not tell.
    """

    device_read_bytes: int | None
    device_write_bytes: int | None
    cpu_s: float | None
    rss_bytes: int | None
    page_faults: int | None

    def minus(self, earlier: ProcessCounters) -> ProcessCounters:
        """What came since an earlier reading; RSS as it is now."""
        then = asdict(earlier) | {"rss_bytes": 0}
        return ProcessCounters(
            **{
                name: None if value is None or then[name] is None else value - then[name]
                for name, value in asdict(self).items()
            }
        )


def process_counters(pid: int | None) -> ProcessCounters:
    """Read the counters of a process; all None once it is gone, and of none."""
    if pid is None:
        return ProcessCounters(None, None, None, None, None)
    process = Path("/proc") / str(pid)
    io = _pairs(process / "io")
    stat = _stat_fields(process / "stat")
    rss = _pairs(process / "status").get("VmRSS")
    return ProcessCounters(
        device_read_bytes=_integer(io.get("read_bytes")),
        device_write_bytes=_integer(io.get("write_bytes")),
        cpu_s=_cpu_s(pid),
        rss_bytes=int(rss.split()[0]) * 1024 if rss else None,
        page_faults=int(stat[7]) + int(stat[9]) if stat else None,
    )


def partition_of(path: Path) -> Any:
    """The file system that holds an existing path, as psutil lists it, which names every kind; None when none is listed."""
    resolved = path.resolve()
    found = [part for part in psutil.disk_partitions(all=True) if resolved.is_relative_to(part.mountpoint)]
    return max(reversed(found), key=lambda part: len(part.mountpoint), default=None)


def block_device_of(path: Path) -> Path | None:
    """/sys/dev/block/MAJOR:MINOR of the file system that holds `path`; None for tmpfs, overlay and the like."""
    device = os.stat(path).st_dev
    node = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    return node if (node / "stat").exists() else None


def block_device_bytes(path: Path) -> tuple[int, int] | None:
    """(read, written) bytes of the block device under `path` since boot, by every process of the machine.

    Source: Documentation/block/stat.rst, fields 3 and 7, in sectors of 512 bytes.
    """
    node = block_device_of(path)
    if node is None:
        return None
    fields = (node / "stat").read_text().split()
    return int(fields[2]) * _SECTOR_BYTES, int(fields[6]) * _SECTOR_BYTES


def supports_direct_io(directory: Path) -> bool:
    """Whether files in `directory` can be opened with O_DIRECT."""
    probe = directory / f".hyperkv-{secrets.token_hex(4)}"
    try:
        os.close(os.open(probe, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_DIRECT, 0o600))
    except OSError:
        return False
    finally:
        probe.unlink(missing_ok=True)
    return True


def _cpu_s(pid: int) -> float | None:
    try:
        return time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED)
    except OSError:
        return None


def _pairs(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    return {name: rest.strip() for name, _, rest in (line.partition(":") for line in lines)}


def _stat_fields(path: Path) -> list[str]:
    """The fields of /proc/PID/stat after the command name, so that index 0 is the process state."""
    try:
        return path.read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _integer(text: str | None) -> int | None:
    return None if text is None else int(text)
