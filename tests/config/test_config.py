"""Checking the config: defaults, sizes, chunk lists, the slices of the stages, and one line per mistake."""

import json
import re
from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests import model_configs, workflow_helpers
from tests.configs import (
    BASE,
    GPU,
    changed,
    engine,
    model_file,
    one_line,
    with_kvrocks,
    with_striped,
)
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.config import docs
from workflow.hyperkv.config.checks.files import FETCHED_TRACE
from workflow.hyperkv.config.checks.scenario import longest_context_tokens
from workflow.hyperkv.config.config import checked
from workflow.hyperkv.config.models.config import REMOVED
from workflow.hyperkv.config.models.values import parse_size
from workflow.hyperkv.config.plan import (
    array_spec,
    break_even_spec,
    layers_spec,
    predict_spec,
    profile_spec,
    sweep_spec,
)
from workflow.hyperkv.config.scenarios import loads_of, selected


def test_a_preset_lies_under_the_scenarios_own_keys():
    own = {"settings": {"workers": 2}, "environment": {"A": "b"}, "ignored_settings": ["x"]}
    scenario = checked(with_kvrocks(preset="tuned", **own))["scenarios"]["kvrocks"]
    preset = yaml.safe_load(Path("config/kvrocks/tuned.yaml").read_text())
    assert preset["settings"]["workers"] == "cores"
    assert scenario["settings"] == preset["settings"] | {"workers": 2}
    assert scenario["environment"] == preset["environment"] | {"A": "b"}
    assert scenario["ignored_settings"] == ["x"]
    assert scenario["preset"] == "tuned"


def test_the_spec_has_the_presets_keys_so_that_a_changed_preset_measures_again():
    spec = json.loads(sweep_spec(checked(with_kvrocks(preset="tuned")), "kvrocks"))
    assert spec["scenario"]["settings"]["rocksdb.enable_blob_files"] == "yes"
    spec = json.loads(profile_spec(checked(with_kvrocks(preset="reference")), "kvrocks"))
    assert "rocksdb.dump_malloc_stats" in spec["scenario"]["ignored_settings"]


def test_a_preset_is_checked_like_the_config(tmp_path, monkeypatch):
    (tmp_path / "bad.yaml").write_text("description: x\nsettings: {rocksdb.compression: no}\n")
    monkeypatch.setattr("workflow.hyperkv.stores.kvrocks.store.KvrocksStore.presets", tmp_path)
    with pytest.raises(UserError, match=r"bad.yaml: settings.rocksdb.compression: false is wrong"):
        checked(with_kvrocks(preset="bad"))


def test_defaults_are_filled_at_every_depth():
    config = checked(BASE)
    assert config["kv_dtype"] == "auto"
    assert config["replay"]["hbm_kv_bytes"] == 128 << 20
    assert config["evidence"] == {"device_share_min": 0.8}
    assert config["experiment"] == {
        "scenarios": ["none", "dram", "files"],
        "array": {"scenarios": [], "gbps": [], "latency_us": []},
        "loads": [2, 4, 8],
        "active_conversations": None,
        "loop": "closed",
        "slo": {"ttft_ms": None, "itl_ms": None},
        "engines": 1,
        "repeats": 3,
        "seed": 1,
    }
    assert config["scenarios"]["files"]["settings"] == {}
    assert config["scenarios"]["none"]["chunk_tokens"] == 64


def test_what_is_given_is_kept_and_the_input_is_left_alone():
    given_config = changed("replay.prefix_caching", False)
    before = deepcopy(given_config)
    assert checked(given_config)["replay"]["prefix_caching"] is False
    assert given_config == before


def test_sizes_are_bytes():
    config = checked(BASE)
    assert config["scenarios"]["dram-32"]["dram_pool_bytes"] == 64 << 20
    assert config["replay"]["hbm_kv_bytes"] == 128 << 20
    assert config["profile"]["value_bytes"] == [1536, 4096]
    assert config["scenarios"]["files"]["dram_pool_bytes"] is None


def test_a_list_of_chunks_becomes_one_scenario_per_size():
    scenarios = checked(BASE)["scenarios"]
    assert list(scenarios) == ["none", "dram-32", "dram-64", "files", "rocksdb"]
    assert [scenarios[name]["chunk_tokens"] for name in ("dram-32", "dram-64", "files")] == [32, 64, 64]
    assert {scenarios[name]["family"] for name in ("dram-32", "dram-64")} == {"dram"}


