"""What figures of the sweep say of KV and workload."""

import pandas as pd
import pytest

from workflow.hyperkv.records.subtitles import kept_words, workload_words


@pytest.mark.parametrize(
    ("workload", "words"),
    [
        ({"kind": "multi_turn", "conversations": 1400, "turns": [2, 4]}, "multi_turn, 1,400 conversations"),
        (
            {"kind": "long_documents", "documents": 4, "requests": 40},
            "long_documents, 4 documents, 40 requests",
        ),
        ({"kind": "trace", "trace": "results/traces/a.jsonl"}, "trace, a.jsonl"),
        ({"kind": "text", "file": "talks/b.json", "max_answer_tokens": 9}, "text, b.json"),
    ],
)
def test_a_workload_in_words(workload, words):
    assert workload_words(workload) == words


def test_rows_that_are_not_alike_say_so_and_what_is_not_known_is_left_out():
    rows = pd.DataFrame({"kv_dtype": ["bfloat16", "fp8", "bfloat16"], "workload": [None] * 3})
    assert kept_words(rows) == "KV bfloat16 and fp8"
    assert kept_words(rows[["workload"]]) == ""
    assert kept_words(rows.assign(kv_dtype="auto")) == "KV auto (the model's)"
