"""The load generator AIPerf: a workload's conversations as its input, its records as our samples."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...base.errors import UserError, printable
from ...cells.samples import Sample, closed_loop_window_s
from ...machine.processes import option_words
from ...workloads import Conversation, Turn

RECORDS = "profile_export.jsonl"
_MOST_WORDS = 1 << 17
_WHOLE_WORD = re.compile(r"[\u0120\u2581][a-z]{3,}")


@dataclass(frozen=True)
class Loadgen:
    """How AIPerf is called. python: the interpreter of its environment. urls: of each engine, which conversations, and requests of a
    trace, go to in turn. tokenizer: a local folder."""

    python: str
    urls: Sequence[str]
    model: str
    tokenizer: Path
    request_timeout_s: float
    seed: int


def multi_turn_lines(conversations: Iterable[Conversation], words: Sequence[str]) -> Iterator[str]:
    """AIPerf's multi_turn format: one conversation a line, each turn the words of its new tokens.

    A turn's text is what the workload adds after the last answer; the model's own answers stand in between.
    words: text of token t is words[t % len(words)], one token each; a conversation that is a text has its own words, and AIPerf
    keeps a system prompt in front of them.
    """
    for conversation in conversations:
        if conversation.said is not None:
            turns = [*_said(conversation.said, conversation.turns)]
            yield json.dumps({"session_id": conversation.name, "turns": turns})
            continue
        tokens = conversation.tokens
        starts = [0, *(turn.answer_end for turn in conversation.turns)]
        turns = [
            _entry(tokens[start : turn.prompt_end], turn, words)
            for start, turn in zip(starts, conversation.turns, strict=False)
        ]
        yield json.dumps({"session_id": conversation.name, "turns": turns})


def _said(said: Iterable[tuple[str, str]], turns: Iterable[Turn]) -> Iterator[dict[str, Any]]:
    asked = iter(turns)
    for role, text in said:
        yield {"role": role, "text": text} if role == "system" else {"text": text, **_answer(next(asked))}


def trace_lines(conversations: Iterable[Conversation], words: Sequence[str]) -> Iterator[str]:
    """AIPerf's single_turn format: single requests with an arrival time each, in milliseconds, replayed as they are."""
    for conversation in conversations:
        turn = conversation.turns[0]
        entry = _entry(conversation.tokens[: turn.prompt_end], turn, words)
        timestamp = round(1e3 * (turn.arrival_s or 0.0))
        yield json.dumps({"session_id": conversation.name, **entry, "timestamp": timestamp})


def _entry(new_tokens: np.ndarray, turn: Turn, words: Sequence[str]) -> dict[str, Any]:
    text = " ".join(words[token % len(words)] for token in new_tokens)
    return {"text": text, **_answer(turn)}


def _answer(turn: Turn) -> dict[str, int]:
    return {"output_length": turn.answer_end - turn.prompt_end}


def command(
    loadgen: Loadgen, input_file: Path, conversations: int, artifacts: Path, loop: str, load: float
) -> list[str]:
    """AIPerf's command line.

    loop: closed (load: clients, each with one conversation at a time), open (load: conversations begun per
    second, Poisson) or trace (arrival times of the input).
    """
    options: dict[str, object] = {
        "model": loadgen.model,
        "tokenizer": loadgen.tokenizer.absolute(),
        "endpoint-type": "chat",
        "input-file": input_file,
        "custom-dataset-type": "single_turn" if loop == "trace" else "multi_turn",
        "dataset-sampling-strategy": "sequential",
        "random-seed": loadgen.seed,
        "request-timeout-seconds": f"{loadgen.request_timeout_s:g}",
        "output-artifact-dir": artifacts,
        "export-level": "records",
        "ui": "none",
    }
    if loop == "closed":
        options |= {"concurrency": f"{load:g}", "num-conversations": conversations}
    if loop == "open":
        options |= {
            "request-rate": f"{load:g}",
            "arrival-pattern": "poisson",
            "num-conversations": conversations,
        }
    flags = ["--streaming", "--use-server-token-count", "--no-gpu-telemetry", "--no-server-metrics"]
    flags += ["--extra-inputs", "ignore_eos:true", "--extra-inputs", "temperature:0"]
    flags += ["--fixed-schedule"] if loop == "trace" else []
    urls = [word for url in loadgen.urls for word in ("--url", url)]
    return [loadgen.python, "-m", "aiperf", "profile", *option_words(options), *urls, *flags]


@dataclass(frozen=True)
class Request:
    """One of AIPerf's records: the request's conversation and turn, and its sample; failed: the error's text."""

    conversation: str
    turn: int
    sample: Sample | None
    failed: str | None = None


