"""Rule write_stores: from the profile's records to one row per store and point.

python -m workflow.hyperkv.tables.stores --points results/profile/*.jsonl --out results/tables/stores.csv results/tables/stores.parquet
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pandas as pd

from ..base.cli import run_stage
from ..base.options import Files
from ..records.frames import Asked, Out, read_jsonl, write_table
from ..records.repeats import groups_of, known, median_per_byte, point_columns, said_once
from ..records.scenario import place_of
from ..records.stats import median
from .methods.dictionary import table_of

_POINT = ("scenario", "connections", "value_bytes", "operation")
_GB = 1e9


def main(*, points: Files = (), asked: Asked = None, out: Out) -> None:
    """Write the table.

    Args:
        points: JSONL files of the profile.
    """
    write_table(stores_table(read_jsonl(points, asked)), out)


def stores_table(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row per scenario x connections x value size x operation, medians over repeats. What is not known is empty."""
    rows = []
    for group in groups_of(records, _POINT):
        scenario = group.iloc[0]["spec"]["scenario"]
        rows.append(
            {
                **point_columns(group, _POINT),
                **{key: scenario[key] for key in ("tier", "store", "connector")},
                **{key: scenario.get(key) for key in ("stripe_bytes", "processes")},
                "place": place_of(scenario),
                "cold": bool(group["cold"].all()),
                "store_cpu_s_per_gb": median_per_byte(group, "store_cpu_s", _GB),
                "page_faults_per_gb": median_per_byte(group, "store_page_faults", _GB),
                "device_read_share": median_per_byte(group, "device_read_bytes"),
                "device_write_share": median_per_byte(group, "device_write_bytes"),
                "written_per_byte": median_per_byte(group, "settled_write_bytes", moved="settled_set_bytes"),
                "store_rss_bytes": median(known(group["store_rss_bytes"])),
                "notes": said_once(note for notes in group["notes"] for note in notes),
            }
        )
    return table_of("stores", rows)


if __name__ == "__main__":
    sys.exit(run_stage("stores", main))
