import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workloads.kinds import prefix_hit_tokens
from workflow.hyperkv.workloads.chunks import chain_keys
from workflow.hyperkv.workloads.multi_turn import MultiTurn, conversations

CHUNKS = (16, 32, 64, 128, 256, 512, 1024, 2048)
DECODE_SAVED = (89.4, 89.1, 88.5, 87.3, 84.8, 79.9, 70.8, 46.0)
PROMPT_ONLY = (83.1, 82.8, 82.2, 81.0, 78.4, 73.6, 64.6, 39.9)

seeds = st.integers(0, 2**32 - 1)


def ranges(lowest: int, highest: int):
    return st.tuples(st.integers(lowest, highest), st.integers(lowest, highest)).map(
        lambda r: (min(r), max(r))
    )


workloads = st.builds(
    MultiTurn,
    conversations=st.integers(1, 5),
    turns=ranges(1, 12),
    prefix_tokens=ranges(0, 60),
    user_tokens=ranges(1, 30),
    answer_tokens=ranges(1, 30),
    max_context_tokens=st.none() | st.integers(120, 400),
    vocabulary=st.integers(2**16, 2**20),
)


@pytest.fixture(scope="module")
def reference():
    return [conversations(MultiTurn(400), seed) for seed in range(10)]


@pytest.mark.parametrize(("decode_saved", "published"), [(True, DECODE_SAVED), (False, PROMPT_ONLY)])
def test_hit_rates_of_the_reference_workload(reference, decode_saved, published):
    rates = np.empty((len(reference), len(CHUNKS)))
    for row, chats in zip(rates, reference, strict=True):
        prompts = sum(turn.prompt_end for chat in chats for turn in chat.turns)
        for column, chunk in enumerate(CHUNKS):
            row[column] = sum(prefix_hit_tokens(c.turns, chunk, decode_saved) for c in chats) / prompts
    assert 100 * rates.mean(axis=0) == pytest.approx(published, abs=1)


def test_working_set_of_the_reference_workload(reference):
    held = np.mean([sum(chat.turns[-1].answer_end for chat in chats) for chats in reference])
    assert held == pytest.approx(1.21e6, rel=0.02)


def test_turns_are_messages_rounded_up_to_pairs(reference):
    counts = {len(chat.turns) for chats in reference for chat in chats}
    assert counts == set(range(1, 15))
    assert {len(c.turns) for c in conversations(MultiTurn(50, turns=(3, 3)), 0)} == {2}
    assert {len(c.turns) for c in conversations(MultiTurn(50, turns=(1, 1)), 0)} == {1}


def test_ranges_include_both_ends():
    chats = conversations(MultiTurn(200, (2, 2), (0, 1), (1, 2), (5, 6)), 3)
    assert {chat.turns[0].prompt_end for chat in chats} == {1, 2, 3}
    assert {chat.turns[0].answer_end - chat.turns[0].prompt_end for chat in chats} == {5, 6}


@given(workloads, seeds)
def test_contexts_grow_within_the_ranges(workload, seed):
    for chat in conversations(workload, seed):
        assert 1 <= len(chat.turns) <= (workload.turns[1] + 1) // 2
        end = None
        for turn in chat.turns:
            if end is None:
                lowest = workload.prefix_tokens[0] + workload.user_tokens[0]
                highest = workload.prefix_tokens[1] + workload.user_tokens[1]
            else:
                lowest, highest = end + workload.user_tokens[0], end + workload.user_tokens[1]
            assert lowest <= turn.prompt_end <= highest
            answer = turn.answer_end - turn.prompt_end
            assert workload.answer_tokens[0] <= answer <= workload.answer_tokens[1]
            assert turn.arrival_s is None
            end = turn.answer_end
        assert workload.max_context_tokens is None or end <= workload.max_context_tokens
        assert chat.tokens.dtype == np.uint32
        assert chat.tokens.shape == (end,)
        assert chat.tokens.max() < workload.vocabulary


@given(workloads, seeds)
def test_a_limit_only_cuts_the_end(workload, seed):
    free = MultiTurn(**{**vars(workload), "max_context_tokens": None})
    for bounded, whole in zip(conversations(workload, seed), conversations(free, seed), strict=True):
        kept = len(bounded.turns)
        assert bounded.turns == whole.turns[:kept]
        limit = workload.max_context_tokens
        assert kept == len(whole.turns) or whole.turns[kept].answer_end > limit


@given(workloads, seeds, st.integers(1, 5))
def test_a_conversation_does_not_depend_on_their_number(workload, seed, more):
    few = conversations(workload, seed)
    many = conversations(MultiTurn(**{**vars(workload), "conversations": len(few) + more}), seed)
    assert few == many[: len(few)]
    assert len({chat.name for chat in many}) == len(many)


@given(workloads, seeds, st.sampled_from([16, 32, 48, 64]), st.booleans())
def test_predicted_hits_are_those_of_an_unbounded_cache(workload, seed, chunk, decode_saved):
    held, predicted, measured = set(), 0, 0
    for chat in conversations(workload, seed):
        predicted += prefix_hit_tokens(chat.turns, chunk, decode_saved)
        keys = chain_keys(chat.tokens, chunk)
        for turn in chat.turns:
            measured += chunk * sum(key in held for key in keys[: turn.prompt_end // chunk])
            end = turn.answer_end if decode_saved else turn.prompt_end
            held.update(keys[: end // chunk])
    assert predicted == measured
