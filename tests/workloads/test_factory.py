import pytest

from tests.helpers import refused
from tests.workloads.kinds import EXCERPT, documents
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.workloads.factory import make_workload

MULTI_TURN = {"kind": "multi_turn", "conversations": 3, "turns": [2, 6]}
DOCUMENTS = documents(2, 4, [100, 200], [5, 10], [5, 10])
MOONCAKE = {"kind": "mooncake", "trace": str(EXCERPT), "max_requests": 5}


@pytest.mark.parametrize(("spec", "count"), [(MULTI_TURN, 3), (DOCUMENTS, 4), (MOONCAKE, 5)])
def test_kinds_and_seeds(spec, count):
    first, again, other = make_workload(spec, 1), make_workload(spec, 1), make_workload(spec, 2)
    assert len(first) == count
    assert [c.tokens.tobytes() for c in first] == [c.tokens.tobytes() for c in again]
    assert all(a.tokens.tobytes() != b.tokens.tobytes() for a, b in zip(first, other, strict=True))
    assert all(c.tokens.shape == (c.turns[-1].answer_end,) for c in first)


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        ({"kind": "chat"}, "workload.kind: 'chat'; choose multi_turn, long_documents, mooncake"),
        ({}, "workload.kind: None"),
        ({"kind": "multi_turn"}, "workload.conversations: missing"),
        ({**MULTI_TURN, "turn": [2, 4]}, "workload.turn: not a key of multi_turn; choose from conversations"),
        ({**MULTI_TURN, "conversations": 0}, "workload.conversations: 0; write a whole number of at least 1"),
        ({**MULTI_TURN, "conversations": True}, "workload.conversations: True"),
        ({**MULTI_TURN, "user_tokens": [150, 50]}, r"workload.user_tokens: \[150, 50\]; write \[lowest"),
        ({**MULTI_TURN, "user_tokens": [0, 5]}, r"workload.user_tokens: \[0, 5\]"),
        ({**MULTI_TURN, "user_tokens": [5]}, r"workload.user_tokens: \[5\]"),
        ({**MULTI_TURN, "answer_tokens": 5}, "workload.answer_tokens: 5"),
        ({**MULTI_TURN, "answer_tokens": [1.5, 2]}, "workload.answer_tokens"),
        ({**MULTI_TURN, "max_context_tokens": 1579}, "1579 is less than the 1580 tokens a first turn may"),
        ({**MULTI_TURN, "max_context_tokens": "8k"}, "workload.max_context_tokens: '8k'"),
        ({**DOCUMENTS, "reuse": "often"}, "workload.reuse: 'often'; choose uniform or zipf"),
        ({**DOCUMENTS, "documents": -1}, "workload.documents: -1"),
        ({**DOCUMENTS, "document_tokens": [9, 8]}, "workload.document_tokens"),
        ({**DOCUMENTS, "max_context_tokens": 100}, "100 is less than the 220 tokens a request may have"),
        ({**MOONCAKE, "trace": 3}, "workload.trace: 3"),
        ({**MOONCAKE, "trace": "none.jsonl"}, "none.jsonl: no such file"),
        ({**MOONCAKE, "max_requests": 0}, "workload.max_requests: 0"),
    ],
)
def test_bad_values_are_one_line(spec, what):
    with refused(what):
        make_workload(spec, 0)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, True])
def test_bad_seeds(seed):
    with pytest.raises(UserError, match="workload seed"):
        make_workload(MULTI_TURN, seed)
