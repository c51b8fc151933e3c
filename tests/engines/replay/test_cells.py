"""One cell from spec to record, on real stores with a tiny workload."""

import json
import re
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from tests.record_factory import STORES, cell
from tests.workloads.kinds import EXCERPT
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.connectors.registry import make_connector
from workflow.hyperkv.engines.replay.cells import damaged_chunks, measure_cell
from workflow.hyperkv.engines.replay.tiers import RealTiers, Tier
from workflow.hyperkv.predict.predict_hit_rates import Simulation
from workflow.hyperkv.stores.base import StoreConfig
from workflow.hyperkv.stores.registry import make_store
from workflow.hyperkv.workloads.factory import make_workload
from workflow.hyperkv.workloads.payload import Payload
from workflow.plugin.lmcache_striped.stripes import stripe_key


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """One record per scenario, and the folder it was measured in."""
    folders = {name: tmp_path_factory.mktemp(name) for name in STORES}
    return {name: (measure_cell(cell(folder, name)).dump(), folder) for name, folder in folders.items()}


@pytest.mark.parametrize("name", STORES)
def test_a_record_is_json_without_nan(records, name):
    record, _ = records[name]
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_two_modelled_gpus_are_counted_as_two(records, tmp_path):
    two = cell(tmp_path, "dram")
    two.spec["replay"]["gpus"] = 2
    record, one = measure_cell(two).dump(), records["dram"][0]
    assert (one["gpus"], record["gpus"], record["gpu_model"]["gpus"]) == (1, 2, 2)
    assert record["gpu_model"]["host_device_gbps"] == 2 * one["gpu_model"]["host_device_gbps"]
    assert record["chunk_bytes"] == one["chunk_bytes"]
    window_s, ends = record["values"]["window_s"], record["requests"]["finish_s"]
    answered = sum(end <= window_s + 1e-6 for end in ends)
    assert record["values"]["rps_per_gpu"] == pytest.approx(answered / window_s / 2)


@pytest.mark.parametrize("name", STORES)
def test_tokens_add_up(records, name):
    evidence = records[name][0]["evidence"]
    assert evidence["queried_tokens"] > 0
    assert evidence["hit_tokens"] + evidence["computed_tokens"] == evidence["queried_tokens"]
    parts = [evidence[f"{tier}_hit_tokens"] for tier in ("hbm", "dram", "store")]
    assert sum(parts) == evidence["hit_tokens"]


@pytest.mark.parametrize(("name", "tier"), [("dram", "dram"), ("files", "store")])
def test_bytes_loaded_are_whole_chunks_that_the_store_served(records, name, tier):
    record, _ = records[name]
    evidence, chunk = record["evidence"], record["chunk_bytes"]
    assert chunk == 32 * record["kv_bytes_per_token"]
    assert evidence["store_hits"] > 0
    assert evidence["loaded_bytes"] == chunk * evidence["store_hits"]
    assert evidence["served_bytes"] == evidence["loaded_bytes"]
    assert evidence["taken_bytes"] == evidence["saved_bytes"]
    assert 0 < evidence[f"{tier}_hit_tokens"] <= 32 * evidence["store_hits"]
    assert evidence["corrupt_chunks"] == evidence["dropped_chunks"] == evidence["failed_requests"] == 0


def test_without_a_tier_nothing_is_loaded_and_bytes_of_a_store_are_unknown(records):
    record, _ = records["none"]
    assert record["evidence"]["loaded_bytes"] == 0
    assert record["evidence"]["served_bytes"] is None
    assert record["evidence"]["device_share"] is None
    assert (record["valid"], record["served_from"]) == (True, "recompute")


def test_dram_serves_from_ram_and_a_files_cell_says_where_it_served_from(records):
    assert (records["dram"][0]["valid"], records["dram"][0]["served_from"]) == (True, "ram")
    files, _ = records["files"]
    share = files["evidence"]["device_share"]
    from_ssd = share is not None and share >= 0.8
    assert files["served_from"] == ("ssd" if from_ssd else "ram")
    assert files["valid"] == from_ssd
    assert bool(files["reasons"]) != from_ssd


