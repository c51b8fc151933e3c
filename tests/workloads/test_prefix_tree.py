"""Spans of tokens against chained keys, and the order of requests against the replay engine's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workloads.kinds import WORKLOADS
from workflow.hyperkv.engines.replay.clients import replay
from workflow.hyperkv.engines.replay.request import KeyedConversation, ReplaySettings
from workflow.hyperkv.models.gpu import GpuModel
from workflow.hyperkv.workloads.chunks import chain_keys
from workflow.hyperkv.workloads.factory import make_workload
from workflow.hyperkv.workloads.prefix_tree import ROOT, prefix_tree, prompt_tokens, request_order


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload["kind"])
@pytest.mark.parametrize("decode", [True, False])
@pytest.mark.parametrize("chunk", [16, 48, 512])
def test_paths_are_the_chained_keys(workload, decode, chunk):
    conversations = make_workload(workload, 3)
    tree = prefix_tree(conversations, decode)
    units = tree.units(chunk)
    assert all(above < node for node, above in enumerate(units.parent) if node)
    names: dict[bytes, tuple[int, int]] = {}
    for conversation, leaves in zip(conversations, tree.leaves, strict=True):
        tokens = conversation.tokens
        for turn, leaf in zip(conversation.turns, leaves, strict=True):
            saved = turn.answer_end - 1 if decode else turn.prompt_end
            keys = chain_keys(tokens[:saved], chunk)
            path = path_of(units, leaf)
            assert len(path) == len(keys) == units.depth[leaf]
            for key, unit in zip(keys, path, strict=True):
                assert names.setdefault(key, unit) == unit
    assert len(set(names.values())) == len(names) == sum(units.count)


def path_of(units, leaf: int) -> list[tuple[int, int]]:
    """(node, number within it) of every unit from the root to a leaf."""
    node, path = units.whole[leaf], []
    while node != ROOT:
        path = [(node, number) for number in range(units.count[node])] + path
        node = units.parent[node]
    return path


@given(st.lists(st.integers(1, 6), min_size=1, max_size=12), st.integers(1, 5), st.integers(1, 12))
def test_every_turn_is_sent_once_and_in_turn(turns, clients, active):
    order = request_order(turns, clients, active)
    assert sorted(order.requests) == [(c, t) for c, count in enumerate(turns) for t in range(count)]
    assert 0 < order.window <= len(order.requests)
    under_way: set[int] = set()
    for conversation, turn in order.requests:
        assert turn == 0 or conversation in under_way
        under_way.add(conversation)
        assert len(under_way) <= max(clients, active)
        if turn + 1 == turns[conversation]:
            under_way.remove(conversation)


@given(st.integers(1, 9), st.sampled_from([(1, None), (1, 3), (2, 4), (3, 3), (4, 9)]), st.integers(0, 2**16))
def test_the_order_is_that_of_the_replay_engine(count, clients_active, seed):
    """With answers of one length on a GPU whose steps take no longer for more requests, so all answers take alike."""
    clients, active = clients_active
    spec = {"kind": "multi_turn", "conversations": count, "turns": [2, 8], "answer_tokens": [3, 3]}
    conversations = make_workload(spec, seed)
    result = replay(
        [KeyedConversation(item, [b""] * (item.turns[-1].answer_end // 16)) for item in conversations],
        clients,
        GpuModel("g", prefill_tokens_per_s=1e12, host_device_gbps=1, prefill_min_s=1, decode_base_s=1),
        ReplaySettings(16, 10**6, 16, 10**6, 64, 1, prefix_caching=False),
        None,
        active,
    )
    index = {conversation.name: number for number, conversation in enumerate(conversations)}
    order = request_order([len(item.turns) for item in conversations], clients, active or clients)
    assert [(index[request.conversation], request.turn) for request in result.requests] == order.requests
    assert sum(request.arrival_s < result.window_s for request in result.requests) == pytest.approx(
        order.window, abs=clients
    )
    assert np.array_equal(
        prompt_tokens(conversations, order), [request.prompt_tokens for request in result.requests]
    )
