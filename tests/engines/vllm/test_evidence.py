"""Where hits of engine vllm came from, and what a buffer that still held them makes of a cell."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from workflow.hyperkv.connectors.gated import curve_in
from workflow.hyperkv.engines.vllm.evidence import (
    _saved_bytes,
    _store_tokens,
    _tokens,
    engine_figures,
    faults_in,
    from_buffer,
    of_gate,
    without_room,
)
from workflow.hyperkv.engines.vllm.lmcache_log import Transfers
from workflow.hyperkv.engines.vllm.metrics import counters
from workflow.hyperkv.models.gpus import KvShare
from workflow.hyperkv.records.evidence import Evidence, judge, told_not_saved
from workflow.plugin.lmcache_striped.gate_counts import GateCounts

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


COUNTERS = counters("")


def from_store(
    connector: str,
    loaded: int | None,
    served_bytes: int | None,
    pool: int | None = None,
    ranks: int = 1,
    **counted: int,
) -> int:
    window = SimpleNamespace(evidence=lambda: {"served_bytes": served_bytes})
    told = COUNTERS | {"store_loaded_chunks": loaded} | counted
    return _store_tokens(cell(connector, pool, ranks=ranks), 100, told, window)


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


@pytest.mark.parametrize(
    ("buffer", "store", "tokens"),
    [(20, 80, 80), (0, 112, 100), (112, 0, 0), (40, 160, 80), (0, 96, 96)],
)
def test_a_server_that_tells_hits_by_tier_is_believed(buffer, store, tokens):
    """Its lookups may be more than what is loaded: of a last token that is computed, of requests that were looked up twice."""
    hits = {"dram_hit_tokens": buffer, "store_hit_tokens": store}
    assert from_store("striped_mp", store // 16, 2000, **hits) == tokens
    assert from_store("mp", None, 2000, pool=1 << 30, **hits) == tokens


# A load of h100_striped_mp_disk with vLLM 0.32.0 and LMCache 0.5.6. One lookup of its 70 had the buffer's help, and every token was
# credited to the store: "Prefetch request completed (L1+L2): 6/6 retained keys (1 L1, 5 L2) in 634.1 ms".
LOAD = COUNTERS | {
    **{"computed_tokens": 37873, "hbm_hit_tokens": 0, "external_hit_tokens": 107520, "prompt_tokens": 145393},
    **{"dram_hit_tokens": 0, "store_hit_tokens": 107520, "store_loaded_chunks": 419},
}
KEYS = {"dram_hit_keys": 1, "store_hit_keys": 419}
SERVED, DEVICE_READ = 14_060_336_831, 13_534_130_176


def evidence_of_load(
    counted: dict[str, int | None], served: int = SERVED
) -> tuple[SimpleNamespace, Evidence, list[str]]:
    """The load's cell, its evidence from the counters, and why it is invalid."""
    own = cell("striped_mp")
    own.scenario["chunk_tokens"], own.share = 256, KvShare(1, 131072, 1)
    tokens = _tokens(own, counted, SimpleNamespace(evidence=dict), 131072)
    read = {
        "served_bytes": served,
        "queried_tokens": 145393,
        "device_share": DEVICE_READ / tokens["loaded_bytes"],
    }
    evidence = Evidence.unknown().model_copy(update=tokens | read)
    return (
        own,
        evidence,
        [*judge("ssd", evidence, 0.8).reasons, *faults_in(own, [], [], NOTHING, evidence, counted)],
    )


@pytest.mark.parametrize("told", [KEYS, {}], ids=["0.5.6", "0.5.5"])
def test_a_chunk_that_the_buffer_held_behind_one_that_it_did_not_is_dram_s(told):
    own, evidence, reasons = evidence_of_load(LOAD | told)
    assert (evidence.dram_hit_tokens, evidence.store_hit_tokens) == (256, 107264)
    assert reasons == []
    assert from_buffer(own, evidence) == ["256 of 107520 hit tokens came from the buffer of LMCache's server"]


@pytest.mark.parametrize("told", [KEYS, {}], ids=["0.5.6", "0.5.5"])
def test_what_no_counter_explains_is_still_missing(told):
    chunk_less = SERVED - 33 * (1 << 20)
    (reason,) = evidence_of_load(LOAD | told, chunk_less)[2]
    assert reason == f"the store served {chunk_less:,} bytes, the engine loaded 14,059,307,008"
    (reason,) = evidence_of_load(
        LOAD | {"store_loaded_chunks": 420, "dram_hit_keys": 0, "store_hit_keys": 420}
    )[2]
    assert reason == "the store served 14,060,336,831 bytes, the engine loaded 14,092,861,440"


def test_a_buffer_that_held_many_chunks_makes_an_ssd_cell_invalid():
    _, evidence, (reason,) = evidence_of_load(LOAD | {"dram_hit_keys": 105, "store_hit_keys": 315})
    assert evidence.dram_hit_tokens == 26880
    assert reason == (
        "26880 of 107520 hit tokens came from the buffer of LMCache's server, so that the device read 75% of what "
        "hits asked for; dram_pool_bytes makes a pool of it, whose hits are DRAM's"
    )


