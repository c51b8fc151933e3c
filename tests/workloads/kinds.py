"""A small workload of every kind, and what an unbounded cache makes of a conversation."""

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


def prefix_hit_tokens(turns, chunk_tokens: int, decode_saved: bool) -> int:
    """Prompt tokens of one conversation that an unbounded cache holds when they are asked for.

    A prompt hits the conversation's last context floored to whole chunks: prompt and answer when decode_saved, else the
    prompt alone. The KV of an answer's last token is taken as held.
    """
    hit, held = 0, 0
    for turn in turns:
        hit += held // chunk_tokens * chunk_tokens
        held = turn.answer_end if decode_saved else turn.prompt_end
    return hit
