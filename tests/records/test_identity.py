"""What records depend on is known before a run makes anything, and the same afterwards."""

import json
from pathlib import Path

import pytest

from workflow.hyperkv.records.identity import FETCHED_TRACE, identity_of


@pytest.fixture
def at(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "talks.json").write_text("[]")
    return tmp_path


def written(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("workload", "made"),
    [
        (
            {"kind": "text", "file": "talks.json", "tokens": "results/texts/talks-1.jsonl"},
            "results/texts/talks-1.jsonl",
        ),
        ({"kind": "trace", "trace": FETCHED_TRACE}, FETCHED_TRACE),
    ],
)
def test_what_a_run_makes_changes_no_identity(at, workload, made):
    before = identity_of({"workload": workload}, "code")
    written(at / made, "{}")
    assert identity_of({"workload": workload}, "code") == before
    assert identity_of({"sweep": {"workload": workload}}, "code") != before


@pytest.mark.parametrize("key", ["file", "trace"])
def test_what_a_user_s_file_says_is_part_of_it(at, key):
    spec = {"workload": {"kind": "any", key: "own.json"}}
    written(at / "own.json", json.dumps([1]))
    before = identity_of(spec, "code")
    written(at / "own.json", json.dumps([1, 2]))
    assert identity_of(spec, "code") != before
