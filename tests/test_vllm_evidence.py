"""Where hits of engine vllm came from, and what a buffer that still held them makes of a cell."""

from types import SimpleNamespace

import pytest

from workflow.hyperkv.engines.lmcache_log import Transfers
from workflow.hyperkv.vllm_evidence import _store_tokens, faults_in

NOTHING = Transfers(0, 0.0, 0, 0.0, ())
GEOMETRY = SimpleNamespace(kv_bytes_per_token=10)


def cell(connector: str, pool: int | None = None) -> SimpleNamespace:
    scenario = {"tier": "ssd", "store": "kvrocks", "connector": connector, "dram_pool_bytes": pool}
    return SimpleNamespace(scenario=scenario, spec={"evidence": {"device_share_min": 0.8}})


def from_store(connector: str, counted: int | None, served_bytes: int | None, pool: int | None = None) -> int:
    window = SimpleNamespace(evidence=lambda: {"served_bytes": served_bytes})
    return _store_tokens(cell(connector, pool), 100, {"store_hit_tokens": counted}, window, GEOMETRY)


@pytest.mark.parametrize(
    ("connector", "counted", "served_bytes", "tokens"),
    [
        ("striped_mp", 90, 1000, 90),  # the server counts: believe it
        ("striped_mp", None, 905, 90),  # it does not: no more than the store served
        ("mp", None, 2000, 100),
        ("mp", None, None, 100),
        ("resp", None, 905, 100),  # nothing is between the engine and the store: a fault, if it is true
    ],
)
def test_hits_are_the_store_s_as_far_as_it_is_known_to_have_served_them(
    connector, counted, served_bytes, tokens
):
    assert from_store(connector, counted, served_bytes) == tokens


def test_a_pool_in_front_serves_the_rest():
    assert from_store("striped", None, 400, pool=1 << 30) == 40


@pytest.mark.parametrize(("dram", "faults"), [(20, 0), (21, 1)])
def test_a_buffer_that_served_too_much_makes_a_cell_invalid(dram, faults):
    evidence = {"dram_hit_tokens": dram, "store_hit_tokens": 100 - dram, "retrieved_tokens": None}
    found = faults_in(cell("striped_mp"), [], [], NOTHING, evidence)
    assert len(found) == faults
    assert all("21 of 100 tokens came from the buffer of LMCache's server" in line for line in found)
    assert faults_in(cell("striped_mp", pool=1 << 30), [], [], NOTHING, evidence) == []
