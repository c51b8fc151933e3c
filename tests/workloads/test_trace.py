"""Replay of traces: what their hashes share, lines that are no requests, and requests that are too long."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import refused
from tests.workloads.kinds import EXCERPT, ROWS, mistake, written
from workflow.hyperkv.workloads.factory import make_workload, workload_notes
from workflow.hyperkv.workloads.trace import Trace, conversations, taken

ROOT = Path(__file__).parents[2]
TRACE = ROOT.parent / "shared" / "data" / "mooncake" / "conversation_trace.jsonl"

BLOCK_TOKENS = 512
GOOD = {"timestamp": 3000, "input_length": 600, "output_length": 5, "hash_ids": [0, 7]}


def line(**changes) -> str:
    return json.dumps({k: v for k, v in {**GOOD, **changes}.items() if v != "drop"})


def test_excerpt():
    requests = conversations(Trace(str(EXCERPT)), 0)
    assert len(requests) == len({request.name for request in requests}) == 50
    first, second = requests[0], requests[1]
    assert (first.turns[0].prompt_end, first.turns[0].answer_end) == (6758, 7258)
    assert first.turns[0].arrival_s == 0
    assert first.tokens.dtype == np.uint32
    assert first.tokens.shape == (7258,)
    assert np.array_equal(first.tokens[:BLOCK_TOKENS], second.tokens[:BLOCK_TOKENS])
    assert not np.array_equal(first.tokens[BLOCK_TOKENS:1024], second.tokens[BLOCK_TOKENS:1024])


def test_tokens_are_shared_exactly_as_far_as_hash_ids():
    requests = conversations(Trace(str(EXCERPT)), 5)
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
    few = conversations(Trace(str(EXCERPT), max_requests=7), 0)
    assert len(few) == 7
    assert few[:] == conversations(Trace(str(EXCERPT)), 0)[:7]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "the last line is cut off, not JSON"),
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
        (line(hash_ids=[0, 1.5]), "hash_ids is no list"),
        (line(hash_ids=[0, True]), "hash_ids is no list"),
        (line(hash_ids=[0]), "1 hash_ids for input_length 600; write 2"),
        (line(hash_ids=[0, 1, 2]), "3 hash_ids for input_length 600; write 2"),
    ],
)
def test_malformed_lines_name_file_and_line(tmp_path, text, what):
    path = tmp_path / "trace.jsonl"
    path.write_text(f"{line()}\n{text}\n")
    with refused(f"^workload.trace: {path}:2: .*{re.escape(what)}.*"):
        conversations(Trace(str(path)), 0)


@pytest.mark.skipif(not TRACE.exists(), reason="the whole trace is not beside the repository")
def test_the_whole_trace():
    requests = conversations(Trace(str(TRACE)), 0)
    assert len(requests) == 12_031
    assert EXCERPT.read_text().splitlines() == TRACE.read_text().splitlines()[:50]
    assert np.mean([r.turns[0].prompt_end for r in requests]) == pytest.approx(12_035, abs=1)
    longest = max(requests, key=lambda r: r.turns[0].prompt_end)
    assert len(longest.tokens) == longest.turns[0].answer_end


LIMIT = 7000


def long_requests(how: str, limit: int = LIMIT, trace: str = str(EXCERPT)) -> list:
    return make_workload({"kind": "trace", "trace": trace, "long_requests": how, "max_context_tokens": limit})


def test_long_requests_are_left_out_and_the_others_stay_as_they_are():
    kept = [row for row in ROWS if row["input_length"] + row["output_length"] <= LIMIT]
    requests = long_requests("leave_out")
    assert 0 < len(kept) < len(ROWS)
    assert [request.turns[0].prompt_end for request in requests] == [row["input_length"] for row in kept]
    assert [request.turns[0].arrival_s for request in requests] == [row["timestamp"] / 1000 for row in kept]
    note = f"trace: of 50 requests {50 - len(kept)} left out, longer than 7,000 tokens with their answers"
    spec = {"kind": "trace", "trace": str(EXCERPT), "max_context_tokens": LIMIT}
    assert workload_notes(spec | {"long_requests": "leave_out"}) == [note]


def test_cut_requests_keep_their_answer_and_their_first_blocks():
    whole = make_workload({"kind": "trace", "trace": str(EXCERPT)})
    requests = long_requests("cut")
    assert len(requests) == len(whole)
    for before, after in zip(whole, requests, strict=True):
        old, new = before.turns[0], after.turns[0]
        assert new.answer_end == min(old.answer_end, LIMIT)
        assert new.answer_end - new.prompt_end == old.answer_end - old.prompt_end
        assert np.array_equal(after.tokens[: new.prompt_end], before.tokens[: new.prompt_end])


def test_a_request_whose_answer_takes_all_is_left_out_when_others_are_cut(tmp_path):
    rows = [{**ROWS[0], "output_length": 9000}, ROWS[1], ROWS[3]]
    workload = Trace(written(tmp_path, rows), max_context_tokens=LIMIT, long_requests="cut")
    found = taken(workload)
    assert (len(found.columns), found.left_out, found.cut, found.requests) == (2, 1, 1, 3)


def test_long_requests_are_refused_by_default_with_how_many_and_how_long():
    message = mistake(trace=str(EXCERPT), max_context_tokens=LIMIT)
    longest = max(row["input_length"] + row["output_length"] for row in ROWS)
    too_long = sum(row["input_length"] + row["output_length"] > LIMIT for row in ROWS)
    assert f"{too_long} of 50 requests have more than" in message
    assert f"raise it to {longest}" in message
    make_workload({"kind": "trace", "trace": str(EXCERPT), "max_context_tokens": longest})
    assert "workload.long_requests: leave_out, or cut" in message
    assert long_requests("leave_out")
    assert long_requests("cut")


def test_a_trace_of_which_nothing_is_left_says_what_would_leave_some(tmp_path):
    shortest = min(row["input_length"] + row["output_length"] for row in ROWS)
    message = mistake(trace=str(EXCERPT), long_requests="leave_out", max_context_tokens=shortest - 1)
    assert f"the shortest has {shortest} tokens" in message
    assert len(long_requests("leave_out", shortest)) == 1


def test_a_file_is_read_again_when_it_changed(tmp_path):
    trace = written(tmp_path, ROWS[:3])
    assert len(make_workload({"kind": "trace", "trace": trace})) == 3
    written(tmp_path, ROWS[:5])
    assert len(make_workload({"kind": "trace", "trace": trace})) == 5


def test_a_folder_and_a_missing_file(tmp_path):
    assert "cat FOLDER/*.json > trace.json" in mistake(trace=str(tmp_path))
    assert "no such file" in mistake(trace=str(tmp_path / "none.jsonl"))
