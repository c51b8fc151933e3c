"""A small workload of every kind."""

from pathlib import Path

EXCERPT = Path(__file__).parents[1] / "data" / "mooncake_excerpt.jsonl"
WORKLOADS = [
    {"kind": "multi_turn", "conversations": 4, "turns": [2, 8], "prefix_tokens": [0, 90]},
    {
        "kind": "long_documents",
        "documents": 2,
        "requests": 7,
        "document_tokens": [70, 300],
        "question_tokens": [5, 70],
        "answer_tokens": [1, 60],
    },
    {"kind": "mooncake", "trace": str(EXCERPT), "max_requests": 12},
]
