"""The tier's simulation against a dictionary of chained keys, and what LRU promises."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workloads.by_hand import held_and_written
from tests.workloads.kinds import WORKLOADS
from workflow.hyperkv.predict.lru import Tier, simulated_tier
from workflow.hyperkv.workloads.factory import make_workload
from workflow.hyperkv.workloads.prefix_tree import request_order
from workflow.hyperkv.workloads.reuse import reuse_of


def requests(workload, seed, clients, active):
    """A small workload's conversations, and its requests in order."""
    conversations = make_workload(workload, seed)
    return conversations, request_order([len(item.turns) for item in conversations], clients, active)


def simulated(conversations, order, decode, chunk, capacity, uses=1) -> Tier:
    return simulated_tier(reuse_of(conversations, order, decode), chunk, capacity, uses)


settings = {
    "workload": st.sampled_from(WORKLOADS),
    "seed": st.integers(0, 2**16),
    "clients": st.integers(1, 3),
    "active": st.integers(1, 4),
    "decode": st.booleans(),
    "chunk": st.sampled_from([16, 32, 80, 512]),
}


@given(**settings, capacity=st.one_of(st.none(), st.integers(0, 200)), uses=st.sampled_from([1, 2]))
def test_it_is_a_dictionary_of_chunks(workload, seed, clients, active, decode, chunk, capacity, uses):
    conversations, order = requests(workload, seed, clients, active)
    expected = held_and_written(conversations, order, decode, chunk, capacity, uses)
    tier = simulated(conversations, order, decode, chunk, capacity, uses)
    assert list(zip(tier.held.tolist(), tier.written.tolist(), strict=True)) == expected


@given(**settings)
def test_at_the_second_use_no_more_is_held_and_no_more_is_written(
    workload, seed, clients, active, decode, chunk
):
    conversations, order = requests(workload, seed, clients, active)
    first, second = (simulated(conversations, order, decode, chunk, None, uses) for uses in (1, 2))
    assert (second.held <= first.held).all()
    assert second.written.sum() <= first.written.sum()


@given(**settings, capacity=st.integers(0, 200), more=st.integers(0, 100))
def test_a_larger_tier_holds_no_less(workload, seed, clients, active, decode, chunk, capacity, more):
    conversations, order = requests(workload, seed, clients, active)
    sizes = (capacity, capacity + more, None)
    small, large, unbounded = (simulated(conversations, order, decode, chunk, size).held for size in sizes)
    assert (small <= large).all()
    assert (large <= unbounded).all()


def test_a_tier_of_the_size_of_the_working_set_is_unbounded():
    conversations, order = requests(WORKLOADS[0], 1, 2, 3)
    whole = reuse_of(conversations, order, True).units(16)
    unbounded = simulated(conversations, order, True, 16, None).held
    assert np.array_equal(simulated(conversations, order, True, 16, whole).held, unbounded)


@pytest.mark.parametrize("capacity", [0, 1, 3])
def test_a_context_longer_than_the_tier_keeps_its_head(capacity):
    workload = {"kind": "multi_turn", "conversations": 1, "turns": [6, 6]}
    conversations, order = requests(workload, 1, 1, 1)
    assert simulated(conversations, order, True, 64, capacity).held.tolist() == [0, capacity, capacity]
