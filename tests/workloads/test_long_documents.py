from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow.hyperkv.workloads.long_documents import LongDocuments, conversations

seeds = st.integers(0, 2**32 - 1)


def ranges(lowest: int, highest: int):
    return st.tuples(st.integers(lowest, highest), st.integers(lowest, highest)).map(
        lambda r: (min(r), max(r))
    )


workloads = st.builds(
    LongDocuments,
    documents=st.integers(1, 4),
    requests=st.integers(1, 8),
    document_tokens=ranges(8, 200),
    question_tokens=ranges(1, 20),
    answer_tokens=ranges(1, 20),
    reuse=st.sampled_from(["uniform", "zipf"]),
    vocabulary=st.integers(2**16, 2**20),
)


@given(workloads, seeds)
def test_requests_start_with_their_document_and_share_nothing_else(workload, seed):
    texts: dict[int, bytes] = {}
    rests = set()
    for question in conversations(workload, seed):
        (turn,) = question.turns
        assert workload.document_tokens[0] <= question.document_tokens <= workload.document_tokens[1]
        asked, answered = turn.prompt_end - question.document_tokens, turn.answer_end - turn.prompt_end
        assert workload.question_tokens[0] <= asked <= workload.question_tokens[1]
        assert workload.answer_tokens[0] <= answered <= workload.answer_tokens[1]
        tokens = question.tokens
        assert tokens.dtype == np.uint32
        assert tokens.shape == (turn.answer_end,)
        assert tokens.max() < workload.vocabulary
        document = tokens[: question.document_tokens].tobytes()
        assert texts.setdefault(question.document, document) == document
        rests.add(tokens[question.document_tokens :].tobytes())
    assert len(set(texts.values())) == len(texts)
    assert len(rests) == workload.requests


@given(workloads, seeds, st.integers(1, 5))
def test_a_request_does_not_depend_on_their_number(workload, seed, more):
    few = conversations(workload, seed)
    many = conversations(LongDocuments(**{**vars(workload), "requests": len(few) + more}), seed)
    assert few == many[: len(few)]
    assert len({question.name for question in many}) == len(many)


@pytest.mark.parametrize(
    ("reuse", "shares"), [("uniform", (1 / 3, 1 / 3, 1 / 3)), ("zipf", (6 / 11, 3 / 11, 2 / 11))]
)
def test_reuse(reuse, shares):
    workload = LongDocuments(3, 3000, (8, 8), (1, 1), (1, 1), reuse)
    counts = Counter(question.document for question in conversations(workload, 1))
    assert [counts[document] / 3000 for document in range(3)] == pytest.approx(shares, abs=0.04)
