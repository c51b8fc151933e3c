"""Forms of traces: a head of each, whatever holds it, and what is no form that is known."""

import bz2
import csv
import gzip
import io
import json
import lzma
import re
from pathlib import Path

import numpy as np
import pyarrow
import pytest

from tests.workloads.kinds import EXCERPT
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.workloads.factory import make_workload, prefixes_known, workload_notes
from workflow.hyperkv.workloads.trace_forms import Columns
from workflow.hyperkv.workloads.trace_forms.forms import FORMS, read_trace

HEADS = EXCERPT.parent / "traces"
ROWS = [json.loads(line) for line in EXCERPT.read_text().splitlines()]


def read(path: Path, **told) -> Columns:
    return read_trace(path, "workload.trace: t", **told)


def text_of(folder: Path, content: bytes | str | list | dict, **told) -> Columns:
    path = folder / "trace"
    if isinstance(content, list | dict):
        content = json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read(path, **told)


def mistake(folder: Path, content, **told) -> str:
    """The one line that a trace is refused with."""
    with pytest.raises(UserError) as error:
        text_of(folder, content, **told)
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith("workload.trace: t")
    return message


def lines_of(rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def same(one: Columns, other: Columns) -> bool:
    names = ("arrival_s", "input_tokens", "output_tokens", "ids", "starts")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


@pytest.mark.parametrize(
    ("file", "form", "requests", "block", "known"),
    [
        ("../mooncake_excerpt.jsonl", "mooncake", 50, 512, True),
        ("bailian.jsonl", "bailian", 40, 16, True),
        ("agentic.jsonl", "agentic", 33, 64, True),
        ("burstgpt.csv", "burstgpt", 28, 1, False),
        ("azure_2023.csv", "azure", 20, 1, False),
        ("azure_2024.csv", "azure", 20, 1, False),
    ],
)
def test_a_head_of_each_form_is_recognised_and_told_alike(file, form, requests, block, known):
    found = read(HEADS / file)
    assert (found.form, len(found), found.block_tokens, found.known) == (form, requests, block, known)
    assert same(found, read(HEADS / file, form=form))
    assert found.arrival_s[0] == 0
    assert (np.diff(found.arrival_s) >= 0).all()
    assert found.arrival_s[-1] > 0
    assert (len(found.ids) > 0) == known
    assert len(read(HEADS / file, most=5)) == 5


def test_bailian_counts_seconds_and_its_chats_share_blocks():
    found, rows = read(HEADS / "bailian.jsonl"), [
        json.loads(line) for line in (HEADS / "bailian.jsonl").read_text().splitlines()
    ]  # fmt: skip
    assert found.arrival_s.tolist() == pytest.approx(
        [row["timestamp"] - rows[0]["timestamp"] for row in rows]
    )
    of = {row["chat_id"]: row for row in rows}
    turns = [row for row in rows if row["parent_chat_id"] != -1]
    assert turns
    for row in turns:
        parent = of[row["parent_chat_id"]]
        whole = parent["input_length"] // 16
        assert row["hash_ids"][:whole] == parent["hash_ids"][:whole]


def test_ids_of_sessions_are_their_own_and_subagents_share_them(tmp_path):
    sessions = [json.loads(line) for line in (HEADS / "agentic.jsonl").read_text().splitlines()]
    found = read(HEADS / "agentic.jsonl")
    sets = [set(read_ids(tmp_path, [session])) for session in sessions]
    assert sum(map(len, sets)) == len(set(found.ids.tolist()))
    inner = sessions[0]["requests"][4]
    assert inner["type"] == "subagent"
    merged = [session | {"hash_id_scope": "global"} for session in sessions]
    assert len(set(read_ids(tmp_path, merged))) == max(map(len, sets))
    relative = json.loads(json.dumps(sessions[0]))
    for request in relative["requests"][4]["requests"]:
        request["t"] -= inner["t"]
    assert text_of(tmp_path, [relative]).arrival_s == pytest.approx(text_of(tmp_path, sessions[:1]).arrival_s)


def read_ids(folder: Path, sessions: list) -> list[int]:
    return text_of(folder, sessions).ids.tolist()


def test_what_sessions_leave_out_is_said(tmp_path):
    one = {"t": 0, "type": "n", "in": 200, "out": 0, "hash_ids": [1]}
    other = {"t": 1.5, "type": "s", "in": 100, "out": 5, "hash_ids": [1, 2, 3]}
    found = text_of(tmp_path, {"block_size": 64, "requests": [one, other]})
    assert np.diff(found.starts).tolist() == [1, 2]
    assert found.output_tokens.tolist() == [1, 5]
    assert len(found.notes) == 3
    assert all(note.startswith("trace: 1 requests have ") for note in found.notes)


def test_lengths_alone_are_replayed_and_said_to_share_nothing():
    spec = {"kind": "trace", "trace": str(HEADS / "burstgpt.csv")}
    made = make_workload(spec, 1)
    assert not prefixes_known(spec)
    assert prefixes_known({"kind": "trace", "trace": str(HEADS / "bailian.jsonl")})
    assert [one.turns[0].prompt_end for one in made[:2]] == [1624, 566]
    assert not np.array_equal(made[0].tokens[:16], made[1].tokens[:16])
    told = workload_notes(spec)
    assert "prefixes are not known" in told[0]
    assert told[1] == "trace: 2 requests without a prompt or an answer are left out"


def test_dates_of_azure():
    found = read(HEADS / "azure_2023.csv")
    seconds = [
        float(line.split(",")[0][-10:]) for line in (HEADS / "azure_2023.csv").read_text().split()[2::2]
    ]
    assert found.arrival_s[1] == pytest.approx(seconds[1] - seconds[0], abs=1e-5)


def as_array(text: str) -> str:
    return json.dumps([json.loads(line) for line in text.splitlines()])


def over_lines(text: str) -> str:
    return "\n".join(json.dumps(json.loads(line), indent=1) for line in text.splitlines())


HELD = {
    "as it is": lambda text: text,
    "CRLF": lambda text: text.replace("\n", "\r\n"),
    "a byte order mark": lambda text: "\ufeff" + text,
    "blank lines": lambda text: "\n" + text.replace("\n", "\n \n"),
    "no end of line": lambda text: text.rstrip("\n"),
}
HELD_JSON = {
    "an array": as_array,
    "an array over lines": lambda text: json.dumps(json.loads(as_array(text)), indent=2),
    "objects over lines": over_lines,
}
PACKED = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: pyarrow.Codec("zstd").compress(data, asbytes=True),
}