def test_selected_takes_families_and_single_names_in_order():
    config = checked(BASE)
    assert selected(config, ["files", "dram"]) == ["files", "dram-32", "dram-64"]
    assert selected(config, ["dram-64", "none"]) == ["dram-64", "none"]
    assert selected(config, []) == []


def test_a_scenarios_own_loads_come_first():
    config = checked(BASE)
    assert loads_of(config, "files") == [1]
    assert loads_of(config, "dram-32") == [2, 4, 8]
    spec = json.loads(sweep_spec(config, "files"))
    assert spec["loads"] == [1]
    assert "loads" not in spec["scenario"]


def test_sweep_spec_is_its_scenarios_slice_only():
    spec = json.loads(sweep_spec(checked(BASE), "dram-32"))
    assert set(spec) == {
        *("engine", "model", "kv_dtype", "gpu", "data_dir", "workload", "replay", "evidence"),
        *("scenario", "loads", "seed", "active_conversations", "slo"),
    }
    assert spec["scenario"]["name"] == "dram-32"
    assert not {"loads", "family", "vllm", "lmcache"} & set(spec["scenario"])


def test_the_slice_of_engine_vllm_has_its_sections_and_the_environments_interpreters():
    spec = json.loads(sweep_spec(checked(engine(loadgen__python="/opt/aiperf/bin/python")), "valkey"))
    assert {"vllm", "loadgen", "latency", "loop", "slo"} <= set(spec)
    assert not {"replay", "gpu", "active_conversations"} & set(spec)
    assert spec["engine_python"] == "results/build/reference/venv/bin/python"
    assert spec["loadgen_python"] == "/opt/aiperf/bin/python"
    assert spec["made_model_dir"] == "results/build/models/llama-3.2-1b-dummy"
    assert spec["environment_records"] == {
        "engine": "results/build/reference/reference.json",
        "loadgen": "results/build/loadgen/loadgen.json",
    }
    assert spec["vllm"]["pairs"] == {"reference": {"environment": {}, "flags": []}}
    assert not {"python", "requirements"} & (set(spec["vllm"]) | set(spec["loadgen"]))


def test_where_packages_come_from_does_not_measure_again():
    pairs = {name: {"requirements": "envs/loadgen.txt", "python": None} for name in ("current", "reference")}
    other = engine(loadgen__requirements="envs/current-cpu.txt", vllm__pairs=pairs)
    assert sweep_spec(checked(other), "valkey") == sweep_spec(checked(engine()), "valkey")


def test_open_loops_are_for_engine_vllm():
    assert checked(engine(experiment__loop="open", experiment__scenarios=["none", "dram"]))


def test_without_loads_a_scenario_is_single_requests_alone():
    config = engine()
    config["scenarios"]["valkey"]["loads"] = []
    assert json.loads(sweep_spec(checked(config), "valkey"))["loads"] == []
    for config in (engine(latency__prompt_tokens=[]), deepcopy(BASE)):
        config["scenarios"]["none"]["loads"] = []
        config["experiment"]["scenarios"] = ["none"]
        with pytest.raises(
            UserError, match=r"scenarios\.none\.loads: there is nothing to measure without loads"
        ):
            checked(config)


@pytest.mark.parametrize("engine_name", ["replay", "vllm"])
@pytest.mark.parametrize("name", ["QWEN3_NEXT_80B", "JAMBA_MINI", "NEMOTRON_NANO_9B_V2"])
def test_a_sweep_over_layers_whose_state_lmcache_cannot_store_stops_and_the_remedy_works(
    tmp_path, engine_name, name
):
    config = deepcopy(BASE) if engine_name == "replay" else engine()
    config |= {"model": model_file(tmp_path, getattr(model_configs, name)), "kv_dtype": "auto"}
    config["gpu"] = "config/gpus/h100.yaml"
    config |= {"replay": {"hbm_kv_bytes": "64 GiB"}, "vllm": {"tensor_parallel": 4}}
    message = one_line(config)
    assert message.startswith("config: scenarios.")
    assert "a state of" in message
    config["experiment"] = {"scenarios": ["none"]}
    if engine_name == "replay" and name != "QWEN3_NEXT_80B":
        assert "active_parameters is not known" in one_line(config)
    else:
        assert checked(config)["model"] == config["model"]


