"""What a format makes of a model and a GPU before an SSD of stated GB/s."""

import math

import pytest

from tests.record_factory import coded
from workflow.hyperkv.predict import predict_formats
from workflow.hyperkv.predict.predict_formats import formats_table
from workflow.hyperkv.workloads.multi_turn import MultiTurn

KV = 10**9
SPEC = {"model": "config/models/llama-3.1-8b.json", "gpu": "config/gpus/h100.yaml", "gbps": [2, 8]}
GB_OF_PROMPT = 8192 * 131072 / 1e9


@pytest.fixture(autouse=True)
def few_conversations(monkeypatch):
    monkeypatch.setattr(predict_formats, "_WORKLOAD", MultiTurn(conversations=6))
    monkeypatch.setattr(predict_formats, "_CLIENTS", 2)


def of(
    name: str, share: float, encode_s: float | None = 0.0, decode_s: float | None = 0.0, device: str = "cuda"
):
    seconds = {
        "encode_s": [] if encode_s is None else [encode_s],
        "decode_s": [] if decode_s is None else [decode_s],
    }
    return coded(name, [1], [1], 1.0, kv_bytes=KV, stored_bytes=int(share * KV), device=device, **seconds)


def rows(*records, timed=(), gbps=(2, 8)):
    table = formats_table(SPEC | {"gbps": list(gbps)}, records, timed)
    return {(row["format"], row["stated_gbps"]): row for row in table.to_dict("records")}


def test_half_the_bytes_take_half_the_time_and_decoding_comes_on_top():
    found = rows(
        of("bf16", 1), of("cachegen", 0.5), of("rounded_2bit", 0.1), of("fp8", 0.5, decode_s=0.1), gbps=[2]
    )
    assert {name for name, _ in found} == {"bf16", "cachegen", "fp8"}  # no control
    whole, half, decoded = (found[name, 2]["ttft_s"] for name in ("bf16", "cachegen", "fp8"))
    assert whole - half == pytest.approx(GB_OF_PROMPT * 0.5 / 2)
    assert decoded - half == pytest.approx(GB_OF_PROMPT * 0.1)


@pytest.mark.parametrize(("share", "decode_s"), [(1, 0.0), (0.5, 0.0), (0.5, 0.05), (0.3, 0.1)])
def test_at_the_required_gbps_loading_takes_as_long_as_computing(share, decode_s):
    required = next(iter(rows(of("cachegen", share, 0.0, decode_s)).values()))["required_gbps"]
    row = rows(of("cachegen", share, 0.0, decode_s), gbps=[required])["cachegen", required]
    assert row["ttft_s"] == pytest.approx(row["prefill_s"])


def test_where_decoding_alone_takes_longer_no_ssd_is_fast_enough():
    assert math.isinf(rows(of("fp8", 0.5, decode_s=10.0), gbps=[8])["fp8", 8]["required_gbps"])


def test_seconds_that_are_not_known_are_said_to_be_at_best_and_taken_from_where_they_are():
    here = of("turboquant_k8v4", 0.5, None, None)
    row = rows(here, gbps=[2])["turboquant_k8v4", 2]
    assert (row["at_best"], row["timed_on"]) == (True, None)
    cores = rows(of("turboquant_k8v4", 0.5, 0.02, 0.03, "cpu"), gbps=[2])["turboquant_k8v4", 2]
    assert (cores["at_best"], cores["decode_s_per_gb"], cores["ttft_s"]) == (True, 0.03, row["ttft_s"])
    timed = rows(here, timed=[of("turboquant_k8v4", 0.9, 0.02, 0.03, "cuda")], gbps=[2])["turboquant_k8v4", 2]
    assert (timed["at_best"], timed["timed_on"]) == (False, "cuda")
    assert (timed["encode_s_per_gb"], timed["decode_s_per_gb"]) == (0.02, 0.03)
    # The bytes are those of the model that is predicted for, of 32 layers of which 4 are whole.
    assert timed["stored_bytes_per_token"] == row["stored_bytes_per_token"] == 4 * 4096 + 28 * 8 * 196
    assert timed["ttft_s"] - row["ttft_s"] == pytest.approx(GB_OF_PROMPT * 0.03)


def test_kv_in_fp8_in_hbm_has_nothing_to_decode_and_half_of_all_to_copy():
    found = rows(of("bf16", 1), of("vllm_fp8", 0.5, None, None), gbps=[2])
    own, whole = found["vllm_fp8", 2], found["bf16", 2]
    assert not own["at_best"]
    assert own["stored_bytes_per_token"] == whole["stored_bytes_per_token"] / 2
    assert whole["ttft_s"] - own["ttft_s"] > GB_OF_PROMPT * 0.5 / 2


def test_a_faster_ssd_serves_as_many_or_more_and_nothing_is_kept_without_one():
    found = rows(of("bf16", 1), gbps=[0.2, 20])
    computed = next(row for (_, gbps), row in found.items() if math.isnan(gbps))
    assert (computed["ssd_bytes"], computed["ttft_s"]) == (0, computed["prefill_s"])
    slow, fast = found["bf16", 0.2], found["bf16", 20]
    assert slow["predicted_rps_per_gpu"] < computed["predicted_rps_per_gpu"] < fast["predicted_rps_per_gpu"]
    assert slow["ssd_bytes"] == fast["ssd_bytes"] > 0
