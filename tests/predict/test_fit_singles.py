"""Step times and what a request takes, from single requests: of the kept runs, and of times that are known."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import command, refused
from tests.kept import KEPT, kept
from workflow.hyperkv.models.geometry import load_geometry
from workflow.hyperkv.models.gpu import GpuModel, load_gpu
from workflow.hyperkv.predict import fit_singles
from workflow.hyperkv.predict.fit_singles import Length, fit_prefill, fit_requests, lengths_of
from workflow.hyperkv.predict.request_time import FITTED, HIT_S_PER_PIECE, REQUEST_S
from workflow.hyperkv.predict.single_requests import Request, gpu_file

H200 = Path("config/gpus/h200.yaml")
COMPUTED, POOL = {"tier": "none"}, {"tier": "dram", "store": "dram"}


def gpu_of(**figures: float) -> GpuModel:
    known = {"prefill_tokens_per_s": 4e4, "host_device_gbps": 50.0, "prefill_min_s": 0.01}
    return GpuModel("g", **(known | figures))


def length(gpu: GpuModel, tokens: int, loaded: int, ttft_s: float, pieces: int = 64) -> Length:
    request = Request(POOL if loaded else COMPUTED, tokens, loaded, loaded * 131072, pieces, ttft_s)
    return Length("m", "bfloat16", gpu, request, ttft_s)


def test_the_figures_of_a_request_are_those_of_the_runs_that_are_named(capsys):
    command(fit_singles, "--runs", *FITTED)
    assert capsys.readouterr().out == f"REQUEST_S = {REQUEST_S}\nHIT_S_PER_PIECE = {HIT_S_PER_PIECE:.3g}\n"


@given(st.floats(1e-4, 0.05), st.floats(1e-10, 1e-7))
def test_what_a_request_takes_is_found_again(request_s, per_piece_s):
    gpu = gpu_of()
    found = []
    for tokens, loaded, pieces in ((1032, 0, 64), (8200, 0, 64), (1032, 1024, 64), (8200, 8192, 128)):
        own = length(gpu, tokens, loaded, 1.0).request.gpu_s(gpu)
        ttft_s = own + request_s + per_piece_s * pieces * loaded
        found.append(length(gpu, tokens, loaded, ttft_s, pieces))
    assert fit_requests(found) == (pytest.approx(request_s, rel=1e-6), pytest.approx(per_piece_s, rel=1e-6))


@pytest.mark.parametrize("loaded", [0, 8192])
def test_what_a_request_takes_needs_some_that_were_computed_and_some_that_were_loaded(loaded):
    with refused("computed and that the engine's own pool served: name runs with both"):
        fit_requests([length(gpu_of(), 8200, loaded, 0.2)])


@given(st.floats(2e3, 3e5), st.floats(1e-11, 1e-8))
def test_step_times_of_prompts_are_found_again(tokens_per_s, attention_s):
    gpu = gpu_of(
        prefill_tokens_per_s=tokens_per_s, prefill_attention_s_per_token2=attention_s, prefill_min_s=0.0
    )
    found = [
        length(gpu, tokens, 0, REQUEST_S + gpu.step_s([(tokens, 0)], [])) for tokens in (1032, 8200, 32776)
    ]
    assert fit_prefill(found) == {
        "prefill_tokens_per_s": pytest.approx(tokens_per_s, rel=1e-4),
        "prefill_attention_s_per_token2": pytest.approx(attention_s, rel=1e-3),
    }


def test_too_few_lengths_are_refused_with_the_key_that_gives_more():
    gpu = gpu_of()
    with refused(r"computed prompts of \[8200\] tokens: .*latency\.prompt_tokens"):
        fit_prefill([length(gpu, 8200, 0, 0.2), length(gpu, 8200, 8192, 0.05)])


def test_a_gpus_file_gets_what_was_measured_and_says_what_was_not(tmp_path):
    runs = [folder for folder in KEPT if folder.name == "2026-11-29-newest"]
    command(fit_singles, "--runs", *runs, "--gpu", H200, "--out", tmp_path / "mine.yaml")
    before, after = yaml.safe_load(H200.read_text()), yaml.safe_load((tmp_path / "mine.yaml").read_text())
    changed = {"prefill_tokens_per_s", "prefill_attention_s_per_token2"}
    own, old = after["models"]["llama-3.1-8b"], before["models"]["llama-3.1-8b"]
    assert {key for key in own if own[key] != old[key]} == changed
    assert after["models"]["llama-3.2-1b"] == before["models"]["llama-3.2-1b"]
    assert str(runs[0]) in after["assumption"]
    assert before["assumption"] in after["assumption"]
    gpu = load_gpu(tmp_path / "mine.yaml", load_geometry(Path("config/models/llama-3.1-8b.json")))
    for each in lengths_of([kept(runs[0])], [H200]):
        if not each.request.loaded_tokens:
            assert REQUEST_S + each.request.gpu_s(gpu) == pytest.approx(each.ttft_s, rel=0.08)


def test_runs_of_another_model_or_gpu_or_without_single_requests_are_refused(tmp_path):
    by_name = {folder.name: folder for folder in KEPT}
    with refused("single requests of qwen3-32b: the file is of llama-3.1-8b, llama-3.2-1b"):
        command(
            fit_singles, "--runs", by_name["2026-11-29-documents"], "--gpu", H200,
            "--out", tmp_path / "mine.yaml",
        )  # fmt: skip
    with refused("no file of break_even.gpus is of NVIDIA H100 80GB HBM3"):
        command(
            fit_singles, "--runs", by_name["2026-11-28-server"], "--gpu", H200, "--out", tmp_path / "m.yaml"
        )
    with refused("no single requests"):
        command(fit_singles, "--runs", Path("results/reference/laptop/2026-11-28"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("reported", "name"),
    [
        ("NVIDIA H200", "h200"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
        ("NVIDIA B200", "b200"),
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA H200 NVL", None),
        ("NVIDIA A100-SXM4-40GB", None),
        ("NVIDIA GH200 480GB", None),
        ("Tesla T4", None),
    ],
)
def test_a_gpus_file_is_found_by_what_nvidia_smi_calls_it(reported, name):
    record = {"environment": {"gpu": [f"{reported}, 580.1, 81559 MiB"]}}
    record["spec"] = {"vllm": {"device": "cuda"}, "scenario": {"vllm": {}}}
    files = sorted(Path("config/gpus").glob("*.yaml"))
    if name is None:
        with refused(f"no file of break_even.gpus is of {reported}"):
            gpu_file(record, files)
    else:
        assert gpu_file(record, files).stem == name