def test_a_tier_saves_computing(records):
    computed = {name: record["evidence"]["computed_tokens"] for name, (record, _) in records.items()}
    assert computed["dram"] < computed["none"]
    assert computed["files"] < computed["none"]


@pytest.mark.parametrize("name", STORES)
def test_samples_are_one_entry_per_request_and_sum_to_the_evidence(records, name):
    record, _ = records[name]
    samples, evidence = record["requests"], record["evidence"]
    assert {len(column) for column in samples.values()} == {evidence["sent_requests"]}
    for column in (
        "computed_tokens",
        "loaded_bytes",
        "hbm_hit_tokens",
        "dram_hit_tokens",
        "store_hit_tokens",
    ):
        assert sum(samples[column]) == evidence[column]
    assert sum(samples["in_window"]) == record["values"]["requests"]


@pytest.mark.parametrize("name", ["dram", "files"])
def test_nothing_is_left_on_disk(records, name):
    _, folder = records[name]
    assert (folder / "data").is_dir()
    assert list((folder / "data").iterdir()) == []


def test_repeats_are_paired_across_scenarios_and_differ_from_one_another(records, tmp_path):
    prompts = {name: sorted(record["requests"]["prompt_tokens"]) for name, (record, _) in records.items()}
    assert prompts["none"] == prompts["dram"] == prompts["files"]
    second = measure_cell(cell(tmp_path, "none", repeat=2)).dump()
    assert second["seed"] != records["none"][0]["seed"]
    assert sorted(second["requests"]["prompt_tokens"]) != prompts["none"]
    seeds = {cell(tmp_path, name, load, 2).seed for name in STORES for load in (1, 2)}
    assert seeds == {second["seed"]}


def test_a_disk_without_room_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 1))
    with pytest.raises(UserError, match=r"scenario files: about \d+\.\d GB needed on the disk of .*data_dir"):
        measure_cell(cell(tmp_path, "files"))
    assert [path for path in (tmp_path / "data").rglob("*") if path.is_file()] == []


def test_memory_without_room_is_refused(tmp_path, monkeypatch):
    memory = namedtuple("memory", "available")
    monkeypatch.setattr("workflow.hyperkv.cells.cell.psutil.virtual_memory", lambda: memory(1))
    with pytest.raises(UserError, match=r"needed in memory.*dram_pool_bytes"):
        measure_cell(cell(tmp_path, "dram"))


def test_a_chunk_longer_than_every_context_is_refused(tmp_path):
    wrong = cell(tmp_path, "dram")
    wrong.scenario["chunk_tokens"] = 4096
    with pytest.raises(
        UserError, match="scenario dram: chunk_tokens 4096 exceeds the workload's longest context"
    ):
        measure_cell(wrong)
    assert not Path(wrong.spec["data_dir"]).exists()


def test_a_context_longer_than_the_models_is_refused(tmp_path):
    wrong = cell(tmp_path, "none")
    wrong.spec["workload"] |= {"conversations": 1, "turns": [2, 2], "prefix_tokens": [140_000, 140_000]}
    with pytest.raises(
        UserError, match=r"workload: a context of 14\d+ tokens exceeds .*; lower the highest of"
    ):
        measure_cell(wrong)


def test_a_damaged_chunk_is_a_miss_and_is_counted(tmp_path):
    payload, keys = Payload(4100), [bytes([0, 0, 0, i]) * 4 for i in range(6)]
    config = StoreConfig(tmp_path / "valkey", 4100, tmp_path / "log")
    with make_store("valkey", config) as store, make_connector("striped", store, 2) as connector:
        levels = [Tier("store", store, connector)]
        tiers = RealTiers(levels, payload, len(keys))
        tiers.save(keys)
        assert tiers.load(keys).present == len(keys)
        assert damaged_chunks(levels) == 0
        with store.client() as client:
            name = stripe_key(keys[2], 0)
            client.set(name, client.get(name)[:-1] + b"?")
        load = tiers.load(keys)
        assert (load.present, load.corrupt, damaged_chunks(levels)) == (2, 0, 1)


