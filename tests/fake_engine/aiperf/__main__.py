"""A stand-in for AIPerf: sends every turn of its input to the fake vLLM, conversations to each in turn, by token ids
and writes its records.

FAKE_AIPERF: `short` leaves the last turn out, `fail` records an error for the first one, `all_fail`
for all and ends with status 1, `broken` ends so without a record, `hang` never ends.
"""

import json
import os
import sys
import threading
import time
import urllib.request
from pathlib import Path

MODE = os.environ.get("FAKE_AIPERF", "")


def option(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1]


URLS = [sys.argv[place + 1] for place, word in enumerate(sys.argv) if word == "--url"]


def ask(url: str, prompt: list[int]) -> dict:
    body = json.dumps({"prompt": prompt}).encode()
    with urllib.request.urlopen(urllib.request.Request(url + "/v1/completions", body)) as reply:
        events = [
            json.loads(line[6:]) for line in reply.read().decode().splitlines() if line.startswith("data: {")
        ]
    return events[-1]["usage"]


def main() -> None:
    if MODE == "hang":
        threading.Event().wait(120)
    if MODE == "broken":
        sys.exit("aiperf: no such option")
    records = []
    for place, line in enumerate(Path(option("--input-file")).read_text().splitlines()):
        conversation, context = json.loads(line), []
        for number, turn in enumerate(conversation["turns"]):
            context += [int(word, 36) for word in turn["text"].split()]
            started = time.time_ns()
            usage = ask(URLS[place % len(URLS)], context)
            about = {"conversation_id": conversation["session_id"], "turn_index": number}
            about |= {"request_start_ns": started, "benchmark_phase": "profiling"}
            values = {
                "time_to_first_token": 5.0,
                "request_latency": 5.0 + turn["output_length"],
                "usage_prompt_tokens": usage["prompt_tokens"],
                "usage_completion_tokens": turn["output_length"],
                "usage_prompt_cache_read_tokens": usage["prompt_tokens_details"]["cached_tokens"],
            }
            record = {"metadata": about, "metrics": {key: {"value": value} for key, value in values.items()}}
            if MODE == "all_fail" or (MODE == "fail" and not records):
                record = {"metadata": about, "metrics": {}, "error": {"message": "HTTP 500"}}
            records.append(record)
            context += [1000 + number] * turn["output_length"]
    records = records[:-1] if MODE == "short" else records
    folder = Path(option("--output-artifact-dir"))
    folder.mkdir(parents=True)
    (folder / "profile_export.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    if MODE == "all_fail":
        sys.exit("All inference request(s) failed")


main()