@pytest.mark.parametrize("file", ["bailian.jsonl", "agentic.jsonl", "burstgpt.csv", "azure_2024.csv"])
@pytest.mark.parametrize("held", [*HELD, *HELD_JSON])
def test_a_form_is_the_same_whatever_holds_it(tmp_path, file, held):
    text = (HEADS / file).read_text()
    if held in HELD_JSON and file.endswith("csv"):
        rows = list(csv.DictReader(io.StringIO(text)))
        text = lines_of(rows)
    found = text_of(tmp_path, (HELD | HELD_JSON)[held](text))
    assert same(found, read(HEADS / file))


@pytest.mark.parametrize("pack", PACKED)
def test_a_form_is_the_same_whatever_packs_it(tmp_path, pack):
    found = text_of(tmp_path, PACKED[pack](EXCERPT.read_bytes()))
    assert same(found, read(EXCERPT))


@pytest.mark.parametrize("delimiter", ["\t", ";"])
def test_tables_with_other_delimiters(tmp_path, delimiter):
    found = text_of(tmp_path, (HEADS / "burstgpt.csv").read_text().replace(",", delimiter))
    assert same(found, read(HEADS / "burstgpt.csv"))


@pytest.mark.parametrize("ids", [["a", "b"], [2**40, 7], [-3, -4], ["1", 1]])
def test_ids_may_be_texts_or_large_or_negative(tmp_path, ids):
    rows = [ROWS[0] | {"input_length": 600, "hash_ids": one} for one in (ids, [*ids[:1], "new"], ids)]
    first = ROWS[0] | {"input_length": 600, "hash_ids": [5, 6]}
    found = text_of(tmp_path, lines_of([first, *rows]))
    blocks = found.ids.reshape(4, 2).tolist()
    assert blocks[1] == blocks[3]
    assert blocks[2][0] == blocks[1][0] != blocks[1][1]
    assert len(set(found.ids.tolist())) == 5


def test_ids_far_apart_take_no_room(tmp_path):
    rows = [ROWS[0] | {"input_length": 600, "hash_ids": [2**32 - 1, 2**31]} for _ in range(3)]
    found = text_of(tmp_path, lines_of(rows))
    assert found.ids.tolist() == [1, 0] * 3


