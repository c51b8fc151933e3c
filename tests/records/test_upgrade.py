"""Records of every version are read as records of the newest."""

import json
from pathlib import Path

import pytest

from tests.record_factory import limit, measured, point
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.records.effective import facts_of
from workflow.hyperkv.records.evidence import Evidence
from workflow.hyperkv.records.frames import read_jsonl
from workflow.hyperkv.records.kinds.cell import Cell
from workflow.hyperkv.records.kinds.record import SCHEMA_VERSION
from workflow.hyperkv.records.upgrade import KINDS, current, upgraded


@pytest.fixture(scope="module")
def cell(tmp_path_factory) -> dict:
    """A cell as this version writes it."""
    return measured(tmp_path_factory.mktemp("cell"), "files")


OLD = Path("tests/data/old_records.jsonl")


@pytest.mark.parametrize("path", [OLD, *sorted(Path("results/reference").rglob("*.jsonl"))], ids=str)
def test_every_committed_record_is_one_of_the_newest_version(path):
    found = read_jsonl([path])
    assert found
    for record in found:
        made = KINDS[record["record"]].model_validate(record)
        assert made.dump().items() >= {**record, "schema_version": SCHEMA_VERSION}.items()


def test_old_records_are_there_of_every_kind_that_older_versions_wrote():
    found = [json.loads(line) for line in OLD.read_text().splitlines()]
    assert {record["record"] for record in found} == {"cell", "single", "point", "limit", "trial", "finalist"}
    assert {record.get("schema_version") for record in found} == {None, 1, 2}


def test_a_record_of_this_version_is_read_as_it_was_written(cell):
    assert current(cell, "x") == cell == json.loads(json.dumps(cell))
    assert Cell.model_validate(cell).dump() == cell


def test_what_older_engines_did_not_fill_is_null_and_vllm_s_unchecked_bytes_are_not_0(cell):
    old = {key: value for key, value in cell.items() if key not in ("notes", "engine_faults", "gpus")}
    old |= {"schema_version": 1, "engine": "vllm"}
    old["evidence"] = {**cell["evidence"], "corrupt_chunks": 0}
    del old["evidence"]["damaged_chunks"], old["evidence"]["write_amplification"]
    old["requests"] = {key: value for key, value in cell["requests"].items() if key != "load_s"}
    made = current(old, "x")
    assert list(made["evidence"]) == list(Evidence.model_fields)
    assert made["evidence"]["corrupt_chunks"] is made["evidence"]["damaged_chunks"] is None
    assert made["requests"]["load_s"] == [None] * len(made["requests"]["turn"])
    assert (made["notes"], made["engine_faults"], made["gpus"]) == ([], [], 1)
    assert "damaged_chunks" not in old["evidence"]


def test_points_of_version_1_take_their_connections_from_their_scenario():
    old = point("files") | {"schema_version": 1, "spec": {"scenario": {"connections": 8}}}
    old["store_cpu_s"] = 0
    unknown = ("connections", "store_page_faults", "store_rss_bytes", "notes")
    made = current({key: value for key, value in old.items() if key not in unknown}, "x")
    assert [made[key] for key in unknown] == [8, None, None, []]
    assert made["store_cpu_s"] is None


def test_what_stood_beside_a_pool_is_of_it(cell):
    """LMCache's server had 7 GiB to keep and 16 GiB beside them, all of which kept things."""

    def had(buffer, pool):
        old = {**cell, "schema_version": 9, "asked": {**cell["asked"], "buffer_bytes": buffer}}
        old["spec"] = {**cell["spec"], "scenario": {**cell["spec"]["scenario"], "dram_pool_bytes": pool}}
        return current(old, "x")["spec"]["scenario"]["dram_pool_bytes"]

    assert [had(23 << 30, 7 << 30), had(7 << 30, 7 << 30), had(16 << 30, None)] == [23 << 30, 7 << 30, None]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"record": "cells"}, "f:1: not a record of a kind that is known; delete the file"),
        ({"record": None}, "f:1: not a record of a kind that is known; delete the file"),
        ({"schema_version": SCHEMA_VERSION + 1}, f"version {SCHEMA_VERSION + 1}, and versions to"),
        ({"gbps": "fast"}, "f:1: limit record, gbps: "),
        ({"gbps": None}, "f:1: limit record, gbps: "),
        ({"speed": 1}, "f:1: limit record, speed: "),
    ],
)
def test_what_is_no_record_is_refused_by_file_line_and_key(change, words):
    with pytest.raises(UserError) as caught:
        current(limit() | change, "f:1")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_old_record_that_lacks_what_it_had_to_have_is_refused(cell):
    old = {key: value for key, value in cell.items() if key != "spec"} | {"schema_version": 1}
    with pytest.raises(UserError, match="f:1: cell record without 'spec'; delete the file"):
        current(old, "f:1")


def record(
    connector: str, *, asked=True, engine="vllm", lmcache: str | None = "0.5.0", vllm="0.25.0", tier="dram"
) -> dict:
    """Single requests as version 1 wrote them, as far as facts are read from them."""
    scenario = {"tier": tier, "connector": connector, "save_decode_cache": asked, "kv_dtype": None}
    versions = {"vllm": vllm, "lmcache": lmcache}
    return {
        "record": "single",
        "samples": [],
        "engine": engine,
        "spec": {"scenario": scenario, "kv_dtype": "auto"},
        "environment": {"engine": {"versions": versions}} if engine == "vllm" else {},
    }


@pytest.mark.parametrize(
    ("old", "saved"),
    [
        (record("striped_mp", asked=False), True),
        (record("mp", asked=False, lmcache="0.5.5"), True),
        (record("mp", asked=True, lmcache="0.5.6"), False),
        (record("mp", asked=True, lmcache="0.6.0"), False),
        (record("striped_mp", asked=True, lmcache=None), None),
        (record("offloading", asked=True), False),
        (record("offloading", asked=True, vllm="0.32.1"), False),
        (record("offloading", asked=True, vllm="0.24.0"), None),
        (record("offloading", asked=True, vllm=None), None),
        (record("inprocess", asked=True), True),
        (record("resp", asked=False), False),
        (record("mp", asked=True, engine="replay"), True),
        (record("mp", tier="none"), None),
    ],
)
def test_version_1_has_the_save_policy_of_its_versions(old, saved):
    assert facts_of(upgraded(old))["save_decode_cache"] is saved


def test_version_1_has_the_words_and_versions_that_it_ran_with():
    assert facts_of(upgraded(record("mp"))) | {"save_decode_cache": None} == {
        "save_decode_cache": None,
        "kv_dtype": "bfloat16",
        "pair": "reference",
        "versions": "vllm 0.25.0, lmcache 0.5.0",
    }
    assert facts_of(upgraded(record("mp", engine="replay")))["versions"] is None


@pytest.mark.parametrize(
    ("old", "pair"),
    [
        (record("mp"), "reference"),
        (record("resp"), "reference"),
        (record("mp", vllm="0.32.0"), "current"),
        (record("mp", vllm="0.26.0"), "current"),
        (record("resp", vllm=None), None),
        (record("resp", engine="replay"), None),
    ],
)
def test_before_there_were_pairs_the_version_says_which_it_was(old, pair):
    made = upgraded(old)
    assert (facts_of(made)["pair"], made["effective"]["pair"]) == (pair, pair)
