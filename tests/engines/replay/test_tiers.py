"""RealTiers over a DRAM pool and a second DRAM store in the role of the store."""

from contextlib import ExitStack

import numpy as np
import pytest

from workflow.hyperkv.base.errors import StoreError
from workflow.hyperkv.connectors.inprocess import InprocessConnector
from workflow.hyperkv.engines.replay.tiers import RealTiers, Tier
from workflow.hyperkv.stores.base import StoreConfig
from workflow.hyperkv.stores.dram import DramStore
from workflow.hyperkv.workloads.payload import Payload

SIZE = 4100
KEYS = [bytes([0, 0, 0, i]) * 4 for i in range(6)]


@pytest.fixture(scope="module")
def payload():
    return Payload(SIZE)


@pytest.fixture
def built(tmp_path, payload):
    """(tiers, pool, store); the pool holds four chunks, the store all."""
    with ExitStack() as stack:
        levels = []
        for name, chunks in (("dram", 4), ("store", 10)):
            config = StoreConfig(tmp_path, SIZE, tmp_path / "log", capacity_bytes=chunks * SIZE)
            store = stack.enter_context(DramStore(config))
            levels.append(Tier(name, store, stack.enter_context(InprocessConnector(store, 2))))
        yield RealTiers(levels, payload, len(KEYS)), levels[0].store, levels[1].store


def fill(store, payload, indices):
    for i in indices:
        store.put(KEYS[i], payload.value(KEYS[i]))


@pytest.mark.parametrize(
    ("pool", "store", "by_tier"),
    [
        ([], [], {"dram": 0, "store": 0}),
        ([0, 1], [], {"dram": 2, "store": 0}),
        ([0], [1, 2], {"dram": 1, "store": 2}),
        ([0], [2, 3], {"dram": 1, "store": 0}),
        ([1], [0, 2], {"dram": 1, "store": 2}),
        ([], [0, 1, 3], {"dram": 0, "store": 2}),
        ([1, 2], [], {"dram": 0, "store": 0}),
    ],
)
def test_the_prefix_stops_at_the_first_gap(built, payload, pool, store, by_tier):
    tiers, pool_store, lower = built
    fill(pool_store, payload, pool)
    fill(lower, payload, store)
    load = tiers.load(KEYS)
    assert (load.by_tier, load.present, load.corrupt) == (by_tier, sum(by_tier.values()), 0)
    assert load.seconds > 0


def test_loaded_chunks_are_promoted(built, payload):
    tiers, pool, lower = built
    fill(lower, payload, [0, 1, 2])
    assert tiers.load(KEYS[:3]).by_tier == {"dram": 0, "store": 3}
    assert pool.exists(KEYS[:4]) == [True, True, True, False]
    assert tiers.load(KEYS[:3]).by_tier == {"dram": 3, "store": 0}


def test_a_save_reaches_every_tier(built):
    tiers, pool, lower = built
    assert tiers.save(KEYS[:2]) > 0
    assert pool.exists(KEYS[:3]) == lower.exists(KEYS[:3]) == [True, True, False]
    assert tiers.load(KEYS[:2]).by_tier == {"dram": 2, "store": 0}


def test_wrong_bytes_are_counted(built, payload):
    tiers, _, lower = built
    fill(lower, payload, [0, 2])
    wrong = np.array(payload.value(KEYS[1]))
    wrong[-1] ^= 1
    lower.put(KEYS[1], wrong)
    load = tiers.load(KEYS[:3])
    assert (load.present, load.corrupt) == (3, 1)


def test_a_dead_store_is_an_error(built):
    tiers, _, lower = built
    lower.stop()
    with pytest.raises(StoreError, match="dram"):
        tiers.save(KEYS[:1])
