"""Traces in Mooncake's form: what their hashes share, and lines that are none."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import refused
from workflow.hyperkv.workloads.mooncake import Mooncake, conversations
from workflow.hyperkv.workloads.trace import parse

ROOT = Path(__file__).parents[2]
EXCERPT = ROOT / "tests" / "data" / "mooncake_excerpt.jsonl"
TRACE = ROOT.parent / "shared" / "data" / "mooncake" / "conversation_trace.jsonl"

BLOCK_TOKENS = 512
GOOD = {"timestamp": 3000, "input_length": 600, "output_length": 5, "hash_ids": [0, 7]}


def line(**changes) -> str:
    return json.dumps({k: v for k, v in {**GOOD, **changes}.items() if v != "drop"})


def test_excerpt():
    requests = conversations(Mooncake(str(EXCERPT)), 0)
    assert len(requests) == len({request.name for request in requests}) == 50
    first, second = requests[0], requests[1]
    assert (first.turns[0].prompt_end, first.turns[0].answer_end) == (6758, 7258)
    assert first.turns[0].arrival_s == 0
    assert first.tokens.dtype == np.uint32
    assert first.tokens.shape == (7258,)
    assert np.array_equal(first.tokens[:BLOCK_TOKENS], second.tokens[:BLOCK_TOKENS])
    assert not np.array_equal(first.tokens[BLOCK_TOKENS:1024], second.tokens[BLOCK_TOKENS:1024])


def test_tokens_are_shared_exactly_as_far_as_hash_ids():
    requests = conversations(Mooncake(str(EXCERPT)), 5)
    first = requests[0]
    for request in requests[1:]:
        shared = 0
        while shared < min(len(first.hash_ids), len(request.hash_ids)) and (
            first.hash_ids[shared] == request.hash_ids[shared]
        ):
            shared += 1
        short = min(len(first.tokens), len(request.tokens))
        same = first.tokens[:short] == request.tokens[:short]
        assert same[: shared * BLOCK_TOKENS].all()
        assert same[shared * BLOCK_TOKENS :].mean() < 0.01


def test_max_requests_takes_the_first():
    few = conversations(Mooncake(str(EXCERPT), max_requests=7), 0)
    assert few == conversations(Mooncake(str(EXCERPT)), 0)[:7]


@given(st.integers(1, 3000), st.integers(1, 50), st.integers(0, 10**6))
def test_any_valid_line(input_length, output_length, first_id):
    ids = list(range(first_id, first_id + -(-input_length // BLOCK_TOKENS)))
    text = line(input_length=input_length, output_length=output_length, hash_ids=ids)
    (record,) = parse([text, "\n"], "t")
    assert (record.arrival_s, record.input_tokens, record.output_tokens) == (
        0,
        input_length,
        output_length,
    )
    assert list(record.hash_ids) == ids


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        (line(timestamp="drop"), "timestamp is missing"),
        (line(hash_ids="drop"), "hash_ids is missing"),
        (line(timestamp="3"), "timestamp is '3'"),
        (line(timestamp=float("nan")), "timestamp is nan"),
        (line(timestamp=2999), "timestamp 2999 is before the last one, 3000"),
        (line(timestamp=-1), "timestamp -1 is before"),
        (line(input_length=-1), "input_length is -1"),
        (line(input_length=1.5), "input_length is 1.5"),
        (line(output_length=-4), "output_length is -4"),
        (line(output_length=True), "output_length is True"),
        (line(hash_ids=3), "hash_ids is no list"),
        (line(hash_ids=[0, "a"]), "hash_ids is no list"),
        (line(hash_ids=[0, -1]), "hash_ids is no list"),
        (line(hash_ids=[0]), "1 hash_ids for input_length 600; write 2"),
        (line(hash_ids=[0, 1, 2]), "3 hash_ids for input_length 600; write 2"),
    ],
)
def test_malformed_lines_name_file_and_line(tmp_path, text, what):
    path = tmp_path / "trace.jsonl"
    path.write_text(f"{line()}\n{text}\n")
    with refused(f"^workload.trace: {path}:2: .*{re.escape(what)}.*"):
        conversations(Mooncake(str(path)), 0)


@pytest.mark.skipif(not TRACE.exists(), reason="the whole trace is not beside the repository")
def test_the_whole_trace():
    requests = conversations(Mooncake(str(TRACE)), 0)
    assert len(requests) == 12_031
    assert EXCERPT.read_text().splitlines() == TRACE.read_text().splitlines()[:50]
    assert np.mean([r.turns[0].prompt_end for r in requests]) == pytest.approx(12_035, abs=1)
    longest = max(requests, key=lambda r: r.turns[0].prompt_end)
    assert len(longest.tokens) == longest.turns[0].answer_end
