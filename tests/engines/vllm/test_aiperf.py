"""AIPerf's input, command line and records (those of 0.13.0, shortened)."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.build.make_model import word_of, word_tokenizer
from workflow.hyperkv.engines.vllm.aiperf import (
    Loadgen,
    command,
    first_sent_s,
    missing_turns,
    multi_turn_lines,
    read_records,
    token_ids,
    trace_lines,
    window_s,
    words_of,
)
from workflow.hyperkv.workloads import Turn
from workflow.hyperkv.workloads.factory import make_workload

WORKLOAD = {"kind": "multi_turn", "conversations": 3, "turns": [4, 4], "prefix_tokens": [20, 30]}
WORDS = [f"w{token}" for token in range(500)]


def record(conversation: str, turn: int, start_s: float, ttft_ms: float = 10.0, **changes) -> dict:
    about = {"conversation_id": conversation, "turn_index": turn, "benchmark_phase": "profiling"}
    about["request_start_ns"] = int(1795529410602318584 + start_s * 1e9)
    values = {"time_to_first_token": ttft_ms, "request_latency": 100.0, "usage_prompt_tokens": 300}
    values |= {"usage_completion_tokens": 10, "usage_prompt_cache_read_tokens": 256}
    return {"metadata": about, "metrics": {k: {"value": v, "unit": "x"} for k, v in values.items()}} | changes


def written(folder: Path, records: list[dict]) -> Path:
    path = folder / "profile_export.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in records))
    return path


def test_a_turn_is_what_is_new_since_the_last_answer():
    conversations = make_workload(WORKLOAD, 7)
    lines = [json.loads(line) for line in multi_turn_lines(conversations, WORDS)]
    assert [line["session_id"] for line in lines] == [item.name for item in conversations]
    for line, conversation in zip(lines, conversations, strict=True):
        start = 0
        for turn, planned in zip(line["turns"], conversation.turns, strict=True):
            assert len(turn["text"].split()) == planned.prompt_end - start
            assert turn["output_length"] == planned.answer_end - planned.prompt_end
            start = planned.answer_end


def test_a_text_is_sent_as_it_is():
    """A system prompt first, which is no turn of its own, then each question, and no words of ours."""
    said = (("system", "be brief"), ("user", "what is a heap?"), ("user", "and a lock?"))
    talk = SimpleNamespace(name="t", turns=(Turn(9, 14), Turn(20, 23)), said=said)
    assert [json.loads(line) for line in multi_turn_lines([talk], WORDS)] == [
        {
            "session_id": "t",
            "turns": [
                {"role": "system", "text": "be brief"},
                {"text": "what is a heap?", "output_length": 5},
                {"text": "and a lock?", "output_length": 3},
            ],
        }
    ]


def test_when_the_first_request_was_sent_is_read_whatever_the_order(tmp_path):
    records = [record("chat-0", 0, 2.0), record("chat-1", 0, 0.5), record("chat-2", 0, -9)]
    records[2]["metadata"]["benchmark_phase"] = "warmup"
    assert first_sent_s(written(tmp_path, records)) == pytest.approx(1795529410.602318584 + 0.5)


def test_equal_prefixes_stay_equal_texts():
    conversations = make_workload(
        {
            "kind": "long_documents",
            "documents": 1,
            "requests": 3,
            "document_tokens": [64, 64],
            "question_tokens": [4, 8],
            "answer_tokens": [4, 4],
        },
        1,
    )
    texts = [
        json.loads(line)["turns"][0]["text"].split()[:64] for line in multi_turn_lines(conversations, WORDS)
    ]
    assert texts[0] == texts[1] == texts[2]


def test_a_trace_keeps_its_arrival_times(tmp_path):
    trace = tmp_path / "trace.jsonl"
    rows = [
        {"timestamp": t, "input_length": 600, "output_length": 3, "hash_ids": [1, i]}
        for i, t in ((2, 0), (3, 1500))
    ]
    trace.write_text("".join(json.dumps(row) + "\n" for row in rows))
    conversations = make_workload({"kind": "trace", "trace": str(trace)}, 1)
    found = [json.loads(line) for line in trace_lines(conversations, WORDS)]
    assert [line["session_id"] for line in found] == ["request-0", "request-1"]
    assert [turn["timestamp"] for turn in found] == [0, 1500]
    assert found[0]["text"].split()[:512] == found[1]["text"].split()[:512]
    assert found[0]["text"].split()[512:] != found[1]["text"].split()[512:]


LOADGEN = Loadgen("python", ["http://127.0.0.1:1"], "hyperkv", Path("model"), 30.0, 1)


@pytest.mark.parametrize(
    ("loop", "words"),
    [
        ("closed", "--concurrency 8 --num-conversations 40"),
        ("open", "--request-rate 8 --arrival-pattern poisson --num-conversations 40"),
        ("trace", "--fixed-schedule"),
    ],
)
def test_the_command_line_of_each_loop(loop, words):
    line = " ".join(command(LOADGEN, Path("in.jsonl"), 40, Path("out"), loop, 8))
    assert words in line
    assert f"--custom-dataset-type {'single_turn' if loop == 'trace' else 'multi_turn'}" in line
    assert "ignore_eos:true" in line


def test_records_become_samples_in_order_of_arrival(tmp_path):
    warm_up = record("chat-0", 0, -5.0)
    warm_up["metadata"]["benchmark_phase"] = "warmup"
    found = read_records(written(tmp_path, [record("chat-1", 0, 2.0), warm_up, record("chat-0", 0, 1.0)]))
    assert [(item.conversation, item.turn) for item in found] == [("chat-0", 0), ("chat-1", 0)]
    sample = found[1].sample
    assert sample.arrival_s == pytest.approx(1.0)
    assert sample.ttft_s == pytest.approx(0.010)
    assert sample.finish_s == pytest.approx(1.1)
    assert (sample.prompt_tokens, sample.answer_tokens, sample.hit_tokens) == (300, 10, 256)


def test_a_failed_or_incomplete_record_is_a_failed_request(tmp_path):
    lost = record("chat-0", 1, 1.0)
    del lost["metrics"]["time_to_first_token"]
    failed = record("chat-0", 0, 0.0, error={"message": "Server disconnected"})
    found = read_records(written(tmp_path, [failed, lost]))
    assert [item.failed for item in found] == [
        "Server disconnected",
        "aiperf recorded no time_to_first_token",
    ]


@pytest.mark.parametrize("records", [None, []])
def test_no_records_are_an_error(tmp_path, records):
    path = tmp_path / "profile_export.jsonl" if records is None else written(tmp_path, records)
    with pytest.raises(UserError, match="aiperf"):
        read_records(path)


def test_turns_that_were_not_sent_are_named(tmp_path):
    conversations = make_workload(WORKLOAD, 7)
    sent = [record(item.name, turn, turn) for item in conversations for turn in range(2)]
    assert missing_turns(read_records(written(tmp_path, sent)), conversations) == []
    assert missing_turns(read_records(written(tmp_path, sent[:-1])), conversations) == [
        f"{conversations[-1].name} turn 1"
    ]


def test_the_window_of_an_open_loop_ends_with_the_last_arrival(tmp_path):
    found = read_records(written(tmp_path, [record("a", 0, 0.0), record("b", 0, 3.0)]))
    assert window_s(found, "open") == pytest.approx(3.0)
    assert window_s(found, "closed") == pytest.approx(3.1)


def test_every_word_of_a_made_tokenizer_is_used(tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps(word_tokenizer(2000)))
    assert words_of(tmp_path / "tokenizer.json") == [word_of(token) for token in range(1, 2000)]


def test_of_a_byte_level_vocabulary_whole_lower_case_words_are_taken(tmp_path):
    vocabulary = {
        f"\u0120word{'abcdefghij'[i % 10]}{'abcdefghij'[i // 10 % 10]}{'abcdefghij'[i // 100]}": i
        for i in range(1000)
    }
    vocabulary |= {"\u0120Upper": 1000, "middle": 1001, "\u0120a1": 1002, "<|end|>": 1003}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "vocab": vocabulary}}))
    words = words_of(tmp_path / "tokenizer.json")
    assert len(words) == 1000
    assert words[0] == "wordaaa"


@pytest.mark.parametrize(
    "text", ["not json", '{"model": {}}', '{"model": {"type": "WordLevel", "vocab": {"a": 0}}}']
)
def test_a_tokenizer_without_words_is_refused_by_name(tmp_path, text):
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        words_of(tmp_path / "tokenizer.json")


def test_random_prompts_leave_special_ids_out():
    drawn = token_ids(np.random.default_rng(1), 4096, 10_000)
    assert min(drawn) >= 256
    assert max(drawn) < 4096
