"""A small workload of every kind."""

from pathlib import Path

EXCERPT = Path(__file__).parents[1] / "data" / "mooncake_excerpt.jsonl"


def documents(
    documents: int, requests: int, document: list[int], question: list[int], answer: list[int]
) -> dict:
    """A workload of questions on long documents, each length [least, most]."""
    tokens = {"document_tokens": document, "question_tokens": question, "answer_tokens": answer}
    return {"kind": "long_documents", "documents": documents, "requests": requests, **tokens}


WORKLOADS = [
    {"kind": "multi_turn", "conversations": 4, "turns": [2, 8], "prefix_tokens": [0, 90]},
    documents(2, 7, [70, 300], [5, 70], [1, 60]),
    {"kind": "mooncake", "trace": str(EXCERPT), "max_requests": 12},
]
