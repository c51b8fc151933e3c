"""Stage baseline_array: what the device under data_dir can do, by fio where it is installed and by our O_DIRECT reader.

python -m workflow.hyperkv.array.baseline_array --spec JSON [--out results/array/baseline.jsonl]

One line per repeat x block size x queue depth x pattern x operation. Pattern `values` is ours: files of one block each,
a thread per place in the queue, O_DIRECT, as the store `files` does it. Needs no root. Figure `stores` draws the best
sequential figures of fio as the device's limit.
"""

from __future__ import annotations

import itertools
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..base.cli import run_stage
from ..base.errors import UserError
from ..base.options import Spec
from ..cells.point import common_fields, values_per_connection
from ..machine.counters import supports_direct_io
from ..machine.node import data_dir_of, node_name
from ..machine.own_folder import alone_on, own_folder
from ..machine.place import place_of
from ..machine.probe import call
from ..machine.require_array import require_array
from ..profile.profile_limits import measure_device
from ..records.identity import BY_HAND, identity_of
from ..records.journal import Journal
from ..records.kinds.profile import Baseline
from ..records.record_file import read_records
from .baseline_file import BASELINE
from .fio import PATTERNS, layout_command, parse_point, point_command

_GRACE_S = 60.0
_LAYOUT_TIMEOUT_S = 3600.0
_MOST_VALUES = 256


def main(*, spec: Spec, out: Path = BASELINE, code: str = BY_HAND) -> None:
    """Measure the device.

    Args:
        spec: JSON: array.baseline's keys, data_dir and array.
        out: JSONL file of baseline records.
        code: digest of the code that is run, told by the rule.
    """
    md_uuid = require_array(spec)
    data_dir = data_dir_of(spec["data_dir"])
    with alone_on(data_dir):
        _measure(spec, data_dir, out, md_uuid, code)


def _measure(spec: dict[str, Any], data_dir: Path, out: Path, md_uuid: str | None, code: str) -> None:
    if not supports_direct_io(data_dir):
        raise UserError(
            f"data_dir: {data_dir} has no O_DIRECT ({place_of(data_dir).note()}); choose a folder on a disk"
        )
    _check_room(spec, data_dir)
    journal = Journal(out, identity_of(spec, code), node_name(), md_uuid)
    with_fio = shutil.which("fio") is not None
    if not with_fio:
        print(
            "hyperkv baseline_array: fio is not installed (Debian: fio), so only our reader measures",
            flush=True,
        )
    keys: list[str] = []
    with own_folder(data_dir, "baseline_array") as folder:
        for repeat in range(1, spec["repeats"] + 1):
            if with_fio:
                keys += _measure_fio(journal, spec, folder, repeat)
            keys += _measure_values(journal, spec, data_dir, repeat)
    journal.finish(keys, common_fields(spec, data_dir) | {"md_uuid": md_uuid})
    print("\n".join(summary(read_records(out), data_dir)))


def summary(records: Sequence[dict[str, Any]], data_dir: Path) -> list[str]:
    """A line per pattern and operation: the most GB/s, and at which block size and queue depth."""
    lines = [f"{data_dir}: {place_of(data_dir).note()}"]
    for pattern, operation in itertools.product(("sequential", "random", "values"), ("read", "write")):
        points = [row for row in records if (row["pattern"], row["operation"]) == (pattern, operation)]
        if points:
            best = max(points, key=lambda row: row["gbps"])
            lines.append(
                f"  {pattern} {operation}: {best['gbps']:.2f} GB/s at {best['block_bytes'] >> 10} KiB, queue depth "
                f"{best['queue_depth']} ({best['tool']})"
            )
    return lines


def _measure_fio(journal: Journal, spec: dict[str, Any], folder: Path, repeat: int) -> list[str]:
    file, size = folder / "fio", spec["file_bytes"]
    keys = []
    points = itertools.product(PATTERNS, spec["block_bytes"], spec["queue_depths"])
    for (operation, pattern), block, depth in points:
        key = f"{repeat}/{pattern}/{operation}/{block}/{depth}"
        keys.append(key)
        if journal.has(key):
            continue
        if not file.exists():
            _fio(layout_command(file, size), _LAYOUT_TIMEOUT_S)
        command = point_command(file, size, operation, pattern, block, depth, spec["point_s"])
        point = parse_point(_fio(command, spec["point_s"] + _GRACE_S), operation)
        record = Baseline(**_identity(repeat, pattern, operation, block, depth), **point)
        journal.append(key, record.dump())
    return keys


def _fio(command: list[str], timeout_s: float) -> str:
    done = call(command, timeout_s)
    if done.status:
        said = [line for line in f"{done.text}\n{done.errors}".splitlines() if line.strip()]
        raise UserError(
            f"`{' '.join(command)}` failed (status {done.status}): {said[-1].strip() if said else 'no word'}"
        )
    return done.text


def _measure_values(journal: Journal, spec: dict[str, Any], data_dir: Path, repeat: int) -> list[str]:
    keys = []
    for block, depth in itertools.product(spec["block_bytes"], spec["queue_depths"]):
        wanted = [f"{repeat}/values/{operation}/{block}/{depth}" for operation in ("write", "read")]
        keys += wanted
        if all(journal.has(key) for key in wanted):
            continue
        each = min(values_per_connection(spec["reader_bytes"], block, depth), _MOST_VALUES)
        for key, record in zip(wanted, measure_device(data_dir, block, depth, each), strict=True):
            operation = key.split("/")[2]
            moved = record.model_dump(include={"moved_bytes", "elapsed_s", "gbps", "cpu_s"})
            made = Baseline(
                **_identity(repeat, "values", operation, block, depth),
                **moved,
                tool="hyperkv files",
                iops=record.moved_bytes // block / record.elapsed_s,
                latency_mean_ms=None,
                latency_p50_ms=None,
                latency_p99_ms=None,
            )
            journal.append(key, made.dump())
    return keys


def _identity(repeat: int, pattern: str, operation: str, block: int, depth: int) -> dict[str, Any]:
    return {
        "repeat": repeat,
        "pattern": pattern,
        "operation": operation,
        "block_bytes": block,
        "queue_depth": depth,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _check_room(spec: dict[str, Any], data_dir: Path) -> None:
    free = shutil.disk_usage(data_dir).free
    most = max(spec["block_bytes"]) * max(spec["queue_depths"])
    needed = spec["file_bytes"] + max(spec["reader_bytes"], most)
    if free < needed:
        raise UserError(
            f"data_dir: the baseline needs {needed / 1e9:.1f} GB in {data_dir}, {free / 1e9:.1f} GB are free; free some, or "
            f"choose a folder on a larger disk"
        )


if __name__ == "__main__":
    sys.exit(run_stage("baseline_array", main, resumes=True))
