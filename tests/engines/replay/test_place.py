"""Cells of a store that is there already: what proves them, what is not known, and that nothing of others' is touched."""

import json

import pytest

from tests.record_factory import VALKEY, cell
from tests.stores.placed.servers import exporter, place_of, there
from workflow.hyperkv.base.secret import write_private
from workflow.hyperkv.engines.replay.cells import measure_cell
from workflow.hyperkv.profile import profile_store
from workflow.hyperkv.records.kinds.cell import Cell
from workflow.hyperkv.tables.cells import cells_table


def measured_at(folder, scenario: dict, **place) -> Cell:
    """The cell of a scenario whose store is a Valkey server with keys of others."""
    tiny = cell(folder, "none")
    tiny.spec["scenario"] |= scenario
    write_private(folder / "kv", "a secret\n")
    with there(folder / "there", "--requirepass", "a secret", password="a secret") as server:
        at = place_of(server.address, **place)
        tiny.spec["scenario"] |= {"name": "there", "place": at, "password_file": str(folder / "kv")}
        record = measure_cell(tiny)
        assert server.keys_of_others(password="a secret") == {}
    assert "a secret" not in json.dumps(record.dump())
    return record


@pytest.mark.parametrize("connector", ["redis", "resp", "striped"])
def test_ram_at_a_place_is_valid_and_its_process_is_not_known(tmp_path, connector):
    record = measured_at(tmp_path, VALKEY | {"connector": connector, "stripe_bytes": 1 << 18})
    assert (record.valid, record.served_from, record.reasons) == (True, "ram", [])
    found = record.evidence
    assert found.loaded_bytes
    assert found.served_bytes >= found.loaded_bytes
    assert found.store_hits
    unknown = (found.store_cpu_s, found.store_rss_bytes, found.device_read_bytes, found.block_read_bytes)
    assert unknown == (None, None, None, None)
    assert found.network_rtt_s > 0
    assert found.network_gbps > 0
    assert "was there already" in record.notes[0]
    [row] = cells_table([record.dump() | {"measured_in_job": 0.0}]).to_dict("records")
    assert row["place"] == record.spec["scenario"]["place"]["addresses"][0]


KVROCKS = VALKEY | {"tier": "ssd", "store": "kvrocks"}


def test_ssd_at_a_place_is_not_proved_without_an_exporter(tmp_path):
    record = measured_at(tmp_path, KVROCKS)
    assert (record.valid, record.served_from) == (False, "unknown")
    assert record.reasons == [
        "not proved to be served from the device: nobody tells what it read, at least 80% of bytes loaded needed"
    ]


def test_ssd_at_a_place_is_proved_by_its_hosts_exporter(tmp_path):
    with exporter(step=1 << 28) as told:
        device = {"metrics_url": told.url, "metrics_device": "nvme0n1"}
        record = measured_at(tmp_path, KVROCKS, **device)
        assert (record.valid, record.served_from, record.reasons) == (True, "ssd", [])
        assert record.evidence.device_read_bytes == 1 << 28
    with exporter() as told:
        record = measured_at(tmp_path, KVROCKS, metrics_url=told.url, metrics_device="nvme0n1")
        assert (record.valid, record.served_from) == (False, "ram")
        assert "device reads 0% of bytes loaded" in record.reasons[0]


def test_the_profile_of_a_store_at_a_place(tmp_path):
    with there(tmp_path / "there") as server:
        scenario = (
            cell(tmp_path, "none").scenario | KVROCKS | {"name": "there", "place": place_of(server.address)}
        )
        spec = {
            "scenario": scenario,
            "data_dir": str(tmp_path),
            "point_bytes": 1 << 20,
            "warm_up_bytes": 1 << 20,
        }
        points = profile_store.measure_size(spec, 1 << 16, 2, 1, tmp_path)
        assert [(point.operation, point.cold) for point in points] == [
            ("set", False),
            ("get_warm", False),
            ("get_cold", False),
        ]
        assert all(point.store_cpu_s is None and point.gbps > 0 for point in points)
        assert server.keys_of_others() == {}
