"""From the profile's records to the table of limits."""

import json

import pandas as pd
import pytest

from tests.helpers import command
from tests.record_factory import limit
from workflow.hyperkv.tables import limits
from workflow.hyperkv.tables.limits import device_limits, limits_table
from workflow.hyperkv.tables.methods.dictionary import columns_dictionary


@pytest.mark.parametrize("records", [[], [limit()]], ids=["none", "one"])
def test_the_dictionary_has_exactly_the_columns_of_the_table(tmp_path, records):
    (tmp_path / "limits.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    files = [tmp_path / "limits.jsonl"] if records else []
    command(limits, "--limits", *files, "--out", tmp_path / "limits.csv")
    table = pd.read_csv(tmp_path / "limits.csv")
    assert list(table) == list(columns_dictionary()["limits"])
    assert len(table) == len(records)


def test_limits_are_medians_too():
    records = [limit(name, repeat=repeat) for name in ("memcpy", "loopback_get") for repeat in (1, 2, 3)]
    records[0]["cpu_s"] = None
    table = limits_table(records)
    assert list(table["limit"]) == ["memcpy", "loopback_get"]
    row = table.iloc[0]
    assert (row["gbps"], row["gbps_low"], row["gbps_high"], row["repeats"]) == (20.0, 10.0, 30.0, 3)
    assert row["cpu_s_per_gb"] == pytest.approx(0.2)


def test_one_repeat_has_no_interval_and_cpu_time_below_the_clock_s_step_was_not_measured():
    row = limits_table([limit(cpu_s=0.0)]).iloc[0]
    assert row["gbps"] == 10.0
    assert row[["gbps_low", "gbps_high", "cpu_s_per_gb"]].isna().all()


def test_the_devices_baseline_gives_limits():
    common = {"block_bytes": 1 << 20, "queue_depth": 8, "cpu_s": 0.5, "moved_bytes": 10**9}
    baseline = [
        {"pattern": pattern, "operation": operation, "gbps": float(gbps), "repeat": repeat} | common
        for pattern, operation, gbps in (
            ("sequential", "read", 3),
            ("random", "read", 2),
            ("sequential", "write", 1),
        )
        for repeat in (1, 2)
    ]
    table = limits_table([limit(), *device_limits(baseline)])
    assert list(table["limit"]) == ["memcpy", "fio_read", "fio_write"]
    row = table.iloc[1]
    assert (row["connections"], row["value_bytes"], row["gbps"], row["repeats"]) == (8, 1 << 20, 3.0, 2)
    assert row["cpu_s_per_gb"] == 0.5