@pytest.mark.parametrize("pool", [None, 4 << 20])
@pytest.mark.parametrize(("save", "uses"), [("first_use", 1), ("second_use", 2)])
def test_hits_and_bytes_saved_at_the_first_and_the_second_use_are_those_that_are_predicted(
    tmp_path, save, uses, pool
):
    striped = cell(tmp_path, "dram", load=1)
    own = {"store": "valkey", "connector": "striped", "dram_pool_bytes": pool, "client": "python"}
    striped.scenario.update(own, stripe_bytes=1 << 18, stripes_in_flight=4, save=save)
    striped.spec["workload"]["turns"] = [8, 8]
    striped.spec["replay"] |= {"prefix_caching": False, "hbm_kv_bytes": 64 << 20}
    record = measure_cell(striped).dump()
    evidence, spec = record["evidence"], striped.spec
    run = Simulation.of(make_workload(spec["workload"], record["seed"]), 1, spec["active_conversations"])
    above = {} if pool is None else {"dram": pool // record["chunk_bytes"]}
    found = run.found(above | {"ssd": None}, True, 16, 32, uses, "rest")
    assert record["valid"], record["reasons"]
    assert evidence["store_hit_tokens"] == found.hits["ssd"].sum() > 0
    assert evidence["dram_hit_tokens"] == (0 if pool is None else found.hits["dram"].sum())
    assert abs(evidence["saved_bytes"] - found.written.sum() * record["chunk_bytes"]) <= record["chunk_bytes"]
    assert (evidence["first_use_chunks"] > 0) == (uses == 2)


def test_direct_tells_what_it_read_from_files_and_that_it_came_from_the_device(tmp_path):
    direct = cell(tmp_path, "files")
    direct.scenario.update(
        store="rocksdb",
        settings={"direct_io": "yes", "rocksdb.write_buffer_size": 1, "rocksdb.max_write_buffer_number": 2},
        connector="direct",
        stripe_bytes=1 << 20,
        stripes_in_flight=4,
        client="python",
        read="direct",
    )
    record = measure_cell(direct).dump()
    evidence = record["evidence"]
    assert record["valid"], record["reasons"]
    assert evidence["file_stripes"] > 0
    assert evidence["retried_stripes"] == 0
    assert evidence["served_bytes"] >= evidence["loaded_bytes"]
    assert evidence["device_read_bytes"] >= 0.5 * evidence["loaded_bytes"]


@pytest.mark.parametrize("gate", ["ttft", "throughput"])
def test_a_gate_decides_what_is_loaded_and_its_evidence_says_so(tmp_path, gate):
    gated = cell(tmp_path, "files")
    stripes = {"stripe_bytes": 1 << 20, "stripes_in_flight": 4, "client": "python"}
    gated.scenario.update(tier="dram", store="valkey", connector="striped", gate=gate, **stripes)
    record = measure_cell(gated).dump()
    evidence = record["evidence"]
    assert record["valid"], record["reasons"]
    assert evidence["gate_lookups"] > 0
    assert evidence["gate_found_chunks"] * record["chunk_bytes"] == evidence["loaded_bytes"]
    assert evidence["gate_found_chunks"] + evidence["gate_left_chunks"] > 0
    assert evidence["hit_tokens"] + evidence["computed_tokens"] == evidence["queried_tokens"]
    assert any(note.startswith(f"gate {gate}: store ") for note in record["notes"])


def test_without_a_gate_its_evidence_is_empty(records):
    told = {name for name in records["dram"][0]["evidence"] if name.startswith("gate_")}
    assert len(told) == 7
    for record, _ in records.values():
        assert {record["evidence"][name] for name in told} == {None}
        assert not any(note.startswith("gate") for note in record["notes"])


@pytest.mark.parametrize(
    "own",
    [
        {"store": "files"},
        {"store": "rocksdb", "connector": "striped", "settings": {"rocksdb.write_buffer_size": 1}},
        {"store": "valkey", "connector": "striped", "tier": "dram"},
    ],
    ids=lambda own: own["store"],
)
def test_a_store_keeps_to_its_bound_and_the_record_says_what_went(tmp_path, own):
    bounded = cell(tmp_path, "files")
    bounded.scenario.update(own, bound_bytes=7 << 20)
    if own["store"] != "files":
        bounded.scenario.update(stripe_bytes=1 << 18, stripes_in_flight=4, client="python")
    record = measure_cell(bounded).dump()
    assert record["evidence"]["corrupt_chunks"] == record["evidence"]["failed_requests"] == 0
    (told,) = [note for note in record["notes"] if note.startswith("bound: ")]
    used, of = (int(word.replace(",", "")) for word in re.findall(r"[\d,]{2,}", told)[:2])
    assert used <= of == 7 << 20
    assert "went" in told
    assert not re.search(r"\b0 (chunks|files) ?(\(0 bytes\) )?went", told)


def test_connectors_that_cannot_tell_of_damage_say_nothing(records):
    assert {record["evidence"]["damaged_chunks"] for record, _ in records.values()} == {None}


def test_a_record_notes_what_was_done_to_long_requests(tmp_path):
    rows = [
        {"timestamp": n, "input_length": 64 + 96 * (n == 2), "output_length": 8, "hash_ids": [0, 1, 2, 3]}
        for n in range(4)
    ]
    rows[2]["hash_ids"] = list(range(10))
    (tmp_path / "trace.jsonl").write_text("\n".join(map(json.dumps, rows)))
    traced = cell(tmp_path, "none")
    workload = {"kind": "trace", "trace": str(tmp_path / "trace.jsonl"), "block_tokens": 16}
    traced.spec["workload"] = workload | {"max_context_tokens": 120, "long_requests": "leave_out"}
    record = measure_cell(traced).dump()
    assert record["evidence"]["sent_requests"] == 3
    assert "trace: of 4 requests 1 left out, longer than 120 tokens with their answers" in record["notes"]
    traced.spec["workload"] |= {"long_requests": "cut"}
    record = measure_cell(traced).dump()
    assert record["evidence"]["sent_requests"] == 4
    assert (
        "trace: of 4 requests 1 cut at the prompt's end, longer than 120 tokens with their answers"
        in record["notes"]
    )


@pytest.mark.parametrize(
    ("file", "hits"), [("bailian.jsonl", True), ("agentic.jsonl", True), ("burstgpt.csv", False)]
)
def test_traces_of_every_form_are_replayed(tmp_path, file, hits):
    traced = cell(tmp_path, "files")
    workload = {"kind": "trace", "trace": str(EXCERPT.parent / "traces" / file), "max_requests": 12}
    traced.spec["workload"] = workload | {"max_context_tokens": 8000, "long_requests": "cut"}
    traced.spec["replay"]["hbm_kv_bytes"] = 4 << 30
    record = measure_cell(traced).dump()
    assert record["valid"], record["reasons"]
    assert record["evidence"]["sent_requests"] == 12
    assert (record["values"]["hit_rate"] > 0) == hits
    assert any("prefixes are not known" in note for note in record["notes"]) != hits


def test_a_cell_behind_a_device_loads_no_faster_than_that_and_proves_it(tmp_path, records):
    held = cell(tmp_path, "dram")
    held.scenario["shape"] = {"read_gbps": 0.02, "write_gbps": 0.05}
    record, free = measure_cell(held).dump(), records["dram"][0]
    evidence = record["evidence"]
    assert evidence["loaded_bytes"] > 0
    assert evidence["shaped_read_gbps"] <= 0.02 < evidence["store_read_gbps"]
    assert evidence["shaped_write_gbps"] <= 0.05 < evidence["store_write_gbps"]
    assert sum(record["requests"]["load_s"]) >= evidence["loaded_bytes"] / 0.02e9
    assert evidence["shaped_read_share"] <= 1.0
    assert free["evidence"]["shaped_read_share"] is None
    assert free["evidence"]["store_read_gbps"] > 0.02


def test_a_device_faster_than_the_store_is_refused_with_what_the_store_does(tmp_path):
    fast = cell(tmp_path, "dram")
    fast.scenario["shape"] = {"read_gbps": 1e6}
    record = measure_cell(fast).dump()
    (reason,) = record["reasons"]
    does = record["evidence"]["store_read_gbps"]
    assert not record["valid"]
    assert (
        f"the store itself reads {does:.3g} GB/s of the same: lower shape.read_gbps or raise shape.latency_us"
        in reason
    )
