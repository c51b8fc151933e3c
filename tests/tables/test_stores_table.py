"""From the profile's records to the tables of stores and of limits."""

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.record_factory import limit, point
from workflow.hyperkv.tables import stores as stores_table
from workflow.hyperkv.tables.tables import COLUMNS_PATH


def run(folder: Path, monkeypatch, points: list, limits: list) -> Path:
    """Run the stage's main on records; the folder of its tables."""
    arguments = ["--out", folder / "tables"]
    for name, lines in {"points": points, "limits": limits}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        arguments += [f"--{name}", *([folder / f"{name}.jsonl"] if lines else [])]
    monkeypatch.setattr(sys, "argv", ["stores_table", *map(str, arguments)])
    stores_table.main()
    return folder / "tables"


@pytest.mark.parametrize("filled", [True, False])
def test_the_dictionary_has_exactly_the_columns_of_the_tables(tmp_path, monkeypatch, filled):
    records = ([point("files"), point("dram", "get_warm")], [limit()]) if filled else ([], [])
    out = run(tmp_path, monkeypatch, *records)
    assert sorted(path.name for path in out.iterdir()) == ["limits.csv", "stores.csv", "stores.parquet"]
    dictionary = yaml.safe_load(COLUMNS_PATH.read_text())
    for name, rows in (("stores", 2), ("limits", 1)):
        table = pd.read_csv(out / f"{name}.csv")
        assert list(table) == list(dictionary[name])
        assert len(table) == (rows if filled else 0)
    assert list(pd.read_parquet(out / "stores.parquet")) == list(dictionary["stores"])


def test_rows_are_by_scenario_connections_size_and_operation_in_the_records_order():
    points = [
        point(scenario, operation, size, repeat, connections=connections)
        for repeat in (1, 2)
        for size in (2 << 20, 1 << 20)
        for connections in (4, 1)
        for scenario in ("files", "dram")
        for operation in ("set", "get_warm")
    ]
    table = stores_table.stores_table(points)
    assert len(table) == 16
    assert set(table["repeats"]) == {2}
    assert list(table.iloc[0][["scenario", "connections", "value_bytes", "operation"]]) == [
        "files",
        4,
        2 << 20,
        "set",
    ]


def test_values_are_medians_per_byte_moved():
    points = [point("files", "get_cold", repeat=repeat) for repeat in (1, 2, 3)]
    points[2] |= {"moved_bytes": 2 * 10**9, "store_cpu_s": 8.0, "store_page_faults": 6000}
    row = stores_table.stores_table(points).iloc[0]
    assert (row["gbps"], row["gbps_low"], row["gbps_high"], row["repeats"]) == (2.0, 1.0, 3.0, 3)
    assert (row["store_cpu_s_per_gb"], row["page_faults_per_gb"], row["device_read_share"]) == (0.5, 300, 0.5)
    assert row["store_rss_bytes"] == 10**8
    assert pd.isna(row["device_write_share"])
    assert row["cold"]
    assert (row["tier"], row["store"], row["connector"]) == ("ssd", "files", "inprocess")


def test_what_no_repeat_knows_is_empty_and_what_one_knows_is_its_value():
    points = [point("files", "get_warm", repeat=repeat, device_read_bytes=None) for repeat in (1, 2)]
    assert pd.isna(stores_table.stores_table(points).iloc[0]["device_read_share"])
    points[1]["device_read_bytes"] = 10**9
    assert stores_table.stores_table(points).iloc[0]["device_read_share"] == 1.0


def test_only_a_set_on_ssd_has_disk_bytes_per_byte():
    points = [point("files"), point("files", "get_warm"), point("dram")]
    on_ssd, get, in_ram = stores_table.stores_table(points)["written_per_byte"]
    assert on_ssd == 2.0
    assert pd.isna(get)
    assert pd.isna(in_ram)


def test_one_repeat_has_no_interval():
    row = stores_table.stores_table([point("files")]).iloc[0]
    assert (row["gbps"], row["repeats"]) == (1.0, 1)
    assert pd.isna(row["gbps_low"])
    assert pd.isna(row["gbps_high"])
    row = stores_table.limits_table([limit()]).iloc[0]
    assert row["gbps"] == 10.0
    assert pd.isna(row["gbps_low"])


def test_one_repeat_that_was_not_cold_makes_the_point_not_cold():
    points = [point("files", "get_cold", repeat=repeat, cold=repeat > 1) for repeat in (1, 2)]
    assert not stores_table.stores_table(points).iloc[0]["cold"]


def test_notes_are_said_once():
    points = [point("files", repeat=1, notes=["a", "b"]), point("files", repeat=2, notes=["b", "c"])]
    assert stores_table.stores_table(points).iloc[0]["notes"] == "a; b; c"


def test_limits_are_medians_too():
    records = [limit(name, repeat=repeat) for name in ("memcpy", "loopback_get") for repeat in (1, 2, 3)]
    records[0]["cpu_s"] = None
    table = stores_table.limits_table(records)
    assert list(table["limit"]) == ["memcpy", "loopback_get"]
    row = table.iloc[0]
    assert (row["gbps"], row["gbps_low"], row["gbps_high"], row["repeats"]) == (20.0, 10.0, 30.0, 3)
    assert row["cpu_s_per_gb"] == pytest.approx(0.2)


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
    table = stores_table.limits_table([limit(), *stores_table.device_limits(baseline)])
    assert list(table["limit"]) == ["memcpy", "fio_read", "fio_write"]
    row = table.iloc[1]
    assert (row["connections"], row["value_bytes"], row["gbps"], row["repeats"]) == (8, 1 << 20, 3.0, 2)
    assert row["cpu_s_per_gb"] == 0.5


def test_cpu_time_below_the_clock_s_step_was_not_measured():
    zero = {"store_cpu_s": 0.0, "store_page_faults": 0}
    table = stores_table.stores_table([point("files", **zero), point("files", repeat=2, **zero)])
    assert table["store_cpu_s_per_gb"].isna().all()
    assert (table["page_faults_per_gb"] == 0).all()
    assert stores_table.limits_table([limit(cpu_s=0.0)])["cpu_s_per_gb"].isna().all()
