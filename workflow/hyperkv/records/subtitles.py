"""What a figure of the sweep says of its cells beside model and GPU: the format of their KV, and their workload."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

_MODELS_OWN = "auto (the model's)"
_COUNTS = ("conversations", "documents", "requests")


def workload_words(workload: Mapping[str, Any]) -> str:
    """'multi_turn, 400 conversations', or of a file 'trace, conversation_trace.jsonl': the column `workload` of the tables."""
    counts = [f"{workload[key]:,} {key}" for key in _COUNTS if workload.get(key) is not None]
    files = [Path(workload[key]).name for key in ("trace", "file") if workload.get(key)]
    return ", ".join([workload["kind"], *files, *counts])


def kept_words(rows: pd.DataFrame) -> str:
    """'KV bfloat16; workload multi_turn, 400 conversations' of a table's rows; what they do not tell is left out."""
    parts = []
    for column, word in (("kv_dtype", "KV"), ("workload", "workload")):
        found = dict.fromkeys(map(str, rows[column].dropna())) if column in rows else {}
        told = [_MODELS_OWN if name == "auto" else name for name in found]
        parts += [f"{word} {' and '.join(told)}"] if told else []
    return "; ".join(parts)


def under(title: str, rows: pd.DataFrame) -> str:
    """A title with what its rows tell of KV and workload as its last line."""
    return "\n".join(filter(None, [title, kept_words(rows)]))
