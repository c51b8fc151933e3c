"""Predicted hit rates: the published table, another simulator, the replay engine, and what must hold for any tiers."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kvcache_sim.plan import ExecutionPlan, build_execution_plan
from kvcache_sim.policies import PolicyResult, simulate_ceiling, simulate_policy
from kvcache_sim.trace import parse_trace_lines

from tests.helpers import command
from tests.predict.specs import REFERENCE, spec
from tests.workloads.kinds import EXCERPT, WORKLOADS, prefix_hit_tokens
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.figures.hit_rate import draw_hit_rate
from workflow.hyperkv.predict import predict_hit_rates as predict
from workflow.hyperkv.predict.predict_hit_rates import Simulation, capacities_of, hit_rates_table
from workflow.hyperkv.tables.methods.dictionary import columns_dictionary
from workflow.hyperkv.workloads.factory import make_workload

TRACE = Path(__file__).parents[3] / "shared/data/mooncake/conversation_trace.jsonl"
PUBLISHED = {
    True: [89.4, 89.1, 88.5, 87.3, 84.8, 79.9, 70.8, 46.0],
    False: [83.1, 82.8, 82.2, 81.0, 78.4, 73.6, 64.6, 39.9],
}


@pytest.fixture(scope="module")
def reference() -> pd.DataFrame:
    """The reference workload, an unbounded store alone and 16 GiB of DRAM alone."""
    return hit_rates_table(spec({"unbounded": {"ssd_bytes": None}, "dram": {"dram_bytes": 16 << 30}}))


@pytest.mark.parametrize("decode", [True, False])
def test_the_reference_workload_has_its_published_hit_rates(reference, decode):
    rows = reference[(reference["tiers"] == "unbounded") & (reference["save_decode_cache"] == decode)]
    print((100 * rows["hit_rate"]).round(1).tolist())
    assert rows["seeds"].unique().tolist() == [10]
    assert (100 * rows["hit_rate"]).tolist() == pytest.approx(PUBLISHED[decode], abs=1)
    assert (rows["hit_rate"] == rows["ceiling_hit_rate"]).all()
    assert (rows["hit_rate_low"] <= rows["hit_rate"]).all()
    assert (rows["hit_rate"] <= rows["hit_rate_high"]).all()


def test_a_finite_tier_stays_below_the_ceiling(reference):
    rows = reference[reference["tiers"] == "dram"]
    assert (rows["hit_rate"] <= rows["ceiling_hit_rate"]).all()
    assert (rows["dram_hit_rate"] == rows["hit_rate"]).all()
    assert rows["ssd_hit_rate"].isna().all()


@pytest.mark.parametrize("decode", [True, False])
def test_an_unbounded_tier_is_the_workload_modules_own_formula(decode):
    conversations = make_workload(REFERENCE, 5)
    run = Simulation.of(conversations, 4, 50)
    for chunk in (16, 256):
        formula = sum(prefix_hit_tokens(item.turns, chunk, decode) for item in conversations)
        assert run.reached(decode, chunk, None).sum() / formula == pytest.approx(1, abs=0.002)


def whole_blocks(run: Simulation, block: int) -> list[str]:
    """The run's requests, prompts in whole blocks only, as that simulator's trace."""
    lines = []
    units, leaves = run._in_units(False, block)
    for leaf in leaves:
        node, names = units.whole[leaf], []
        while node:
            names = [f"{node}-{index}" for index in range(units.count[node])] + names
            node = units.parent[node]
        lines.append({"block_size": block, "hash_ids": names, "input_length": len(names) * block})
    return [json.dumps(line) for line in lines]


@cache
def production() -> tuple[Simulation, ExecutionPlan]:
    """The production trace here and there, as it is: that simulator also keeps the partial last block of a prompt."""
    run = Simulation.of(make_workload({"kind": "trace", "trace": str(TRACE)}, 1), 1, 1)
    return run, build_execution_plan(parse_trace_lines(TRACE.read_text().splitlines(), block_size=512))


def theirs(plan: ExecutionPlan, capacity: int | None) -> PolicyResult:
    """That simulator's result over the second half of the requests."""
    result = simulate_ceiling(plan) if capacity is None else simulate_policy(plan, "lru", capacity)
    assert result.measurementMode == "fixed_window"
    return result


