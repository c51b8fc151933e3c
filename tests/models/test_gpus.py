"""Several GPUs: what each holds of the KV, and what is divided by their number."""

import json
from copy import deepcopy
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.configs import BASE, changed, one_line
from tests.model_configs import SHIPPED, model
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.config.config import checked
from workflow.hyperkv.config.plan import predict_spec, requested_gpus, sweep_spec
from workflow.hyperkv.engines.vllm.command import block_bytes_of
from workflow.hyperkv.models.geometry import load_geometry
from workflow.hyperkv.models.gpu import load_gpu
from workflow.hyperkv.models.gpu_memory import gpus_for_weights, memory_gb_of, require_weights_fit
from workflow.hyperkv.models.gpus import (
    KvShare,
    check_settings,
    divides,
    gpus_of,
    kv_copies,
    kv_fraction,
    kv_pieces,
    kv_share,
    own_cores,
    own_gpus,
    require_gpus,
    visible_gpus,
)
from workflow.hyperkv.records.hardware import gpu_words

GPUS = Path(__file__).parents[2] / "config/gpus"
LLAMA, LARGE, MLA = (
    load_geometry(SHIPPED / f"{name}.json") for name in ("llama-3.1-8b", "llama-3.1-70b", "deepseek-v3")
)
QWEN = load_geometry(model("llama-3.1-8b") | {"num_key_value_heads": 4})
CUDA = {"device": "cuda", "environment": {}}


@pytest.mark.parametrize(
    ("name", "gpus", "pieces"),
    [
        ("llama-3.1-8b", 1, 2 * 32),
        ("qwen3-32b", 1, 2 * 64),
        ("llama-3.1-70b", 2, 2 * 2 * 80),
        ("deepseek-v3", 8, 8 * 61),
        ("deepseek-v3", 16, 8 * 61),
        ("gemma-3-27b", 1, 2 * 62),
        ("qwen3-next-80b", 1, 2 * 12),
    ],
)
def test_pieces_of_kv_are_keys_and_values_of_each_layer_that_keeps_tokens(name, gpus, pieces):
    """MLA's latent is one, sliding layers count as full ones, linear ones not at all. A machine has 8 GPUs at most."""
    assert kv_pieces(load_geometry(SHIPPED / f"{name}.json"), gpus) == pieces


@pytest.mark.parametrize(
    ("geometry", "ranks", "share"),
    [
        (LLAMA, 1, KvShare(1, 131072, 1)),
        (LLAMA, 2, KvShare(2, 65536, 2)),
        (LLAMA, 8, KvShare(8, 16384, 8)),
        (QWEN, 8, KvShare(8, 16384, 8)),  # 4 heads on 8 GPUs: each head twice
        (MLA, 8, KvShare(8, 70272, 1)),  # the latent is whole on every GPU, and LMCache keeps it once
    ],
)
def test_the_share_of_each_gpu(geometry, ranks, share):
    assert kv_share(geometry, ranks) == share


def test_copies_count_where_they_are():
    assert kv_share(QWEN, 8).stored_bytes_per_token == 2 * QWEN.kv_bytes_per_token
    assert kv_share(MLA, 8).hbm_bytes_per_token == 8 * MLA.kv_bytes_per_token
    assert kv_share(MLA, 8).stored_bytes_per_token == MLA.kv_bytes_per_token
    assert kv_share(LLAMA, 4).stored_bytes(64) == 64 * LLAMA.kv_bytes_per_token
    assert kv_share(LLAMA, 4).value_bytes(64) == 16 * LLAMA.kv_bytes_per_token


@given(st.sampled_from([LLAMA, LARGE, QWEN, MLA]), st.integers(1, 128))
def test_fractions_are_the_shares_wherever_vllm_shares(geometry, ranks):
    if not divides(geometry, ranks):
        return
    share = kv_share(geometry, ranks)
    assert share.rank_bytes_per_token == pytest.approx(
        kv_fraction(geometry, ranks) * geometry.kv_bytes_per_token
    )
    assert share.stored_bytes_per_token == pytest.approx(
        kv_copies(geometry, ranks) * geometry.kv_bytes_per_token
    )