def test_ids_of_whole_blocks_alone(tmp_path):
    rows = [row | {"hash_ids": row["hash_ids"][: row["input_length"] // 512]} for row in ROWS]
    found = text_of(tmp_path, lines_of(rows))
    assert len(found.ids) < len(read(EXCERPT).ids)
    assert "one per started block of 512 tokens" in mistake(
        tmp_path, lines_of([*ROWS[:5], rows[5], *ROWS[6:]])
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:41ac\nsize 27901454\n", "git-lfs pointer"),
        (b"PAR1\x15\x04", "a Parquet file"),
        (b"ARROW1\x00\x00", "an Arrow file"),
        (b"PK\x03\x04abc", "a zip archive"),
        (EXCERPT.read_text().encode("utf-16"), "UTF-16 text; convert it with iconv"),
        (gzip.compress(EXCERPT.read_bytes())[:200], "cannot be unpacked"),
        (PACKED["zstd"](EXCERPT.read_bytes())[:200], "cannot be unpacked"),
        (b"\x28\xb5\x2f\xfd\x04", "cannot be unpacked"),
        (b"\x1f\x8bgarbage", "cannot be unpacked"),
        (b"\x00\x01\x02\xff\xfe", "not UTF-8 text"),
        (b"", "no requests, the file is empty"),
        (b"\n \n", "no requests, the file is empty"),
        (b"[]", "no requests, the file is empty"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"hello\n", "not JSON and no table"),
        (b"[1, 2]", "item 1: not a JSON object"),
        (b"[" * 5000, "nested too deep"),
        (json.dumps(ROWS[:3]).encode()[:-40], ":1: cut off, not JSON"),
        (b'{"block_size": 0, "requests": []}', "block_size is 0"),
        (b'{"block_size": 64, "hash_id_scope": "x", "requests": []}', "hash_id_scope is 'x'; known are local and global"),
        (b'{"block_size": 64, "requests": []}', "no requests, its sessions have none"),
        (b'{"block_size": 64, "requests": [{"type": "q"}]}', "a request's type is 'q'; known are n, s, subagent"),
        (b'{"block_size": 64, "requests": [{"in": 5, "out": 1}]}', "a request's t is None"),
        (b'{"block_size": 64, "requests": [{"t": 1, "out": 1}]}', "a request's in is None"),
        (b'{"block_size": 64, "requests": [{"t": 1, "in": 5, "out": 1, "hash_ids": [true]}]}', "hash_ids is no list"),
        (b'{"block_size": 64, "requests": {}}', "requests is no list"),
        (b"Timestamp,Request tokens,Response tokens\n5,x,3\n", ":2: no request: Timestamp '5', Request tokens 'x'"),
        (b"Timestamp,Request tokens,Response tokens\n5,3\n", ":2: 2 values for the header's 3 columns"),
        (b"Timestamp,Request tokens,Response tokens\nnan,3,4\n", ":2: no request: Timestamp 'nan'"),
        (b"Timestamp,Request tokens,Response tokens\n5,3,4\n4,3,4\n", ":3: timestamp 4 is before the last one, 5"),
        (b"Timestamp,Request tokens,Response tokens\n5,3,0\n", "no requests with a prompt and an answer; 1 without"),
        (b"TIMESTAMP,ContextTokens,GeneratedTokens\n18:15,374,44\n", ":2: no request: TIMESTAMP '18:15'"),
    ],
)  # fmt: skip
def test_what_is_no_trace_is_one_line(tmp_path, content, words):
    assert words in mistake(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lines_of([{"arrival": 1, "prompt_tokens": 5, "output_tokens": 6}]), "arrival, prompt_tokens, output_tokens"),
        ("time,prompt,answer\n1,2,3\n", "time, prompt, answer"),
        (lines_of([{"session_id": "x", "turns": []}]), "session_id, turns"),
        ('[{"id": "x", "conversations": [{"from": "human", "value": "hi"}]}]', "conversations as text (conversations)"),
        (json.dumps({"id": "x", "messages": []}, indent=1), "conversations as text (messages)"),
        (lines_of([{key: value for key, value in ROWS[0].items() if key != "hash_ids"}]), "mooncake without hash_ids"),
        (lines_of([{f"f{n}": n for n in range(40)}]), "f10, f11, ...; known"),
        ("{}\n", "its fields are none"),
    ],
)  # fmt: skip
def test_the_next_unknown_form_is_told_with_its_fields_and_the_forms_there_are(tmp_path, content, words):
    message = mistake(tmp_path, content)
    assert words in message
    for name, form in FORMS.items():
        assert f"{name} ({', '.join(form.fields)})" in message


def test_a_form_that_is_told_is_the_one_that_is_missed(tmp_path):
    assert ":1: chat_id is missing; form bailian has chat_id, " in mistake(
        tmp_path, lines_of(ROWS), form="bailian"
    )
    assert "requests is missing" in mistake(tmp_path, lines_of(ROWS), form="agentic")


def test_a_torn_last_line_is_told_from_a_damaged_one(tmp_path):
    text = EXCERPT.read_text()
    assert ":50: the last line is cut off" in mistake(tmp_path, text[:-30])
    assert ":50: the last line is cut off" in mistake(tmp_path, text[:-30] + "\n\n")
    lines = text.splitlines(keepends=True)
    assert re.search(
        r":7: not JSON .*; write one JSON object a line",
        mistake(tmp_path, "".join([*lines[:6], "{x\n", *lines[6:]])),
    )
    assert len(text_of(tmp_path, text[:-30], most=49)) == 49


def test_sessions_of_two_block_sizes_are_refused(tmp_path):
    sessions = [{"block_size": size, "requests": [{"t": 0, "in": 99, "out": 1}]} for size in (64, 16)]
    assert "block_size is 16, not 64 as before" in mistake(tmp_path, sessions)
    assert "block_size is 64, not 16 as before or in workload.block_tokens" in mistake(
        tmp_path, sessions[:1], block_tokens=16
    )


def test_requests_of_several_sessions_come_in_the_order_of_their_times(tmp_path):
    sessions = [
        {"block_size": 4, "requests": [{"t": t, "in": int(10 * t) + 1, "out": 1} for t in times]}
        for times in ([3, 1], [2, 0.5])
    ]
    found = text_of(tmp_path, sessions)
    assert found.arrival_s.tolist() == [0, 0.5, 1.5, 2.5]
    assert found.input_tokens.tolist() == [6, 11, 21, 31]
    assert text_of(tmp_path, sessions, most=3).input_tokens.tolist() == [6, 11, 31]
