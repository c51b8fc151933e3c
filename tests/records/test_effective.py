"""What ran, beside what was asked, of records old and new."""

from dataclasses import fields, replace

import pandas as pd
import pytest

from tests.kept import H100, kept
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.records.effective import Effective, not_as_asked
from workflow.hyperkv.records.parity import comparable_digest, require_parity
from workflow.hyperkv.tables.cells import cells_table

ASKED = Effective(256, True, 4 << 30, "bfloat16", 131072, 16, False, 1, "current")


def test_facts_that_are_not_known_differ_from_nothing():
    assert not_as_asked(ASKED, Effective()) == []
    assert not_as_asked(Effective(), ASKED) == []
    assert not_as_asked(ASKED, ASKED) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("chunk_tokens", 64),
        ("save_decode_cache", False),
        ("buffer_bytes", 2 << 30),
        ("kv_dtype", "fp8"),
        ("kv_bytes_per_token", 65536),
        ("block_tokens", 64),
        ("prefix_caching", True),
        ("gpus", 2),
        ("pair", "reference"),
    ],
)
def test_every_fact_that_differs_is_named_with_both_values(name, value):
    (line,) = not_as_asked(ASKED, replace(ASKED, **{name: value}))
    assert line.startswith(f"{name}: ")
    assert " was asked for, the engine has " in line


def test_other_bytes_per_token_name_every_key_that_can_mend_them():
    (line,) = not_as_asked(ASKED, replace(ASKED, kv_bytes_per_token=65536))
    for key in ("kv_dtype", "model", "vllm.flags", "vllm.environment"):
        assert key in line


def test_every_fact_but_the_versions_is_compared():
    compared = {field.name for field in fields(Effective) if getattr(ASKED, field.name) is not None}
    assert compared == {field.name for field in fields(Effective)} - {"vllm", "lmcache"}


@pytest.mark.parametrize(("part", "alike"), [(0.981, True), (1.019, True), (0.979, False), (1.021, False)])
def test_bytes_may_be_2_percent_apart(part, alike):
    told = replace(ASKED, kv_bytes_per_token=131072 * part)
    assert (not_as_asked(ASKED, told) == []) is alike


@pytest.mark.parametrize(
    ("name", "asked", "told"), [("chunk_tokens", 256, 257), ("block_tokens", 64, 65), ("gpus", 64, 65)]
)
def test_counts_are_the_same_or_not(name, asked, told):
    assert not_as_asked(Effective(**{name: asked}), Effective(**{name: told}))


def test_committed_rows_that_saved_unlike_things_are_told_apart():
    cells = cells_table(kept(H100).of("cell"))
    saved = cells.dropna(subset=["save_decode_cache"]).groupby("connector")["save_decode_cache"].unique()
    assert {name: list(values) for name, values in saved.items()}["offloading"] == [False]
    compared = cells[
        cells["connector"].isin(["offloading", "striped_mp"]) & (cells["kv_dtype"] == "bfloat16")
    ]
    with pytest.raises(UserError, match=r"differ in save_decode_cache \(.*False: h100_offloading"):
        require_parity(compared, vary=["tier", "store", "connector", "comparable_digest", "connections"])


def rows(**columns) -> pd.DataFrame:
    shared = {
        "engine": "vllm",
        "tier": ["none", "dram", "ssd"],
        "store": [None, "dram", "kvrocks"],
        "connector": [None, "inprocess", "striped_mp"],
        "scenario": ["none", "pool", "disk"],
        "comparable_digest": "x",
        "kv_dtype": "bfloat16",
        "gpus": 1,
        "versions": "vllm 0.33.0, lmcache 0.5.6",
        "chunk_tokens": 256,
        "connections": 8,
        "save_decode_cache": [None, True, True],
        "dram_pool_bytes": [None, 1 << 30, None],
        "valid": True,
    }
    return pd.DataFrame(shared | columns)


def test_the_same_facts_are_compared_whatever_was_asked():
    require_parity(rows(), vary=["tier", "store", "connector"])


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"save_decode_cache": [None, True, False]}, r"save_decode_cache \(True: pool; False: disk\)"),
        ({"save_decode_cache": [None, True, None]}, r"save_decode_cache \(True: pool; not known: disk\)"),
        ({"gpus": [1, 1, 2]}, r"gpus \(1: none, pool; 2: disk\).*vllm.tensor_parallel"),
        ({"kv_dtype": ["bfloat16", "bfloat16", "fp8"]}, "kv_dtype"),
        ({"versions": ["vllm 0.25.0", "vllm 0.33.0", "vllm 0.33.0"]}, "versions"),
    ],
)
def test_what_happened_otherwise_is_refused_with_who_and_the_mend(columns, words):
    with pytest.raises(UserError, match=words):
        require_parity(rows(**columns), vary=["tier", "store", "connector"])
    name = next(iter(columns))
    require_parity(rows(**columns), vary=["tier", "store", "connector", name])


def test_an_invalid_row_that_knows_nothing_is_like_any():
    unknown = rows(save_decode_cache=[None, True, None], valid=[True, True, False])
    require_parity(unknown, vary=["tier", "store", "connector"])


def test_pools_before_a_store_are_alike_and_those_that_are_the_store_too():
    disks = rows(
        tier=["ssd", "dram", "ssd"],
        store=["kvrocks", "dram", "kvrocks"],
        save_decode_cache=True,
        dram_pool_bytes=[4 << 30, 256 << 30, None],
    )
    with pytest.raises(UserError, match=r"dram_pool_bytes \(4294967296.*: none; none: disk\)"):
        require_parity(disks, vary=["tier", "store", "connector"])


PAIRS = {
    "pair": ["current", "reference", "current"],
    "versions": ["vllm 0.33.0, lmcache 0.5.6", "vllm 0.25.0, lmcache 0.5.0", "vllm 0.33.0, lmcache 0.5.6"],
}


def test_pairs_are_not_compared_unless_what_compares_them_says_so():
    ways = ["tier", "store", "connector"]
    with pytest.raises(
        UserError, match=r"pair \(current: none, disk; reference: pool\).*of one pair of vLLM and LMCache"
    ):
        require_parity(rows(**PAIRS), vary=ways)
    require_parity(rows(**PAIRS), vary=[*ways, "pair"])
    mixed = PAIRS | {"versions": ["vllm 0.33.0", "vllm 0.25.0", "vllm 0.32.0"]}
    with pytest.raises(UserError, match=r"versions \(vllm 0.33.0: none; vllm 0.32.0: disk\)"):
        require_parity(rows(**mixed), vary=[*ways, "pair"])


def digest(common: list[str], pair: str, own: list[str]) -> str:
    """Of a cell whose scenarios and pair have such words for vLLM."""
    vllm = {"flags": common, "pairs": {pair: {"flags": own}}}
    files = {"engine_python": f"{pair}/bin/python", "environment_records": {"engine": f"{pair}.json"}}
    return comparable_digest({"spec": {"scenario": {"vllm": {}}, "vllm": vllm, **files}, "gpu_model": None})


def test_what_is_a_pair_s_own_does_not_make_its_cells_unlike_another_s():
    assert digest([], "current", []) == digest([], "reference", ["--x"])
    assert digest([], "current", []) != digest(["--y"], "current", [])