@pytest.mark.parametrize(
    ("geometry", "ranks", "blocks"), [(LLAMA, 1, 512), (LLAMA, 4, 512), (QWEN, 8, 512), (MLA, 4, 238)]
)
def test_blocks_of_each_rank_are_those_that_all_gpus_together_have_room_for(geometry, ranks, blocks):
    settings = {"tensor_parallel": ranks, "block_tokens": 16, "device": "cuda"}
    assert (1 << 30) // block_bytes_of(settings, geometry, None) == blocks


@pytest.mark.parametrize(
    ("variable", "present", "seen"),
    [
        (None, 4, 4),
        (None, None, None),
        ("0", 4, 1),
        ("1, 3", 4, 2),
        ("0,1,-1,2", 4, 2),
        ("0,7,1", 4, 1),
        ("", 4, 0),
        ("-1", None, 0),
        ("0,0", None, 1),
        ("GPU-8932f937,GPU-46f70b5c", 2, 2),
    ],
)
def test_what_a_process_sees(variable, present, seen):
    assert visible_gpus(variable, present) == seen


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"tensor_parallel": 3},
            "32 attention heads cannot be shared by 3 GPUs; choose one of 1, 2, 4, 8, 16, 32",
        ),
        (
            {"tensor_parallel": 2, "environment": {"CUDA_VISIBLE_DEVICES": "0"}},
            "CUDA_VISIBLE_DEVICES '0' shows 1",
        ),
    ],
)
def test_what_cannot_be_shared_is_refused_and_the_key_named(settings, words):
    with pytest.raises(UserError) as caught:
        check_settings(CUDA | settings, LLAMA, "config: ")
    assert str(caught.value).startswith("config: vllm.tensor_parallel: ")
    assert words in str(caught.value)


def test_a_machine_with_too_few_gpus_is_refused():
    two = CUDA | {"tensor_parallel": 2}
    for settings, present, variable in (
        (two, 1, None),
        (two, 4, "3"),
        (CUDA | {"tensor_parallel": 1}, 2, ""),
    ):
        with pytest.raises(UserError, match=r"vllm\.tensor_parallel: .* this machine shows [01]"):
            require_gpus(settings, present, variable)
    require_gpus(two, 2, None)
    require_gpus(two, None, None)
    require_gpus(two | {"environment": {"CUDA_VISIBLE_DEVICES": "2,3"}}, 4, "0")
    require_gpus({**two, "device": "cpu"}, 1, None)


def test_what_was_used_counts_and_not_what_is_there():
    spec = {"engine": "vllm", "vllm": CUDA, "scenario": {}}
    assert gpus_of(spec) == 1
    assert gpus_of(spec | {"vllm": CUDA | {"tensor_parallel": 2}}) == 2
    assert gpus_of(spec | {"scenario": {"vllm": {"tensor_parallel": 4}}}) == 4
    assert gpus_of(spec | {"vllm": CUDA | {"device": "cpu", "tensor_parallel": 2}}) == 2
    assert gpus_of({"engine": "replay", "replay": {"gpus": 8}}) == 8
    assert gpus_of({"engine": "replay", "replay": {}}) == 1


def test_a_title_says_how_many():
    rows = pd.DataFrame({"gpu": ["H100", "H100", "L4", None], "gpus": [2, 2, 1, 1]})
    assert gpu_words(rows) == "2 x H100, L4"
    assert gpu_words(rows[["gpu"]]) == "H100, L4"


# The modelled GPUs.


