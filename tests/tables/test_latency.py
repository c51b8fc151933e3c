"""Single requests: the median TTFT by prompt length and pass."""

from pathlib import Path

import pandas as pd

from tests.record_factory import completed

SINGLE = {
    "record": "single",
    "engine": "vllm",
    "model": "m",
    "scenario": "s",
    "load": None,
    "repeat": 1,
    "valid": True,
    "reasons": [],
    "environment": {"gpu": ["NVIDIA H100 80GB HBM3, 580.1, 81559 MiB"]},
}


def single(tier: str, *ttfts: float, **changes) -> dict:
    """A record of single requests of one length, first and again in turn."""
    passes = ("first", "again") * (len(ttfts) // 2)
    samples = [
        {"pass": name, "prompt_tokens": 8192, "cached_tokens": 8191 * (name == "again"), "ttft_s": ttft}
        for name, ttft in zip(passes, ttfts, strict=True)
    ]
    samples = [sample | {"faults": changes.get("reasons", [])} for sample in samples]
    scenario = {"tier": tier, "store": "valkey", "connector": "resp", "chunk_tokens": 256, "vllm": {}}
    spec = {"vllm": {"device": "cuda"}, "kv_dtype": "auto", "scenario": scenario}
    return completed(SINGLE | {"samples": samples, "spec": spec} | changes)


def latency_of(folder: Path) -> pd.DataFrame:
    """The table as its command wrote it."""
    return pd.read_csv(folder / "latency.csv")


def test_single_requests_are_medians_by_pass(tables_of, real):
    records = [single("dram", 0.3, 0.1, 0.2, 0.12), single("dram", 0.25, 0.2, repeat=2)]
    latency = latency_of(tables_of([*real.values(), *records])).set_index("pass")
    assert latency["ttft_s"].to_dict() == {"saved": 0.25, "loaded": 0.12}
    assert latency["prompts"].to_list() == [3, 3]
    assert set(latency["gpu"]) == {"NVIDIA H100 80GB HBM3"}
    assert latency["cached_tokens"].to_dict() == {"saved": 0, "loaded": 8191}


def test_without_a_tier_both_passes_are_computed_and_an_unproved_record_is_marked(tables_of, real):
    record = single("none", 0.2, 0.3, valid=False, reasons=["because"])
    latency = latency_of(tables_of([*real.values(), record]))
    assert latency["pass"].to_list() == ["computed"]
    assert (latency["ttft_s"][0], latency["valid"][0], latency["reasons"][0]) == (0.25, False, "because")


def test_of_a_length_those_that_proved_themselves_count_and_the_row_is_marked(tables_of, real):
    record = single("dram", 0.3, 0.1, 0.2, 0.5, valid=False)
    for sample in record["samples"][2:]:
        sample["faults"] = ["not found again"]
    latency = latency_of(tables_of([*real.values(), record])).set_index("pass")
    assert latency["ttft_s"].to_dict() == {"saved": 0.3, "loaded": 0.1}
    assert latency["prompts"].to_list() == [1, 1]
    assert not latency["valid"].any()


def test_one_prompt_that_is_not_proved_leaves_other_lengths_as_they_are(tables_of, real):
    record = single("dram", 0.3, 0.1, 0.2, 0.12, valid=False)
    for sample in record["samples"][2:]:
        sample |= {"prompt_tokens": 32768, "faults": ["not found again"]}
    latency = latency_of(tables_of([*real.values(), record]))
    valid = latency.set_index(["prompt_tokens", "pass"])["valid"].to_dict()
    assert valid == {(n, kind): n == 8192 for n in (8192, 32768) for kind in ("saved", "loaded")}
