import pytest

from tests.helpers import refused
from tests.workloads.kinds import EXCERPT, documents
from workflow.hyperkv.workloads.factory import make_workload

MULTI_TURN = {"kind": "multi_turn", "conversations": 3, "turns": [2, 6]}
DOCUMENTS = documents(2, 4, [100, 200], [5, 10], [5, 10])
MOONCAKE = {"kind": "trace", "trace": str(EXCERPT), "max_requests": 5}


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
        ({**MULTI_TURN, "user_tokens": [0, 5]}, r"workload.user_tokens: \[0, 5\]"),
        ({**MULTI_TURN, "max_context_tokens": 1579}, "1579 is less than the 1580 tokens a first turn may"),
        ({**DOCUMENTS, "document_tokens": [0, 8]}, r"workload.document_tokens: \[0, 8\]"),
        ({**DOCUMENTS, "max_context_tokens": 100}, "100 is less than the 220 tokens a request may have"),
        ({**MOONCAKE, "trace": "none.jsonl"}, "none.jsonl: no such file"),
    ],
)
def test_bad_values_are_one_line(spec, what):
    with refused(what):
        make_workload(spec, 0)
