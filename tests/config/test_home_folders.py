"""`~` in a configuration: every key that the schema calls a path, one mechanism."""

from pathlib import Path
from typing import Any

import pytest

from tests.config.test_config import BASE, changed
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.config import home_folders
from workflow.hyperkv.config.config import checked, schema
from workflow.hyperkv.config.home_folders import with_home_folders


def path_keys(rules: dict, at: str = "") -> list[str]:
    """Every key that the schema calls a path, `*` for a name of the reader's own."""
    found = [at] if rules.get("unit") in home_folders._UNITS else []
    section = schema()["properties"][rules["like"]] if "like" in rules else rules
    for name, item in section.get("properties", {}).items():
        found += path_keys(item, f"{at}.{name}".lstrip("."))
    others = section.get("additionalProperties")
    return found + (path_keys(others, f"{at}.*") if isinstance(others, dict) else [])


def at_key(key: str, value: Any) -> dict[str, Any]:
    for name in reversed(key.replace("*", "x").split(".")):
        value = {name: value}
    return value


def value_at(config: Any, key: str) -> Any:
    for name in key.replace("*", "x").split("."):
        config = config[name]
    return config


KEYS = path_keys(schema())


def test_the_keys_that_are_meant_are_found():
    assert {"data_dir", "scenarios.*.data_dir", "scenarios.*.vllm.model_dir", "kvrocks.binary"} <= set(KEYS)
    assert {"predict.cases.*.workload.trace", "break_even.gpus", "recommend.data_dir", "claims"} <= set(KEYS)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("listed", [False, True])
def test_the_home_folder_is_written_out_in_every_path(key, listed, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    value = ["~/kv", "/a/~b"] if listed else "~/kv"
    wanted = [f"{tmp_path}/kv", "/a/~b"] if listed else f"{tmp_path}/kv"
    assert value_at(with_home_folders(at_key(key, value), schema()), key) == wanted


def test_another_users_home_and_what_is_no_path(monkeypatch):
    config = {
        "data_dir": "~root/kv",
        "scenarios": {"~x": {"environment": {"A": "~/a"}, "settings": {"b": "~/b"}}},
    }
    found = with_home_folders(config, schema())
    assert found == config | {"data_dir": "/root/kv"}


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
    monkeypatch.setattr(home_folders, "has_home", lambda: False)
    with pytest.raises(
        UserError, match=rf"config: data_dir: {text}: .*{said}.* write the path out"
    ) as caught:
        checked(BASE | {"data_dir": text})
    assert "\n" not in str(caught.value)
