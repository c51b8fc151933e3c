"""The tier's simulation against a dictionary of chained keys, and what LRU promises."""

from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workloads.kinds import WORKLOADS
from workflow.hyperkv.predict.lru import held_units
from workflow.hyperkv.workloads.chunks import chain_keys
from workflow.hyperkv.workloads.factory import make_workload
from workflow.hyperkv.workloads.prefix_tree import prefix_tree, request_order


def requests(workload, seed, clients, active):
    """A small workload's conversations, and its requests in order."""
    conversations = make_workload(workload, seed)
    return conversations, request_order([len(item.turns) for item in conversations], clients, active)


def brute_force(conversations, order, decode, chunk, capacity) -> list[int]:
    """Leading chunks held when each request comes, one chunk and one byte string at a time."""
    tokens = [conversation.tokens for conversation in conversations]
    cache: OrderedDict[bytes, None] = OrderedDict()
    found = []
    for index, turn in order.requests:
        position = conversations[index].turns[turn]
        keys = chain_keys(tokens[index][: position.answer_end - 1 if decode else position.prompt_end], chunk)
        held = [key in cache for key in keys]
        found.append(held.index(False) if False in held else len(held))
        for key in reversed(keys):
            cache[key] = None
            cache.move_to_end(key)
        while capacity is not None and len(cache) > capacity:
            cache.popitem(last=False)
    return found


def simulated(conversations, order, decode, chunk, capacity) -> np.ndarray:
    tree = prefix_tree(conversations, decode)
    leaves = [tree.leaves[index][turn] for index, turn in order.requests]
    return held_units(tree.units(chunk), leaves, capacity)


settings = {
    "workload": st.sampled_from(WORKLOADS),
    "seed": st.integers(0, 2**16),
    "clients": st.integers(1, 3),
    "active": st.integers(1, 4),
    "decode": st.booleans(),
    "chunk": st.sampled_from([16, 32, 80, 512]),
}


@given(**settings, capacity=st.one_of(st.none(), st.integers(0, 200)))
def test_it_is_a_dictionary_of_chunks(workload, seed, clients, active, decode, chunk, capacity):
    conversations, order = requests(workload, seed, clients, active)
    expected = brute_force(conversations, order, decode, chunk, capacity)
    assert simulated(conversations, order, decode, chunk, capacity).tolist() == expected


@given(**settings, capacity=st.integers(0, 200), more=st.integers(0, 100))
def test_a_larger_tier_holds_no_less(workload, seed, clients, active, decode, chunk, capacity, more):
    conversations, order = requests(workload, seed, clients, active)
    sizes = (capacity, capacity + more, None)
    small, large, unbounded = (simulated(conversations, order, decode, chunk, size) for size in sizes)
    assert (small <= large).all()
    assert (large <= unbounded).all()


def test_a_tier_of_the_size_of_the_working_set_is_unbounded():
    conversations, order = requests(WORKLOADS[0], 1, 2, 3)
    units = prefix_tree(conversations, True).units(16)
    whole = sum(units.count)
    unbounded = simulated(conversations, order, True, 16, None)
    assert np.array_equal(simulated(conversations, order, True, 16, whole), unbounded)


@pytest.mark.parametrize("capacity", [0, 1, 3])
def test_a_context_longer_than_the_tier_keeps_its_head(capacity):
    workload = {"kind": "multi_turn", "conversations": 1, "turns": [6, 6]}
    conversations, order = requests(workload, 1, 1, 1)
    assert simulated(conversations, order, True, 64, capacity).tolist() == [0, capacity, capacity]
