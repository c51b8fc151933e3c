"""A run with Kvrocks among its scenarios: left out and named where there is none, measured with evidence where there is."""

import re
from pathlib import Path

import pytest

from tests.stores.conftest import KVROCKS_BIN
from tests.workflow_helpers import TINY, Checkout, changed
from workflow.hyperkv.build.kvrocks_patches import patches_in
from workflow.hyperkv.records.record_file import read_records
from workflow.hyperkv.stores.kvrocks.store import patches_of

pytestmark = pytest.mark.slow

WANTED = changed(
    TINY,
    {
        "experiment.scenarios": ["none", "dram", "kvrocks_resp"],
        "scenarios.kvrocks_resp": {"chunk_tokens": 16, "settings": {"rocksdb.write_buffer_size": 1}},
        "profile.scenarios": ["kvrocks_tuned"],
        "layers.scenarios": ["kvrocks_tuned"],
    },
)


@pytest.fixture
def without_kvrocks(tmp_path, monkeypatch):
    """A PATH on which there is no kvrocks; the interpreter's folder is put before it."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")


def test_without_kvrocks_its_scenarios_are_left_out_and_the_summary_says_so(tmp_path, without_kvrocks):
    checkout = Checkout.new(tmp_path / "checkout", WANTED)
    planned = checkout.planned()
    assert {"measure_scenario none 1", "measure_scenario dram-16 1", "write_summary"} <= planned
    assert not [job for job in planned if "kvrocks" in job]
    status, output = checkout.snakemake("--dry-run", "--printshellcmds", "tables")
    assert status == 0, output
    said = r"kvrocks: not built here, so without kvrocks_resp, kvrocks_tuned\. Build it: \S*snakemake --cores all build_kvrocks"
    assert re.search(said, output), output


def test_insisted_on_and_not_there_stops_before_anything_runs(tmp_path, without_kvrocks):
    checkout = Checkout.new(tmp_path / "checkout", changed(WANTED, {"kvrocks.source": "binary"}))
    status, output = checkout.snakemake("--dry-run")
    assert status != 0
    assert "config: kvrocks.binary: there is no program kvrocks (on PATH)" in output
    assert "Traceback" not in output


@pytest.mark.skipif(KVROCKS_BIN is None, reason="KVROCKS_BIN is not set")
def test_with_kvrocks_it_is_measured(tmp_path):
    program = Path(KVROCKS_BIN or "")
    patched = bool(patches_in(program) or patches_of(program))
    source = {"source": "binary", "patched_binary" if patched else "binary": str(program)}
    marked = {f"scenarios.{name}.patched": patched for name in ("kvrocks_resp", "kvrocks_tuned")}
    opened = {"scenarios.kvrocks_resp.settings.bind": "0.0.0.0"}
    checkout = Checkout.new(tmp_path / "checkout", changed(WANTED, {"kvrocks": source, **marked, **opened}))
    status, output = checkout.snakemake()
    assert status == 0, output
    assert (
        output.count("warning: scenarios.kvrocks_resp.settings.bind: store kvrocks: listens on 0.0.0.0") == 1
    )
    assert "settings.bind" in output.partition("rule measure_scenario")[0]
    for record in read_records(checkout / "results/sweep/kvrocks_resp/1.jsonl"):
        assert record["reasons"] == []
        assert record["served_from"] == "ssd"
        assert record["evidence"]["loaded_bytes"] > 0
        assert record["notes"][0].startswith("Kvrocks ")
        assert record["store_before"]["blob_bytes"] == 0
        assert record["store_after"]["memtable_bytes"] > 0
        assert record["spec"]["scenario"]["settings"]["rocksdb.enable_blob_files"] == "yes"
    points = read_records(checkout / "results/profile/kvrocks_tuned.jsonl")
    assert {point["operation"] for point in points} == {"set", "get_warm", "get_cold"}
    rungs = read_records(checkout / "results/profile/layers/kvrocks_tuned.jsonl")
    got = [rung for rung in rungs if rung["rung"] == "whole" and rung["operation"] == "get"]
    assert all(rung["server_cpu_s"] > 0 and rung["notes"][0].startswith("Kvrocks ") for rung in got)
    assert "GET from kvrocks_tuned" in (checkout / "results/tables/summary.txt").read_text()
    assert checkout.planned() == set()
    assert not list(checkout.folder.glob("results/data/*"))