def test_gpus_together_compute_and_read_less_each_and_launch_as_one():
    one, two = (load_gpu(GPUS / "h100.yaml", LLAMA, gpus) for gpus in (1, 2))
    assert two.step_s([(8192, 0)], []) == pytest.approx(one.step_s([(8192, 0)], []) / 2)
    assert two.step_s([(1, 100)], []) == one.step_s([(1, 100)], []) == 0.0155
    assert two.decode_base_s == one.decode_base_s / 2
    assert two.decode_per_context_token_s == one.decode_per_context_token_s / 2
    assert two.decode_per_sequence_s == one.decode_per_sequence_s
    assert two.copy_s(1 << 30) == one.copy_s(1 << 30) / 2
    assert (one.gpus, two.gpus) == (1, 2)


def test_reading_weights_is_shared_where_that_is_what_a_step_takes():
    one, eight = (load_gpu(GPUS / "l4.yaml", LARGE, gpus) for gpus in (1, 8))
    assert one.prefill_min_s == one.decode_base_s
    assert eight.prefill_min_s == pytest.approx(one.decode_base_s / 8)


def test_every_gpu_receives_the_whole_latent_and_its_copies_of_heads():
    one, eight = (load_gpu(GPUS / "h100.yaml", MLA, gpus) for gpus in (1, 8))
    assert eight.copy_s(1 << 30) == one.copy_s(1 << 30)
    assert eight.decode_per_context_token_s == one.decode_per_context_token_s
    few, copied = (load_gpu(GPUS / "h100.yaml", QWEN, gpus) for gpus in (4, 8))
    token, twice = QWEN.kv_bytes_per_token, kv_share(QWEN, 8).stored_bytes_per_token
    assert copied.copy_s(twice) == pytest.approx(few.copy_s(token))


@pytest.mark.parametrize(
    ("gpu", "geometry", "gpus", "mend"),
    [("l4", LARGE, 1, 8), ("h100", LARGE, 1, 2), ("h100", MLA, 8, 16), ("h200", MLA, 4, 8)],
)
def test_gpus_that_do_not_hold_the_weights_are_refused_and_the_number_told_is_enough(
    gpu, geometry, gpus, mend
):
    path = GPUS / f"{gpu}.yaml"
    with pytest.raises(UserError, match=rf"^vllm\.tensor_parallel: .*; set it to {mend}$"):
        require_weights_fit(path, geometry, gpus, 1 << 30)
    require_weights_fit(path, geometry, mend, 1 << 30)
    assert divides(geometry, mend)


def test_kv_takes_memory_too():
    assert gpus_for_weights(LLAMA, 24, 5 << 30) == 1
    assert gpus_for_weights(LLAMA, 24, 6 << 30) == 2


def test_memory_is_the_files_own_or_published(tmp_path):
    published = {"h100": 80, "h200": 141, "a100-80gb": 80, "l4": 24, "l40s": 48}
    published |= {"mi300x": 192, "b200": 180}
    assert {path.stem: memory_gb_of(path) for path in GPUS.glob("*.yaml")} == published
    wrong = {
        "name: G\n": "lacks memory_gb",
        "memory_gb: much\n": "memory_gb is 'much'",
        "- 1\n": "no mapping of keys",
    }
    for text, words in wrong.items():
        (tmp_path / "own.yaml").write_text(text)
        with pytest.raises(UserError, match=words):
            require_weights_fit(tmp_path / "own.yaml", LLAMA, 1, 0)
    (tmp_path / "own.yaml").write_text("memory_gb: 18\n")
    require_weights_fit(tmp_path / "own.yaml", LLAMA, 1, 0)
    (tmp_path / "l4.yaml").write_text("name: G\n")
    assert memory_gb_of(tmp_path / "l4.yaml") == 24


# Configurations.


def vllm(**keys) -> dict:
    config = changed("engine", "vllm") | {"model": "config/models/llama-3.1-8b.json"}
    config["experiment"] = config["experiment"] | {
        "active_conversations": None,
        "scenarios": ["none", "dram"],
    }
    return config | {"vllm": keys}