def test_a_sweep_over_sliding_layers_is_no_mistake(tmp_path):
    config = deepcopy(BASE) | {"model": "config/models/gpt-oss-120b.json"}
    config |= {"replay": {"hbm_kv_bytes": "8 GiB"}, "vllm": {"tensor_parallel": 4}}
    assert checked(config)["model"] == "config/models/gpt-oss-120b.json"


def test_a_model_that_is_not_known_is_named_with_its_key(tmp_path):
    strange = {**model_configs.QWEN2_5_7B, "model_type": "brand_new", "ssm_cfg": {"d": 1}}
    path = model_file(tmp_path, strange)
    message = one_line(deepcopy(BASE) | {"model": path})
    assert message.startswith(
        f"config: model: {path}: model_type 'brand_new' is unknown and has the key ssm_cfg"
    )
    for key in ("break_even", "predict"):
        config = deepcopy(BASE)
        config[key] = (
            {"models": [path]}
            if key == "break_even"
            else {"cases": {"mine": {"model": path, "tiers": {"ssd": {"ssd_bytes": None}}}}}
        )
        where = "break_even.models" if key == "break_even" else "predict.cases.mine.model"
        assert one_line(config).startswith(f"config: {where}: {path}: model_type 'brand_new'")


def test_replay_and_break_even_need_weights_and_engine_vllm_does_not(tmp_path):
    plain = {**model_configs.PHI_4, "model_type": "brand_new", "rope_scaling": None}
    path = model_file(tmp_path, plain)
    assert "active_parameters is not known" in one_line(deepcopy(BASE) | {"model": path})
    config = deepcopy(BASE)
    config["break_even"] = {"models": [path]}
    assert one_line(config).startswith(
        "config: break_even.models: model: model: active_parameters is not known"
    )
    assert checked(engine() | {"model": path})["model"] == path


def test_engine_vllm_with_a_model_described_by_hand_needs_its_folder(tmp_path):
    layers = [{"kind": "full", "count": 16, "kv_bytes_per_token": 2048}]
    path = model_file(tmp_path, {"layers": layers, "max_context_tokens": 131_072})
    message = one_line(engine() | {"model": path})
    assert message.startswith(f"config: model: {path}: a description by hand")
    assert "vllm.model_dir" in message
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "tokenizer.json").write_text("{}")
    config = engine(vllm__model_dir=str(tmp_path / "own")) | {"model": path}
    assert checked(config)["model"] == path


def test_the_folder_that_vllm_serves_keeps_what_is_counted(tmp_path):
    """A checkpoint with an 8-bit KV cache served, its 16-bit original named."""
    original = json.loads(Path("config/models/llama-3.2-1b.json").read_text())
    quantized = {
        **original,
        "quantization_config": {"quant_method": "modelopt", "kv_cache_quant_algo": "FP8"},
    }
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "config.json").write_text(json.dumps(quantized))
    config = engine(vllm__model_dir=str(tmp_path))
    message = one_line(config)
    assert "16,384 bytes of KV per token" in message
    assert f"set model to {tmp_path}/config.json" in message
    assert checked(config | {"model": f"{tmp_path}/config.json"})
    assert checked(config | {"model": str(tmp_path)})
    assert checked(config | {"kv_dtype": "fp8"})


def test_engine_replay_keeps_kv_in_float32():
    assert checked(deepcopy(BASE) | {"kv_dtype": "float32"})["kv_dtype"] == "float32"


@pytest.mark.parametrize("key", REMOVED)
def test_a_key_of_an_earlier_version_is_told_what_became_of_it(key):
    at = key.replace("*", "scenarios.files")
    told = re.escape(f"config: {at} is not a key any more; {REMOVED[key]}")
    with pytest.raises(UserError, match=f"^{told}$"):
        checked(changed(at, 1))
    assert key not in [row.path for row in docs.rows()]