@pytest.mark.parametrize("connector", ["offloading", "striped_tier"])
@pytest.mark.parametrize(("read", "tokens"), [(None, 75), (2000, 75), (400, 40)])
def test_vllm_s_own_offloading_tells_hits_by_tier_and_what_it_read_once(connector, read, tokens):
    hits = {"host_hit_tokens": 25, "disk_hit_tokens": 75, "tier_read_bytes": read}
    assert from_store(connector, None, 2000 if connector == "striped_tier" else None, **hits) == tokens


def test_what_a_server_saved_is_counted_by_its_values():
    assert _saved_bytes(cell("striped_mp"), COUNTERS | {"store_saved_chunks": 3}, NOTHING) == 3 * 16 * 10
    assert (
        _saved_bytes(cell("striped_mp", ranks=2), COUNTERS | {"store_saved_chunks": 6}, NOTHING)
        == 3 * 16 * 10
    )
    assert _saved_bytes(cell("resp"), COUNTERS, replace(NOTHING, stored_tokens=7)) == 70
    for connector in ("offloading", "striped_tier"):
        assert _saved_bytes(cell(connector), COUNTERS | {"tier_written_bytes": 5}, NOTHING) == 5
    dropped = replace(NOTHING, dropped_chunks=2)
    assert (
        _saved_bytes(cell("striped_tier"), COUNTERS | {"tier_written_bytes": 480}, dropped)
        == 480 - 2 * 16 * 10
    )
    first = replace(NOTHING, first_use_chunks=1, stored_tokens=32)
    told = COUNTERS | {"store_saved_chunks": 3, "tier_written_bytes": 480}
    assert [_saved_bytes(cell(name), told, first) for name in ("striped_mp", "striped_tier")] == [320, 320]
    assert _saved_bytes(cell("striped"), COUNTERS, first) == 320 - 160
    assert _saved_bytes(cell("mp"), COUNTERS, NOTHING) is None


def test_what_vllm_s_offloading_failed_at_makes_a_cell_invalid():
    evidence = Evidence.unknown()
    failed = COUNTERS | {"tier_load_failures": 2, "tier_save_failures": 0}
    assert faults_in(cell("offloading"), [], [], NOTHING, evidence, failed) == [
        "vLLM's offloading failed to load 2 times and to save 0 times"
    ]


def test_a_server_counts_a_value_of_every_rank():
    assert from_store("striped_mp", 5, 2000, ranks=2) == 32
    assert from_store("striped_mp", 10, 2000, ranks=2) == 80
    hits = {"dram_hit_tokens": 0, "store_hit_tokens": 96, "dram_hit_keys": 1, "store_hit_keys": 11}
    assert from_store("striped_mp", 11, 2000, ranks=2, **hits) == 88  # half a chunk was in the buffer


def test_a_pool_in_front_serves_the_rest():
    assert from_store("striped", None, 400, pool=1 << 30) == 40


def test_a_source_that_has_no_tokens_yet_has_0_and_without_sources_nothing_is_known():
    sources = COUNTERS
    own, window = cell("resp"), SimpleNamespace(evidence=lambda: {"served_bytes": 0})
    assert set(_tokens(own, sources, window, 10).values()) == {None}
    known = _tokens(own, sources | {"computed_tokens": 40}, window, 10)
    assert (known["computed_tokens"], known["hbm_hit_tokens"], known["loaded_bytes"]) == (40, 0, 0)
    unknown = Evidence.unknown()
    assert faults_in(own, [], [], NOTHING, unknown, COUNTERS) == from_buffer(own, unknown) == []
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
    found = faults_in(own, [], [], NOTHING, evidence, COUNTERS)
    assert len(found) == faults
    words = f"{dram} of 100 hit tokens came from the buffer of LMCache's server"
    assert all(line.startswith(words) for line in found)
    assert from_buffer(own, evidence) == ([words] if dram else [])
    pool = cell("striped_mp", 1 << 30, tier)
    assert faults_in(pool, [], [], NOTHING, evidence, COUNTERS) == from_buffer(pool, evidence) == []


@pytest.mark.parametrize(("pool", "key"), [(1 << 30, "dram_pool_bytes"), (None, "vllm.staging_bytes")])
def test_what_was_not_saved_for_want_of_room_says_where_and_which_key_mends_it(pool, key):
    counted = COUNTERS | {"lost_keys": 9}
    log = replace(NOTHING, dropped_chunks=3)
    lines = without_room(cell("striped_mp", pool, ranks=2), counted, log)
    assert told_not_saved(["4 processes", *lines, *lines]) == {
        f"LMCache's server had no room for them, raise {key}": 10,  # a chunk has a key of each rank
        f"as many as half of {key} holds waited for the store, raise it or save less": 6,
    }
    assert without_room(cell("striped_mp", pool), COUNTERS, NOTHING) == []


def test_what_a_gate_left_is_a_note_and_so_is_one_that_no_single_requests_told_anything(tmp_path):
    own = cell("striped_mp")
    own.directory = tmp_path
    (tmp_path / "engine").mkdir()
    left = replace(NOTHING, gate=GateCounts(lookups=2, present_chunks=9, found_chunks=6))
    assert of_gate(own, NOTHING) == []
    own.scenario["gate"] = "ttft"
    (unmeasured,) = of_gate(own, NOTHING)
    assert "latency.prompt_tokens" in unmeasured
    curve_in(tmp_path / "engine").write_text("[]")
    assert of_gate(own, left) == ["the gate left 3 of 9 chunks to be computed"]
