"""The search space from the config: sizes, own values, what a store lacks, and every mistake as one line."""

import json
import re
from pathlib import Path

import pytest
import yaml

from tests.workflow_helpers import changed, merged
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.config.config import checked
from workflow.hyperkv.config.kvrocks_source import KvrocksSource
from workflow.hyperkv.config.tune import resolve, tune_spec, tuned_scenarios
from workflow.hyperkv.records.settings_words import worded
from workflow.hyperkv.tune.space import Parameter, applied

FILES = ("config/scenarios.yaml", "config/config.yaml")


def config(**changes):
    """The repository's config, with a space that is small and values set under dotted keys."""
    layers = [yaml.safe_load(Path(name).read_text()) for name in FILES]
    full = merged(*layers)
    full["tune"] |= {
        "scenarios": ["valkey_striped"],
        "space": {"connections": {"kind": "integer", "low": 1, "high": 8}},
    }
    return checked(changed(full, {key.replace("__", "."): value for key, value in changes.items()}))


def spec(space=None, scenario="valkey_striped", **changes):
    return json.loads(tune_spec(config(**({"tune__space": space} if space else {}), **changes), scenario))


def test_sizes_are_bytes_and_the_scenario_s_own_value_is_among_the_choices():
    found = spec({"stripe_bytes": {"kind": "choice", "choices": ["256 KiB", "4 MiB"]}})["space"]
    assert found[0]["choices"] == [1 << 20, 256 << 10, 4 << 20]
    assert Parameter.of(found[0]).own == 1 << 20
    found = spec({"stripe_bytes": {"kind": "integer", "low": "256 KiB", "high": "2 MiB", "step": "256 KiB"}})
    assert [found["space"][0][key] for key in ("low", "high", "step")] == [1 << 18, 1 << 21, 1 << 18]


def test_what_a_store_or_connector_lacks_is_left_out_and_said():
    space = {
        "connections": {"kind": "integer", "low": 1, "high": 4},
        "stripe_bytes": {"kind": "choice", "choices": ["1 MiB"]},
        "settings.rocksdb.write_buffer_size": {"kind": "choice", "choices": [8]},
        "environment.MALLOC_CONF": {"kind": "choice", "choices": ["thp:always"]},
        "page_cache": {"kind": "choice", "choices": ["keep"]},
    }
    found = spec(space, "valkey_resp-64", tune__scenarios=["valkey_resp"])
    assert [entry["name"] for entry in found["space"]] == ["connections"]
    assert [line.split(" is left out: ")[0] for line in found["left_out"]] == list(space)[1:]
    kvrocks = spec(space, "kvrocks_striped", tune__scenarios=["kvrocks_striped"])
    assert [entry["name"] for entry in kvrocks["space"]] == list(space)
    rocksdb = spec(space, "rocksdb_striped", tune__scenarios=["rocksdb_striped"])
    assert len(rocksdb["left_out"]) == 2
    kvrocks["sweep"]["scenario"]["connector"] = "striped_mp"
    assert resolve(config(tune__space=space)["tune"]["space"], kvrocks["sweep"]["scenario"])[1] == []


def test_values_go_where_the_scenario_has_them():
    scenario = {"connections": 2, "settings": {"a": 1}, "environment": {}}
    values = {"connections": 8, "settings.a": None, "settings.rocksdb.b": 2, "environment.X": "y"}
    assert applied(scenario, values) == {
        "connections": 8,
        "settings": {"rocksdb.b": 2},
        "environment": {"X": "y"},
    }
    assert scenario["settings"] == {"a": 1}
    assert worded({"stripe_bytes": 1 << 22, "connections": 2}, {"connections": 2}) == "stripe_bytes 4 MiB"
    assert worded({"connections": 2}, {"connections": 2}) == "as it is"


def test_the_first_scenario_whose_store_is_there_is_tuned():
    names = {"tune__scenarios": ["kvrocks_striped", "rocksdb_striped"]}
    full = config(**names)
    assert tuned_scenarios(full, KvrocksSource("binary", True, "x")) == ["kvrocks_striped"]
    assert tuned_scenarios(full, KvrocksSource("release", False)) == ["rocksdb_striped"]
    assert tuned_scenarios(config(tune__scenarios=[]), KvrocksSource("release", False)) == []


def test_the_default_space_can_be_searched_on_every_striped_scenario():
    full = merged(*[yaml.safe_load(Path(name).read_text()) for name in FILES])
    for name in ("kvrocks_striped_small", "rocksdb_striped", "valkey_striped"):
        found = json.loads(tune_spec(checked(changed(full, {"tune.scenarios": [name]})), name))
        assert len(found["space"]) >= 7
        assert found["sweep"]["loads"] == [2]


def integer(**keys):
    return {"connections": {"kind": "integer", **keys}}