def test_an_ssd_store_in_memory_must_lie_on_a_tmpfs(tmp_path):
    config = engine()
    config["experiment"]["scenarios"] = ["none", "memory"]
    config["scenarios"]["memory"] = {
        "tier": "dram",
        "store": "rocksdb",
        "connector": "resp",
        "data_dir": str(tmp_path),
    }
    with pytest.raises(UserError, match="with tier dram it must be on a tmpfs"):
        checked(config)
    config["scenarios"]["memory"]["data_dir"] = "/dev/shm/hyperkv"
    assert checked(config)["scenarios"]["memory"]["data_dir"] == "/dev/shm/hyperkv"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("profile.repeats", 9),
        ("figures.baseline", "files"),
        ("experiment.repeats", 7),
        ("experiment.scenarios", ["dram"]),
        ("scenarios.rocksdb.connections", 9),
        ("scenarios.dram.chunk_tokens", [32, 64, 128]),
    ],
)
def test_sweep_spec_does_not_move_with_what_is_not_its_own(path, value):
    assert sweep_spec(checked(changed(path, value)), "dram-32") == sweep_spec(checked(BASE), "dram-32")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("experiment.loads", [1]),
        ("experiment.seed", 2),
        ("replay.hbm_kv_bytes", "1 GiB"),
        ("workload.conversations", 5),
        ("scenarios.dram.connections", 3),
        ("evidence.device_share_min", 0.5),
    ],
)
def test_sweep_spec_moves_with_what_its_cells_depend_on(path, value):
    assert sweep_spec(checked(changed(path, value)), "dram-32") != sweep_spec(checked(BASE), "dram-32")


def test_the_order_of_keys_and_the_spelling_of_sizes_change_no_spec():
    reordered = dict(reversed(changed("scenarios.dram.dram_pool_bytes", 64 << 20).items()))
    assert sweep_spec(checked(reordered), "dram-64") == sweep_spec(checked(BASE), "dram-64")


def test_profile_spec_has_the_store_but_no_chunk():
    spec = json.loads(profile_spec(checked(BASE), "dram"))
    assert spec["scenario"]["name"] == "dram"
    assert "chunk_tokens" not in spec["scenario"]
    assert spec["value_bytes"] == [1536, 4096]
    assert profile_spec(checked(changed("scenarios.dram.chunk_tokens", 64)), "dram") == profile_spec(
        checked(BASE), "dram"
    )


def test_layers_spec_has_the_store_and_sizes_in_bytes():
    config = changed("layers", {"scenarios": ["files"], "value_bytes": ["1 KiB"], "point_bytes": "1 MiB"})
    spec = json.loads(layers_spec(checked(config), "files"))
    assert (spec["scenario"]["name"], spec["scenario"]["store"]) == ("files", "files")
    assert "chunk_tokens" not in spec["scenario"]
    assert (spec["value_bytes"], spec["point_bytes"], spec["warm_up_bytes"]) == ([1024], 1 << 20, 1 << 20)
    assert spec["memory_dir"] == "/dev/shm"


def test_keys_of_another_workload_kind_are_left_out():
    workload = {**BASE["workload"], "documents": 3, "trace": "nowhere.jsonl", "reuse": "zipf"}
    assert checked(changed("workload", workload))["workload"] == BASE["workload"]


@pytest.mark.parametrize(
    ("workload", "longest"),
    [
        ({"kind": "multi_turn", "turns": [2, 4], "prefix_tokens": [1, 200], "user_tokens": [1, 10]}, 680),
        ({"kind": "multi_turn", "turns": [2, 4], "max_context_tokens": 500}, 500),
        ({"kind": "long_documents"}, None),
        (
            {
                "kind": "long_documents",
                "document_tokens": [1, 500],
                "question_tokens": [1, 20],
                "answer_tokens": [1, 30],
            },
            550,
        ),
        ({"kind": "trace", "trace": "t.jsonl"}, None),
    ],
)
def test_longest_context(workload, longest):
    assert longest_context_tokens(workload) == longest


DOCUMENTS = {"kind": "long_documents", "documents": 2, "requests": 4} | {
    key: [5, 10] for key in ("document_tokens", "question_tokens", "answer_tokens")
}
TRACE = {"kind": "trace", "trace": "trace.jsonl"}
CHATS = {"kind": "multi_turn", "conversations": 3}


