"""A small workload of every kind, and what an unbounded cache makes of a conversation."""

import json
from pathlib import Path

import pytest

from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.workloads.factory import make_workload

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
    {"kind": "trace", "trace": str(EXCERPT), "max_requests": 12},
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


ROWS = [json.loads(line) for line in EXCERPT.read_text().splitlines()]


def written(folder: Path, rows) -> str:
    """A trace of these records."""
    path = folder / "trace.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def mistake(**keys) -> str:
    """The one line that a trace is refused with."""
    with pytest.raises(UserError) as error:
        make_workload({"kind": "trace", **keys})
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(f"workload.trace: {keys['trace']}")
    return message
