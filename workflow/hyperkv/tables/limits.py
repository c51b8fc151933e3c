"""Rule write_limits: one row per limit of the machine, the device's baseline among them.

python -m workflow.hyperkv.tables.limits --limits results/profile/limits/limits.jsonl --baseline results/array/baseline.jsonl --out results/tables/limits.csv
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pandas as pd

from ..base.cli import run_stage
from ..base.options import Files
from ..records.frames import Asked, Out, read_jsonl, write_table
from ..records.repeats import groups_of, median_per_byte, point_columns
from .methods.dictionary import table_of

_LIMIT = ("limit", "connections", "value_bytes")


def main(*, limits: Files = (), baseline: Files = (), asked: Asked = None, out: Out) -> None:
    """Write the table.

    Args:
        limits: JSONL files of the limits.
        baseline: JSONL files of the device's baseline.
    """
    measured = [*read_jsonl(limits, asked), *device_limits(read_jsonl(baseline))]
    write_table(limits_table(measured), out)


def limits_table(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row per limit x connections x value size, medians over repeats."""
    rows = [
        {**point_columns(group, _LIMIT), "cpu_s_per_gb": median_per_byte(group, "cpu_s", 1e9)}
        for group in groups_of(records, _LIMIT)
    ]
    return table_of("limits", rows)


def device_limits(baseline: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The sequential points of fio in a baseline as limits `fio_write` and `fio_read`: block size, and queue depth as connections."""
    return [
        {
            "limit": f"fio_{record['operation']}",
            "connections": record["queue_depth"],
            "value_bytes": record["block_bytes"],
            **{key: record[key] for key in ("gbps", "cpu_s", "moved_bytes")},
            "environment": record.get("environment"),
        }
        for record in baseline
        if record["pattern"] == "sequential"
    ]


if __name__ == "__main__":
    sys.exit(run_stage("limits", main))