@pytest.mark.parametrize(
    ("workload", "key", "value", "allowed"),
    [
        (CHATS, "kind", "chat", "multi_turn"),
        (CHATS, "turn", [2, 4], "turns"),
        (CHATS, "conversations", 0, "at least 1"),
        (CHATS, "conversations", True, "an integer"),
        (CHATS, "user_tokens", [0, 5], "at least 1"),
        (CHATS, "user_tokens", [5], "[lowest, highest]"),
        (CHATS, "answer_tokens", 5, "[lowest, highest]"),
        (CHATS, "answer_tokens", [1.5, 2], "answer_tokens"),
        (CHATS, "max_context_tokens", "8k", "an integer"),
        (DOCUMENTS, "reuse", "often", "uniform, zipf"),
        (DOCUMENTS, "documents", -1, "at least 1"),
        (TRACE, "trace", 3, "workload.trace"),
        (TRACE, "max_requests", 0, "at least 1"),
        (TRACE, "time_unit", "minutes", "ms, s, us"),
        (TRACE, "block_tokens", 0, "at least 1"),
        (TRACE, "long_requests", "drop", "refuse, leave_out, cut"),
    ],
)
def test_a_mistake_in_a_workload_is_one_line(workload, key, value, allowed):
    message = one_line(changed("workload", workload | {key: value}))
    assert f"workload.{key}" in message
    assert allowed in message


def test_a_trace_is_still_found_under_its_old_name():
    config = changed("workload", {"kind": "mooncake", "trace": FETCHED_TRACE})
    assert checked(config)["workload"]["kind"] == "trace"


@given(
    number=st.integers(1, 1 << 20),
    unit=st.sampled_from(["KiB", "MiB", "GiB"]),
    space=st.sampled_from(["", " "]),
)
def test_parse_size(number, unit, space):
    shift = {"KiB": 10, "MiB": 20, "GiB": 30}[unit]
    assert parse_size(f"{number}{space}{unit}") == number << shift
    assert parse_size(f"{number}.5{space}{unit}") == (2 * number + 1) << (shift - 1)


def test_a_family_and_one_of_its_members_is_measured_once():
    assert selected(checked(BASE), ["dram-64", "dram", "dram-32"]) == ["dram-64", "dram-32"]


def test_a_trace_that_a_rule_fetches_may_be_missing():
    workload = {"kind": "trace", "trace": FETCHED_TRACE}
    assert checked(changed("workload", workload))["workload"] == workload


def test_the_fetched_trace_is_the_rules_output():
    assert f'"{FETCHED_TRACE}"' in Path("workflow/rules/workload.smk").read_text()


def test_what_the_sweep_measures_is_predicted():
    config = changed("experiment.scenarios", ["none", "dram", "files", "rocksdb"])
    config["experiment"]["loads"] = [2, 4]
    config["replay"] = {"hbm_kv_bytes": "256 MiB"}
    case = json.loads(predict_spec(checked(config)))["cases"]["experiment"]
    assert case["workload"]["turns"] == [2, 4]
    assert (case["clients"], case["active_conversations"], case["counted"]) == (4, [4], "window")
    assert (case["seeds"], case["lookup"]) == (3, "rest")
    hbm = {"hbm_bytes": 256 << 20}
    scenarios = [name for tiers in case["tiers"].values() for name in tiers.pop("scenarios")]
    assert sorted(scenarios) == sorted(selected(checked(config), config["experiment"]["scenarios"]))
    assert case["tiers"] == {
        "hbm": hbm,
        "dram_64mib": hbm | {"dram_bytes": 64 << 20},
        "ssd": hbm | {"ssd_bytes": None},
    }


def test_a_predicted_case_takes_what_it_does_not_say_from_the_experiment():
    tiers = {"both": {"dram_bytes": "1 GiB", "ssd_bytes": None}}
    spec = json.loads(predict_spec(checked(changed("predict", {"cases": {"mine": {"tiers": tiers}}}))))
    assert list(spec["cases"]) == ["experiment", "mine"]
    assert spec["cases"]["mine"]["model"] == BASE["model"]
    assert spec["cases"]["mine"]["workload"]["conversations"] == 4
    assert spec["cases"]["mine"]["tiers"] == {"both": {"dram_bytes": 1 << 30, "ssd_bytes": None}}
    assert [spec["cases"]["mine"][key] for key in ("counted", "lookup", "seeds")] == ["all", "prompt", 10]


def test_break_even_is_at_the_figures_chunk():
    config = changed("figures", {"chunk_tokens": 32})
    spec = json.loads(break_even_spec(checked(config)))
    assert (spec["chunk_tokens"], spec["kv_dtype"], len(spec["gpus"])) == (32, "auto", 7)