def choice(*choices, of="connections", **keys):
    return {of: {"kind": "choice", "choices": list(choices), **keys}}


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (choice(1, of="stripe_size"), "tune.space: stripe_size is not a parameter; allowed are"),
        (choice(1, of="settings"), "tune.space: settings is not a parameter"),
        (integer(low=8, high=2), "low 8 is above high 2"),
        (integer(low=4, high=8), "own value 2 is not in 4 to 8"),
        (integer(low=1, high=9, step=4), "own value 2 is not in 1 to 9 by 4"),
        (integer(low=1), "tune.space.connections.high is missing"),
        (integer(low=1.5, high=8), "connections.low: 1.5 is wrong"),
        (integer(low=0, high=8, log=True), "must begin above 0"),
        (integer(low=1, high=8, log=True, step=2), "has none"),
        (integer(low=1, high=999), "tune.space.connections: 999 is wrong"),
        (choice(2, "two"), "tune.space.connections: 'two' is wrong"),
        ({"connections": {"kind": "choice"}}, "tune.space.connections.choices is missing"),
        (choice(1, low=1), "connections.low is not a key; allowed are kind, choices"),
        (
            integer(low=1, high=4, choices=[1]),
            "connections.choices is not a key; allowed are log, kind, low, high, step",
        ),
        (choice("1 MB", of="stripe_bytes"), "stripe_bytes: '1 MB' is wrong; it must be a size"),
        (choice(100, of="stripe_bytes"), "stripe_bytes: 100 is below 4096"),
        (choice(40, of="chunk_tokens"), "chunk_tokens: 40 is not a multiple"),
        (choice("int4", of="kv_dtype"), "tune.space.kv_dtype: 'int4' is wrong"),
        (choice(1, of="settings.workers"), "has none of the parameters"),
        (choice(False, of="save_decode_cache"), "has none of the parameters"),
    ],
)
def test_a_space_that_cannot_be_searched_is_one_line(space, message):
    refused(message, tune__space=space)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget_minutes": 0}, "tune.budget_minutes: 0 is wrong; it must be a number, more than 0"),
        ({"trials": 0}, "tune.trials: 0 is wrong"),
        ({"finalists": 20, "trials": 10}, "tune.finalists: 20 are more than the 10 trials"),
        ({"objective": {"metric": "goodput_rps"}}, "goodput_rps needs a bound; set experiment.slo.ttft_ms"),
        ({"objective": {"metric": "tps"}}, "tune.objective.metric: 'tps' is wrong; allowed are ttft_p50_ms"),
        ({"scenarios": ["none"]}, "tune.scenarios: none has no store"),
        ({"scenarios": ["nowhere"]}, "tune.scenarios: no scenario 'nowhere'"),
    ],
)
def test_a_search_that_cannot_be_is_one_line(changes, message):
    refused(message, **{f"tune__{key}": value for key, value in changes.items()})


def refused(message, **changes):
    with pytest.raises(UserError) as caught:
        spec(**changes)
    assert message in str(caught.value)
    assert str(caught.value).startswith("config: ")
    assert "\n" not in str(caught.value)


def test_numbers_of_the_command_line_are_numbers():
    """Nested values of --config arrive as text."""
    space = {"connections": {"kind": "integer", "low": "1", "high": "8"}}
    assert spec(space)["space"] == spec({"connections": {"kind": "integer", "low": 1, "high": 8}})["space"]
    space = {"connections": {"kind": "choice", "choices": ["2", "4"]}}
    assert spec(space)["space"][0]["choices"] == [2, 4]
    space = {"stripe_bytes": {"kind": "choice", "choices": ["1048576", "256 KiB"]}}
    assert spec(space)["space"][0]["choices"] == [1 << 20, 256 << 10]


def test_yaml_s_yes_among_choices_is_told_to_be_quoted():
    name = "settings.lazyfree-lazy-eviction"
    with pytest.raises(
        UserError,
        match=r'tune\.space\.settings\.lazyfree-lazy-eviction\.choices: true is wrong; .*: write "yes"',
    ):
        spec({name: {"kind": "choice", "choices": [True, "no"]}})
    assert spec({name: {"kind": "choice", "choices": ["yes", "no"]}})["space"][0]["choices"][1:] == [
        "yes",
        "no",
    ]


@pytest.mark.parametrize("name", ["connections", "stripes_in_flight", "processes", "stripe_bytes"])
def test_whole_numbers_are_searched_as_such(name):
    ends = {"low": "256 KiB", "high": "2 MiB"} if name == "stripe_bytes" else {"low": 1, "high": 8}
    told = rf"^config: tune\.space\.{name}\.kind: number is wrong, .*; choose integer$"
    with pytest.raises(UserError, match=told):
        spec({name: {"kind": "number", **ends}})
    assert spec({name: {"kind": "integer", **ends}})["space"][0]["kind"] == "integer"


SETTINGS = "settings.rocksdb.write_buffer_size", "settings.direct_io"


@pytest.mark.parametrize(
    ("scenario", "name", "rules", "words"),
    [
        (
            "rocksdb_striped",
            SETTINGS[1],
            {"kind": "choice", "choices": ["maybe"]},
            "direct_io: 'maybe' is wrong",
        ),
        ("rocksdb_striped", SETTINGS[0], {"kind": "number", "low": 1, "high": 8}, "choose integer"),
        (
            "rocksdb_striped",
            SETTINGS[0],
            {"kind": "choice", "choices": ["many"]},
            "rocksdb.write_buffer_size",
        ),
        ("kvrocks_striped", SETTINGS[0], {"kind": "choice", "choices": ["= 4"]}, "Kvrocks reads `key value`"),
    ],
)
def test_values_of_a_stores_settings_are_checked_as_the_store_checks_them(scenario, name, rules, words):
    with pytest.raises(UserError, match=re.escape(words)) as error:
        spec({name: rules}, scenario, tune__scenarios=[scenario])
    assert str(error.value).startswith("config: tune.space.")
