"""README's answer for real GPUs: which prompts pay, which do not and what they need, with the intervals of what was measured."""

import json
from dataclasses import replace

import pytest

from tests.kept import H100, KEPT, kept, repeated
from workflow.hyperkv.report import front, gpu_answer

RUN = kept(H100)


def run(times=lambda scenario, repeat: 1.0, repeats=3, change=lambda record: record):
    """A run that was made of the records."""
    records = [change(each) for each in repeated(RUN.records, times, repeats)]
    return replace(RUN, records=records)


def disk(factor):
    """A disk so many times as slow, repeats 1 % apart."""
    return lambda scenario, repeat: (
        factor * (1 + 0.01 * repeat) if scenario == "h100_striped_mp_disk" else 1.0
    )


def test_a_disk_that_is_too_slow_is_told_what_is_needed():
    pays, caveat = gpu_answer.answer([run(disk(1.0))])
    assert pays.startswith(
        "On H100 80GB loading a prompt from SSD does not pay for llama-3.1-8b with KV in bfloat16 (TTFT 2.93 [2.90, 2.96] times"
    )
    assert "3.23 [3.20, 3.26] at 8,200, 6.25 GB/s" in pays
    assert "this disk gave 1.67; under load, multi turn, 5 clients: requests " in pays
    assert caveat == "Medians with 95 % intervals of 3 repeats, which are their range."


def test_a_disk_that_is_fast_enough_pays_where_its_interval_is_below_1():
    told = gpu_answer.answer([run(disk(0.32))])
    assert len(told) == 3
    assert told[0].startswith(
        "On H100 80GB loading a prompt from SSD pays for llama-3.1-8b with KV in bfloat16 (TTFT 0.937 ["
    )
    assert "GB/s" not in told[0]
    assert told[1].startswith("Loading a prompt from SSD does not pay for")
    assert " at 8,200" in told[1]


def test_an_interval_around_1_is_undecided():
    around = {1: 0.9, 2: 1.0, 3: 1.1}
    told = gpu_answer.answer(
        [run(lambda scenario, repeat: around[repeat] / 3.166 if scenario == "h100_striped_mp_disk" else 1.0)]
    )
    assert any(
        each.startswith("It is undecided whether it pays for") and "1.00 [0.900, 1.10] at 8,200" in each
        for each in told
    )


def test_one_repeat_has_no_interval_and_says_so():
    told = gpu_answer.answer([RUN])
    assert told[-1] == "One repeat, so no intervals."
    assert "[" not in "".join(told)


def test_models_formats_and_gpus_are_told_apart():
    def fp8(record):
        found = json.loads(json.dumps(record))
        found["model"], found["effective"]["kv_dtype"] = "qwen3-32b", "fp8"
        found["environment"]["gpu"] = ["NVIDIA H200, 1, 2"]
        return found

    told = gpu_answer.answer([run(disk(1.0)), run(disk(0.2), change=fp8)])
    assert told[0].startswith("Loading a prompt from SSD pays for qwen3-32b with KV in fp8 on H200 (TTFT 0.")
    assert told[1].startswith(
        "Loading a prompt from SSD does not pay for llama-3.1-8b with KV in bfloat16 on H100 80GB ("
    )


@pytest.mark.parametrize("key", ["gate", "shape"])
def test_what_the_disk_alone_did_not_do_is_no_answer(key):
    def changed(record):
        found = json.loads(json.dumps(record))
        if found["scenario"] == "h100_striped_mp_disk":
            found["spec"]["scenario"][key] = "ttft" if key == "gate" else {"read_gbps": 8}
        return found

    told = gpu_answer.answer([run(disk(1.0), change=changed)])
    assert (told == []) is (key == "shape")
    assert not told or told[0].startswith(
        "On H100 80GB under load SSD gives llama-3.1-8b with KV in bfloat16 (multi turn, 5 clients: "
    )


def test_of_scenarios_that_were_split_among_runs_the_best_counts():
    def other(record):
        found = record["scenario"].replace("h100_striped_mp_disk", "another_disk")
        return record | {"scenario": found}

    slower = run(lambda scenario, repeat: 2.0 if scenario == "h100_striped_mp_disk" else 1.0, change=other)
    assert gpu_answer.answer([run(disk(1.0)), slower]) == gpu_answer.answer([run(disk(1.0))])


def test_the_last_of_runs_with_most_repeats_counts():
    slow, fast = run(disk(2.0)), run(disk(1.0))
    assert gpu_answer.answer([slow, fast]) == gpu_answer.answer([fast])
    assert gpu_answer.answer([fast, run(disk(0.1), repeats=1)]) == gpu_answer.answer([fast])


def test_what_was_measured_once_beside_the_rest_is_told():
    once = run(change=lambda record: record | {"model": "other"}, repeats=1)
    caveat = gpu_answer.answer([run(disk(1.0)), once])[-1]
    assert (
        caveat
        == "Medians with 95 % intervals of 3 repeats, which are their range; what has none was measured once."
    )


def test_no_run_and_a_run_without_an_ssd_have_no_answer():
    assert gpu_answer.answer([]) == []
    assert (
        gpu_answer.answer(
            [
                replace(
                    RUN, records=[each for each in RUN.records if each["scenario"] != "h100_striped_mp_disk"]
                )
            ]
        )
        == []
    )
    assert front.on_gpus([]) == ""


def test_readme_has_the_answer_of_the_runs_that_are_marked_as_it():
    marked = [run for run in map(kept, KEPT) if run.about.answer]
    readme = front.README.read_text()
    told = front.on_gpus(marked)
    assert f"<!-- answer on GPUs -->\n{told}<!-- end of answer on GPUs -->" in readme, "run `make docs`"