def test_keys_of_stripes_reach_the_stages_when_they_say_something():
    spec = json.loads(profile_spec(checked(with_striped()), "striped"))
    assert spec["scenario"]["stripe_bytes"] == 1 << 20
    assert spec["scenario"]["stripes_in_flight"] == 4
    assert not {"processes", "client", "socket", "patched"} & set(spec["scenario"])
    keys = {
        "stripe_bytes": "256 KiB",
        "processes": 3,
        "socket": "unix",
        "stripes_in_flight": 9,
        "client": "native",
    }
    for spec_of in (profile_spec, sweep_spec):
        found = json.loads(spec_of(checked(with_striped(**keys)), "striped"))["scenario"]
        assert {key: found[key] for key in keys} == keys | {"stripe_bytes": 256 << 10}


def test_a_gate_is_in_a_sweeps_spec_alone_and_only_when_it_is_not_off():
    config = checked(with_striped(gate="ttft"))
    assert json.loads(sweep_spec(config, "striped"))["scenario"]["gate"] == "ttft"
    off = checked(with_striped(gate=False))
    assert off == checked(with_striped(gate="off")) == checked(with_striped())
    for spec in (profile_spec(config, "striped"), sweep_spec(off, "striped")):
        assert "gate" not in json.loads(spec)["scenario"]


_BOUNDED = {"tier": "dram", "store": "valkey", "connector": "striped_mp", "bound_bytes": "1 GiB"}


@pytest.mark.parametrize(
    ("scenario", "config"),
    [
        ("striped", with_striped(bound_bytes="1 GiB")),
        ("files", changed("scenarios.files.bound_bytes", "1 GiB")),
        (
            "valkey",
            workflow_helpers.changed(
                engine(),
                {
                    "scenarios.valkey": _BOUNDED,
                    "scenarios.none.pair": "current",
                    "experiment.scenarios": ["none", "valkey"],
                },
            ),
        ),
    ],
    ids=["replay", "replay, files", "vllm"],
)
def test_every_engine_is_told_of_a_bound_and_a_store_by_itself_is_not(scenario, config):
    full = checked(config)
    assert json.loads(sweep_spec(full, scenario))["scenario"]["bound_bytes"] == 1 << 30
    assert "bound_bytes" not in json.loads(profile_spec(full, scenario))["scenario"]


def test_other_connectors_specs_do_not_know_of_stripes():
    spec = json.loads(sweep_spec(checked(BASE), "rocksdb"))["scenario"]
    assert not {"stripe_bytes", "processes", "socket", "stripes_in_flight", "patched"} & set(spec)


def test_kvrocks_is_patched_with_any_connector():
    for connector in ("resp", "striped"):
        keys = {"tier": "ssd", "store": "kvrocks", "connector": connector, "patched": True}
        for spec_of in (profile_spec, sweep_spec):
            assert (
                json.loads(spec_of(checked(with_striped(**keys)), "striped"))["scenario"]["patched"] is True
            )


@pytest.mark.parametrize(
    ("connector", "client"), [("striped_mp", "striped"), ("mp", "resp"), ("resp", "resp")]
)
def test_a_store_alone_is_reached_with_the_client_of_the_server_above_it(connector, client):
    own = {"save_connections": 1, "gate": "ttft", "save": "second_use"}
    config = with_striped(connector=connector, **(own if connector == "striped_mp" else {}))
    spec = json.loads(profile_spec(checked(config), "striped"))
    assert spec["scenario"]["connector"] == client
    assert not own.keys() & set(spec["scenario"])
    config["experiment"]["scenarios"].append("striped")
    if connector != client:
        with pytest.raises(UserError, match=f"{connector}, which engine vllm alone has, cannot reach store"):
            checked(config)


