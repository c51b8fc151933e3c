"""Stage stores_table: from the profile's records to one row per store and point, and one per limit.

python -m workflow.hyperkv.tables.stores --points results/profile/*.jsonl --limits results/profile/limits/limits.jsonl --out results/tables
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..base.cli import run_stage
from ..records import hardware
from ..records.frames import add_asked, known, read_jsonl, spread, write_table
from ..records.stats import median_interval

STORES_COLUMNS = (
    "scenario",
    "tier",
    "store",
    "connector",
    "connections",
    "stripe_bytes",
    "processes",
    "value_bytes",
    "operation",
    "cold",
    "gbps",
    "gbps_low",
    "gbps_high",
    "repeats",
    "store_cpu_s_per_gb",
    "page_faults_per_gb",
    "device_read_share",
    "device_write_share",
    "written_per_byte",
    "store_rss_bytes",
    "notes",
    *hardware.COLUMNS,
)
LIMITS_COLUMNS = (
    "limit",
    "connections",
    "value_bytes",
    "gbps",
    "gbps_low",
    "gbps_high",
    "repeats",
    "cpu_s_per_gb",
    *hardware.COLUMNS,
)
_GB = 1e9


def main() -> None:
    """Parse the command line and write the tables."""
    parser = argparse.ArgumentParser(prog="python -m workflow.hyperkv.tables.stores", description=__doc__)
    parser.add_argument("--points", nargs="*", default=[], type=Path, help="JSONL files of the profile")
    parser.add_argument("--limits", nargs="*", default=[], type=Path, help="JSONL files of the limits")
    parser.add_argument(
        "--baseline", nargs="*", default=[], type=Path, help="JSONL files of the device's baseline"
    )
    parser.add_argument("--out", required=True, type=Path, help="folder for the tables")
    add_asked(parser)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_table(stores_table(read_jsonl(arguments.points, arguments.asked)), arguments.out / "stores")
    limits = limits_table(
        [*read_jsonl(arguments.limits, arguments.asked), *device_limits(read_jsonl(arguments.baseline))]
    )
    limits.to_csv(arguments.out / "limits.csv", index=False)


def stores_table(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row per scenario x connections x value size x operation, medians over repeats. What is not known is empty."""
    rows = []
    for group in _groups(records, ["scenario", "connections", "value_bytes", "operation"]):
        first = group.iloc[0]
        scenario = first["spec"]["scenario"]
        rows.append(
            {
                **{key: first[key] for key in ("scenario", "connections", "value_bytes", "operation")},
                **{key: scenario[key] for key in ("tier", "store", "connector")},
                **{key: scenario.get(key) for key in ("stripe_bytes", "processes")},
                "cold": bool(group["cold"].all()),
                **spread("gbps", median_interval(known(group["gbps"]))),
                "repeats": len(group),
                "store_cpu_s_per_gb": _median_per_byte(group, "store_cpu_s", _GB),
                "page_faults_per_gb": _median_per_byte(group, "store_page_faults", _GB),
                "device_read_share": _median_per_byte(group, "device_read_bytes"),
                "device_write_share": _median_per_byte(group, "device_write_bytes"),
                "written_per_byte": _median_per_byte(group, "settled_write_bytes", moved="settled_set_bytes"),
                "store_rss_bytes": median_interval(known(group["store_rss_bytes"])).median,
                "notes": "; ".join(dict.fromkeys(note for notes in group["notes"] for note in notes)),
                **hardware.columns_of(group.to_dict("records")),
            }
        )
    return pd.DataFrame(rows, columns=list(STORES_COLUMNS))


def limits_table(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row per limit x connections x value size, medians over repeats."""
    identity = ["limit", "connections", "value_bytes"]
    rows = [
        {
            **{key: group.iloc[0][key] for key in identity},
            **spread("gbps", median_interval(known(group["gbps"]))),
            "repeats": len(group),
            "cpu_s_per_gb": _median_per_byte(group, "cpu_s", _GB),
            **hardware.columns_of(group.to_dict("records")),
        }
        for group in _groups(records, identity)
    ]
    return pd.DataFrame(rows, columns=list(LIMITS_COLUMNS))


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


def _groups(records: Sequence[dict[str, Any]], keys: list[str]) -> list[pd.DataFrame]:
    """The repeats of each point, in the records' order."""
    return [group for _, group in pd.DataFrame(records).groupby(keys, sort=False)] if records else []


def _median_per_byte(
    group: pd.DataFrame, column: str, unit_bytes: float = 1.0, moved: str = "moved_bytes"
) -> float | None:
    """Median over repeats of a column per `unit_bytes` of the column `moved`; None where no repeat knows it.

    CPU time of 0 is not known: records from before the process's own clock was read have it for less than a tick of 10 ms.
    """
    unknown = (None, 0) if column.endswith("cpu_s") else (None,)
    shares = [
        None if value in unknown else value / size * unit_bytes
        for value, size in zip(known(group[column]), group[moved], strict=True)
    ]
    return median_interval(shares).median


if __name__ == "__main__":
    sys.exit(run_stage("stores_table", main))