def ours(run: Simulation, block: int, capacity: int | None) -> float:
    """Hit rate over the second half of the requests."""
    half = len(run.prompts) // 2
    return run.reached(False, block, capacity)[half:].sum() / run.prompts[half:].sum()


@pytest.mark.skipif(not TRACE.exists(), reason="the trace is not here")
@pytest.mark.parametrize("capacity", [1000, 10_000, 30_000, 100_000, None])
def test_kvcache_simulator_agrees_on_a_production_trace(capacity):
    run, plan = production()
    rates = theirs(plan, capacity).hitRate, ours(run, 512, capacity)
    print(f"{capacity} blocks: kvcache-simulator {rates[0]:.2%}, here {rates[1]:.2%}")
    assert rates[1] == pytest.approx(rates[0], abs=0.01)


@pytest.mark.parametrize("capacity", [60, 300, None])
def test_kvcache_simulator_agrees_on_the_excerpt(capacity):
    run = Simulation.of(make_workload({"kind": "trace", "trace": str(EXCERPT)}, 1), 1, 1)
    plan = build_execution_plan(parse_trace_lines(EXCERPT.read_text().splitlines(), block_size=512))
    assert ours(run, 512, capacity) == pytest.approx(theirs(plan, capacity).hitRate, abs=0.01)


@pytest.mark.parametrize(("block", "gibibytes"), [(64, 4), (64, 12), (256, 12), (256, 16), (256, None)])
def test_kvcache_simulator_hits_the_same_tokens_of_the_reference_workload(block, gibibytes):
    run = Simulation.of(make_workload(REFERENCE, 1), 50, 50)
    capacity = None if gibibytes is None else (gibibytes << 30) // (131072 * block)
    result = theirs(build_execution_plan(parse_trace_lines(whole_blocks(run, block))), capacity)
    mine = run.reached(False, block, capacity)[result.warmupRequests :].sum()
    print(f"chunk {block}, {gibibytes} GiB: kvcache-simulator {result.hitTokens} tokens, here {mine}")
    assert mine == result.hitTokens > 0


capacities = st.one_of(st.none(), st.integers(0, 300))


@given(
    st.sampled_from(WORKLOADS),
    st.integers(0, 2**16),
    st.dictionaries(st.sampled_from(["hbm", "dram", "ssd"]), capacities),
    st.booleans(),
    st.sampled_from([16, 32, 128, 512]),
)
def test_any_tiers(workload, seed, units, decode, chunk):
    run = Simulation.of(make_workload(workload, seed), 2, 3)
    ordered = {name: units[name] for name in ("hbm", "dram", "ssd") if name in units}
    hits = run.found(ordered, decode, 16, chunk).hits
    together = sum(hits.values(), np.zeros_like(run.prompts))
    ceiling = run.reached(decode, chunk, None)
    assert list(hits) == list(ordered)
    assert all((tokens >= 0).all() for tokens in hits.values())
    assert (together < run.prompts).all()
    assert (together <= np.maximum(ceiling, run.reached(True, 16, None))).all()
    if "hbm" not in ordered:
        assert (together <= ceiling).all()
        assert (together % chunk == 0).all()


def test_tiers_share_a_prompt():
    """Two chats in turn; HBM holds 320 tokens, which both first turns fill and the first chat's second one alone."""
    workload = {"kind": "multi_turn", "conversations": 2, "turns": [4, 4], "prefix_tokens": [0, 0]}
    workload |= {"user_tokens": [100, 100], "answer_tokens": [61, 61]}
    run = Simulation.of(make_workload(workload, 1), 1, 2)
    tiers = {"hbm": 20, "dram": None}
    hits = run.found(tiers, True, 16, 64).hits
    assert run.prompts.tolist() == [100, 100, 261, 261]
    assert hits["hbm"].tolist() == [0, 0, 160, 0]
    assert hits["dram"].tolist() == [0, 0, 0, 128]


