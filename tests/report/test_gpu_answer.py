"""README's answer for real GPUs: which prompts pay, which do not and what they need, with the intervals of what was measured."""

import json
from dataclasses import replace
from functools import partial

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


def under_load(*runs):
    """The only line about loads."""
    (line,) = [line for line in gpu_answer.answer(runs) if line.startswith("- ") and ": " in line]
    return line


def test_a_disk_that_is_too_slow_is_told_what_is_needed():
    assert gpu_answer.answer([run(disk(1.0))]) == [
        "On H100 80GB loading a prompt from an SSD of 1.6 to 1.7 GB/s is slower than computing it for Llama-3.1-8B with bf16 KV: 1,032 tokens "
        "need 10.2 GB/s, 32,776 need 4.05.",
        "",
        "Under load:",
        "",
        "- Llama-3.1-8B with bf16 KV, 5 clients, multi turn: requests/s 0.984 (0.974 to 0.994), TTFT 2.84 (2.81 to 2.87)",
        "",
        "TTFT and requests/s are times recompute's, medians with the range of 3 repeats.",
    ]


def test_a_prompt_that_no_pool_tells_the_needs_of_is_not_among_those_that_tell():
    """As where a run without a pool joins one with it: one form in a sentence, with its unit."""

    def without_short_pool(record):
        if record["record"] != "single" or record["spec"]["scenario"]["tier"] != "dram":
            return record
        return record | {"samples": [each for each in record["samples"] if each["prompt_tokens"] > 1032]}

    (told, *_) = gpu_answer.answer([run(disk(1.0), change=without_short_pool)])
    assert told.endswith(" for Llama-3.1-8B with bf16 KV: 32,776 tokens need 4.05 GB/s.")


def test_a_disk_that_is_fast_enough_pays_where_its_interval_is_below_1():
    first, _, second, *_ = gpu_answer.answer([run(disk(0.32))])
    assert " is faster than computing it for Llama-3.1-8B with bf16 KV: TTFT 0.937 (" in first
    assert " need " not in first
    assert second.startswith("It is slower for Llama-3.1-8B with bf16 KV: ")
    assert "8,200 need 6.25" in second
    assert "clients" not in second


def test_an_interval_around_1_is_undecided():
    around = {1: 0.9, 2: 1.0, 3: 1.1}
    told = gpu_answer.answer(
        [run(lambda scenario, repeat: around[repeat] / 3.166 if scenario == "h100_striped_mp_disk" else 1.0)]
    )
    assert any(
        each.startswith("It may be faster or slower for ") and "1.00 (0.900 to 1.10) at 8,200" in each
        for each in told
    )


def test_one_repeat_has_no_interval_and_says_so():
    told = gpu_answer.answer([RUN])
    assert told[-1] == "TTFT and requests/s are times recompute's; one repeat, so no intervals."
    assert "(" not in "".join(told)


def changed(record, model="llama-3.1-8b", kv_dtype="bfloat16", gpu="NVIDIA H100 80GB HBM3", **evidence):
    found = json.loads(json.dumps(record)) | {"model": model}
    found["effective"]["kv_dtype"] = kv_dtype
    found["environment"]["gpu"] = [f"{gpu}, 1, 2"]
    if found["record"] == "cell":
        found["evidence"] |= evidence
    return found


def test_models_formats_and_gpus_are_told_apart():
    fp8 = partial(changed, model="qwen3-32b", kv_dtype="fp8", gpu="NVIDIA H200")
    first, _, second, *_ = gpu_answer.answer([run(disk(1.0)), run(disk(0.2), change=fp8)])
    assert first.startswith("Loading a prompt from an SSD of ")
    assert " is faster than computing it for Qwen3-32B with fp8 KV on H200: TTFT 0." in first
    assert second.startswith("It is slower for Llama-3.1-8B with bf16 KV on H100 80GB: 1,032 tokens need ")


def test_several_models_are_a_list():
    models = ["qwen3-32b", "qwen3-30b-a3b", "a-model-of-mine"]
    told = gpu_answer.answer([run(disk(0.2), change=partial(changed, model=model)) for model in models])
    begins = [
        "- a-model-of-mine with bf16 KV: TTFT",
        "- Qwen3-30B-A3B with bf16 KV: TTFT",
        "- Qwen3-32B with",
    ]
    assert told[0].endswith(" is faster than computing it for:")
    assert [told[1], told[5]] == ["", ""]
    assert all(line.startswith(begin) for line, begin in zip(told[2:5], begins, strict=True))
    assert told[6] == "Under load:"
    assert all(
        line.startswith(f"{begin.split(' with')[0]} ") for line, begin in zip(told[8:11], begins, strict=True)
    )
    assert len(told) == 13
    assert " at 1,032" not in "".join(told)
    assert gpu_answer.quoted(told).splitlines()[1:3] == [">", f"> {told[2]}"]