def read_records(path: Path) -> list[Request]:
    """AIPerf's records in order of arrival, seconds from the first one. Raises UserError when there are none."""
    try:
        records = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    except FileNotFoundError:
        raise UserError(f"aiperf wrote no {path.name}; see its log beside the servers' logs") from None
    records = [record for record in records if record["metadata"].get("benchmark_phase") == "profiling"]
    if not records:
        raise UserError(f"aiperf recorded no request in {path}; see its log beside the servers' logs")
    records.sort(key=lambda record: record["metadata"]["request_start_ns"])
    origin = records[0]["metadata"]["request_start_ns"]
    return [_request(record, origin) for record in records]


def first_sent_s(path: Path) -> float:
    """When the first of AIPerf's requests was sent, of time.time(); its samples count from there."""
    records = (json.loads(line)["metadata"] for line in path.read_text().splitlines() if line.strip())
    profiled = (about for about in records if about.get("benchmark_phase") == "profiling")
    return min(about["request_start_ns"] for about in profiled) / 1e9


def unanswered(path: Path) -> str | None:
    """The first failure when AIPerf sent requests and none of them was answered, else None."""
    try:
        requests = read_records(path)
    except (UserError, ValueError, KeyError):
        return None
    return None if any(request.sample for request in requests) else requests[0].failed


def _request(record: Mapping[str, Any], origin_ns: int) -> Request:
    about, metrics = record["metadata"], record.get("metrics") or {}
    name, turn = about["conversation_id"], about["turn_index"]
    if record.get("error"):
        said = printable(str(record["error"].get("message") or record["error"]))
        return Request(name, turn, None, said[:300])
    needed = ("time_to_first_token", "request_latency", "usage_prompt_tokens", "usage_completion_tokens")
    if missing := [key for key in needed if key not in metrics]:
        return Request(name, turn, None, f"aiperf recorded no {', '.join(missing)}")
    arrival = (about["request_start_ns"] - origin_ns) / 1e9
    value = {key: metrics[key]["value"] for key in needed}
    cached = (metrics.get("usage_prompt_cache_read_tokens") or {}).get("value") or 0
    sample = Sample(
        arrival_s=arrival,
        first_token_s=arrival + value["time_to_first_token"] / 1e3,
        finish_s=arrival + value["request_latency"] / 1e3,
        prompt_tokens=round(value["usage_prompt_tokens"]),
        answer_tokens=round(value["usage_completion_tokens"]),
        hit_tokens=round(cached),
    )
    return Request(name, turn, sample)


def window_s(requests: Sequence[Request], loop: str) -> float:
    """Length of the measured window: until a client had nothing left in a closed loop, else the last arrival."""
    samples: dict[str, list[Sample]] = {}
    for request in requests:
        if request.sample is not None:
            samples.setdefault(request.conversation, []).append(request.sample)
    if loop == "closed":
        return closed_loop_window_s(samples)
    return max((sample.arrival_s for own in samples.values() for sample in own), default=0.0)


def missing_turns(requests: Sequence[Request], conversations: Sequence[Conversation]) -> list[str]:
    """'chat-3 turn 2' for every turn of the workload that AIPerf has no record of, or sent out of turn."""
    sent = {(request.conversation, request.turn) for request in requests}
    return [
        f"{conversation.name} turn {turn}"
        for conversation in conversations
        for turn in range(len(conversation.turns))
        if (conversation.name, turn) not in sent
    ]


def words_of(tokenizer: Path) -> list[str]:
    """Words of a tokenizer.json that are one token each after a blank, in order of their ids.

    WordLevel and Unigram vocabularies as they are; of byte-level and SentencePiece ones those that begin with a
    blank (\u0120 or \u2581) and are lower-case letters. Raises UserError naming the file.
    """
    try:
        model = json.loads(tokenizer.read_text())["model"]
        vocabulary = model["vocab"]
        in_order = sorted(vocabulary, key=vocabulary.__getitem__) if isinstance(vocabulary, dict) else None
        entries = [pair[0] for pair in vocabulary] if in_order is None else in_order
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{tokenizer}: no tokenizer that can be read ({error}); use a folder with tokenizer.json"
        ) from None
    if model.get("type") == "WordLevel":
        words = [word for word in entries if not word.startswith("<")]
    else:
        words = [word[1:] for word in entries if _WHOLE_WORD.fullmatch(word)]
    if len(words) < 1000:
        raise UserError(f"{tokenizer}: {len(words)} whole words in its vocabulary, at least 1000 are needed")
    return words[:_MOST_WORDS]


def token_ids(rng: np.random.Generator, vocabulary: int, count: int) -> list[int]:
    """Random token ids for single requests: uniform over the vocabulary, its first 256 (special ones) left out."""
    return rng.integers(min(256, vocabulary // 2), vocabulary, count).tolist()
