"""A run whose store is there already, before and after: measured, reported, killed in the middle, and taken up again."""

import pandas as pd
import pytest

from tests.helpers import eventually
from tests.stores.placed.servers import There, there
from tests.workflow_helpers import TINY, Checkout, changed
from workflow.hyperkv.records.record_file import read_records

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def wanted(address: str) -> dict:
    """TINY with Valkey at an address, and what is called Kvrocks there, which nothing proves to read from a device."""
    common = {"place": {"addresses": [address]}, "chunk_tokens": 16}
    return changed(
        TINY,
        {
            "scenarios.there": {"tier": "dram", "store": "valkey", "connector": "striped", **common},
            "scenarios.far_ssd": {"tier": "ssd", "store": "kvrocks", "connector": "resp", **common},
            "experiment.scenarios": ["none", "there", "far_ssd"],
            "evidence.device_share_min": 0.5,
            "profile.scenarios": ["there"],
            "layers.scenarios": [],
        },
    )


def test_a_store_at_a_place_is_measured_and_left_as_it_was(complete, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with there(tmp_path / "there") as server:
        checkout = complete[0].copy(tmp_path / "checkout")
        checkout.configure(wanted(server.address))
        status, output = checkout.snakemake("tables")
        assert status == 0, output
        assert server.keys_of_others() == {}
        for record in read_records(checkout / "results/sweep/there/1.jsonl"):
            assert (record["valid"], record["served_from"]) == (True, "ram")
            assert record["evidence"]["network_gbps"] > 0
            assert record["evidence"]["store_cpu_s"] is None
        for record in read_records(checkout / "results/sweep/far_ssd/1.jsonl"):
            assert (record["valid"], record["served_from"]) == (False, "unknown")
        cells = pd.read_csv(checkout / "results/tables/cells.csv")
        assert set(cells[cells["scenario"] == "far_ssd"]["place"]) == {server.address}
        assert cells[cells["scenario"] == "far_ssd"]["disk"].isna().all()
        assert cells["notes"].str.contains(f"{server.address} (Valkey", regex=False).any()
        assert "far_ssd" in (checkout / "results/tables/summary.txt").read_text()
        assert checkout.planned("tables") == set()


def kill_a_job(checkout: Checkout, server: There) -> None:
    """Kill a job that has saved something, before its Snakemake, without which it would end well and delete it."""
    with checkout.start(*checkout.sweep_argv("there")) as run:
        with server.client() as client:
            eventually(
                lambda: client.dbsize() > 1002 or run.poll() is not None, 240
            )  # the lease, and something saved
        for process in reversed(checkout.processes()):
            process.kill()


def test_a_killed_job_leaves_keys_that_the_next_run_deletes(tmp_path):
    with there(tmp_path / "there") as server:
        checkout = Checkout.new(tmp_path / "checkout", wanted(server.address))
        for _ in range(10):
            kill_a_job(checkout, server)
            if len(server.keys_of_others()) > 1:
                break
            (checkout / "results/sweep/there/1.jsonl").unlink(missing_ok=True)  # it had ended by itself
        assert len(server.keys_of_others()) > 1
        status, output = checkout.snakemake("results/sweep/there/1.jsonl")
        assert status == 0, output
        assert f"hyperkv: place.addresses: {server.address} is another run's (process " in output
        assert server.keys_of_others() == {}
        records = read_records(checkout / "results/sweep/there/1.jsonl")
        assert any("a run which broke off had left" in line for record in records for line in record["notes"])