def test_capacities_are_whole_blocks_and_chunks():
    tiers = {"hbm_bytes": 1000, "ssd_bytes": None, "dram_bytes": 1999}
    assert capacities_of(tiers, 100, 500) == {"hbm": 10, "dram": 3, "ssd": None}
    assert capacities_of({}, 100, 500) == {}


def run_stage(folder: Path, stage_spec: dict) -> pd.DataFrame:
    out = folder / "hit_rates.csv"
    command(predict, "--spec", json.dumps(stage_spec), "--out", out)
    return pd.read_csv(out)


def test_the_table_has_the_dictionarys_columns(tmp_path):
    tiers = {"unbounded": {"ssd_bytes": None}, "hbm": {"hbm_bytes": 1 << 30}}
    table = run_stage(tmp_path, spec(tiers, WORKLOADS[0], [16, 64], 2, (2, 4), 1))
    assert list(table) == list(columns_dictionary()["hit_rates"])
    assert len(table) == 2 * 2 * 2 * 2
    assert table["ssd_bytes"].dropna().unique().tolist() == [float("inf")]
    assert table["active_conversations"].unique().tolist() == [2, 4]


def test_a_trace_has_one_seed(tmp_path):
    workload = {"kind": "trace", "trace": str(EXCERPT)}
    table = run_stage(tmp_path, spec({"dram": {"dram_bytes": 8 << 30}}, workload, [512], 5, (1,), 1))
    assert table["seeds"].tolist() == [1, 1]
    assert table["requests"].tolist() == [50, 50]


def test_a_wrong_workload_is_one_line():
    with pytest.raises(UserError, match=r"workload\.user_tokens: \[0, 5\]"):
        hit_rates_table(spec({"ssd": {"ssd_bytes": None}}, {**REFERENCE, "user_tokens": [0, 5]}))


def test_what_was_done_to_long_requests_is_in_the_table():
    workload = {
        "kind": "trace",
        "trace": str(EXCERPT),
        "long_requests": "leave_out",
        "max_context_tokens": 7000,
    }
    table = hit_rates_table(spec({"ssd": {"ssd_bytes": None}}, workload, [512], 1, (1,), 1))
    assert (
        table["notes"].str.fullmatch(r"trace: of 50 requests \d+ left out, longer than 7,000 tokens .*").all()
    )
    assert (table["requests"] < 50).all()
    assert (
        hit_rates_table(spec({"ssd": {"ssd_bytes": None}}, WORKLOADS[0], [16], 1, (1,), 1))["notes"]
        .isna()
        .all()
    )


def test_of_a_trace_with_lengths_alone_nothing_is_predicted(tmp_path):
    workload = {"kind": "trace", "trace": str(EXCERPT.parent / "traces" / "burstgpt.csv")}
    table = run_stage(tmp_path, spec({"ssd": {"ssd_bytes": None}}, workload, [16, 512], 1, (1,), 1))
    assert table.filter(like="_rate").isna().all(axis=None)
    assert table["written_bytes"].isna().all()
    assert table["requests"].tolist() == [28] * 4
    assert table["notes"].str.contains("prefixes are not known").all()
    figure = draw_hit_rate(table, pd.DataFrame())
    assert any("prefixes are not known" in text.get_text() for text in figure.axes[0].texts)


def test_what_goes_chunk_by_chunk_has_an_end(monkeypatch):
    workload = {"kind": "trace", "trace": str(EXCERPT)}
    tiers = {"pool": {"dram_bytes": 1 << 30, "ssd_bytes": None}, "ssd": {"ssd_bytes": None}}
    asked = spec(tiers, workload, [512], 1, (1,), 1)
    whole = hit_rates_table(asked)
    assert whole["notes"].isna().all()
    monkeypatch.setattr(predict, "MOST_REQUESTS", 10)
    table = hit_rates_table(asked)
    pool = table["tiers"] == "pool"
    assert table["notes"].str.contains("chunk by chunk").equals(pool)
    assert table["second_use_hit_rate"].isna().equals(pool)
    assert table["hit_rate"].equals(whole["hit_rate"])
    asked["cases"]["reference"]["lookup"] = "rest"
    table = hit_rates_table(asked)
    assert table["hit_rate"].isna().all()
    assert table["ceiling_hit_rate"].equals(whole["ceiling_hit_rate"])
