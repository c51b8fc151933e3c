"""`~` in a configuration: every key whose unit is a path, one mechanism."""

from pathlib import Path
from typing import Any

import pytest

from tests.configs import BASE, changed
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.config import docs
from workflow.hyperkv.config.config import checked
from workflow.hyperkv.config.explain import validated
from workflow.hyperkv.config.models import texts
from workflow.hyperkv.config.models.config import Config
from workflow.hyperkv.config.schema import unit_of

KEYS = [row.path for row in docs.rows() if unit_of(row.rules) in texts.PATHS]
KEYS += ["scenarios.<name>.vllm.model_dir", "predict.cases.<name>.workload.trace"]
KEYS.remove("array.devices")  # below /dev
OF_KINDS = {
    "trace": {"kind": "trace"},
    "file": {"kind": "text"},
    "tokenizer": {"kind": "text", "file": "x"},
}
NEEDED = {"predict": {"tiers": {"a": {}}}, "scenarios": {"tier": "none"}}


def test_the_keys_that_are_meant_are_found():
    assert {"data_dir", "scenarios.<name>.data_dir", "kvrocks.binary", "workload.trace"} <= set(KEYS)
    assert {"break_even.gpus", "recommend.data_dir", "claims", "layers.memory_dir"} <= set(KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_the_home_folder_is_written_out_in_every_path(key, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = key.replace("<name>", "mine")
    config = changed(path, ["~/kv"] if key.startswith("break_even") else "~/kv")
    if "<name>" in key:
        value: Any = config[path.split(".")[0]]
        for part in path.split(".")[1 : path.split(".").index("mine") + 1]:
            value = value[part]
        value |= NEEDED[path.split(".")[0]]
        if "place" in path:
            value["place"]["addresses"] = ["kv:6379"]
    if path.endswith("binary"):
        config["kvrocks"]["source"] = "binary"
    last = path.rpartition(".")[2]
    if "workload" in path:
        owner = config["predict"]["cases"]["mine"] if "predict" in path else config
        owner["workload"] = {**OF_KINDS[last], last: "~/kv"}
    found: Any = validated(Config, config).model_dump()
    for name in path.split("."):
        found = found[name]
    assert found == ([f"{tmp_path}/kv"] if key.startswith("break_even") else f"{tmp_path}/kv")


def test_another_users_home_and_what_is_no_path():
    keys = {"tier": "none", "environment": {"A": "~/a"}, "settings": {"b": "~/b"}, "data_dir": "/a/~b"}
    found = validated(Config, changed("scenarios.mine", keys) | {"data_dir": "~root/kv"}).model_dump()
    assert found["data_dir"] == "/root/kv"
    assert {key: found["scenarios"]["mine"][key] for key in keys} == keys


def test_a_data_dir_in_the_home_folder_reaches_the_slices(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert checked(changed("data_dir", "~/kv"))["data_dir"] == f"{tmp_path}/kv"
    assert not Path("~").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("~/kv", "this user has no home folder"),
        ("~nobody-of-this-name/kv", "user nobody-of-this-name is not known"),
    ],
)
def test_a_home_that_is_not_there_is_one_line(text, said, monkeypatch):
    monkeypatch.setattr(texts, "has_home", lambda: False)
    with pytest.raises(
        UserError, match=rf"config: data_dir: {text}: .*{said}.* write the path out"
    ) as caught:
        checked(BASE | {"data_dir": text})
    assert "\n" not in str(caught.value)
