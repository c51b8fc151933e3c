"""Forms of traces, wrong block sizes and time units, long requests, and files that are no trace."""

import bz2
import gzip
import json
import lzma
from pathlib import Path

import numpy as np
import pytest

from tests.workloads.kinds import EXCERPT
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.workloads.factory import make_workload, workload_notes
from workflow.hyperkv.workloads.mooncake import Mooncake, conversations, taken

ROWS = [json.loads(line) for line in EXCERPT.read_text().splitlines()]


def bailian(count: int = 20) -> list[dict]:
    """Requests in Bailian's form: chats of two turns, the second one's prompt begins with the first one's."""
    rows = []
    for number in range(count):
        turn, chat = number % 2 + 1, number // 2
        length = 521 + 160 * (turn - 1)
        blocks = [1000 * chat + block for block in range(-(-length // 16))]
        parent = -1 if turn == 1 else number - 1
        row = {"chat_id": number, "parent_chat_id": parent, "timestamp": 0.75 * number}
        rows.append(row | {"input_length": length, "output_length": 132, "type": "text", "turn": turn})
        rows[-1]["hash_ids"] = blocks
    return rows


def written(folder: Path, rows, name: str = "trace.jsonl") -> str:
    path = folder / name
    text = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(text)
    return str(path)


def mistake(**keys) -> str:
    """The one line that a trace is refused with."""
    with pytest.raises(UserError) as error:
        make_workload({"kind": "mooncake", **keys})
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(f"workload.trace: {keys['trace']}")
    return message


def test_bailian_is_read_with_its_block_size_and_unit(tmp_path):
    trace = written(tmp_path, bailian())
    requests = conversations(Mooncake(trace, block_tokens=16, time_unit="s"), 1)
    assert [request.turns[0].arrival_s for request in requests[:3]] == [0, 0.75, 1.5]
    first, second, other = requests[0].tokens, requests[1].tokens, requests[2].tokens
    assert np.array_equal(first[:512], second[:512])
    assert np.array_equal(first[512:521], second[512:521])
    assert not np.array_equal(first[:16], other[:16])


@pytest.mark.parametrize(("unit", "arrival"), [("ms", 0.04), ("s", 40.0), ("us", 4e-5)])
def test_time_units(tmp_path, unit, arrival):
    rows = [ROWS[0] | {"timestamp": 1000}, ROWS[1] | {"timestamp": 1040}]
    requests = conversations(Mooncake(written(tmp_path, rows), time_unit=unit), 1)
    assert [request.turns[0].arrival_s for request in requests] == [0, pytest.approx(arrival)]


@pytest.mark.parametrize("count", [1, 3, 20])
def test_a_wrong_block_size_is_told_with_the_right_one(tmp_path, count):
    trace = written(tmp_path, bailian(count))
    message = mistake(trace=trace)
    assert "set workload.block_tokens: 16, and workload.time_unit: s" in message
    make_workload({"kind": "mooncake", "trace": trace, "block_tokens": 16, "time_unit": "s"})
    assert "set workload.block_tokens: 512" in mistake(trace=str(EXCERPT), block_tokens=16)
    assert "set workload.block_tokens: 512" in mistake(trace=str(EXCERPT), block_tokens=1024)


def test_a_wrong_line_of_a_right_size_is_the_lines(tmp_path):
    rows = [*ROWS[:5], ROWS[5] | {"hash_ids": ROWS[5]["hash_ids"][:-1]}]
    assert "one per started block of 512 tokens" in mistake(trace=written(tmp_path, rows))


@pytest.mark.parametrize(
    ("rows", "keys", "right"),
    [
        (bailian(), {"block_tokens": 16}, "s"),
        (bailian(2), {"block_tokens": 16}, "s"),
        (bailian(), {"block_tokens": 16, "time_unit": "us"}, "s"),
        (ROWS, {"time_unit": "us"}, "ms"),
        ([row | {"timestamp": 4000 * n} for n, row in enumerate(ROWS)], {"time_unit": "s"}, "ms"),
        ([row | {"timestamp": 400_000 * n} for n, row in enumerate(ROWS)], {}, "us"),
        ([row | {"timestamp": n // 2} for n, row in enumerate(ROWS)], {"time_unit": "us"}, "s"),
        ([row | {"timestamp": n // 2} for n, row in enumerate(ROWS)], {}, "s"),
    ],
)
def test_a_wrong_time_unit_is_told_with_the_right_one(tmp_path, rows, keys, right):
    trace = written(tmp_path, rows)
    assert f"set workload.time_unit: {right}" in mistake(trace=trace, **keys)
    make_workload({"kind": "mooncake", "trace": trace, **keys, "time_unit": right})


@pytest.mark.parametrize("apart", [2, 1, 20, 0.5])
def test_seconds_that_may_be_milliseconds_are_asked_for(tmp_path, apart):
    trace = written(tmp_path, [row | {"timestamp": apart * n} for n, row in enumerate(ROWS)])
    assert "set workload.time_unit: s" in mistake(trace=trace)
    make_workload({"kind": "mooncake", "trace": trace, "time_unit": "s"})
    if apart >= 2:
        make_workload({"kind": "mooncake", "trace": trace, "time_unit": "ms"})


def test_requests_at_one_time_and_few_requests_tell_no_unit(tmp_path):
    for rows in ([row | {"timestamp": 0} for row in ROWS], ROWS[:9]):
        for unit in ("ms", "s", "us"):
            make_workload({"kind": "mooncake", "trace": written(tmp_path, rows), "time_unit": unit})


LIMIT = 7000


def long_requests(how: str, limit: int = LIMIT, trace: str = str(EXCERPT)) -> list:
    return make_workload(
        {"kind": "mooncake", "trace": trace, "long_requests": how, "max_context_tokens": limit}
    )


def test_long_requests_are_left_out_and_the_others_stay_as_they_are():
    kept = [row for row in ROWS if row["input_length"] + row["output_length"] <= LIMIT]
    requests = long_requests("leave_out")
    assert 0 < len(kept) < len(ROWS)
    assert [request.turns[0].prompt_end for request in requests] == [row["input_length"] for row in kept]
    assert [request.turns[0].arrival_s for request in requests] == [row["timestamp"] / 1000 for row in kept]
    note = f"trace: of 50 requests {50 - len(kept)} left out, longer than 7,000 tokens with their answers"
    spec = {"kind": "mooncake", "trace": str(EXCERPT), "max_context_tokens": LIMIT}
    assert workload_notes(spec | {"long_requests": "leave_out"}) == [note]


def test_cut_requests_keep_their_answer_and_their_first_blocks():
    whole = make_workload({"kind": "mooncake", "trace": str(EXCERPT)})
    requests = long_requests("cut")
    assert len(requests) == len(whole)
    for before, after in zip(whole, requests, strict=True):
        old, new = before.turns[0], after.turns[0]
        assert new.answer_end == min(old.answer_end, LIMIT)
        assert new.answer_end - new.prompt_end == old.answer_end - old.prompt_end
        assert np.array_equal(after.tokens[: new.prompt_end], before.tokens[: new.prompt_end])


def test_a_request_whose_answer_takes_all_is_left_out_when_others_are_cut(tmp_path):
    rows = [{**ROWS[0], "output_length": 9000}, ROWS[1], ROWS[3]]
    workload = Mooncake(written(tmp_path, rows), max_context_tokens=LIMIT, long_requests="cut")
    found = taken(workload)
    assert (len(found.records), found.left_out, found.cut, found.requests) == (2, 1, 1, 3)


def test_long_requests_are_refused_by_default_with_how_many_and_how_long():
    message = mistake(trace=str(EXCERPT), max_context_tokens=LIMIT)
    longest = max(row["input_length"] + row["output_length"] for row in ROWS)
    too_long = sum(row["input_length"] + row["output_length"] > LIMIT for row in ROWS)
    assert f"{too_long} of 50 requests have more than" in message
    assert f"raise it to {longest}" in message
    make_workload({"kind": "mooncake", "trace": str(EXCERPT), "max_context_tokens": longest})
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
    assert len(make_workload({"kind": "mooncake", "trace": trace})) == 3
    written(tmp_path, ROWS[:5])
    assert len(make_workload({"kind": "mooncake", "trace": trace})) == 5


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, lambda data: data])
@pytest.mark.parametrize("change", ["", "crlf", "bom", "blank"])
def test_packed_files_byte_order_marks_and_line_ends(tmp_path, pack, change):
    text = EXCERPT.read_text()
    text = {
        "": text,
        "crlf": text.replace("\n", "\r\n"),
        "bom": "\ufeff" + text,
        "blank": "\n" + text.replace("\n", "\n\n"),
    }[change]
    path = tmp_path / "trace"
    path.write_bytes(pack(text.encode()))
    assert conversations(Mooncake(str(path)), 2) == conversations(Mooncake(str(EXCERPT)), 2)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:41ac\nsize 27901454\n", "git-lfs pointer"),
        (b"PAR1\x15\x04", "a Parquet file"),
        (b"ARROW1\x00\x00", "an Arrow file"),
        (b"\x28\xb5\x2f\xfd\x04", "zstd -d"),
        (b"PK\x03\x04abc", "a zip archive"),
        (EXCERPT.read_text().encode("utf-16"), "UTF-16 text; convert it with iconv"),
        (gzip.compress(EXCERPT.read_bytes())[:200], "cannot be unpacked"),
        (b"\x1f\x8bgarbage", "cannot be unpacked"),
        (b"\x00\x01\x02\xff\xfe", "not UTF-8 text"),
        (b"", "no requests, the file is empty"),
        (b"\n \n", "no requests, the file is empty"),
        (json.dumps(ROWS[:2]).encode(), "a JSON array"),
        (json.dumps(ROWS[:2], indent=1).encode(), "a JSON array"),
        (json.dumps(ROWS[0], indent=1).encode(), "a JSON object over several lines"),
        (b'[{"id": "x", "conversations": [{"from": "human", "value": "hi"}]}]', "as ShareGPT's form"),
        (b'{"id": "x", "conversations": [{"from": "human", "value": "hi"}]}', "as ShareGPT's form"),
        (b'{"session_id": "x", "turns": []}', "a session of turns"),
        (
            b"Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,x",
            "CSV",
        ),
        (b"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,374,44\n", "CSV"),
        (b"<!DOCTYPE html><html>", "a web page"),
    ],
)
def test_what_is_no_trace_is_told_with_the_forms_there_are(tmp_path, content, words):
    path = tmp_path / "trace.jsonl"
    path.write_bytes(content)
    message = mistake(trace=str(path))
    assert words in message
    if "lfs" not in message and "unpacked" not in message:
        assert (
            "Mooncake's form (workload.block_tokens: 512, workload.time_unit: ms) or Bailian's (16, s)"
            in message
        )


def test_a_folder_and_a_missing_file(tmp_path):
    assert "a folder; set workload.trace to a file in it" in mistake(trace=str(tmp_path))
    assert "no such file" in mistake(trace=str(tmp_path / "none.jsonl"))


@pytest.mark.parametrize("indent", [None, 0, 2])
@pytest.mark.parametrize("key", ["conversations", "messages"])
def test_conversations_in_an_array_are_told_at_once(tmp_path, indent, key):
    rows = [{"id": "x", key: [{"from": "human", "value": "hi"}]}] * 3
    for content in (rows, rows[0]):
        message = mistake(trace=written(tmp_path, json.dumps(content, indent=indent)))
        assert "conversations as text" in message
        assert "jq" not in message
