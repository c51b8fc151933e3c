"""Whatever stands at a key is taken or is one line that names the key."""

from copy import deepcopy
from typing import Any

import pytest

from tests.configs import BASE
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.config import docs
from workflow.hyperkv.config.explain import validated
from workflow.hyperkv.config.models.config import Config

VALUES = (
    None,
    True,
    0,
    -1,
    1.5,
    10**12,
    "",
    "x",
    "~~",
    "1 MB",
    "{x}",
    [],
    [None],
    [0, 0],
    ["a", "a"],
    {},
    {"a": 1},
    {"No": {}},
)
WORKLOADS = {
    "multi_turn": BASE["workload"],
    "long_documents": {key: [1, 2] for key in ("document_tokens", "question_tokens", "answer_tokens")}
    | {"kind": "long_documents", "documents": 1, "requests": 1},
    "trace": {"kind": "trace", "trace": "t.jsonl"},
    "text": {"kind": "text", "file": "t.json"},
}
NEEDED: dict[str, dict[str, Any]] = {
    "scenarios": {"tier": "none"},
    "predict": {"tiers": {"mine": {}}},
    "ladder": {"scenario": "none"},
    "pairs": {},
}


def with_value(row: docs.Row, value: Any) -> dict[str, Any]:
    """BASE with a value at a key, and what a mapping of one's own name or a kind needs besides."""
    config = deepcopy(BASE)
    *parents, last = row.path.replace("<name>", "mine").split(".")
    if row.kinds and parents == ["workload"]:
        config["workload"] = deepcopy(WORKLOADS[row.kinds[0]])
    section: Any = config
    for name in parents:
        section = section.setdefault(name, {})
        if name == "mine" and parents.count("mine") == 1:
            section |= NEEDED[parents[0]]
        if name == "place":
            section["addresses"] = ["kv:6379"]
    if row.kinds and parents == ["kvrocks"]:
        section["source"] = row.kinds[0]
    section[last] = value
    return config


@pytest.mark.parametrize("row", docs.rows(), ids=lambda row: row.path)
def test_any_value_is_taken_or_is_one_line_with_the_key(row):
    refused = 0
    for value in VALUES:
        try:
            validated(Config, with_value(row, value))
        except UserError as error:
            refused += 1
            message = str(error)
            path = row.path.replace("<name>", "mine")
            path = path.rpartition(".")[0] if row.kinds else path  # what a kind's keys are together
            assert message.startswith(f"config: {path}"), message
            assert "\n" not in message
            assert "union" not in message
            assert "function" not in message
    assert refused
