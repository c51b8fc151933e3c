"""fio's command lines and what its JSON says. Source: fio(1), fio 3.x."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..base.errors import UserError

PATTERNS = {
    ("write", "sequential"): "write",
    ("read", "sequential"): "read",
    ("write", "random"): "randwrite",
    ("read", "random"): "randread",
}
_PAST_THE_CACHE = ("--direct=1", "--ioengine=libaio", "--group_reporting", "--output-format=json")
_GB = 1e9
_NS_PER_MS = 1e6


def layout_command(file: Path, size_bytes: int) -> list[str]:
    """Write the whole file once, so that no read meets a block that was never written."""
    return [*_common(file, size_bytes), "--rw=write", "--bs=1m", "--iodepth=8", "--end_fsync=1"]


def point_command(
    file: Path,
    size_bytes: int,
    operation: str,
    pattern: str,
    block_bytes: int,
    queue_depth: int,
    seconds: float,
) -> list[str]:
    """Read or write the file for so many seconds, `queue_depth` blocks under way at once, past the page cache."""
    return [
        *_common(file, size_bytes),
        f"--rw={PATTERNS[operation, pattern]}",
        f"--bs={block_bytes}",
        f"--iodepth={queue_depth}",
        "--time_based",
        f"--runtime={seconds:g}",
    ]


def read_command(files: Sequence[Path], block_bytes: int, queue_depth: int) -> list[str]:
    """Read whole files once, one after the other, `queue_depth` blocks under way at once, past the page cache, into huge pages where
    glibc gives them (2.35)."""
    return [
        *("env", "GLIBC_TUNABLES=glibc.malloc.hugetlb=1", "fio", "--name=hyperkv", "--readonly", "--rw=read"),
        *(f"--filename={':'.join(map(_name, files))}", "--file_service_type=sequential"),
        *(f"--bs={block_bytes}", f"--iodepth={queue_depth}", *_PAST_THE_CACHE),
    ]


def parse_point(text: str, operation: str) -> dict[str, Any]:
    """moved_bytes, elapsed_s, gbps, iops, latencies (submission to completion) and CPU of one fio run.

    Raises UserError when fio reports an error or says nothing of the operation.
    """
    try:
        document = json.loads(text[text.index("{") :])
        job = document["jobs"][0]
        side = job[operation]
    except (ValueError, KeyError, IndexError) as error:
        last = next((line for line in reversed(text.splitlines()) if line.strip()), "nothing")
        raise UserError(f"fio printed no result: {last.strip()}; run its command by hand") from error
    if job["error"] or not side["io_bytes"]:
        raise UserError(f"fio moved no bytes (error {job['error']}); run its command by hand")
    latency = side["clat_ns"]
    percentiles = latency.get("percentile", {})
    elapsed_s = side["runtime"] / 1000
    return {
        "tool": document["fio version"],
        "moved_bytes": side["io_bytes"],
        "elapsed_s": elapsed_s,
        "gbps": side["bw_bytes"] / _GB,
        "iops": side["iops"],
        "latency_mean_ms": latency["mean"] / _NS_PER_MS,
        "latency_p50_ms": _ms(percentiles.get("50.000000")),
        "latency_p99_ms": _ms(percentiles.get("99.000000")),
        "cpu_s": (job["usr_cpu"] + job["sys_cpu"]) / 100 * elapsed_s,
    }


def _common(file: Path, size_bytes: int) -> list[str]:
    return [
        *("fio", "--name=hyperkv", f"--filename={_name(file)}", f"--size={size_bytes}", "--overwrite=1"),
        *_PAST_THE_CACHE,
    ]


def _name(file: Path) -> str:
    """A file's path as fio has it, for which a colon ends a name."""
    return str(file).replace(":", "\\:")


def _ms(nanoseconds: float | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / _NS_PER_MS