def test_a_scenarios_own_number_is_measured_and_asked_for():
    config = vllm(tensor_parallel=2)
    full = checked(config)
    assert gpus_of(json.loads(sweep_spec(full, "dram-64"))) == requested_gpus(full, "dram-64") == 2
    assert requested_gpus(full, None) == 1
    config["scenarios"] = deepcopy(config["scenarios"])
    config["scenarios"]["dram"]["vllm"] = {"tensor_parallel": 4}
    full = checked(config)
    assert gpus_of(json.loads(sweep_spec(full, "dram-64"))) == requested_gpus(full, "dram-64") == 4
    assert requested_gpus({**full, "vllm": full["vllm"] | {"device": "cpu"}}, "dram-64") == 0
    assert requested_gpus(checked(BASE), "dram-64") == 0


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (vllm(tensor_parallel=0), "config: vllm.tensor_parallel: 0 is wrong; it must be an integer, at"),
        (vllm(tensor_parallel=5), "config: vllm.tensor_parallel: llama-3.1-8b's 32 attention heads"),
        (
            changed("vllm.tensor_parallel", 3),
            "config: vllm.tensor_parallel: llama-3.2-1b's 32 attention heads",
        ),
        (changed("model", "config/models/llama-3.1-70b.json"), "config: vllm.tensor_parallel: 141 GB"),
        (
            changed("scenarios.dram.vllm", {"tensor_parallel": 3}),
            "config: scenarios.dram.vllm.tensor_parallel: llama-3.2-1b's 32 attention heads",
        ),
    ],
)
def test_mistakes_are_one_line_with_the_key(config, words):
    assert words in one_line(config)


def test_the_mends_that_are_told_are_taken():
    large = changed("model", "config/models/llama-3.1-70b.json")
    large |= {"vllm": {"tensor_parallel": 2}, "replay": {"hbm_kv_bytes": "1 GiB"}}
    assert gpus_of(json.loads(sweep_spec(checked(large), "dram-64"))) == 2


def test_predictions_have_room_for_as_many_tokens_as_the_gpus():
    config = changed("model", "config/models/deepseek-v3.json")
    config |= {"vllm": {"tensor_parallel": 32}, "replay": {"hbm_kv_bytes": "32 GiB"}}
    case = json.loads(predict_spec(checked(config)))["cases"]["experiment"]
    assert {tiers["hbm_bytes"] for tiers in case["tiers"].values()} == {1 << 30}


@pytest.mark.parametrize(
    ("variable", "ranks", "number", "own"),
    [(None, 1, 0, "0"), (None, 2, 1, "2,3"), ("3, 5", 1, 1, "5"), ("GPU-a,GPU-b", 1, 0, "GPU-a")],
)
def test_each_engine_sees_gpus_of_its_own(variable, ranks, number, own):
    assert own_gpus(variable, ranks, number) == own


@pytest.mark.parametrize(
    ("cores", "ranks", "engines", "own"),
    [
        ([0, 1], 2, 1, ["0|1"]),
        ([0, 1], 1, 2, ["0", "1"]),
        ([2, 3, 4, 5, 7], 1, 2, ["2,3", "4,5,7"]),
        (range(8), 2, 2, ["0,1|2,3", "4,5|6,7"]),
        ([3], 1, 2, ["3", "3"]),
    ],
)
def test_each_engine_and_rank_on_a_cpu_has_a_part_of_the_cores(cores, ranks, engines, own):
    assert [own_cores(list(cores), ranks, number, engines) for number in range(engines)] == own


def test_several_engines_ask_for_the_gpus_of_all():
    config = changed("experiment.engines", 3) | {"engine": "vllm"}
    config["scenarios"] = {"none": {"tier": "none"}}
    config |= {
        "experiment": {**config["experiment"], "scenarios": ["none"]},
        "figures": {},
        "profile": {},
        "layers": {},
    }
    config["vllm"] = {"tensor_parallel": 2}
    full = checked(config)
    assert requested_gpus(full, "none") == 6
    config["vllm"] |= {"environment": {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}}
    assert "6 GPUs are asked for by 3 engines, vllm.environment.CUDA_VISIBLE_DEVICES" in one_line(config)
