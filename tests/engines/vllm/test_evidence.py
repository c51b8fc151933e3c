"""Where hits of engine vllm came from, and what a buffer that still held them makes of a cell."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from workflow.hyperkv.engines.vllm.evidence import (
    _store_tokens,
    _tokens,
    engine_figures,
    faults_in,
    from_buffer,
    left_to_compute,
)
from workflow.hyperkv.engines.vllm.lmcache_log import Transfers
from workflow.hyperkv.models.gpus import KvShare
from workflow.hyperkv.records.evidence import Evidence

NOTHING = Transfers(0, 0.0, 0, 0.0, ())


def cell(connector: str, pool: int | None = None, tier: str = "ssd", ranks: int = 1) -> SimpleNamespace:
    scenario = {"tier": tier, "store": "kvrocks", "connector": connector, "chunk_tokens": 16}
    scenario["dram_pool_bytes"] = pool
    share = KvShare(ranks, 10 // ranks, ranks)
    return SimpleNamespace(
        scenario=scenario,
        share=share,
        stored_bytes_per_token=share.stored_bytes_per_token,
        spec={"evidence": {"device_share_min": 0.8}},
    )


def from_store(
    connector: str, loaded: int | None, served_bytes: int | None, pool: int | None = None, ranks: int = 1
) -> int:
    window = SimpleNamespace(evidence=lambda: {"served_bytes": served_bytes})
    return _store_tokens(cell(connector, pool, ranks=ranks), 100, {"store_loaded_chunks": loaded}, window)


@pytest.mark.parametrize(("disk", "tokens"), [(64, 64), (160, 100), (None, 100)])
def test_of_vllms_own_offloading_the_disk_has_what_vllm_says_it_has(disk, tokens):
    own = cell("offloading")
    own.scenario["store"] = "files"
    counted = {"disk_hit_tokens": disk, "store_loaded_chunks": None}
    window = SimpleNamespace(evidence=lambda: {"served_bytes": None})
    assert _store_tokens(own, 100, counted, window) == tokens


@pytest.mark.parametrize(
    ("connector", "loaded", "tokens"),
    [
        ("striped_mp", 5, 80),  # the rest was still in the server's buffer
        ("mp", 9, 100),
        ("resp", None, 100),  # nothing is between the engine and the store
    ],
)
def test_hits_are_the_store_s_as_far_as_the_server_loaded_them(connector, loaded, tokens):
    assert from_store(connector, loaded, 2000) == tokens


def test_a_server_counts_a_value_of_every_rank():
    assert from_store("striped_mp", 5, 2000, ranks=2) == 32
    assert from_store("striped_mp", 10, 2000, ranks=2) == 80


def test_a_pool_in_front_serves_the_rest():
    assert from_store("striped", None, 400, pool=1 << 30) == 40


def test_a_source_that_has_no_tokens_yet_has_0_and_without_sources_nothing_is_known():
    sources = dict.fromkeys(
        ("external_hit_tokens", "hbm_hit_tokens", "computed_tokens", "store_loaded_chunks")
    )
    own, window = cell("resp"), SimpleNamespace(evidence=lambda: {"served_bytes": 0})
    assert set(_tokens(own, sources, window, 10).values()) == {None}
    known = _tokens(own, sources | {"computed_tokens": 40}, window, 10)
    assert (known["computed_tokens"], known["hbm_hit_tokens"], known["loaded_bytes"]) == (40, 0, 0)
    unknown = Evidence.unknown()
    assert faults_in(own, [], [], NOTHING, unknown) == from_buffer(own, unknown) == []
    assert engine_figures(own, unknown, NOTHING)["external_hit_rate"] is None


@pytest.mark.parametrize(
    ("tier", "dram", "device_share", "faults"),
    [
        ("dram", 60, None, 0),
        ("ssd", 0, 0.5, 0),  # a fault of its own
        ("ssd", 10, 0.95, 0),
        ("ssd", 10, 3.0, 0),
        ("ssd", 15, 0.9, 1),
        ("ssd", 30, 3.0, 1),
    ],
)
def test_a_buffer_and_a_page_cache_that_served_too_much_make_an_ssd_cell_invalid(
    tier, dram, device_share, faults
):
    told = {"dram_hit_tokens": dram, "store_hit_tokens": 100 - dram, "device_share": device_share}
    evidence = Evidence.unknown().model_copy(update=told)
    own = cell("striped_mp", tier=tier)
    found = faults_in(own, [], [], NOTHING, evidence)
    assert len(found) == faults
    words = f"{dram} of 100 hit tokens came from the buffer of LMCache's server"
    assert all(line.startswith(words) for line in found)
    assert from_buffer(own, evidence) == ([words] if dram else [])
    pool = cell("striped_mp", 1 << 30, tier)
    assert faults_in(pool, [], [], NOTHING, evidence) == from_buffer(pool, evidence) == []


def test_chunks_left_to_compute_are_a_note():
    left = replace(NOTHING, left_chunks=3)
    assert left_to_compute(NOTHING) == []
    assert left_to_compute(left) == [
        "lookups left 3 chunks that were there to be computed, for want of room to load"
    ]
