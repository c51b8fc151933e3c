"""From the profile's records to the table of stores."""

import json

import pandas as pd
import pytest

from tests.helpers import command
from tests.record_factory import point
from workflow.hyperkv.tables import stores
from workflow.hyperkv.tables.methods.dictionary import columns_dictionary
from workflow.hyperkv.tables.stores import stores_table


@pytest.mark.parametrize("records", [[], [point("files"), point("dram", "get_warm")]], ids=["none", "two"])
def test_the_dictionary_has_exactly_the_columns_of_the_table(tmp_path, records):
    (tmp_path / "points.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    files, out = [tmp_path / "points.jsonl"] if records else [], tmp_path / "tables"
    command(stores, "--points", *files, "--out", out / "stores.csv", out / "stores.parquet")
    columns = list(columns_dictionary()["stores"])
    for table in (pd.read_csv(out / "stores.csv"), pd.read_parquet(out / "stores.parquet")):
        assert list(table) == columns
        assert len(table) == len(records)


def test_rows_are_by_scenario_connections_size_and_operation_in_the_records_order():
    points = [
        point(scenario, operation, size, repeat, connections=connections)
        for repeat in (1, 2)
        for size in (2 << 20, 1 << 20)
        for connections in (4, 1)
        for scenario in ("files", "dram")
        for operation in ("set", "get_warm")
    ]
    table = stores_table(points)
    assert len(table) == 16
    assert set(table["repeats"]) == {2}
    named = ["scenario", "connections", "value_bytes", "operation"]
    assert list(table.iloc[0][named]) == ["files", 4, 2 << 20, "set"]


def test_values_are_medians_per_byte_moved():
    points = [point("files", "get_cold", repeat=repeat) for repeat in (1, 2, 3)]
    points[2] |= {"moved_bytes": 2 * 10**9, "store_cpu_s": 8.0, "store_page_faults": 6000}
    row = stores_table(points).iloc[0]
    assert (row["gbps"], row["gbps_low"], row["gbps_high"], row["repeats"]) == (2.0, 1.0, 3.0, 3)
    assert (row["store_cpu_s_per_gb"], row["page_faults_per_gb"], row["device_read_share"]) == (0.5, 300, 0.5)
    assert row["store_rss_bytes"] == 10**8
    assert pd.isna(row["device_write_share"])
    assert row["cold"]
    assert (row["tier"], row["store"], row["connector"]) == ("ssd", "files", "inprocess")
    alone = stores_table(points[:1]).iloc[0]
    assert (alone["gbps"], alone["repeats"]) == (1.0, 1)
    assert alone[["gbps_low", "gbps_high"]].isna().all()


def test_what_no_repeat_knows_is_empty_and_what_one_knows_is_its_value():
    points = [point("files", "get_warm", repeat=repeat, device_read_bytes=None) for repeat in (1, 2)]
    assert pd.isna(stores_table(points).iloc[0]["device_read_share"])
    points[1]["device_read_bytes"] = 10**9
    assert stores_table(points).iloc[0]["device_read_share"] == 1.0


def test_only_a_set_on_ssd_has_disk_bytes_per_byte():
    points = [point("files"), point("files", "get_warm"), point("dram")]
    on_ssd, get, in_ram = stores_table(points)["written_per_byte"]
    assert on_ssd == 2.0
    assert pd.isna(get)
    assert pd.isna(in_ram)


def test_one_repeat_that_was_not_cold_makes_the_point_not_cold():
    points = [point("files", "get_cold", repeat=repeat, cold=repeat > 1) for repeat in (1, 2)]
    assert not stores_table(points).iloc[0]["cold"]


def test_notes_are_said_once():
    points = [point("files", repeat=1, notes=["a", "b"]), point("files", repeat=2, notes=["b", "c"])]
    assert stores_table(points).iloc[0]["notes"] == "a; b; c"


def test_cpu_time_below_the_clock_s_step_was_not_measured():
    zero = {"store_cpu_s": 0.0, "store_page_faults": 0}
    table = stores_table([point("files", **zero), point("files", repeat=2, **zero)])
    assert table["store_cpu_s_per_gb"].isna().all()
    assert (table["page_faults_per_gb"] == 0).all()
