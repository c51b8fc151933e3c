"""Tiers asked only for what HBM did not have: against the real tiers, and against what the replay engine measured."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kept import LAPTOP, kept
from tests.workloads.kinds import WORKLOADS
from workflow.hyperkv.connectors.inprocess import InprocessConnector
from workflow.hyperkv.engines.replay.tiers import RealTiers, Tier
from workflow.hyperkv.predict.predict_hit_rates import Simulation, capacities_of
from workflow.hyperkv.stores.base import StoreConfig
from workflow.hyperkv.stores.dram import DramStore
from workflow.hyperkv.stores.files import FilesStore
from workflow.hyperkv.workloads import repeat_seed
from workflow.hyperkv.workloads.chunks import chain_keys
from workflow.hyperkv.workloads.factory import make_workload
from workflow.hyperkv.workloads.payload import Payload
from workflow.plugin.lmcache_striped.second_use import SecondUse

SIZE = 64


def real_hits(
    run: Simulation,
    folder: Path,
    capacities: dict[str, int],
    decode: bool,
    chunk: int,
    hbm: int | None,
    second: bool,
):
    """Prompt tokens of each request that each real tier serves, HBM's hits given, and chunks that the lowest one took in all.

    second: it gets chunks at their second use.
    """
    blocks = run.reached(True, 16, hbm) if hbm is not None else np.zeros_like(run.prompts)
    tokens = [conversation.tokens for conversation in run.conversations]
    with ExitStack() as stack:
        levels = []
        for name, count in capacities.items():
            config = StoreConfig(folder / name, SIZE, folder / "log", capacity_bytes=count * SIZE)
            if name == "ssd":
                bounded = replace(config, settings={"direct_io": "no"}, bound_bytes=count * SIZE)
                store = stack.enter_context(FilesStore(bounded))
            else:
                store = stack.enter_context(DramStore(config))
            uses = SecondUse() if second and name == list(capacities)[-1] else None
            levels.append(Tier(name, store, stack.enter_context(InprocessConnector(store, 1)), uses=uses))
        tiers = RealTiers(levels, Payload(SIZE), 1000)
        found, answer = [], []
        for (index, turn), held in zip(run.order.requests, blocks, strict=True):
            position = run.conversations[index].turns[turn]
            saved = position.answer_end - 1 if decode else position.prompt_end
            keys = chain_keys(tokens[index][:saved], chunk)
            first = held // chunk
            load = tiers.load(keys[first : (position.prompt_end - 1) // chunk])
            done, whole = first + load.present, position.prompt_end // chunk
            tiers.save([*answer, *keys[done:whole]])
            answer = keys[max(done, whole) :]
            found.append(int(max(held, (first + load.present) * chunk)))
        taken = levels[-1].store.counters().taken_bytes
    return found, taken // SIZE


@pytest.mark.parametrize("hbm", [None, 40])
@pytest.mark.parametrize("capacities", [{"dram": 12}, {"dram": 7, "ssd": 30}, {"ssd": 25}, {"ssd": 1000}])
@pytest.mark.parametrize(("decode", "chunk"), [(True, 32), (False, 64)])
@pytest.mark.parametrize("uses", [1, 2])
def test_they_are_the_engines_own_tiers(tmp_path, hbm, capacities, decode, chunk, uses):
    run = Simulation.of(make_workload({"kind": "multi_turn", "conversations": 5, "turns": [2, 4]}, 3), 2, 3)
    units = ({} if hbm is None else {"hbm": hbm}) | capacities
    found = run.found(units, decode, 16, chunk, uses, "rest")
    assert list(found.hits) == list(units)
    real, taken = real_hits(run, tmp_path, capacities, decode, chunk, hbm, uses == 2)
    assert sum(found.hits.values()).tolist() == real
    assert found.written.sum() == taken


@given(
    st.sampled_from(WORKLOADS), st.integers(0, 2**16), st.booleans(), st.sampled_from([16, 32, 128]), st.integers(0, 300)
)  # fmt: skip
def test_an_unbounded_tier_asked_for_the_rest_hits_no_more(workload, seed, decode, chunk, hbm):
    """It lacks an answer that is asked for at once, and answers that HBM served when they are not saved themselves."""
    run = Simulation.of(make_workload(workload, seed), 2, 3)
    tiers = {"hbm": hbm, "ssd": None}
    rest, prompt = (run.found(tiers, decode, 16, chunk, lookup=way).hits for way in ("rest", "prompt"))
    assert rest["hbm"].tolist() == prompt["hbm"].tolist()
    assert (rest["ssd"] <= prompt["ssd"]).all()


@given(
    st.sampled_from(WORKLOADS),
    st.integers(0, 2**16),
    st.booleans(),
    st.sampled_from([16, 32, 128]),
    st.sampled_from([None, 0, 40]),
)
def test_a_pool_that_holds_nothing_changes_nothing(workload, seed, decode, chunk, hbm):
    """Two simulations of the second use agree: chunk by chunk below a pool, and by spans of a prefix tree."""
    run = Simulation.of(make_workload(workload, seed), 2, 3)
    above = {} if hbm is None else {"hbm": hbm}
    below, alone = (run.found(above | tiers, decode, 16, chunk, 2) for tiers in (EMPTY_POOL, {"ssd": None}))
    assert below.hits["ssd"].tolist() == alone.hits["ssd"].tolist()
    assert below.written.tolist() == alone.written.tolist()


@given(st.sampled_from(WORKLOADS), st.integers(0, 2**16), st.sampled_from([16, 32, 128]))
def test_what_a_pool_keeps_never_comes_a_second_time(workload, seed, chunk):
    run = Simulation.of(make_workload(workload, seed), 2, 3)
    found = run.found({"dram": None, "ssd": None}, True, 16, chunk, 2)
    assert not found.written.any()
    assert sum(found.hits.values()).tolist() == run.reached(True, chunk, None).tolist()


EMPTY_POOL = {"dram": 0, "ssd": None}
CHUNK_TOKENS = 64  # of the default run


@pytest.fixture(scope="module")
def measured_cells() -> list[dict]:
    """Cells of the default run."""
    return kept(LAPTOP).of("cell")


@pytest.mark.parametrize(
    ("scenario", "tiers"),
    [("none", {}), ("dram", {"dram_bytes": 256 << 20}), ("files", {"ssd_bytes": None}), ("valkey_resp", {"dram_bytes": None})],
)  # fmt: skip
@pytest.mark.parametrize("repeat", [1, 2, 3])
def test_one_clients_hits_are_those_that_the_replay_engine_measured(measured_cells, scenario, tiers, repeat):
    """With one client they are the same; HBM alone differs by the room of the request itself."""
    (measured,) = (
        cell["values"]["hit_rate"]
        for cell in measured_cells
        if (cell["scenario"], cell["load"], cell["repeat"]) == (scenario, 1, repeat)
    )
    workload = {"kind": "multi_turn", "conversations": 10, "turns": [2, 8]}
    run = Simulation.of(make_workload(workload, repeat_seed(1, repeat)), 1, 6)
    capacities = capacities_of({"hbm_bytes": 224 << 20} | tiers, 16 * 32768, CHUNK_TOKENS * 32768)
    hits = run.found(capacities, True, 16, CHUNK_TOKENS, lookup="rest").hits
    window = run.order.window
    found = sum(tokens[:window].sum() for tokens in hits.values()) / run.prompts[:window].sum()
    assert found == pytest.approx(measured, abs=0.005 if scenario == "none" else 0.0005)
