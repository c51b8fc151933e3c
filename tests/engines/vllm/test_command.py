"""vLLM's command line and environment, from a scenario's settings."""

import json
from pathlib import Path

import pytest

from tests.engines.vllm.slices import DEFAULTS
from workflow.hyperkv.engines.vllm.command import command, settings_of, variables
from workflow.hyperkv.models.geometry import load_geometry

GEOMETRY = load_geometry(Path("config/models/llama-3.1-8b.json"))


def words(kv_dtype: str = "auto", transfer=None, geometry=GEOMETRY, **settings) -> str:
    full = {**DEFAULTS, "staging_bytes": 1 << 32, **settings}
    return " ".join(command("python", Path("m"), full, geometry, kv_dtype, 9000, 8100, transfer))


def test_defaults():
    line = words()
    assert line.startswith(
        "python -m vllm.entrypoints.openai.api_server --model m --served-model-name hyperkv --host 127.0.0.1"
    )
    asked = "--port 8100|--max-model-len 9000|--block-size 16|--enable-prefix-caching|--load-format dummy"
    assert [part for part in asked.split("|") if part not in line] == []
    for part in ("--enforce-eager", "--kv-cache-dtype", "--num-gpu-blocks-override", "--kv-transfer-config"):
        assert part not in line


def test_a_bound_of_hbm_is_blocks_of_a_groups_layers_where_windows_are_freed():
    gpt = load_geometry(Path("config/models/gpt-oss-120b.json"))
    for device, connector, blocks in (
        ("cuda", None, (1 << 30) // (16 * 36_864)),
        ("cuda", "LMCacheMPConnector", (1 << 30) // (16 * 36_864)),
        ("cuda", "LMCacheConnectorV1", (1 << 30) // (16 * 73_728)),
        ("cpu", None, (1 << 30) // (16 * 73_728)),
    ):
        transfer = connector and {"kv_connector": connector}
        line = words("auto", transfer, gpt, hbm_kv_bytes=1 << 30, device=device)
        assert f"--num-gpu-blocks-override {blocks} " in line + " "


def test_bfloat16_is_asked_for_where_the_checkpoint_brings_another_format():
    config = json.loads(Path("config/models/llama-3.1-8b.json").read_text())
    config["quantization_config"] = {"quant_method": "modelopt", "kv_cache_quant_algo": "FP8"}
    for kv_dtype, asked in (("auto", False), ("bfloat16", True), ("fp8", True), ("float16", True)):
        line = words(kv_dtype, None, load_geometry(config, kv_dtype))
        assert (f"--kv-cache-dtype {kv_dtype}" in line) is asked
    assert "--kv-cache-dtype" not in words("bfloat16")
    assert "--dtype bfloat16" in words()


def test_gpus_share_the_model_and_on_a_cpu_ranks():
    assert "--tensor-parallel-size 1 " in words()
    line = words(tensor_parallel=4, hbm_kv_bytes=1 << 30)
    assert "--tensor-parallel-size 4 " in line
    assert "--num-gpu-blocks-override 512 " in line + " "
    assert "--tensor-parallel-size 2 " in words(device="cpu", tensor_parallel=2)


def test_what_a_scenario_may_change():
    line = words("fp8", {"kv_connector": "X"}, prefix_caching=False, flags=["--swap", 3])
    for part in ("--kv-cache-dtype fp8", "--no-enable-prefix-caching"):
        assert part in line
    assert '--kv-transfer-config {"kv_connector": "X"}' in line
    assert line.endswith("--swap 3")


@pytest.mark.parametrize("option", ["--max-num-batched-tokens", "--max-num-seqs", "--gpu-memory-utilization"])
@pytest.mark.parametrize("flags", [["{}", 7], ["{}=7"]])
def test_flags_replace_what_the_workflow_takes_without_them(option, flags):
    assert f"{option} " in words()
    told = [flag.format(option) if isinstance(flag, str) else flag for flag in flags]
    line = words(flags=told)
    assert line.count(option) == 1
    assert line.endswith(" ".join(map(str, told)))


def test_real_or_random_weights_are_loaded():
    assert "--load-format" not in words(device="cpu")
    assert "--load-format" not in words(model_dir="/models/llama")


def test_a_scenarios_own_settings_win():
    spec = {"vllm": {"block_tokens": 16, "flags": []}, "scenario": {"vllm": {"block_tokens": 64}}}
    assert settings_of(spec) == {"block_tokens": 64, "flags": []}


def test_ranks_talk_to_one_another_on_loopback():
    of = {ranks: variables(DEFAULTS | {"tensor_parallel": ranks}, None, Path("m")) for ranks in (1, 2)}
    assert {
        "VLLM_HOST_IP": "127.0.0.1",
        "NCCL_SOCKET_IFNAME": "lo",
        "GLOO_SOCKET_IFNAME": "lo",
    }.items() <= of[2].items()
    assert "VLLM_HOST_IP" not in of[1]


def test_variables_name_the_file_and_let_the_config_add():
    settings = {**DEFAULTS, "device": "cpu", "hbm_kv_bytes": (1 << 30) + 1, "environment": {"A": "b"}}
    found = variables(settings, Path("lmcache.yaml"), Path("metrics"))
    assert found["LMCACHE_CONFIG_FILE"] == "lmcache.yaml"
    assert (found["PYTHONHASHSEED"], found["VLLM_SERVER_DEV_MODE"], found["A"]) == ("0", "1", "b")
    assert (found["VLLM_CPU_KVCACHE_SPACE"], found["VLLM_CPU_NUM_OF_RESERVED_CPU"]) == ("2", "0")
    assert "LMCACHE_CONFIG_FILE" not in variables(settings, None, Path("metrics"))