def test_a_dram_pool_that_served_hits_too_is_told_and_what_it_left_to_the_ssd():
    def pooled(record, alone_gib=16):
        found = changed(record, dram_hit_tokens=192, hit_tokens=256)
        if found["record"] == "cell" and (own := found["spec"]["scenario"])["tier"] != "none":
            own["dram_pool_bytes"] = (alone_gib if own["store"] == "dram" else 24) * 2**30
        return found

    told = under_load(run(disk(1.0), change=pooled))
    assert ", 5 clients, multi turn, 24 GiB DRAM pool (alone not measured): requests/s 0.984 (" in told
    beside = under_load(run(disk(1.0), change=partial(pooled, alone_gib=24)))
    assert ", 24 GiB DRAM pool (alone 1.05): requests/s 0.984 (" in beside
    assert told.endswith("TTFT 2.84 (2.81 to 2.87), 25 % of hits from SSD")

    def with_hbm(record):
        return changed(pooled(record), hbm_hit_tokens=32)

    assert under_load(run(disk(1.0), change=with_hbm)).endswith(", 12 % of hits from SSD")


@pytest.mark.parametrize("key", ["gate", "shape"])
def test_what_the_disk_alone_did_not_do_is_no_answer(key):
    def other(record):
        found = json.loads(json.dumps(record))
        if found["scenario"] == "h100_striped_mp_disk":
            found["spec"]["scenario"][key] = "ttft" if key == "gate" else {"read_gbps": 8}
        return found

    told = gpu_answer.answer([run(disk(1.0), change=other)])
    assert (told == []) is (key == "shape")
    assert not told or told[0] == "On H100 80GB under load, from SSD:"
    assert not told or told[2].startswith(
        "- Llama-3.1-8B with bf16 KV, 5 clients, multi turn: with gate ttft requests/s "
    )


def test_a_gate_for_first_tokens_is_told_beside_the_disk_without_one():
    def gated(gate, record):
        found = json.loads(json.dumps(record))
        if found["scenario"] == "h100_striped_mp_disk":
            found["scenario"] = found["spec"]["scenario"]["name"] = f"gated_{gate}"
            found["spec"]["scenario"]["gate"] = gate
        return found

    gates = {gate: run(disk(1.0), change=partial(gated, gate)) for gate in ("ttft", "throughput", "off")}
    alone = gpu_answer.answer([run(disk(1.0))])
    beside = "requests/s 0.984 (0.974 to 0.994), TTFT 2.84 (2.81 to 2.87)"
    assert under_load(run(disk(1.0))).endswith(f", 5 clients, multi turn: {beside}")
    assert under_load(run(disk(1.0)), gates["ttft"]).endswith(
        f", multi turn: {beside}; with gate ttft {beside}"
    )
    for gate in ("throughput", "off"):
        assert gpu_answer.answer([run(disk(1.0)), gates[gate]]) == alone


def test_of_a_model_without_ssd_the_engines_pool_tells_what_is_needed():
    def without(record):
        found = changed(record, model="llama-3.1-70b", kv_dtype="fp8")
        return found | ({"gpus": 2} if found["scenario"] != "h100_striped_mp_disk" else {"model": "other"})

    told = gpu_answer.answer([run(disk(1.0)), run(change=without)])
    assert any(
        line.startswith(
            "No SSD was measured, but what one must give, for Llama-3.1-70B with fp8 KV on 2 x H100 80GB: "
        )
        and " tokens need " in line
        for line in told
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
        == "TTFT and requests/s are times recompute's, medians with the range of 3 repeats; what has none was measured once."
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


def opened(record):
    return record | {"spec": record["spec"] | {"loop": "open"}}


def test_of_an_open_loop_first_tokens_are_told_and_no_requests_per_second():
    """As many requests are asked for in every scenario."""
    told = under_load(run(disk(1.0), change=opened))
    assert ", 5 conversations/s, multi turn: TTFT 2.84 (2.81 to 2.87), 95th percentile " in told
    assert "requests/s" not in told


def test_an_open_loop_stands_beside_clients_of_the_same_workload():
    told = gpu_answer.answer([run(disk(1.0)), run(disk(1.0), change=opened)])
    (clients,) = [line for line in told if ", 5 clients, multi turn: requests/s 0.984 (" in line]
    (begins,) = [line for line in told if ", 5 conversations/s, multi turn: TTFT 2.84 (" in line]
    assert told.index(begins) == told.index(clients) + 1