@pytest.mark.parametrize("engine", ["replay", "vllm"])
@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"hbm_kv_bytes": "4 GB"}, "hbm_kv_bytes: '4 GB' is wrong; it must be a size"),
        ({"hbm_kv_bytes": "8 gib"}, "hbm_kv_bytes: '8 gib' is wrong; it must be a size"),
        ({"hbm_kv_bytes": "lots"}, "hbm_kv_bytes: 'lots' is wrong"),
        ({"hbm_kv_bytes": "8 GiB "}, "hbm_kv_bytes: '8 GiB ' is wrong"),
        ({"staging_bytes": ""}, "staging_bytes: '' is wrong"),
        ({"hbm_kv_bytes": True}, "hbm_kv_bytes: true is wrong"),
        ({"flags": "text"}, "flags: 'text' is wrong; it must be a list"),
        ({"flags": 5}, "flags: 5 is wrong; it must be a list"),
        ({"flags": None}, "flags: null is wrong; it must be a list"),
        ({"flags": [None]}, r"flags\.0: null is wrong"),
        ({"environment": None}, "environment: null is wrong; it must be a mapping"),
        ({"environment": {"A_BYTES": ["1 GiB"]}}, r"environment\.A_BYTES: .* is wrong; it must be text"),
        ({"block_tokens": "many"}, "block_tokens: 'many' is wrong; it must be an integer"),
        ({"block_token": 16}, "block_token is not a key; did you mean block_tokens"),
        ({"python": "x"}, "python is not a key"),
    ],
)
def test_a_scenarios_keys_for_vllm_are_checked_with_every_engine(keys, words, engine):
    """Of a scenario that is not measured, too."""
    raw = deepcopy(GPU)
    raw["experiment"]["scenarios"] = ["gpu_dram"]
    raw["engine"] = engine
    raw["scenarios"]["gpu_none"]["vllm"] = keys
    with pytest.raises(UserError, match=rf"^config: scenarios\.gpu_none\.vllm\.{words}") as said:
        checked(raw)
    assert "\n" not in str(said.value)


def test_sizes_in_mappings_of_others_stay_as_they_are():
    raw = deepcopy(BASE)
    raw["scenarios"]["files"] |= {
        "lmcache": {"a_bytes": "4 GB", "b_bytes": "1 GiB", "extra_config": {"c_bytes": "lots"}},
        "vllm": {"environment": {"d_bytes": "8 gib", "e_bytes": "1 GiB"}, "staging_bytes": "2 GiB"},
        "environment": {"f_bytes": "1 GiB"},
    }
    raw["vllm"] = {"environment": {"g_bytes": "1 GiB"}}
    found = checked(deepcopy(raw))
    assert found["scenarios"]["files"]["lmcache"] == raw["scenarios"]["files"]["lmcache"]
    assert found["scenarios"]["files"]["vllm"] == raw["scenarios"]["files"]["vllm"] | {
        "staging_bytes": 2 << 30
    }
    assert found["scenarios"]["files"]["environment"] == raw["scenarios"]["files"]["environment"]
    assert found["vllm"]["environment"] == {"g_bytes": "1 GiB"}


@pytest.mark.parametrize("store", ["files", "rocksdb", "kvrocks"])
def test_a_size_that_is_none_in_a_stores_own_settings_is_one_line_or_stays(store):
    raw = with_kvrocks()
    raw["scenarios"][store]["settings"] = {"max_bytes": "4 GB"}
    raw["experiment"]["scenarios"] = ["none", store]
    if store == "kvrocks":
        assert checked(raw)["scenarios"][store]["settings"] == {"max_bytes": "4 GB"}
        return
    with pytest.raises(UserError, match="max_bytes") as said:
        checked(raw)
    assert "\n" not in str(said.value)


def test_scenarios_are_put_behind_devices():
    config = changed("experiment.array", {"scenarios": ["dram"], "gbps": [0.5, 4], "latency_us": [0, 80]})
    config["scenarios"]["dram"]["shape"] = {"write_gbps": 0.25, "queue_depth": 32}
    full = checked(config)
    names = selected(full, ["dram"])
    assert names[:5] == [
        "dram-32",
        *(f"dram-32-{device}" for device in ("0_5gbps-0us", "0_5gbps-80us", "4gbps-0us", "4gbps-80us")),
    ]
    assert len(names) == 10
    own = json.loads(sweep_spec(full, "dram-64-0_5gbps-80us"))["scenario"]
    assert own["shape"] == {"read_gbps": 0.5, "write_gbps": 0.25, "latency_us": 80, "queue_depth": 32}
    assert json.loads(sweep_spec(full, "dram-64-4gbps-0us"))["scenario"]["shape"]["latency_us"] is None
    assert json.loads(array_spec(full))["devices"]["dram-64-4gbps-0us"] == "dram-64"
    assert "shape" not in json.loads(sweep_spec(full, "files"))["scenario"]


def test_without_latencies_a_device_has_the_scenarios_own():
    config = changed("experiment.array", {"scenarios": ["files"], "gbps": ["2"]})
    config["scenarios"]["files"]["shape"] = {"latency_us": 10}
    own = json.loads(sweep_spec(checked(config), "files-2gbps"))["scenario"]
    assert (own["shape"]["read_gbps"], own["shape"]["latency_us"]) == (2, 10)
